/**
 * Reads segments back with @dsnp/parquetjs, the implementation that did not write them, from its raw column chunks: before its conversions to Date and double. The pages of flat columns as our encoder writes
 * them are decoded in flat-column.ts, which is held to the library's values by a test. Gives every value as the Postgres text it was.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import parquet from '@dsnp/parquetjs';
import { SYSTEM_COLUMNS, systemPrefix } from '../change/system-columns.js';
import { listsFromLevels } from './arrays.js';
import { keyNames } from './builder.js';
import { type SegmentColumn, segmentColumn } from './columns.js';
import { type Column, columnsOf, misdeclared } from './declared.js';
import { hashFile } from './durable-file.js';
import { byRow, convertedName, decodeFlatColumn, type FlatColumn } from './flat-column.js';
import { parseMetadata, type SegmentMetadata } from './metadata.js';
import { memoryOf } from './packed-values.js';
import type { RawList, RawValue } from './raw-value.js';
import { type ColumnValues, DecodedRows, type SegmentRows } from './segment-rows.js';

type Decoded = { values: RawValue[]; dlevels: number[]; rlevels: number[] };
type Statistics = { min_value?: Buffer | null; max_value?: Buffer | null } | null;
type ChunkMetadata = {
  path_in_schema: string[];
  statistics: Statistics;
  type: number;
  codec: number;
  data_page_offset: unknown;
  dictionary_page_offset: unknown;
  total_compressed_size: unknown;
};
type SchemaElement = {
  name: string;
  num_children: number | null;
  type_length: number | null;
  repetition_type: number | null;
  converted_type: number | null;
  precision: number | null;
  scale: number | null;
  logicalType: { TIMESTAMP?: { isAdjustedToUTC: boolean } | null; TIME?: { isAdjustedToUTC: boolean } | null } | null;
};
type ColumnChunk = { meta_data: ChunkMetadata };
type RowGroup = { num_rows: unknown; columns: ColumnChunk[] };
/** The part of the library below its records: column chunks, undecoded statistics. */
type Envelope = {
  default_dictionary_size: number;
  readColumnChunk(schema: unknown, chunk: ColumnChunk): Promise<Decoded>;
  read(offset: number, length: number): Promise<Buffer>;
};

/** A file of at most so many bytes is read at once: a small one is read faster than it is opened and closed for each of its columns. */
const MOST_READ_WHOLE = 1024 * 1024;

/** Columns lie behind one another: of a larger file so many bytes at least are read at once, and what is left of them serves the next column. */
const LEAST_READ = 256 * 1024;

/** FieldRepetitionType of the format. */
const REQUIRED = 0;

export class SegmentReader {
  readonly rowCount: number;
  readonly rowGroupCount: number;
  readonly metadata: SegmentMetadata;
  /** The table's own columns, in order. */
  readonly columns: readonly string[];
  readonly #reader: InstanceType<typeof parquet.ParquetReader>;
  readonly #forms: ReadonlyMap<string, SegmentColumn>;
  readonly #groups: RowGroup[];
  readonly #schema: ReadonlyMap<string, Column<SchemaElement>>;
  /** Before the names of the system columns. */
  readonly #prefix: string;
  readonly #file: string;
  /** All its bytes, of a small one. */
  readonly #whole: Buffer | undefined;
  /** What was read last beyond what was asked for. */
  #ahead: { readonly from: number; readonly bytes: Buffer } | undefined;

  private constructor(reader: InstanceType<typeof parquet.ParquetReader>, file: string, whole: Buffer | undefined) {
    this.#reader = reader;
    this.#file = file;
    this.#whole = whole;
    // The library's own getMetadata fails on a file that has none.
    const entries = (reader.metadata as unknown as { key_value_metadata: { key: string; value: string }[] | null }).key_value_metadata ?? [];
    this.metadata = parseMetadata(Object.fromEntries(entries.map(({ key, value }) => [key, value])), file);
    const relation =
      this.metadata.kind === 'keys'
        ? keyNames(this.metadata.key, this.metadata.columns).map((name) => ({ name, typeOid: 25, typmod: -1, key: true }))
        : this.metadata.columns;
    this.columns = relation.map((column) => column.name);
    this.#forms = new Map(relation.map((column) => [column.name, segmentColumn(column, this.metadata)]));
    this.#prefix = systemPrefix(this.metadata.columns.map((column) => column.name));
    this.#groups = (reader.metadata as unknown as { row_groups: RowGroup[] }).row_groups;
    this.#schema = columnsOf((reader.metadata as unknown as { schema: SchemaElement[] }).schema);
    this.rowGroupCount = this.#groups.length;
    this.rowCount = Number(reader.getRowCount());
  }

  /** Opens a segment or keys file. Throws ENOENT, or an Error that names the file when it is not one of ours. */
  static async open(file: string): Promise<SegmentReader> {
    const options = { rawStatistics: true } as never;
    const whole = (await stat(file)).size <= MOST_READ_WHOLE ? await readFile(file) : undefined;
    const opened = whole === undefined ? parquet.ParquetReader.openFile(file, options) : parquet.ParquetReader.openBuffer(whole, options);
    const reader = await opened.catch((error: Error & { code?: string }) => {
      throw error.code === undefined ? new Error(`${file}: ${error.message}`, { cause: error }) : error;
    });
    try {
      return new SegmentReader(reader, file, whole);
    } catch (error) {
      await reader.close();
      throw error;
    }
  }

  /** SHA-256 of the file, hex: of the very bytes that are decoded, where it is small enough to be read at once. */
  async sha256(): Promise<string> {
    return this.#whole === undefined ? await hashFile(this.#file) : createHash('sha256').update(this.#whole).digest('hex');
  }

  /** Name of a column that the file declares as another type than ours are written with; undefined: there is none. */
  misdeclared(): string | undefined {
    const named = new Map([...this.#schema].map(([name, { element, leaf }]) => [name, { element: namesOfTypes(element), leaf: namesOfTypes(leaf) }]));
    return misdeclared(named, [...this.#forms.values()], ({ fileType }) => fileType);
  }

  rowsOfGroup(group: number): number {
    return Number(this.#group(group).num_rows);
  }

  #group(group: number): RowGroup {
    const found = this.#groups[group];
    if (!found) throw new RangeError(`row group ${group} of ${this.rowGroupCount}`);
    return found;
  }

  /** Smallest and largest timestamp of a row group, as Postgres text, when its statistics tell; all rows lie within that have a day (see day.ts). */
  timestampRange(group: number): { min: string; max: string } | undefined {
    const form = this.#forms.get(this.metadata.timestamp);
    const chunk = this.#chunk(group, this.metadata.timestamp);
    const { min_value: min, max_value: max } = chunk?.meta_data.statistics ?? {};
    if (!form || !min?.length || !max?.length) return undefined;
    if (form.fileType === 'DATE') return { min: form.text(min.readInt32LE(0)), max: form.text(max.readInt32LE(0)) };
    if (min.length === 8 && max.length === 8) return { min: form.text(min.readBigInt64LE(0)), max: form.text(max.readBigInt64LE(0)) };
    return undefined;
  }

  /** Decodes a row group; only the named columns of the table (default: all), and the system columns. */
  async readRowGroup(group: number, columns: readonly string[] = this.columns): Promise<SegmentRows> {
    const found = new Map<string, ColumnValues>();
    let bytes = 0;
    for (const name of [...columns, ...this.systemColumns(group)]) {
      const column = await this.readColumn(group, name);
      found.set(name, column);
      bytes += memoryOf(column.values) + (column.at?.byteLength ?? 0);
    }
    return new DecodedRows({ rowCount: this.rowsOfGroup(group), bytes }, found, this.#forms, this.#prefix);
  }

  /** Names of the system columns that the file has: a keys file has fewer. */
  systemColumns(group: number): string[] {
    const names = new Set(this.#group(group).columns.map((column) => column.meta_data.path_in_schema[0]));
    return SYSTEM_COLUMNS.map((name) => this.#prefix + name).filter((name) => names.has(name));
  }

  /** Decodes one column of a row group. Throws RangeError when the file has none of that name. */
  async readColumn(group: number, name: string): Promise<ColumnValues> {
    const chunk = this.#chunk(group, name);
    if (chunk === undefined) throw new RangeError(`there is no column ${name}`);
    const depth = this.#forms.get(name)?.depth ?? 0;
    const flat = depth === 0 ? await this.#readFlat(group, chunk) : undefined;
    if (flat !== undefined) return byRow(flat, this.rowsOfGroup(group), name);
    const { data_page_offset: pages, dictionary_page_offset: dictionary } = chunk.meta_data;
    // The library reads this many bytes for each dictionary: too few and it fails, too many and it reads the rest of the file for every column.
    if (Number(dictionary) > 0) this.#envelope.default_dictionary_size = Number(pages) - Number(dictionary);
    const decoded = await this.#envelope.readColumnChunk(this.#reader.schema, chunk);
    return depth === 0 ? indexNulls(decoded, this.rowsOfGroup(group), name) : indexLists(listsFromLevels(decoded, depth), this.rowsOfGroup(group), name);
  }

  get #envelope(): Envelope {
    return this.#reader.envelopeReader as unknown as Envelope;
  }

  async #readFlat(group: number, { meta_data: chunk }: ColumnChunk): Promise<FlatColumn | undefined> {
    const element = this.#schema.get(chunk.path_in_schema[0] as string)?.element;
    if (chunk.path_in_schema.length !== 1 || element === undefined) return undefined;
    const from = startOf(chunk);
    return decodeFlatColumn({
      bytes: await this.#read(from, Number(chunk.total_compressed_size), group),
      type: chunk.type,
      codec: chunk.codec,
      width: element.type_length ?? 0,
      optional: element.repetition_type !== REQUIRED,
      rows: this.rowsOfGroup(group),
    });
  }

  /** Bytes of a row group. */
  async #read(from: number, length: number, group: number): Promise<Buffer> {
    const inAhead = from - (this.#ahead?.from ?? 0);
    if (this.#ahead !== undefined && inAhead >= 0 && inAhead + length <= this.#ahead.bytes.length) return this.#ahead.bytes.subarray(inAhead, inAhead + length);
    const behind = this.#group(group).columns.reduce((end, { meta_data: chunk }) => Math.max(end, startOf(chunk) + Number(chunk.total_compressed_size)), 0);
    const bytes = await this.#envelope.read(from, Math.max(length, Math.min(LEAST_READ, behind - from)));
    this.#ahead = bytes.length > length ? { from, bytes } : undefined;
    return bytes.subarray(0, length);
  }

  /** How values of a column of the table read. */
  form(name: string): SegmentColumn {
    const form = this.#forms.get(name);
    if (form === undefined) throw new RangeError(`there is no column ${name}`);
    return form;
  }

  #chunk(group: number, name: string): ColumnChunk | undefined {
    return this.#group(group).columns.find((column) => column.meta_data.path_in_schema[0] === name);
  }

  async close(): Promise<void> {
    await this.#reader.close();
  }
}

const startOf = (chunk: ChunkMetadata): number => Number(Number(chunk.dictionary_page_offset) > 0 ? chunk.dictionary_page_offset : chunk.data_page_offset);

const namesOfTypes = ({ name, converted_type: converted, logicalType: logical, precision, scale }: SchemaElement) => ({
  name,
  converted: converted === null ? undefined : convertedName(converted),
  precision,
  scale,
  utc: (logical?.TIMESTAMP ?? logical?.TIME)?.isAdjustedToUTC,
});

function indexLists(rows: readonly (RawList | null)[], rowCount: number, name: string): ColumnValues {
  if (rows.length !== rowCount) throw new Error(`column ${name} has ${rows.length} of ${rowCount} rows`);
  const values = rows.filter((row) => row !== null);
  let next = 0;
  return { values, at: Int32Array.from(rows, (row) => (row === null ? -1 : next++)) };
}

function indexNulls(chunk: Decoded, rowCount: number, name: string): ColumnValues {
  if (chunk.dlevels.length !== rowCount) throw new Error(`column ${name} has ${chunk.dlevels.length} of ${rowCount} rows`);
  if (chunk.values.length === rowCount) return { values: chunk.values, at: undefined };
  const at = new Int32Array(rowCount);
  let next = 0;
  for (let row = 0; row < rowCount; row += 1) at[row] = (chunk.dlevels[row] as number) > 0 ? next++ : -1;
  if (next !== chunk.values.length) throw new Error(`column ${name} has ${chunk.values.length} values for ${next} levels`);
  return { values: chunk.values, at };
}
