/** Where the values of a column chunk go, page by page, by its physical type: numbers into a typed array, bytes as places in their pages. Source: Apache Parquet, Encodings.md, "Plain", "Dictionary Encoding". */
import parquetTypes from '@dsnp/parquetjs/dist/gen-nodejs/parquet_types.js';
import { PackedBooleans, PackedBytes, type Values } from './packed-values.js';
import { type PageBytes, unpack } from './page-bytes.js';

const { Type } = parquetTypes;

/** Takes the values of a chunk page by page. */
export interface Sink {
  dictionary(page: PageBytes, count: number): void;
  plain(page: PageBytes, count: number): void;
  indexes(page: PageBytes, count: number): void;
  finish(): Values;
}

/** `type`: of the format; `rows`: how many it will take at most; `width`: bytes of a FIXED_LEN_BYTE_ARRAY. Undefined for a type that is not read here. */
export function sinkOf({ type, rows, width }: { readonly type: number; readonly rows: number; readonly width: number }): Sink | undefined {
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
  for (let i = 0; i < count; i += 1) if ((indexes[i] as number) >= entries) throw new RangeError(`entry ${indexes[i]} of a dictionary of ${entries}`);
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
    for (let i = 0; i < count; i += 1) {
      const first = (indexes[i] as number) * each;
      for (let word = first; word < first + each; word += 1) to[at++] = from[word] as number;
    }
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
    const indexes = readIndexes(page, count, entries.starts.length);
    for (let i = 0; i < count; i += 1) {
      const index = indexes[i] as number;
      this.#starts[this.#count + i] = entries.starts[index] as number;
      this.#ends[this.#count + i] = entries.ends[index] as number;
    }
    this.#count += count;
  }

  #places(page: PageBytes, count: number, starts: Uint32Array, ends: Uint32Array): void {
    const { bytes } = page;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let { at } = page;
    for (let i = 0; i < count; i += 1) {
      let length = this.#width;
      if (length === undefined) {
        if (at + 4 > bytes.length) throw new RangeError('a page ends in the middle of a value');
        length = view.getUint32(at, true);
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
    // A copy where many are NULL: a part of an array holds the whole of it.
    const places = (all: Uint32Array): Uint32Array => (this.#count === all.length ? all : all.slice(0, this.#count));
    return new PackedBytes(bytes, places(this.#starts), places(this.#ends));
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
