/**
 * Row digest, part of format version 1: identifies a row version by the Postgres text of its columns, taken before any decoding. Each column is hashed to 64
 * bits (two murmur3-like 32-bit lanes over its UTF-8 bytes and their number; NULL and unchanged TOAST have hashes of their own), the hashes are folded in
 * column order, and the two lanes are mixed without loss (a Feistel round each way). Must never change under format version 1: a test holds its values.
 * Not a cryptographic hash: it tells versions apart and catches errors, SHA-256 of the file guards the bytes.
 */
import { viewOf } from './byte-view.js';

const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;
const SEED_HIGH = 0x9747b28c;
const SEED_LOW = 0x3c6ef372;
const NULL_HIGH = 0x5bd1e995;
const NULL_LOW = 0x27d4eb2f;
const UNCHANGED_HIGH = 0x165667b1;
const UNCHANGED_LOW = 0x2545f491;

const utf8 = new TextEncoder();
/** Texts up to a third of its length are encoded into it; it grows up to three times this. */
let scratchBytes = new Uint8Array(4096);
const LARGEST_KEPT = 1024 * 1024;
/** Texts up to this length are copied by a loop when they are ASCII: cheaper than a call. */
const SHORT = 64;

function avalanche(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

const scrambleHigh = (word: number): number => {
  const k = Math.imul(word, C1);
  return Math.imul((k << 15) | (k >>> 17), C2);
};

const scrambleLow = (word: number): number => {
  const k = Math.imul(word, C2);
  return Math.imul((k << 16) | (k >>> 16), C1);
};

const mixHigh = (hash: number, word: number): number => {
  const h = hash ^ scrambleHigh(word);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
};

const mixLow = (hash: number, word: number): number => {
  const h = hash ^ scrambleLow(word);
  return (Math.imul((h << 17) | (h >>> 15), 5) + 0x561ccd1b) | 0;
};

/** The one to three bytes at [at, end), the first one lowest. */
function tailOf(bytes: DataView, at: number, end: number): number {
  let tail = 0;
  for (let i = end - 1; i >= at; i -= 1) tail = (tail << 8) | bytes.getUint8(i);
  return tail;
}

/** Four double quotes. */
const QUOTES = 0x22222222;
const HIGH_BITS = 0x80808080;
/** Has one of HIGH_BITS if and only if a byte of the word is zero. */
const zeroBytes = (word: number): number => (word - 0x01010101) & ~word;

/** Folds columns one after the other; `high` and `low` are the two halves, as signed and unsigned 32-bit numbers. Reused row by row. */
export class RowDigest {
  #high = 0;
  #low = 0;

  reset(): void {
    this.#high = SEED_HIGH | 0;
    this.#low = SEED_LOW | 0;
  }

  #fold(high: number, low: number): void {
    this.#high = (Math.imul((this.#high << 7) | (this.#high >>> 25), 0x85ebca77) + high) | 0;
    this.#low = (Math.imul((this.#low << 11) | (this.#low >>> 21), 0xc2b2ae3d) + low) | 0;
  }

  nullValue(): void {
    this.#fold(NULL_HIGH, NULL_LOW);
  }

  /** A value the stream did not carry (unchanged TOAST). */
  unchanged(): void {
    this.#fold(UNCHANGED_HIGH, UNCHANGED_LOW);
  }

  /** The bytes [start, end) of a column's text. */
  bytes(buffer: Uint8Array, start: number, end: number): void {
    const from = viewOf(buffer);
    let high = SEED_HIGH | 0;
    let low = SEED_LOW | 0;
    let i = start;
    for (; i + 4 <= end; i += 4) {
      const word = from.getInt32(i, true);
      high = mixHigh(high, word);
      low = mixLow(low, word);
    }
    this.#end(high, low, i < end ? tailOf(from, i, end) : 0, end - start);
  }

  /** The same, and copies them to `at` of `target`: one pass is enough. Returns true when they hold a double quote (who writes CSV needs to know). */
  copied(buffer: Uint8Array, start: number, end: number, target: DataView, at: number): boolean {
    const from = viewOf(buffer);
    let high = SEED_HIGH | 0;
    let low = SEED_LOW | 0;
    let quotes = 0;
    let i = start;
    let to = at;
    for (; i + 4 <= end; i += 4, to += 4) {
      const word = from.getInt32(i, true);
      target.setInt32(to, word, true);
      quotes |= zeroBytes(word ^ QUOTES);
      high = mixHigh(high, word);
      low = mixLow(low, word);
    }
    const tail = i < end ? tailOf(from, i, end) : 0;
    quotes |= zeroBytes(tail ^ QUOTES);
    for (let rest = tail; i < end; i += 1, to += 1, rest >>>= 8) target.setUint8(to, rest);
    this.#end(high, low, tail, end - start);
    return (quotes & HIGH_BITS) !== 0;
  }

  /** Folds a column whose whole words are mixed. `tail`: the bytes behind them. */
  #end(high: number, low: number, tail: number, length: number): void {
    const whole = (length & 3) === 0;
    const endHigh = whole ? high : high ^ scrambleHigh(tail);
    const endLow = whole ? low : low ^ scrambleLow(tail);
    this.#fold(avalanche(endHigh ^ length), avalanche(endLow ^ Math.imul(length, 0x9e3779b1)));
  }

  /** A column's text as a string: the same as its UTF-8 bytes. */
  text(value: string): void {
    const { length } = value;
    if (length <= SHORT) {
      let all = 0;
      for (let i = 0; i < length; i += 1) {
        const code = value.charCodeAt(i);
        scratchBytes[i] = code;
        all |= code;
      }
      if (all < 0x80) {
        this.bytes(scratchBytes, 0, length);
        return;
      }
    }
    if (length * 3 <= scratchBytes.length) {
      this.bytes(scratchBytes, 0, utf8.encodeInto(value, scratchBytes).written);
      return;
    }
    const encoded = utf8.encode(value);
    if (encoded.length <= LARGEST_KEPT) scratchBytes = new Uint8Array(encoded.length * 3);
    this.bytes(encoded, 0, encoded.length);
  }

  /** Goes on with a row of which some columns were folded already: its state is kept outside. */
  resume(stateHigh: number, stateLow: number): void {
    this.#high = stateHigh;
    this.#low = stateLow;
  }

  get stateHigh(): number {
    return this.#high;
  }

  get stateLow(): number {
    return this.#low;
  }

  /** Upper half, signed. */
  get high(): number {
    return avalanche((this.#high + avalanche(this.#low)) | 0);
  }

  /** Lower half, unsigned; `high`: the upper one. */
  low(high: number): number {
    return avalanche(this.#low ^ high ^ SEED_LOW) >>> 0;
  }

  /** The 64 bits as a signed number, as stored in `_digest`. */
  get value(): bigint {
    const { high } = this;
    return (BigInt(high) << 32n) | BigInt(this.low(high));
  }
}

const scratch = new RowDigest();

/** Digests of the rows of a group, folded a column at a time and in column order: only one column needs to be in memory. */
export class ColumnwiseDigests {
  readonly #high: Int32Array;
  readonly #low: Int32Array;
  readonly #digest = new RowDigest();

  constructor(rows: number) {
    this.#digest.reset();
    this.#high = new Int32Array(rows).fill(this.#digest.stateHigh);
    this.#low = new Int32Array(rows).fill(this.#digest.stateLow);
  }

  /** Folds the next column of a row: its text, its text's bytes, null for NULL, undefined for a value that the stream did not carry. */
  fold(row: number, value: string | Uint8Array | null | undefined): void {
    const digest = this.#digest;
    digest.resume(this.#high[row] as number, this.#low[row] as number);
    if (value === null) digest.nullValue();
    else if (value === undefined) digest.unchanged();
    else if (typeof value === 'string') digest.text(value);
    else digest.bytes(value, 0, value.length);
    this.#high[row] = digest.stateHigh;
    this.#low[row] = digest.stateLow;
  }

  /** Folds the next column of a row: the text whose bytes are at [start, end). */
  foldBytes(row: number, buffer: Uint8Array, start: number, end: number): void {
    const digest = this.#digest;
    digest.resume(this.#high[row] as number, this.#low[row] as number);
    digest.bytes(buffer, start, end);
    this.#high[row] = digest.stateHigh;
    this.#low[row] = digest.stateLow;
  }

  /** The digest of a row once all its columns are folded; the object is reused. */
  of(row: number): RowDigest {
    this.#digest.resume(this.#high[row] as number, this.#low[row] as number);
    return this.#digest;
  }
}

/** Digest of a row from its column texts in order; null is NULL, undefined a value that the stream did not carry. The same number that the archiver made from the bytes. */
export function digestOfTexts(values: readonly (string | null | undefined)[]): bigint {
  scratch.reset();
  for (const value of values) {
    if (value === null) scratch.nullValue();
    else if (value === undefined) scratch.unchanged();
    else scratch.text(value);
  }
  return scratch.value;
}

/** A sum of digests modulo 2^64: the same for the same rows in any order. */
export class DigestSum {
  #high = 0;
  #low = 0;

  add(high: number, low: number): void {
    const sum = this.#low + low;
    this.#low = sum >>> 0;
    this.#high = (this.#high + high + (sum >= 0x1_0000_0000 ? 1 : 0)) >>> 0;
  }

  addRow(digest: RowDigest): void {
    const { high } = digest;
    this.add(high, digest.low(high));
  }

  addValue(digest: bigint): void {
    this.add(Number(BigInt.asUintN(32, digest >> 32n)), Number(BigInt.asUintN(32, digest)));
  }

  /** Decimal, as in the manifest. */
  toString(): string {
    return ((BigInt(this.#high) << 32n) | BigInt(this.#low)).toString();
  }
}
