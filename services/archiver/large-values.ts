/**
 * Large values of rows seen lately, so that an update whose unchanged TOAST is not in the stream is archived whole. Bounded memory, this process only: what it has
 * forgotten is looked up in the archive (earlier-values.ts). What is not found stays marked as unresolved, and is not covered. A value comes only from the newest
 * earlier version of the same row, in stream order.
 */
import { COLUMN } from '../../src/change/pgoutput.js';
import { viewOf } from '../../src/segment/byte-view.js';
import type { ArchivedTable } from './tables.js';

const MOST_BYTES = 64 * 1024 * 1024;
const MOST_HOPELESS = 10_000;
/** Postgres moves values out of line only in rows stored in more than 2032 bytes (TOAST_TUPLE_THRESHOLD), and of those any value larger than its 18-byte pointer. */
const WIDE_TUPLE_BYTES = 1900;
const POINTER_BYTES = 18;
/** Types of fixed length are never moved: stored bytes by OID. */
const FIXED_BYTES: ReadonlyMap<number, number> = new Map([
  [16, 1], [18, 1], [20, 8], [21, 2], [23, 4], [26, 4], [700, 4], [701, 8], [790, 8], [829, 6], [1082, 4], [1083, 8], [1114, 8], [1184, 8], [1186, 16], [1266, 12], [2950, 16], [3220, 8],
]); // biome-ignore format: a table
/** Types stored in at most the bytes of their text: bytea, text, json, char(n), varchar(n). Not xml, whose declaration is stored and not printed. */
const TEXT_LIKE: ReadonlySet<number> = new Set([17, 25, 114, 1042, 1043]);
/** A numeric of fewer digits takes at most 16 bytes: 8 and 2 for each four digits on either side of the point. */
const NUMERIC = 1700;
const NUMERIC_TEXT_BYTES = 13;
/** An element of an array or of jsonb takes up to this many times the bytes of its text. */
const STORED_PER_TEXT_BYTE = 4;
const HEADER_BYTES = 24;

/** Texts of large values by column index. */
export type Large = Map<number, Buffer>;

export class LargeValues {
  readonly #tables = new Map<ArchivedTable, Map<string, Large>>();
  /** Rows that the archive does not have whole either: not looked up again and again. */
  readonly #hopeless = new Set<string>();
  readonly #limit: number;
  #bytes = 0;

  constructor(limit = MOST_BYTES) {
    this.#limit = limit;
  }

  /**
   * A new version of a row: TupleData at `at`, the key it had before at `before` (the same offset when the key did not change). Returns the values of its unchanged
   * columns that are known, undefined when it has none to find; remembers its large values for the next version. `length`: bytes of the TupleData of an insert, which leaves nothing out.
   */
  version(table: ArchivedTable, buffer: Buffer, at: number, before: number, length = Number.POSITIVE_INFINITY): Large | undefined {
    if (table.key.length === 0) return before === at ? undefined : wholeOldRow(buffer, before, unchangedOf(buffer, at));
    const rows = this.#tables.get(table);
    const narrow = isShort(table, length) || isNarrow(table, buffer, at);
    if (rows === undefined && narrow) return undefined;
    const key = keyText(table, buffer, before);
    const old = rows === undefined ? undefined : this.#take(rows, key);
    if (narrow) return undefined;
    const unchanged = unchangedOf(buffer, at);
    const found: Large = unchanged.length > 0 && before !== at ? wholeOldRow(buffer, before, unchanged) : new Map();
    for (const index of unchanged) {
      const value = old?.get(index);
      if (value !== undefined) found.set(index, value);
    }
    const large = movable(table, buffer, at, new Map(found));
    if (large.size > 0) this.#put(table, before === at ? key : keyText(table, buffer, at), large);
    return found.size > 0 ? found : undefined;
  }

  /** The key under which an update's unchanged values would be found, when one is neither in its old row nor here; undefined otherwise. */
  wanting(table: ArchivedTable, buffer: Buffer, at: number, before: number): string | undefined {
    if (table.key.length === 0) return undefined;
    const unchanged = unchangedOf(buffer, at);
    if (unchanged.length === 0) return undefined;
    const given = before === at ? undefined : wholeOldRow(buffer, before, unchanged);
    const key = keyText(table, buffer, before);
    const known = this.#tables.get(table)?.get(key);
    if (unchanged.every((index) => given?.has(index) || known?.has(index))) return undefined;
    return this.#hopeless.has(`${table.relation.oid} ${key}`) ? undefined : key;
  }

  /** Takes values of the newest archived version of a row. The caller knows that no later version came. */
  restore(table: ArchivedTable, key: string, values: Large | undefined): void {
    if (values === undefined || values.size === 0) {
      if (this.#hopeless.size >= MOST_HOPELESS) this.#hopeless.clear();
      this.#hopeless.add(`${table.relation.oid} ${key}`);
    } else this.#put(table, key, new Map([...values, ...(this.#tables.get(table)?.get(key) ?? [])]));
  }

  /** Rows were copied again: what was not found may be there now. */
  forgive(): void {
    this.#hopeless.clear();
  }

  /** A row has gone. */
  gone(table: ArchivedTable, buffer: Buffer, at: number): void {
    const rows = this.#tables.get(table);
    if (rows !== undefined) this.#take(rows, keyText(table, buffer, at));
  }

  /** All rows of a table have gone. */
  truncated(table: ArchivedTable): void {
    for (const large of this.#tables.get(table)?.values() ?? []) this.#bytes -= sizeOf(large);
    this.#tables.delete(table);
  }

  #take(rows: Map<string, Large>, key: string): Large | undefined {
    const large = rows.get(key);
    if (large === undefined) return undefined;
    rows.delete(key);
    this.#bytes -= sizeOf(large);
    return large;
  }

  #put(table: ArchivedTable, key: string, large: Large): void {
    let rows = this.#tables.get(table);
    if (rows === undefined) {
      rows = new Map();
      this.#tables.set(table, rows);
    }
    this.#take(rows, key);
    rows.set(key, large);
    this.#bytes += sizeOf(large);
    // The oldest of the same table go first, then those of others.
    for (const other of [rows, ...this.#tables.values()]) {
      for (const oldest of other.keys()) {
        if (this.#bytes <= this.#limit) return;
        this.#take(other, oldest);
      }
    }
  }
}

function sizeOf(large: Large): number {
  let sum = 200;
  for (const value of large.values()) sum += 100 + value.length;
  return sum;
}

/** Names the row of the TupleData at `at` among those of its table. */
export function keyText(table: ArchivedTable, buffer: Buffer, at: number): string {
  const values: Buffer[] = [];
  for (const index of table.keyIndexes) {
    const offset = offsetOf(buffer, at, index);
    if (buffer[offset] === COLUMN.text) values.push(buffer.subarray(offset + 5, offset + 5 + buffer.readUInt32BE(offset + 1)));
  }
  return keyOfTexts(values);
}

export function keyOfTexts(values: readonly Buffer[]): string {
  return values.map((value) => `${value.length}:${value.toString('latin1')}`).join('');
}

/** Under REPLICA IDENTITY FULL the old row carries what the new one leaves out. */
function wholeOldRow(buffer: Buffer, before: number, unchanged: readonly number[]): Large {
  const values: Large = new Map();
  for (const index of unchanged) {
    const offset = offsetOf(buffer, before, index);
    if (buffer[offset] !== COLUMN.text) continue;
    values.set(index, Buffer.from(buffer.subarray(offset + 5, offset + 5 + buffer.readUInt32BE(offset + 1))));
  }
  return values;
}

/** Per column: stored bytes of a fixed length, or 0 when it varies, then at most `perByte` for each byte of its text. `least`: bytes of the shortest text whose value can be moved. */
type Widths = { readonly fixed: Uint8Array; readonly perByte: Uint8Array; readonly least: Float64Array };
const widths = new WeakMap<ArchivedTable, Widths>();

function widthsOf(table: ArchivedTable): Widths {
  const known = widths.get(table);
  if (known !== undefined) return known;
  const types = table.relation.columns.map((column) => column.typeOid);
  const made: Widths = {
    fixed: Uint8Array.from(types, (typeOid) => FIXED_BYTES.get(typeOid) ?? 0),
    perByte: Uint8Array.from(types, (typeOid) => (TEXT_LIKE.has(typeOid) ? 1 : STORED_PER_TEXT_BYTE)),
    least: Float64Array.from(types, leastMoved),
  };
  widths.set(table, made);
  return made;
}

function leastMoved(typeOid: number): number {
  if (FIXED_BYTES.has(typeOid)) return Number.POSITIVE_INFINITY;
  if (TEXT_LIKE.has(typeOid)) return POINTER_BYTES;
  return typeOid === NUMERIC ? NUMERIC_TEXT_BYTES : 0;
}

/** True when a whole row of so many bytes is narrow, whatever is in them: what can be said without a look at each value. */
const isShort = (table: ArchivedTable, length: number): boolean =>
  HEADER_BYTES * (1 + table.relation.columns.length) + length * STORED_PER_TEXT_BYTE < WIDE_TUPLE_BYTES;

/** True when no value of the TupleData at `at` can have been moved out of line. Asked for every row that may be wide. */
export function isNarrow(table: ArchivedTable, buffer: Buffer, at: number): boolean {
  const { fixed, perByte, least } = widthsOf(table);
  const view = viewOf(buffer);
  let next = at + 2;
  let stored = HEADER_BYTES;
  let movable = false;
  for (let i = 0; i < fixed.length; i += 1) {
    const kind = buffer[next];
    if (kind === COLUMN.unchanged) return false;
    if (kind !== COLUMN.text) {
      next += 1;
      continue;
    }
    const length = view.getUint32(next + 1);
    next += 5 + length;
    const width = fixed[i] as number;
    stored += width > 0 ? width : length * (perByte[i] as number) + HEADER_BYTES;
    if (length >= (least[i] as number)) movable = true;
  }
  return !movable || stored < WIDE_TUPLE_BYTES;
}

/** True when a value of a wide row can have been moved out of line. */
export function mayMove(table: ArchivedTable, index: number, length: number): boolean {
  return length >= (widthsOf(table).least[index] as number);
}

/** Adds the values of the wide row at `at` that can have been moved out of line. */
function movable(table: ArchivedTable, buffer: Buffer, at: number, large: Large): Large {
  const { least } = widthsOf(table);
  let next = at + 2;
  for (let i = 0; i < least.length; i += 1) {
    const start = next + 5;
    next = behindColumn(buffer, next);
    if (next - start >= (least[i] as number)) large.set(i, Buffer.from(buffer.subarray(start, next)));
  }
  return large;
}

/** Which columns of the TupleData at `at` are unchanged. */
function unchangedOf(buffer: Buffer, at: number): number[] {
  const count = buffer.readUInt16BE(at);
  const unchanged: number[] = [];
  let next = at + 2;
  for (let i = 0; i < count; i += 1) {
    if (buffer[next] === COLUMN.unchanged) unchanged.push(i);
    next = behindColumn(buffer, next);
  }
  return unchanged;
}

/** Offset of a column's kind byte in the TupleData at `at`. */
function offsetOf(buffer: Buffer, at: number, index: number): number {
  let next = at + 2;
  for (let i = 0; i < index; i += 1) next = behindColumn(buffer, next);
  return next;
}

function behindColumn(buffer: Buffer, offset: number): number {
  return buffer[offset] === COLUMN.text ? offset + 5 + buffer.readUInt32BE(offset + 1) : offset + 1;
}
