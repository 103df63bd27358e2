/** What a COPY … TO STDOUT sends, as it comes. Owns its deadline and its end: the server's last word comes behind the last row, and may be that the statement failed. */
import type pg from 'pg';
import { type CopyToStreamQuery, to as copyTo } from 'pg-copy-streams';
import { cutConnection } from './session.js';

const SECOND_LOOK_MS = 1000;

/** What pg calls on the query that runs; the types do not know. */
type ActiveQuery = { callback?: () => void; handleReadyForQuery: () => void; handleError: (error: Error) => void };

export class CopyOut implements AsyncIterable<Buffer> {
  /** Rows that the server says it has sent; undefined before the end. */
  rows: number | undefined;
  readonly #client: pg.Client;
  readonly #silentMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #stream: CopyToStreamQuery;
  readonly #over: Promise<void>;

  /** Sends `sql`, a COPY … TO STDOUT. The connection is cut when the server sends nothing for `silentMs` while we ask for more, when `signal` aborts, and when the reader stops before the end. */
  constructor(client: pg.Client, sql: string, silentMs: number, signal?: AbortSignal) {
    this.#client = client;
    this.#silentMs = silentMs;
    this.#signal = signal;
    this.#stream = client.query(copyTo(sql));
    const query = this.#stream as unknown as ActiveQuery;
    // A query_timeout of pg would fail the stream and leave its reader on the socket, and its timer runs on behind the end: ours is the deadline here. The callback is what stops it.
    query.callback?.();
    this.#over = new Promise((resolve, reject) => {
      const failStream = query.handleError.bind(query);
      query.handleReadyForQuery = resolve;
      query.handleError = (error) => {
        reject(error);
        if (!this.#stream.readableEnded) failStream(error);
      };
    });
    this.#over.catch(() => undefined); // heard at the end
  }

  /** Throws what the server says, and an Error when the connection ends. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const data = (this.#stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    let ended = false;
    const cut = (): void => cutConnection(this.#client);
    this.#signal?.addEventListener('abort', cut, { once: true });
    if (this.#signal?.aborted) cut();
    try {
      for (;;) {
        const next = await this.#heard(data.next());
        if (next.done === true) break;
        yield next.value;
      }
      await this.#heard(this.#over);
      ended = true;
      this.rows = this.#stream.rowCount;
    } catch (error) {
      ended = true;
      throw error;
    } finally {
      this.#signal?.removeEventListener('abort', cut);
      if (!ended) cut();
      await data.return?.();
    }
  }

  async #heard<T>(answer: Promise<T>): Promise<T> {
    // Fires twice: where it was us who stood still, a stopped process or a machine that slept, what the server has sent meanwhile is read between.
    let silent = setTimeout(() => {
      silent = setTimeout(() => cutConnection(this.#client), Math.min(this.#silentMs, SECOND_LOOK_MS));
    }, this.#silentMs);
    return await answer.finally(() => clearTimeout(silent));
  }
}
