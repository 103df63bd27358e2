/**
 * The pages of a flat column as the encoder of segments writes them, into packed values: V1 data pages, PLAIN or by dictionary, snappy or bare, at most one level of NULL. What is written in another way is
 * left to the library's own decoder, which makes an object of every value. Sources: Apache Parquet, "Data Pages", Encodings.md ("PLAIN", "Dictionary Encoding", "RLE / Bit-Packing Hybrid").
 */
import parquetTypes from '@dsnp/parquetjs/dist/gen-nodejs/parquet_types.js';
import { decodeThrift } from '@dsnp/parquetjs/dist/lib/util.js';
import { compressors } from 'hyparquet-compressors';
import { PackedBooleans, PackedBytes, type Values } from './packed-values.js';

const { CompressionCodec, Encoding, PageHeader, PageType, Type } = parquetTypes;

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
  if (sink === undefined || (chunk.codec !== CompressionCodec.SNAPPY && chunk.codec !== CompressionCodec.UNCOMPRESSED)) return undefined;
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
      sink.dictionary(new PageBytes(inflate(chunk.codec, stored, header.uncompressed_page_size)), dictionary.num_values);
      continue;
    }
    if (header.type !== PageType.DATA_PAGE || data == null) return undefined;
    const page = new PageBytes(inflate(chunk.codec, stored, header.uncompressed_page_size));
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

function inflate(codec: number, stored: Buffer, length: number): Buffer {
  if (codec === CompressionCodec.UNCOMPRESSED) return stored;
  const inflated = compressors.SNAPPY?.(stored, length);
  if (inflated?.length !== length) throw new RangeError('a page does not inflate to its length');
  return Buffer.from(inflated.buffer, inflated.byteOffset, inflated.byteLength);
}

/** The bytes of a page, read from the front. */
class PageBytes {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Takes the next `length` bytes. */
  take(length: number): Buffer {
    const taken = this.bytes.subarray(this.at, this.at + length);
    if (taken.length !== length) throw new RangeError('a page ends in the middle of a value');
    this.at += length;
    return taken;
  }

  /** Definition levels of at most 1: bytes that say their length. Returns how many are 1. */
  levels(into: Uint8Array): number {
    const length = this.take(4).readUInt32LE(0);
    new PageBytes(this.take(length)).hybrid(1, into);
    let count = 0;
    for (const level of into) count += level;
    return count;
  }

  /** Fills `into` with numbers of `width` bits: runs of one, or eights packed from the lowest bit up. */
  hybrid(width: number, into: Uint8Array | Uint32Array): void {
    const size = Math.ceil(width / 8);
    for (let done = 0; done < into.length; ) {
      const head = this.#varint();
      if ((head & 1) === 0) {
        const run = Math.min(head >>> 1, into.length - done);
        if (run === 0) throw new RangeError('an empty run');
        into.fill(size === 0 ? 0 : this.take(size).readUIntLE(0, size), done, done + run);
        done += run;
      } else {
        const packed = this.take(Math.min((head >>> 1) * width, this.bytes.length - this.at));
        const numbers = Math.min((head >>> 1) * 8, into.length - done);
        if (numbers === 0 || packed.length * 8 < numbers * width) throw new RangeError('a page ends in the middle of a run');
        unpack(packed, width, into, done, numbers);
        done += numbers;
      }
    }
  }

  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.take(1)[0] as number;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number of more than 32 bits');
  }
}

/** `count` numbers of `width` bits (at most 32), the lowest bits first. */
function unpack(packed: Uint8Array, width: number, into: Uint8Array | Uint32Array, from: number, count: number): void {
  const mask = 2 ** width - 1;
  let [held, bits, next] = [0, 0, 0];
  for (let i = from; i < from + count; i += 1) {
    // Not by shifts: what is held may have up to 39 bits.
    for (; bits < width; bits += 8, next += 1) held += (packed[next] as number) * 2 ** bits;
    const rest = Math.floor(held / 2 ** width);
    into[i] = held - rest * (mask + 1);
    held = rest;
    bits -= width;
  }
}

/** Takes the values of a chunk page by page. */
interface Sink {
  dictionary(page: PageBytes, count: number): void;
  plain(page: PageBytes, count: number): void;
  indexes(page: PageBytes, count: number): void;
  finish(): Values;
}

function sinkOf({ type, rows, width }: FlatChunk): Sink | undefined {
  switch (type) {
    case Type.INT32:
      return new NumberSink(new Int32Array(rows));
    case Type.INT64:
      return new NumberSink(new BigInt64Array(rows));
    case Type.FLOAT:
      return new NumberSink(new Float32Array(rows));
    case Type.DOUBLE:
      return new NumberSink(new Float64Array(rows));
    case Type.BYTE_ARRAY:
      return new BytesSink(rows, undefined);
    case Type.FIXED_LEN_BYTE_ARRAY:
      return width > 0 ? new BytesSink(rows, width) : undefined;
    case Type.BOOLEAN:
      return new BooleanSink(new Uint8Array(rows));
    default:
      return undefined;
  }
}

/** The numbers that a page gives for a dictionary's entries. */
function readIndexes(page: PageBytes, count: number, entries: number): Uint32Array {
  const indexes = new Uint32Array(count);
  if (count > 0) {
    const width = page.take(1)[0] as number;
    if (width > 32) throw new RangeError(`indexes of ${width} bits`);
    page.hybrid(width, indexes);
  }
  for (const index of indexes) if (index >= entries) throw new RangeError(`entry ${index} of a dictionary of ${entries}`);
  return indexes;
}

type Numbers = Int32Array | BigInt64Array | Float32Array | Float64Array;

/** Numbers as they lie in the file: little-endian, like every machine that this runs on. */
class NumberSink implements Sink {
  readonly #all: Numbers;
  #count = 0;
  #entries: Numbers | undefined;

  constructor(all: Numbers) {
    this.#all = all;
  }

  dictionary(page: PageBytes, count: number): void {
    this.#entries = this.#read(page, count);
  }

  plain(page: PageBytes, count: number): void {
    this.#all.set(this.#read(page, count) as never, this.#count);
    this.#count += count;
  }

  indexes(page: PageBytes, count: number): void {
    const entries = this.#entries;
    if (entries === undefined) throw new RangeError('a page goes by a dictionary that is not there');
    const indexes = readIndexes(page, count, entries.length);
    // By words of 32 bits: a 64-bit number would be made an object on its way.
    const each = this.#all.BYTES_PER_ELEMENT / 4;
    const from = new Int32Array(entries.buffer);
    const to = new Int32Array(this.#all.buffer);
    let at = this.#count * each;
    for (const index of indexes) for (let word = index * each; word < (index + 1) * each; word += 1) to[at++] = from[word] as number;
    this.#count += count;
  }

  #read(page: PageBytes, count: number): Numbers {
    const bytes = page.take(count * this.#all.BYTES_PER_ELEMENT);
    const aligned = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    return new (this.#all.constructor as new (buffer: ArrayBufferLike) => Numbers)(aligned);
  }

  finish(): Values {
    return this.#count === this.#all.length ? this.#all : this.#all.slice(0, this.#count);
  }
}

/** Places of values in the pages, one behind the other. */
class BytesSink implements Sink {
  readonly #width: number | undefined;
  readonly #starts: Uint32Array;
  readonly #ends: Uint32Array;
  readonly #pages: Buffer[] = [];
  #count = 0;
  /** Bytes of the pages taken so far. */
  #bytes = 0;
  #entries: { readonly starts: Uint32Array; readonly ends: Uint32Array } | undefined;

  /** `width`: of every value; undefined: each says its own. */
  constructor(rows: number, width: number | undefined) {
    this.#width = width;
    this.#starts = new Uint32Array(rows);
    this.#ends = new Uint32Array(rows);
  }

  dictionary(page: PageBytes, count: number): void {
    const entries = { starts: new Uint32Array(count), ends: new Uint32Array(count) };
    this.#places(page, count, entries.starts, entries.ends);
    this.#entries = entries;
  }

  plain(page: PageBytes, count: number): void {
    const to = this.#count + count;
    this.#places(page, count, this.#starts.subarray(this.#count, to), this.#ends.subarray(this.#count, to));
    this.#count = to;
  }

  indexes(page: PageBytes, count: number): void {
    const entries = this.#entries;
    if (entries === undefined) throw new RangeError('a page goes by a dictionary that is not there');
    for (const index of readIndexes(page, count, entries.starts.length)) {
      this.#starts[this.#count] = entries.starts[index] as number;
      this.#ends[this.#count] = entries.ends[index] as number;
      this.#count += 1;
    }
  }

  #places(page: PageBytes, count: number, starts: Uint32Array, ends: Uint32Array): void {
    const { bytes } = page;
    let { at } = page;
    for (let i = 0; i < count; i += 1) {
      let length = this.#width;
      if (length === undefined) {
        if (at + 4 > bytes.length) throw new RangeError('a page ends in the middle of a value');
        length = bytes.readUInt32LE(at);
        at += 4;
      }
      if (at + length > bytes.length) throw new RangeError('a page ends in the middle of a value');
      starts[i] = this.#bytes + at;
      at += length;
      ends[i] = this.#bytes + at;
    }
    this.#pages.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes > 0xffff_ffff) throw new RangeError('a column of more than 4 GB in a row group');
  }

  finish(): Values {
    const [only] = this.#pages;
    const bytes = this.#pages.length === 1 && only !== undefined ? only : Buffer.concat(this.#pages);
    return new PackedBytes(bytes, this.#starts.subarray(0, this.#count), this.#ends.subarray(0, this.#count));
  }
}

/** Bits, the lowest first. */
class BooleanSink implements Sink {
  readonly #all: Uint8Array;
  #count = 0;

  constructor(all: Uint8Array) {
    this.#all = all;
  }

  dictionary(): void {
    throw new RangeError('a dictionary of booleans');
  }

  plain(page: PageBytes, count: number): void {
    unpack(page.take(Math.ceil(count / 8)), 1, this.#all, this.#count, count);
    this.#count += count;
  }

  indexes(): void {
    throw new RangeError('booleans by a dictionary');
  }

  finish(): Values {
    return new PackedBooleans(this.#all.subarray(0, this.#count));
  }
}
