/** The decoded rows of a row group: a value by column and row, as Postgres text, and what the row's change was. */
import { SYSTEM_COLUMNS, type SystemColumn } from '../change/system-columns.js';
import type { SegmentColumn } from './columns.js';
import type { Values } from './packed-values.js';
import type { RawValue } from './raw-value.js';
import { keptText, parseKept } from './system-columns.js';
import { RowTexts, ValueTexts } from './value-texts.js';

/** One column of a row group. */
export type ColumnValues = {
  /** Without the NULLs. */
  readonly values: Values;
  /** Index into values by row, -1 for NULL; undefined when no row is NULL. */
  readonly at: Int32Array | undefined;
};

/** The rows of one row group. Row numbers count from 0. */
export interface SegmentRows {
  readonly rowCount: number;
  /** Memory that they take, bytes, about. */
  readonly bytes: number;
  /** The value as Postgres printed it, null for NULL. Throws RangeError for a column that was not read. */
  text(column: string, row: number): string | null;
  /** The same of a column as bytes, for many rows. Throws RangeError for a column that was not read. */
  texts(column: string): RowTexts;
  /** The text of a value that its typed column could not hold, from `_text`; null for all others. */
  keptText(column: string, row: number): string | null;
  op(row: number): string;
  /** 32-bit transaction id. */
  xid(row: number): number;
  lsn(row: number): bigint;
  ordinal(row: number): bigint;
  /** Microseconds since 1970; 0 for copied rows. */
  committedAtMicros(row: number): bigint;
  /** Signed 64-bit. */
  digest(row: number): bigint;
  /** The same of all rows, or their `lsn`, without a BigInt for each: two words a row, the lower one first. Throws RangeError when a row has none. */
  words(column: 'digest' | 'lsn'): Int32Array;
  /** True when a column's value was not in the stream (unchanged TOAST) and not found. */
  unresolved(row: number): boolean;
  /** Names of those columns, joined by commas; null when the row is whole. */
  unresolvedColumns(row: number): string | null;
}

export class DecodedRows implements SegmentRows {
  readonly rowCount: number;
  readonly bytes: number;
  readonly #columns: ReadonlyMap<string, ColumnValues>;
  readonly #forms: ReadonlyMap<string, SegmentColumn>;
  readonly #prefix: string;
  readonly #systems = new Map<SystemColumn, ColumnValues>();
  readonly #parsedText = new Map<number, Readonly<Record<string, string>>>();

  constructor(
    { rowCount, bytes }: Pick<SegmentRows, 'rowCount' | 'bytes'>,
    columns: ReadonlyMap<string, ColumnValues>,
    forms: ReadonlyMap<string, SegmentColumn>,
    prefix: string,
  ) {
    this.rowCount = rowCount;
    this.bytes = bytes;
    this.#prefix = prefix;
    this.#columns = columns;
    this.#forms = forms;
    for (const name of SYSTEM_COLUMNS) {
      const found = columns.get(prefix + name);
      if (found !== undefined) this.#systems.set(name, found);
    }
  }

  #raw(column: string, row: number): RawValue | null {
    const found = this.#columns.get(column);
    if (!found) throw new RangeError(`column ${column} was not read`);
    return rawValue(found, row);
  }

  #system(column: SystemColumn, row: number): RawValue | null {
    const found = this.#systems.get(column);
    if (!found) throw new RangeError(`column ${this.#prefix}${column} was not read`);
    return rawValue(found, row);
  }

  #has(column: SystemColumn): boolean {
    return this.#systems.has(column);
  }

  text(column: string, row: number): string | null {
    const raw = this.#raw(column, row);
    if (raw !== null) return (this.#forms.get(column) as SegmentColumn).text(raw);
    return this.keptText(column, row);
  }

  texts(column: string): RowTexts {
    const found = this.#columns.get(column);
    if (!found) throw new RangeError(`column ${column} was not read`);
    const { places, text } = this.#forms.get(column) as SegmentColumn;
    return new RowTexts(new ValueTexts(found.values, places, text), found.at, (row) => this.keptText(column, row));
  }

  keptText(column: string, row: number): string | null {
    return keptText(this.#kept(row), column);
  }

  /** Values that the typed columns could not hold. */
  #kept(row: number): Readonly<Record<string, string>> | undefined {
    if (!this.#has('text')) return undefined;
    const raw = this.#system('text', row);
    if (raw === null) return undefined;
    let parsed = this.#parsedText.get(row);
    if (!parsed) {
      parsed = parseKept(raw as Buffer);
      this.#parsedText.set(row, parsed);
    }
    return parsed;
  }

  op(row: number): string {
    return (this.#system('op', row) as Buffer).toString('latin1');
  }

  xid(row: number): number {
    return Number(this.#system('xid', row));
  }

  lsn(row: number): bigint {
    return this.#system('lsn', row) as bigint;
  }

  ordinal(row: number): bigint {
    return this.#system('ordinal', row) as bigint;
  }

  committedAtMicros(row: number): bigint {
    return this.#system('committed_at', row) as bigint;
  }

  digest(row: number): bigint {
    return this.#system('digest', row) as bigint;
  }

  words(column: 'digest' | 'lsn'): Int32Array {
    const found = this.#systems.get(column);
    if (found === undefined || found.at !== undefined) throw new RangeError(`column ${this.#prefix}${column} is not there for every row`);
    const { values } = found;
    const all = values instanceof BigInt64Array ? values : BigInt64Array.from({ length: values.length }, (_, row) => values.at(row) as bigint);
    return new Int32Array(all.buffer, all.byteOffset, all.length * 2); // little-endian, like every machine that this runs on
  }

  unresolved(row: number): boolean {
    return this.#has('unresolved') && this.#system('unresolved', row) !== null;
  }

  unresolvedColumns(row: number): string | null {
    return this.unresolved(row) ? (this.#system('unresolved', row) as Buffer).toString('utf8') : null;
  }
}

/** The value of a row, null for NULL. */
function rawValue(column: ColumnValues, row: number): RawValue | null {
  const at = column.at === undefined ? row : (column.at[row] as number);
  return at < 0 ? null : (column.values.at(at) as RawValue);
}
