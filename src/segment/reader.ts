/**
 * Reads segments back with @dsnp/parquetjs, the implementation that did not write them, from its raw column chunks: before its conversions to Date and double. The pages of flat columns as our encoder writes
 * them are decoded in flat-column.ts, which is held to the library's values by a test. Gives every value as the Postgres text it was.
 */
import parquet from '@dsnp/parquetjs';
import { SYSTEM_COLUMNS, type SystemColumn, systemPrefix } from '../change/system-columns.js';
import { listsFromLevels } from './arrays.js';
import { keyNames } from './builder.js';
import { type SegmentColumn, segmentColumn } from './columns.js';
import { decodeFlatColumn, type FlatColumn } from './flat-column.js';
import { parseMetadata, type SegmentMetadata } from './metadata.js';
import { memoryOf, type Values } from './packed-values.js';
import type { RawList, RawValue } from './raw-value.js';
import { keptText, parseKept } from './system-columns.js';

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
type SchemaElement = { name: string; type_length: number | null; repetition_type: number | null };
type ColumnChunk = { meta_data: ChunkMetadata };
type RowGroup = { num_rows: unknown; columns: ColumnChunk[] };
/** The part of the library below its records: column chunks, undecoded statistics. */
type Envelope = {
  default_dictionary_size: number;
  readColumnChunk(schema: unknown, chunk: ColumnChunk): Promise<Decoded>;
  read(offset: number, length: number): Promise<Buffer>;
};

/** FieldRepetitionType of the format. */
const REQUIRED = 0;

/** One column of a row group, as the library holds it. */
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
  /** The text of a value that its typed column could not hold, from `_text`; null for all others. */
  keptText(column: string, row: number): string | null;
  op(row: number): string;
  /** 32-bit transaction id. */
  xid(row: number): number;
  lsn(row: number): bigint;
  ordinal(row: number): bigint;
  /** Signed 64-bit. */
  digest(row: number): bigint;
  /** True when a column's value was not in the stream (unchanged TOAST) and not found. */
  unresolved(row: number): boolean;
  /** Names of those columns, joined by commas; null when the row is whole. */
  unresolvedColumns(row: number): string | null;
}

export class SegmentReader {
  readonly rowCount: number;
  readonly rowGroupCount: number;
  readonly metadata: SegmentMetadata;
  /** The table's own columns, in order. */
  readonly columns: readonly string[];
  readonly #reader: InstanceType<typeof parquet.ParquetReader>;
  readonly #forms: ReadonlyMap<string, SegmentColumn>;
  readonly #groups: RowGroup[];
  readonly #schema: readonly SchemaElement[];
  /** Before the names of the system columns. */
  readonly #prefix: string;

  private constructor(reader: InstanceType<typeof parquet.ParquetReader>, file: string) {
    this.#reader = reader;
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
    this.#schema = (reader.metadata as unknown as { schema: SchemaElement[] }).schema.slice(1);
    this.rowGroupCount = this.#groups.length;
    this.rowCount = Number(reader.getRowCount());
  }

  /** Opens a segment or keys file. Throws ENOENT, or an Error that names the file when it is not one of ours. */
  static async open(file: string): Promise<SegmentReader> {
    const reader = await parquet.ParquetReader.openFile(file, { rawStatistics: true } as never).catch((error: Error & { code?: string }) => {
      throw error.code === undefined ? new Error(`${file}: ${error.message}`, { cause: error }) : error;
    });
    try {
      return new SegmentReader(reader, file);
    } catch (error) {
      await reader.close();
      throw error;
    }
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
    if (flat !== undefined) return indexPresent(flat, this.rowsOfGroup(group), name);
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
    const element = this.#schema.find(({ name }) => name === chunk.path_in_schema[0]);
    if (chunk.path_in_schema.length !== 1 || element === undefined) return undefined;
    const from = Number(chunk.dictionary_page_offset) > 0 ? Number(chunk.dictionary_page_offset) : Number(chunk.data_page_offset);
    return decodeFlatColumn({
      bytes: await this.#envelope.read(from, Number(chunk.total_compressed_size)),
      type: chunk.type,
      codec: chunk.codec,
      width: element.type_length ?? 0,
      optional: element.repetition_type !== REQUIRED,
      rows: this.rowsOfGroup(group),
    });
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

class DecodedRows implements SegmentRows {
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

  digest(row: number): bigint {
    return this.#system('digest', row) as bigint;
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

function indexLists(rows: readonly (RawList | null)[], rowCount: number, name: string): ColumnValues {
  if (rows.length !== rowCount) throw new Error(`column ${name} has ${rows.length} of ${rowCount} rows`);
  const values = rows.filter((row) => row !== null);
  let next = 0;
  return { values, at: Int32Array.from(rows, (row) => (row === null ? -1 : next++)) };
}

function indexPresent({ values, present }: FlatColumn, rowCount: number, name: string): ColumnValues {
  if (present === undefined) {
    if (values.length !== rowCount) throw new Error(`column ${name} has ${values.length} of ${rowCount} rows`);
    return { values, at: undefined };
  }
  const at = new Int32Array(rowCount);
  let next = 0;
  for (let row = 0; row < rowCount; row += 1) at[row] = present[row] === 1 ? next++ : -1;
  return { values, at };
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
