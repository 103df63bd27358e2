/** What a COPY … TO STDOUT sends, as it comes. */
import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { cutConnection } from './session.js';

/** `sql`: a COPY … TO STDOUT. The connection is cut when the server sends nothing for `silentMs` while we ask for more. */
export async function* copyOut(client: pg.Client, sql: string, silentMs: number): AsyncGenerator<Buffer> {
  const data = (client.query(copyTo(sql)) as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const silent = setTimeout(() => cutConnection(client), silentMs);
      const next = await data.next().finally(() => clearTimeout(silent));
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await data.return?.();
  }
}
