/**
 * Arrays: the text of array_out to a JSON list for DuckDB and back, and lists from the levels of a Parquet column. An array is a list only when its text comes back byte for
 * byte: bounds other than 1, another depth than the column's and odd quoting go to `_text`. Source: PostgreSQL manual, "Array Input and Output Syntax"; array_out in arrayfuncs.c.
 */
import type { RawList, RawValue } from './raw-value.js';

/** The element types of built-in array types whose elements are apart by commas: all but box[] and the vectors. Source: pg_type.dat, typarray. */
export const ELEMENT_OID: ReadonlyMap<number, number> = new Map([
  [1000, 16], [1001, 17], [1002, 18], [1003, 19], [1016, 20], [1005, 21], [1007, 23], [1008, 24], [1009, 25], [1028, 26], [1010, 27], [1011, 28], [1012, 29], [199, 114], [143, 142],
  [1014, 1042], [1015, 1043], [1017, 600], [1018, 601], [1019, 602], [1027, 604], [629, 628], [719, 718], [1021, 700], [1022, 701], [791, 790], [1040, 829], [775, 774], [1041, 869], [651, 650],
  [1182, 1082], [1183, 1083], [1115, 1114], [1185, 1184], [1187, 1186], [1270, 1266], [1561, 1560], [1563, 1562], [1231, 1700], [2951, 2950], [3221, 3220], [3643, 3614], [3645, 3615],
  [3807, 3802], [4073, 4072], [3905, 3904], [3907, 3906], [3909, 3908], [3911, 3910], [3913, 3912], [3927, 3926], [6150, 4451], [6151, 4532], [6152, 4533], [6153, 4534], [6155, 4535], [6157, 4536],
]); // biome-ignore format: a table

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
const LEFT = 0x5b;
const RIGHT = 0x5d;
const NULL_JSON = Buffer.from('null');

/** Buffers larger than this are not kept from one value to the next. */
const LARGEST_KEPT = 256 * 1024;

/** Bytes that the JSON has at most: two for each of the text's, six for a control character. */
function mostBytes(buffer: Uint8Array, start: number, end: number): number {
  let most = 2 * (end - start) + 16;
  for (let i = start; i < end; i += 1) if ((buffer[i] as number) < 0x20) most += 4;
  return most;
}

/** Characters for which array_out quotes an element. */
function isSpecial(byte: number): boolean {
  return byte === QUOTE || byte === BACKSLASH || byte === OPEN || byte === CLOSE || byte === COMMA || byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

/** True for `NULL` in any case. */
function isNullWord(bytes: Uint8Array, start: number, end: number): boolean {
  return end - start === 4 && /^null$/i.test(String.fromCharCode(...bytes.subarray(start, end)));
}

/**
 * The JSON of the array text at [start, end): lists of strings and nulls, `depth` deep. undefined when that would not come back as the same text, or an element does not fit.
 * The result is valid until the next call.
 */
export class ArrayEncoder {
  readonly #depth: number;
  readonly #fits: (buffer: Uint8Array, start: number, end: number) => boolean;
  #out = Buffer.allocUnsafe(1024);
  #at = 0;
  /** The element being read, without its escapes. */
  #element = Buffer.allocUnsafe(256);

  /** `fits`: whether a typed element can hold exactly that text. */
  constructor(depth: number, fits: (buffer: Uint8Array, start: number, end: number) => boolean) {
    this.#depth = depth;
    this.#fits = fits;
  }

  encode(buffer: Uint8Array, start: number, end: number): Uint8Array | undefined {
    const length = end - start;
    const most = mostBytes(buffer, start, end);
    if (this.#out.length < most || this.#out.length > LARGEST_KEPT) this.#out = Buffer.allocUnsafe(Math.max(most, 1024));
    if (this.#element.length < length || this.#element.length > LARGEST_KEPT) this.#element = Buffer.allocUnsafe(Math.max(length, 256));
    this.#at = 0;
    if (length === 2 && buffer[start] === OPEN && buffer[start + 1] === CLOSE) return Buffer.from('[]');
    const next = this.#list(buffer, start, end, 1);
    return next === end ? this.#out.subarray(0, this.#at) : undefined;
  }

  /** Reads the list at `from`; returns where it ends, -1 when it is not one that comes back. */
  #list(buffer: Uint8Array, from: number, end: number, level: number): number {
    if (buffer[from] !== OPEN) return -1;
    this.#out[this.#at++] = LEFT;
    let next = from + 1;
    for (;;) {
      next = level < this.#depth ? this.#list(buffer, next, end, level + 1) : this.#item(buffer, next, end);
      if (next < 0 || next >= end) return -1;
      const byte = buffer[next++];
      if (byte === CLOSE) break;
      if (byte !== COMMA) return -1;
      this.#out[this.#at++] = COMMA;
    }
    this.#out[this.#at++] = RIGHT;
    return next;
  }

  #item(buffer: Uint8Array, from: number, end: number): number {
    const quoted = buffer[from] === QUOTE;
    const element = this.#element;
    let length = 0;
    let special = false;
    let next = quoted ? from + 1 : from;
    for (; next < end; next += 1) {
      let byte = buffer[next] as number;
      if (quoted ? byte === QUOTE : byte === COMMA || byte === CLOSE) break;
      if (quoted && byte === BACKSLASH) {
        next += 1;
        byte = buffer[next] as number;
        if (byte !== QUOTE && byte !== BACKSLASH) return -1;
      }
      special ||= isSpecial(byte);
      element[length++] = byte;
    }
    const isNull = isNullWord(element, 0, length);
    if (!quoted && isNull && element.toString('latin1', 0, 4) === 'NULL') {
      NULL_JSON.copy(this.#out, this.#at);
      this.#at += NULL_JSON.length;
      return next;
    }
    if (quoted !== (special || isNull || length === 0)) return -1;
    if (!this.#fits(element, 0, length)) return -1;
    this.#string(element, length);
    return quoted ? next + 1 : next;
  }

  #string(bytes: Uint8Array, length: number): void {
    const out = this.#out;
    let at = this.#at;
    out[at++] = QUOTE;
    for (let i = 0; i < length; i += 1) {
      const byte = bytes[i] as number;
      if (byte === QUOTE || byte === BACKSLASH) out[at++] = BACKSLASH;
      if (byte < 0x20) at += out.write(`\\u00${byte.toString(16).padStart(2, '0')}`, at, 'latin1');
      else out[at++] = byte;
    }
    out[at++] = QUOTE;
    this.#at = at;
  }
}

/** The text of array_out. `text`: that of an element. */
export function arrayText(list: RawList, text: (raw: RawValue) => string): string {
  return `{${list.map((item) => (item === null ? 'NULL' : Array.isArray(item) ? arrayText(item, text) : quoteElement(text(item)))).join(',')}}`;
}

function quoteElement(text: string): string {
  if (text !== '' && !/[ \t-\r"\\{},]/.test(text) && text.toLowerCase() !== 'null') return text;
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/**
 * The rows of a LIST column from its leaf's levels: null, or lists `depth` deep. Source: Apache Parquet, "Nested Encoding" and LogicalTypes.md, "Lists": definition level 2i-1 is an
 * empty list at depth i, 2i an item that is NULL, 2·depth+1 a value.
 */
export function listsFromLevels(
  chunk: { values: readonly RawValue[]; dlevels: readonly number[]; rlevels: readonly number[] },
  depth: number,
): (RawList | null)[] {
  const rows: (RawList | null)[] = [];
  const open: RawList[] = [];
  let next = 0;
  for (const [i, definition] of chunk.dlevels.entries()) {
    let level = chunk.rlevels[i] as number;
    if (level === 0) {
      if (definition === 0) {
        rows.push(null);
        continue;
      }
      level = 1;
      open[1] = [];
      rows.push(open[1]);
    }
    for (; definition >= 2 * level; level += 1) {
      const list = open[level] as RawList;
      if (definition === 2 * level) {
        list.push(null);
        break;
      }
      if (level === depth) {
        list.push(chunk.values[next++] as RawValue);
        break;
      }
      const inner: RawList = [];
      list.push(inner);
      open[level + 1] = inner;
    }
  }
  if (next !== chunk.values.length) throw new Error(`${chunk.values.length} values for ${next} levels`);
  return rows;
}
