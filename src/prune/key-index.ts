/** Finds the newest row of a key in a row group by the bytes of the key's texts: no string and no object for a row. */
import { randomBytes } from 'node:crypto';
import type { RowTexts } from '../segment/value-texts.js';

/** Where the hash begins: not known outside, so that nobody can choose keys that fall together. */
const SEED = randomBytes(4).readInt32LE();
/** FNV-1a, 32 bits. */
const FNV_PRIME = 16_777_619;

/** The texts of a key, one behind the other; reused from key to key. */
export class KeyTexts {
  bytes = Buffer.alloc(256);
  /** Of each text: where it ends; it starts where the one before ends. */
  readonly ends: number[] = [];
  #count = 0;
  #hash = SEED;

  /** Spread over 32 bits, signed. */
  get hash(): number {
    const mixed = Math.imul(this.#hash ^ (this.#hash >>> 15), 0x85eb_ca6b);
    return mixed ^ (mixed >>> 13);
  }

  /** Is the key of this row now. False: it has none, one of its columns is NULL. */
  take(columns: readonly RowTexts[], row: number): boolean {
    this.#clear();
    for (const column of columns) {
      const text = column.at(row);
      if (text === undefined) return false;
      this.#add(text.buffer, text.start, text.end);
    }
    return true;
  }

  /** Is the key of these texts now. */
  takeTexts(texts: readonly string[]): this {
    this.#clear();
    for (const text of texts) this.#addText(text);
    return this;
  }

  /** Appends the text of the next column, the bytes from `start` to before `end`. */
  #add(bytes: Uint8Array, start: number, end: number): void {
    const from = this.#room(end - start);
    let hash = this.#hash;
    for (let i = start, to = from; i < end; i += 1, to += 1) {
      const byte = bytes[i] as number;
      this.bytes[to] = byte;
      hash = Math.imul(hash ^ byte, FNV_PRIME);
    }
    this.#end(from + end - start, hash);
  }

  #addText(text: string): void {
    const from = this.#room(text.length * 3);
    const end = from + this.bytes.write(text, from, 'utf8');
    let hash = this.#hash;
    for (let i = from; i < end; i += 1) hash = Math.imul(hash ^ (this.bytes[i] as number), FNV_PRIME);
    this.#end(end, hash);
  }

  #clear(): void {
    this.#count = 0;
    this.#hash = SEED;
  }

  /** Where the next text begins, with room for so many bytes. */
  #room(bytes: number): number {
    const from = this.#count === 0 ? 0 : (this.ends[this.#count - 1] as number);
    if (from + bytes > this.bytes.length) this.bytes = Buffer.concat([this.bytes], Math.max(this.bytes.length * 2, from + bytes));
    return from;
  }

  #end(end: number, hash: number): void {
    this.ends[this.#count++] = end;
    this.#hash = Math.imul(hash ^ 0x1f, FNV_PRIME); // 'ab' 'c' is not 'a' 'bc'
  }
}

export class KeyIndex {
  readonly #columns: readonly RowTexts[];
  /** Row + 1; 0 is free. Twice as many as rows at least, a power of two. */
  readonly #slots: Int32Array;

  /** `columns`: of the key, in its order. `isNewer`: was `row` written after `other`? */
  constructor(columns: readonly RowTexts[], rowCount: number, isNewer: (row: number, other: number) => boolean) {
    this.#columns = columns;
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(2, rowCount * 2))));
    const key = new KeyTexts();
    for (let row = 0; row < rowCount; row += 1) {
      if (!key.take(columns, row)) continue;
      const slot = this.#slotOf(key);
      const other = (this.#slots[slot] as number) - 1;
      if (other < 0 || isNewer(row, other)) this.#slots[slot] = row + 1;
    }
  }

  /** Memory, bytes. */
  get byteLength(): number {
    return this.#slots.byteLength;
  }

  /** The newest row of the key, undefined when there is none. */
  find(key: KeyTexts): number | undefined {
    const row = (this.#slots[this.#slotOf(key)] as number) - 1;
    return row < 0 ? undefined : row;
  }

  /** The slot that holds the key, or the free one where it would be. */
  #slotOf(key: KeyTexts): number {
    const mask = this.#slots.length - 1;
    let slot = key.hash & mask;
    for (let held = this.#slots[slot] as number; held !== 0 && !this.#isKey(held - 1, key); held = this.#slots[slot] as number) slot = (slot + 1) & mask;
    return slot;
  }

  #isKey(row: number, { bytes, ends }: KeyTexts): boolean {
    let start = 0;
    for (let i = 0; i < this.#columns.length; i += 1) {
      const end = ends[i] as number;
      if (!(this.#columns[i] as RowTexts).is(row, bytes, start, end)) return false;
      start = end;
    }
    return true;
  }
}
