/** Rows of one table by COPY, as parts that are each decodable alone. Sees what the transaction of its connection sees. */
import type pg from 'pg';
import type { Relation } from '../change/relation.js';
import { CopyOut } from './copy-out.js';
import { CopyRows } from './copy-text.js';
import { describeTable, descriptionFrame, relationFrame } from './describe.js';
import { CHUNK_BYTES, joinFrames } from './framer.js';
import { quoteIdentifier, quoteTable } from './identifier.js';

/** Frames of one chunk of copied rows. */
export type CopyPart = { readonly oid: number; readonly payload: Buffer; readonly rows: number };

/** Frames that say what the rows of a table look like, and come before them in every part. */
export async function tableForm(client: pg.Client, relation: Relation): Promise<Buffer> {
  const frames = [descriptionFrame(await describeTable(client, relation)), relationFrame(relation)];
  return joinFrames(
    frames,
    frames.reduce((sum, frame) => sum + 4 + frame.length, 0),
  );
}

/** A server that sends nothing for so long, while we ask for more, is not there any more: also a table whose first pages hold no row. */
const SILENT_MS = 15 * 60_000;

/** Every row that meets one of `conditions` (SQL; all rows without any), in parts of about 256 KB. Ends with an Error when `signal` aborts, and the connection with it. */
export async function* tableRows(
  client: pg.Client,
  relation: Relation,
  signal: AbortSignal,
  conditions: readonly string[] = ['true'],
): AsyncGenerator<CopyPart> {
  const head = await tableForm(client, relation);
  const rows = new CopyRows(relation.oid, relation.columns.length);
  const part = (): CopyPart => {
    const taken = rows.take();
    return { oid: relation.oid, payload: Buffer.concat([head, taken.frames]), rows: taken.rows };
  };
  for (const condition of conditions) {
    for await (const _ of copied(client, relation, condition, rows, signal)) if (rows.bytes >= CHUNK_BYTES) yield part();
  }
  if (rows.rows > 0) yield part();
}

/** The same rows without their form: frames (`u32 length` + Insert message), about 256 KB at a time. `relation`: with the wanted columns only. */
export async function* tableFrames(client: pg.Client, relation: Relation, condition = 'true'): AsyncGenerator<Buffer> {
  const rows = new CopyRows(relation.oid, relation.columns.length);
  for await (const _ of copied(client, relation, condition, rows)) if (rows.bytes >= CHUNK_BYTES) yield rows.take().frames;
  if (rows.rows > 0) yield rows.take().frames;
}

/** Copies the rows that meet a condition into `rows`; yields after each piece, for whoever takes them out. */
async function* copied(client: pg.Client, { schema, table, columns }: Relation, condition: string, rows: CopyRows, signal?: AbortSignal): AsyncGenerator<void> {
  const names = columns.map(({ name }) => quoteIdentifier(name)).join(', ');
  const sql = `COPY (SELECT ${names} FROM ONLY ${quoteTable(schema, table)} WHERE ${condition}) TO STDOUT`;
  const before = rows.total;
  const sent = new CopyOut(client, sql, SILENT_MS, signal);
  for await (const data of sent) {
    rows.push(data);
    yield;
  }
  if (!rows.complete || rows.total - before !== sent.rows) throw new SyntaxError(`COPY of ${schema}.${table} ended with a part of its rows`);
}
