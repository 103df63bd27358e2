/** The rows that a statement gives back, by COPY, one by one as they come: their texts stay bytes, and nothing is made for a row. */
import type pg from 'pg';
import { COLUMN } from '../change/pgoutput.js';
import { CopyOut } from '../wal/copy-out.js';
import { CopyRows } from '../wal/copy-text.js';

/** Reused from row to row. `tableoid`, `xmin`: of the row; the rest as in compare.ts, LiveRow. */
export type TakenRow = { tableoid: number; xmin: number; bytes: Buffer; readonly starts: Int32Array; readonly ends: Int32Array };

/** As long as a query may take here (wal/session.ts): the server's own limit is shorter. */
const SILENT_MS = 60_000;
/** Frames are read when so many bytes have come. */
const READ_BYTES = 64 * 1024;
/** Of a frame before its columns: length, tag, oid, tuple kind, column count. */
const HEAD_BYTES = 12;

/**
 * Runs `statement`, a SELECT or a DELETE … RETURNING of tableoid, xmin and `columns` columns, and hands each row to `row`. Throws what the server says, or, when the statement has ended, what
 * `row` threw first; it is not called after that.
 */
export async function eachRow(client: pg.Client, statement: string, columns: number, row: (taken: TakenRow) => void): Promise<void> {
  const rows = new CopyRows(0, columns + 2);
  const taken: TakenRow = { tableoid: 0, xmin: 0, bytes: Buffer.alloc(0), starts: new Int32Array(columns), ends: new Int32Array(columns) };
  let failure: { readonly error: unknown } | undefined;
  const handOver = (): void => {
    const { frames } = rows.take();
    try {
      for (let at = 0; at < frames.length && failure === undefined; at += 4 + frames.readUInt32BE(at)) {
        readRow(frames, at, taken);
        row(taken);
      }
    } catch (error) {
      failure = { error };
    }
  };
  const sent = new CopyOut(client, `COPY (${statement}) TO STDOUT`, SILENT_MS);
  for await (const data of sent) {
    rows.push(data);
    if (rows.bytes >= READ_BYTES) handOver();
  }
  handOver();
  if (failure !== undefined) throw failure.error;
  if (!rows.complete || rows.total !== sent.rows) throw new SyntaxError('COPY ended with a part of its rows');
}

function readRow(bytes: Buffer, frame: number, taken: TakenRow): void {
  taken.bytes = bytes;
  let at = frame + HEAD_BYTES;
  for (let i = -2; i < taken.starts.length; i += 1) {
    const isText = bytes[at] === COLUMN.text;
    const start = isText ? at + 5 : -1;
    at = isText ? start + bytes.readUInt32BE(at + 1) : at + 1;
    if (i >= 0) {
      taken.starts[i] = start;
      taken.ends[i] = at;
    } else if (i === -2) taken.tableoid = Number(bytes.toString('latin1', start, at));
    else taken.xmin = Number(bytes.toString('latin1', start, at));
  }
}
