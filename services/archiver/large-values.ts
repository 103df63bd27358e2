/**
 * Large values of rows seen lately, so that an update whose unchanged TOAST is not in the stream is archived whole. Bounded memory, this process only: what is not found
 * stays marked as unresolved, and is not covered. A value comes only from the newest earlier version of the same row, in stream order.
 */
import { COLUMN } from '../../src/change/pgoutput.js';
import type { ArchivedTable } from './tables.js';

const MOST_BYTES = 64 * 1024 * 1024;
/** Postgres moves values out of line only in rows of more than about 2 KB; their text may be shorter. */
const WIDE_TUPLE_BYTES = 1000;
const LARGE_VALUE_BYTES = 64;

type Large = Map<number, Buffer>;

export class LargeValues {
  readonly #tables = new Map<ArchivedTable, Map<string, Large>>();
  readonly #limit: number;
  #bytes = 0;

  constructor(limit = MOST_BYTES) {
    this.#limit = limit;
  }

  /**
   * A new version of a row: TupleData at `at`, the key it had before at `before` (the same offset when the key did not change). Returns the values of its unchanged
   * columns that are known, undefined when it has none to find; remembers its large values for the next version.
   */
  version(table: ArchivedTable, buffer: Buffer, at: number, before: number): Large | undefined {
    if (table.key.length === 0) return undefined;
    const rows = this.#tables.get(table);
    const narrow = isNarrow(buffer, at);
    if (rows === undefined && narrow) return undefined;
    const old = rows === undefined ? undefined : this.#take(rows, keyText(table, buffer, before));
    if (narrow && old === undefined) return undefined;
    const { offsets, unchanged } = walk(buffer, at);
    if (narrow && unchanged.length === 0) return undefined;
    const found: Large = new Map();
    for (const index of unchanged) {
      const value = old?.get(index);
      if (value !== undefined) found.set(index, value);
    }
    const large: Large = new Map(found);
    for (const [index, offset] of offsets.entries()) {
      if (buffer[offset] !== COLUMN.text) continue;
      const length = buffer.readUInt32BE(offset + 1);
      if (length >= LARGE_VALUE_BYTES) large.set(index, Buffer.from(buffer.subarray(offset + 5, offset + 5 + length)));
    }
    if (large.size > 0) this.#put(table, keyText(table, buffer, at), large);
    return found.size > 0 ? found : undefined;
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

function keyText(table: ArchivedTable, buffer: Buffer, at: number): string {
  const { offsets } = walk(buffer, at);
  let text = '';
  for (const index of table.keyIndexes) {
    const offset = offsets[index] as number;
    if (buffer[offset] !== COLUMN.text) continue;
    const length = buffer.readUInt32BE(offset + 1);
    text += `${length}:${buffer.toString('latin1', offset + 5, offset + 5 + length)}`;
  }
  return text;
}

/** True when no value of the TupleData at `at` can have been moved out of line. Asked for every row. */
function isNarrow(buffer: Buffer, at: number): boolean {
  const count = buffer.readUInt16BE(at);
  let next = at + 2;
  for (let i = 0; i < count; i += 1) next = buffer[next] === COLUMN.text ? next + 5 + buffer.readUInt32BE(next + 1) : next + 1;
  return next - at < WIDE_TUPLE_BYTES;
}

/** Offsets of the columns' kind bytes in the TupleData at `at`, and which columns are unchanged. */
function walk(buffer: Buffer, at: number): { offsets: number[]; unchanged: number[] } {
  const count = buffer.readUInt16BE(at);
  const offsets: number[] = [];
  const unchanged: number[] = [];
  let next = at + 2;
  for (let i = 0; i < count; i += 1) {
    offsets.push(next);
    if (buffer[next] === COLUMN.unchanged) unchanged.push(i);
    next = buffer[next] === COLUMN.text ? next + 5 + buffer.readUInt32BE(next + 1) : next + 1;
  }
  return { offsets, unchanged };
}
