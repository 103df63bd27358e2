/**
 * Reads daily and history files with hyparquet (zstd, another implementation again): the second reader that checks sealing, and gives the versions that only a sealed day holds. For digests the pages of flat
 * columns are decoded in flat-column.ts, which a test holds to hyparquet's values.
 */
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetRead, type SchemaElement } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { type SystemColumn, systemName } from '../change/system-columns.js';
import { foldColumn } from './column-digests.js';
import { type SegmentColumn, segmentColumn } from './columns.js';
import { type Column, columnsOf, misdeclared } from './declared.js';
import { ColumnwiseDigests, DigestSum, digestOfTexts } from './digest.js';
import { byRow, codecNumber, decodeFlatColumn, type FlatColumn, typeNumber } from './flat-column.js';
import { inflateSnappy } from './inflate.js';
import { parseMetadata, type SegmentMetadata } from './metadata.js';
import type { RawValue } from './raw-value.js';
import type { ColumnValues } from './segment-rows.js';
import { keptText, parseKept } from './system-columns.js';

/** hyparquet's conversions replaced by ones that keep every digit. */
const RAW_PARSERS = {
  timestampFromMilliseconds: (value: bigint) => value * 1000n,
  timestampFromMicroseconds: (value: bigint) => value,
  timestampFromNanoseconds: (value: bigint) => value / 1000n,
  dateFromDays: (value: number) => value,
  stringFromBytes: (value: Uint8Array) => value && Buffer.from(value.buffer, value.byteOffset, value.byteLength),
};

const COMPRESSORS = { ...compressors, SNAPPY: inflateSnappy };

/** A row by its key. `texts`: in the table's order, undefined = not resolved. `system`: of a column beside the table's own, null where the file has none. */
export type FoundRow = {
  readonly texts: readonly (string | null | undefined)[];
  readonly digest: bigint;
  readonly system: (name: SystemColumn) => RawValue | null;
};

export class DailyReader {
  readonly metadata: SegmentMetadata;
  readonly rowCount: number;
  readonly columns: readonly string[];
  /** Name of the column of values that the typed columns could not hold; undefined when there are none. */
  readonly text: string | undefined;
  /** Name of the column that names the values that the stream did not carry; undefined when there are none. */
  readonly unresolved: string | undefined;
  readonly #file: Awaited<ReturnType<typeof asyncBufferFromFile>>;
  readonly #footer: FileMetaData;
  /** Its columns as the file declares them. */
  readonly #schema: ReadonlyMap<string, Column<SchemaElement>>;
  readonly #forms: readonly SegmentColumn[];

  private constructor(file: Awaited<ReturnType<typeof asyncBufferFromFile>>, footer: FileMetaData, name: string) {
    this.#file = file;
    this.#footer = withoutDecimals(footer);
    this.metadata = parseMetadata(Object.fromEntries((footer.key_value_metadata ?? []).map(({ key, value }) => [key, value ?? ''])), name);
    this.rowCount = Number(footer.num_rows);
    this.columns = this.metadata.columns.map((column) => column.name);
    this.#forms = this.metadata.columns.map((column) => segmentColumn(column, this.metadata));
    this.#schema = columnsOf(footer.schema as readonly (SchemaElement & { name: string })[]);
    const present = (name: string): string | undefined => (this.#schema.has(name) ? name : undefined);
    this.text = present(systemName('text', this.columns));
    this.unresolved = present(systemName('unresolved', this.columns));
  }

  static async open(file: string): Promise<DailyReader> {
    const buffer = await asyncBufferFromFile(file);
    return new DailyReader(buffer, await parquetMetadataAsync(buffer), file);
  }

  /** Calls `row` for each row with its column texts in the table's order; the array is reused. Reads a row group at a time. */
  async forEachRow(row: (texts: (string | null)[]) => void): Promise<void> {
    for (const { start, end } of this.rowGroups()) await this.forEachRowOf(start, end, row);
  }

  /** Name of a column that the file declares as another type than ours are written with; undefined: there is none. */
  misdeclared(): string | undefined {
    const named = new Map([...this.#schema].map(([name, { element, leaf }]) => [name, { element: namesOfTypes(element), leaf: namesOfTypes(leaf) }]));
    return misdeclared(named, this.#forms, ({ fileType, dailyType = fileType }) => dailyType);
  }

  /** Numbers of the first row of each row group and of the first behind it. */
  rowGroups(): { readonly start: number; readonly end: number }[] {
    let end = 0;
    return this.#footer.row_groups.map((group) => {
      const start = end;
      end += Number(group.num_rows);
      return { start, end };
    });
  }

  /** The same for the rows from `start` to before `end`. */
  async forEachRowOf(start: number, end: number, row: (texts: (string | null)[], number: number) => void): Promise<void> {
    const columns = this.text === undefined ? [...this.columns] : [...this.columns, this.text];
    const texts: (string | null)[] = new Array(this.columns.length).fill(null);
    const data = await this.#readColumns(columns, start, end);
    const kept = this.text === undefined ? undefined : data.at(-1);
    for (let i = 0; i < end - start; i += 1) {
      const misfits = keptOf(kept?.[i]);
      for (let c = 0; c < texts.length; c += 1) {
        const raw = data[c]?.[i];
        texts[c] = raw === null || raw === undefined ? keptText(misfits, this.columns[c] as string) : (this.#forms[c] as SegmentColumn).text(raw);
      }
      row(texts, start + i);
    }
  }

  /** The rows whose `columns` have these texts. Reads the rest of a row group only where there is one, and nothing of a group whose statistics say that there is none. */
  async findRows(columns: readonly string[], wanted: readonly string[]): Promise<FoundRow[]> {
    const found: FoundRow[] = [];
    let start = 0;
    for (const [group, { num_rows: rows }] of this.#footer.row_groups.entries()) {
      const end = start + Number(rows);
      if (columns.every((name, i) => this.#mayHold(group, name, wanted[i] as string))) {
        for (const row of await this.#matching(columns, wanted, start, end)) found.push(await this.#rowAt(row));
      }
      start = end;
    }
    return found;
  }

  async #matching(columns: readonly string[], wanted: readonly string[], start: number, end: number): Promise<number[]> {
    const data = await this.#readColumns([...columns, ...(this.text === undefined ? [] : [this.text])], start, end);
    const kept = this.text === undefined ? undefined : data.at(-1);
    const forms = columns.map((name) => this.#forms[this.columns.indexOf(name)] as SegmentColumn);
    const text = (row: number, c: number): string | null => {
      const raw = data[c]?.[row];
      return raw === null || raw === undefined ? keptText(keptOf(kept?.[row]), columns[c] as string) : (forms[c] as SegmentColumn).text(raw);
    };
    return Array.from({ length: end - start }, (_, row) => row)
      .filter((row) => wanted.every((value, c) => text(row, c) === value))
      .map((row) => start + row);
  }

  async #rowAt(row: number): Promise<FoundRow> {
    const own = new Set(this.columns);
    const system = [...this.#schema.keys()].filter((name) => !own.has(name));
    const values = await this.#readColumns([...this.columns, ...system], row, row + 1);
    const at = (name: string): RawValue | null => (system.includes(name) ? (values[this.columns.length + system.indexOf(name)]?.[0] ?? null) : null);
    const kept = this.text === undefined ? undefined : keptOf(at(this.text));
    const missing = this.unresolved === undefined ? [] : namesOf(at(this.unresolved));
    const texts = this.columns.map((name, c) => {
      const raw = values[c]?.[0];
      if (raw !== null && raw !== undefined) return (this.#forms[c] as SegmentColumn).text(raw);
      return missing.includes(name) ? undefined : keptText(kept, name);
    });
    return { texts, digest: digestOfTexts(texts), system: (name) => at(systemName(name, this.columns)) };
  }

  /** False when the statistics of an integer column exclude the value. */
  #mayHold(group: number, name: string, text: string): boolean {
    const element = this.#schema.get(name)?.element;
    const { min_value: min, max_value: max } =
      this.#footer.row_groups[group]?.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === name)?.meta_data?.statistics ?? {};
    const isInteger = element?.scale === undefined && /^INT(32|64)$/.test(element?.type ?? '') && /^(U?INT_\d+)?$/.test(element?.converted_type ?? '');
    if (!isInteger || !/^-?\d{1,19}$/.test(text)) return true;
    if ((typeof min !== 'bigint' && typeof min !== 'number') || (typeof max !== 'bigint' && typeof max !== 'number')) return true;
    return BigInt(text) >= BigInt(min) && BigInt(text) <= BigInt(max);
  }

  async #readColumns(columns: string[], rowStart: number, rowEnd: number): Promise<(RawValue | null)[][]> {
    const found = new Map<string, (RawValue | null)[]>(columns.map((name) => [name, new Array(rowEnd - rowStart).fill(null)]));
    await parquetRead({
      file: this.#file,
      metadata: this.#footer,
      columns,
      rowStart,
      rowEnd,
      compressors: COMPRESSORS,
      utf8: false,
      parsers: RAW_PARSERS as never,
      onChunk: (chunk) => {
        const target = found.get(chunk.columnName) as (RawValue | null)[];
        for (let i = 0; i < chunk.columnData.length; i += 1) {
          const at = chunk.rowStart + i - rowStart;
          if (at >= 0 && at < target.length) target[at] = rawOf(chunk.columnData[i]);
        }
      },
    });
    return columns.map((name) => found.get(name) as (RawValue | null)[]);
  }

  /** Rows and the sum of their digests, recomputed from the decoded values a column at a time. The digests of the rows with the numbers `except` count as nothing. `giveWay`: awaited before each column. */
  async digestSum(except: ReadonlySet<number> = new Set(), giveWay: () => Promise<void> = async () => undefined): Promise<{ rows: number; digestSum: string }> {
    const sum = new DigestSum();
    const groups = this.rowGroups();
    for (const [group, { start, end }] of groups.entries()) {
      const digests = await this.#digests(group, start, end, giveWay);
      for (let row = 0; row < end - start; row += 1) {
        if (!except.has(start + row)) sum.addRow(digests.of(row));
      }
    }
    return { rows: groups.at(-1)?.end ?? 0, digestSum: sum.toString() };
  }

  async #digests(group: number, start: number, end: number, giveWay: () => Promise<void>): Promise<ColumnwiseDigests> {
    const digests = new ColumnwiseDigests(end - start);
    const kept = this.text === undefined ? undefined : (await this.#readColumns([this.text], start, end))[0];
    const missing = this.unresolved === undefined ? undefined : (await this.#readColumns([this.unresolved], start, end))[0];
    for (const [c, name] of this.columns.entries()) {
      await giveWay();
      const form = this.#forms[c] as SegmentColumn;
      const flat = form.depth === 0 ? await this.#readFlat(group, name) : undefined;
      const column = flat === undefined ? indexed((await this.#readColumns([name], start, end))[0] ?? []) : byRow(flat, end - start, name);
      foldColumn(digests, end - start, column, form, (row) => (namesOf(missing?.[row]).includes(name) ? undefined : keptText(keptOf(kept?.[row]), name)));
    }
    return digests;
  }

  /** A column chunk as packed values; undefined when it is written in a way that is not read so, or not there. */
  async #readFlat(group: number, name: string): Promise<FlatColumn | undefined> {
    const { columns = [], num_rows: rows = 0 } = this.#footer.row_groups[group] ?? {};
    const chunk = columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === name)?.meta_data;
    const element = this.#schema.get(name)?.element;
    if (chunk === undefined || element === undefined || chunk.path_in_schema.length !== 1) return undefined;
    const from = Number(chunk.dictionary_page_offset ?? 0n) > 0 ? Number(chunk.dictionary_page_offset) : Number(chunk.data_page_offset);
    return decodeFlatColumn({
      bytes: Buffer.from(await this.#file.slice(from, from + Number(chunk.total_compressed_size))),
      type: typeNumber(chunk.type),
      codec: codecNumber(chunk.codec),
      width: element.type_length ?? 0,
      optional: element.repetition_type !== 'REQUIRED',
      rows: Number(rows),
    });
  }
}

/** A value of hyparquet as the forms read them: its bytes as a Buffer, lists within. */
function rawOf(value: unknown): RawValue | null {
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return value.map(rawOf);
  return value instanceof Uint8Array && !Buffer.isBuffer(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : (value as RawValue);
}

const namesOfTypes = ({ name, converted_type: converted, logical_type: logical, precision, scale }: SchemaElement) => ({
  name,
  converted,
  precision,
  scale,
  utc: logical?.type === 'TIMESTAMP' || logical?.type === 'TIME' ? logical.isAdjustedToUTC : undefined,
});

/** Values of rows, each an object or null. */
function indexed(rows: readonly (RawValue | null)[]): ColumnValues {
  let next = 0;
  return { values: rows.filter((raw) => raw !== null), at: Int32Array.from(rows, (raw) => (raw === null ? -1 : next++)) };
}

function keptOf(raw: RawValue | null | undefined): Readonly<Record<string, string>> | undefined {
  return raw === null || raw === undefined ? undefined : parseKept(raw as Buffer);
}

/** The columns that a value of `_unresolved` names. */
function namesOf(raw: RawValue | null | undefined): string[] {
  return raw === null || raw === undefined ? [] : (raw as Buffer).toString('utf8').split(',');
}

/** hyparquet makes doubles of decimals; without the annotation it hands out the bytes. */
function withoutDecimals(footer: FileMetaData): FileMetaData {
  const schema = footer.schema.map((element) => {
    if (element.converted_type !== 'DECIMAL' && element.logical_type?.type !== 'DECIMAL') return element;
    const { converted_type: _converted, logical_type: _logical, ...bare } = element;
    return bare;
  });
  return { ...footer, schema };
}
