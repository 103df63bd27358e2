/**
 * One change as one line of JSON, in pieces: a value may be as large as Postgres allows, so its text is never held beside the chunk as a whole. Values are Postgres text or null; a large
 * value that an UPDATE did not touch is not in the stream, and its column is named under `unchanged` instead.
 */
import { COLUMN } from '../../../src/change/pgoutput.js';
import { formatLsn } from '../../../src/position/lsn.js';
import type { Change, RowLine } from './changes.js';

/** Bytes of a value that are turned into text at once. */
const PIECE_BYTES = 256 * 1024;

/** The pieces of a line, its end included. */
export function* changeLine(change: Change): Generator<string> {
  const { op, lsn, ordinal, xid, committedAtMicros } = change;
  const head = { lsn: formatLsn(lsn), ordinal, xid, committed: committedAtMicros === null ? null : isoMicros(committedAtMicros) };
  if ('prefix' in change) {
    const { prefix } = change;
    yield `${JSON.stringify({ ...head, op, prefix, content: withoutSignature(change.content) })}\n`;
    return;
  }
  const { schema, table } = change.table;
  if ('cascade' in change) {
    const { cascade, restartIdentity } = change;
    yield `${JSON.stringify({ ...head, schema, table, op, cascade, restartIdentity })}\n`;
    return;
  }
  yield JSON.stringify({ ...head, schema, table, op }).slice(0, -1);
  yield* rowParts(change);
  yield '}\n';
}

type Column = { readonly name: string; readonly kind: number; readonly at: number; readonly bytes: number };

/** `key`: of the row as it is now, of a deleted row as it was. `old`: what the stream carries of the row before: its key when that changed, all of it under REPLICA IDENTITY FULL. */
function* rowParts({ table, change }: RowLine): Generator<string> {
  const { buffer, newTuple, oldTuple, oldKind } = change;
  const fresh = newTuple >= 0 ? columnsOf(table.columns, buffer, newTuple) : undefined;
  const old = oldTuple >= 0 ? columnsOf(table.columns, buffer, oldTuple) : undefined;
  const key = table.key.flatMap((name) => {
    const from = [fresh, old]
      .map((columns) => columns?.find((column) => column.name === name))
      .find((column) => column !== undefined && column.kind !== COLUMN.unchanged);
    return from === undefined ? [] : [from];
  });
  if (key.length > 0) yield* object('key', buffer, key);
  if (old !== undefined && (oldKind === 'row' || fresh !== undefined))
    yield* object('old', buffer, oldKind === 'row' ? old : old.filter(({ name }) => table.key.includes(name)));
  if (fresh === undefined) return;
  yield* object(
    'new',
    buffer,
    fresh.filter(({ kind }) => kind !== COLUMN.unchanged),
  );
  const unchanged = fresh.filter(({ kind }) => kind === COLUMN.unchanged).map(({ name }) => name);
  if (unchanged.length > 0) yield `,"unchanged":${JSON.stringify(unchanged)}`;
}

/** The columns of the TupleData at `at`, their texts by offset. */
function columnsOf(names: readonly string[], buffer: Buffer, at: number): Column[] {
  let next = at + 2;
  return names.slice(0, buffer.readUInt16BE(at)).map((name) => {
    const kind = buffer[next] as number;
    const bytes = kind === COLUMN.text ? buffer.readUInt32BE(next + 1) : 0;
    const column = { name, kind, at: next + 5, bytes };
    next += kind === COLUMN.text ? 5 + bytes : 1;
    return column;
  });
}

function* object(name: string, buffer: Buffer, columns: readonly Column[]): Generator<string> {
  let before = `,${JSON.stringify(name)}:{`;
  for (const column of columns) {
    yield `${before}${JSON.stringify(column.name)}:`;
    yield* value(buffer, column);
    before = ',';
  }
  yield columns.length === 0 ? `${before}}` : '}';
}

function* value(buffer: Buffer, { kind, at, bytes }: Column): Generator<string> {
  if (kind === COLUMN.null) yield 'null';
  else if (bytes <= PIECE_BYTES) yield JSON.stringify(buffer.toString('utf8', at, at + bytes));
  else {
    yield '"';
    for (let from = at; from < at + bytes; ) {
      const to = endOfCharacter(buffer, Math.min(from + PIECE_BYTES, at + bytes), at + bytes);
      yield JSON.stringify(buffer.toString('utf8', from, to)).slice(1, -1);
      from = to;
    }
    yield '"';
  }
}

/** The first place from `at` on that is not within a character of UTF-8. */
function endOfCharacter(buffer: Buffer, at: number, end: number): number {
  let to = at;
  while (to < end && ((buffer[to] as number) & 0xc0) === 0x80) to += 1;
  return to;
}

/** What a message of ours says; its text when it is not of the form `json.signature`. */
function withoutSignature(content: string): unknown {
  try {
    return JSON.parse(content.slice(0, content.lastIndexOf('.')));
  } catch {
    return content;
  }
}

/** Microseconds since 1970 → `2026-01-12T10:11:12.123456Z`. */
function isoMicros(micros: bigint): string {
  const within = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n;
  return `${new Date(Number((micros - within) / 1000n)).toISOString().slice(0, 19)}.${String(within).padStart(6, '0')}Z`;
}
