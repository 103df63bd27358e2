/**
 * The pages of a flat column as the encoder of segments and of daily files writes them, into packed values: V1 data pages, PLAIN or by dictionary, snappy, zstd, gzip or bare, at most one level of NULL. What is
 * written in another way is left to the library's own decoder, which makes an object of every value. Source: Apache Parquet, "Data Pages".
 */
import parquetTypes from '@dsnp/parquetjs/dist/gen-nodejs/parquet_types.js';
import { decodeThrift } from '@dsnp/parquetjs/dist/lib/util.js';
import { sinkOf } from './column-sinks.js';
import { type Inflate, inflateGzip, inflateSnappy, inflateZstd } from './inflate.js';
import type { Values } from './packed-values.js';
import { PageBytes } from './page-bytes.js';
import type { ColumnValues } from './segment-rows.js';

const { CompressionCodec, ConvertedType, Encoding, PageHeader, PageType, Type } = parquetTypes;

const INFLATES: ReadonlyMap<number, Inflate> = new Map([
  [CompressionCodec.UNCOMPRESSED, (stored, length) => exactly(stored, length)],
  [CompressionCodec.SNAPPY, inflateSnappy],
  [CompressionCodec.ZSTD, inflateZstd],
  [CompressionCodec.GZIP, inflateGzip],
]);

/** Numbers of the format's enums by their names. */
export const typeNumber = (name: string): number => Type[name as keyof typeof Type] as number;
export const convertedName = (number: number): string | undefined =>
  Object.keys(ConvertedType).find((name) => ConvertedType[name as keyof typeof ConvertedType] === number);
export const codecNumber = (name: string): number => CompressionCodec[name as keyof typeof CompressionCodec] as number;

/** Pages of more bytes are left to the library: the inflater's memory grows with them and never shrinks. */
const MOST_INFLATED = 16 * 1024 * 1024;

/** A column chunk as the footer describes it. */
export type FlatChunk = {
  /** Its pages, the dictionary's before the others. */
  readonly bytes: Buffer;
  /** Numbers of the Parquet format's enums. */
  readonly type: number;
  readonly codec: number;
  /** Bytes of a FIXED_LEN_BYTE_ARRAY. */
  readonly width: number;
  /** Values may be NULL. */
  readonly optional: boolean;
  /** Rows of its row group. */
  readonly rows: number;
};

/** `present`: 1 for each row with a value; undefined when all have one. */
export type FlatColumn = { readonly values: Values; readonly present: Uint8Array | undefined };

/** Decodes a chunk; undefined when it is written in a way that is not read here. Throws RangeError or an Error for bytes that are damaged. */
export function decodeFlatColumn(chunk: FlatChunk): FlatColumn | undefined {
  const sink = sinkOf(chunk);
  const inflate = INFLATES.get(chunk.codec);
  if (sink === undefined || inflate === undefined) return undefined;
  const present = chunk.optional ? new Uint8Array(chunk.rows) : undefined;
  let [at, rows, values] = [0, 0, 0];
  while (rows < chunk.rows) {
    const header = new PageHeader();
    at += decodeThrift(header, chunk.bytes.subarray(at));
    if (header.uncompressed_page_size > MOST_INFLATED) return undefined;
    const stored = chunk.bytes.subarray(at, at + header.compressed_page_size);
    if (stored.length !== header.compressed_page_size) throw new RangeError('a page leaves its column');
    at += header.compressed_page_size;
    const { data_page_header: data, dictionary_page_header: dictionary } = header;
    if (header.type === PageType.DICTIONARY_PAGE && dictionary != null && isPlain(dictionary.encoding)) {
      sink.dictionary(new PageBytes(bufferOf(inflate(stored, header.uncompressed_page_size))), dictionary.num_values);
      continue;
    }
    if (header.type !== PageType.DATA_PAGE || data == null) return undefined;
    const page = new PageBytes(bufferOf(inflate(stored, header.uncompressed_page_size)));
    if (!(data.num_values >= 0)) throw new RangeError('a page has less than no values');
    if (rows + data.num_values > chunk.rows) throw new RangeError('a column has more values than rows');
    let count = data.num_values;
    if (present !== undefined) {
      if (data.definition_level_encoding !== Encoding.RLE) return undefined;
      count = page.levels(present.subarray(rows, rows + count));
    }
    if (data.encoding === Encoding.PLAIN) sink.plain(page, count);
    else if (data.encoding === Encoding.PLAIN_DICTIONARY || data.encoding === Encoding.RLE_DICTIONARY) sink.indexes(page, count);
    else return undefined;
    rows += data.num_values;
    values += count;
  }
  return { values: sink.finish(), present: values === rows ? undefined : present };
}

/** PLAIN_DICTIONARY is what writers of V1 call the dictionary's own encoding. */
const isPlain = (encoding: number): boolean => encoding === Encoding.PLAIN || encoding === Encoding.PLAIN_DICTIONARY;

function exactly(stored: Uint8Array, length: number): Uint8Array {
  if (stored.length !== length) throw new RangeError('a page is not of its length');
  return stored;
}

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A column of a row group, its values by row. Throws when it has not one for each row. `name`: for the message. */
export function byRow({ values, present }: FlatColumn, rowCount: number, name: string): ColumnValues {
  if (present === undefined) {
    if (values.length !== rowCount) throw new Error(`column ${name} has ${values.length} of ${rowCount} rows`);
    return { values, at: undefined };
  }
  const at = new Int32Array(rowCount);
  let next = 0;
  for (let row = 0; row < rowCount; row += 1) at[row] = present[row] === 1 ? next++ : -1;
  if (next !== values.length) throw new Error(`column ${name} has ${values.length} values for ${next} rows that have one`);
  return { values, at };
}
