/**
 * COPY text → Insert messages of pgoutput, on bytes: no object and no string for a row. Owns the escapes of COPY's text format (manual, COPY, "Text Format").
 * The text of a value is what its output function gives, exactly as in the stream: only the escapes are taken off.
 */
import { COLUMN, TAG } from '../change/pgoutput.js';

const NEWLINE = 0x0a;
const TAB = 0x09;
const BACKSLASH = 0x5c;

/** What `\x` stands for; all else stands for itself. COPY TO writes only these. */
const UNESCAPED = new Uint8Array(256).map((_, byte) => byte);
for (const [letter, byte] of [
  ['b', 8],
  ['f', 12],
  ['n', 10],
  ['r', 13],
  ['t', 9],
  ['v', 11],
] as const)
  UNESCAPED[letter.charCodeAt(0)] = byte;

/** Collects frames (`u32 length` + Insert message) of one table until taken. */
export class CopyRows {
  readonly #oid: number;
  readonly #columns: number;
  /** Bytes of a row whose newline has not come yet. */
  #rest: Buffer[] = [];
  #out: Buffer;
  #length = 0;
  #rows = 0;
  #total = 0;

  constructor(oid: number, columns: number) {
    this.#oid = oid;
    this.#columns = columns;
    this.#out = Buffer.allocUnsafe(512 * 1024);
  }

  /** Bytes of the frames collected. */
  get bytes(): number {
    return this.#length;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Rows ever collected. */
  get total(): number {
    return this.#total;
  }

  /** True when the last byte taken ended a row. */
  get complete(): boolean {
    return this.#rest.length === 0;
  }

  /** Takes COPY output, cut anywhere. */
  push(data: Buffer): void {
    let from = 0;
    for (let newline = data.indexOf(NEWLINE); newline >= 0; newline = data.indexOf(NEWLINE, from)) {
      if (this.#rest.length === 0) this.#row(data, from, newline);
      else {
        this.#rest.push(data.subarray(0, newline));
        const whole = Buffer.concat(this.#rest);
        this.#rest = [];
        this.#row(whole, 0, whole.length);
      }
      from = newline + 1;
    }
    if (from < data.length) this.#rest.push(Buffer.from(data.subarray(from)));
  }

  /** Hands the frames out and begins anew. */
  take(): { frames: Buffer; rows: number } {
    const taken = { frames: Buffer.from(this.#out.subarray(0, this.#length)), rows: this.#rows };
    if (this.#out.length > 4 * 1024 * 1024) this.#out = Buffer.allocUnsafe(512 * 1024);
    this.#length = 0;
    this.#rows = 0;
    return taken;
  }

  /** One row without its newline: `I` oid `N` count, then for each column `n`, or `t` length text. */
  #row(data: Buffer, start: number, end: number): void {
    // Each column needs at most 5 bytes more than its text and its tab.
    this.#reserve(12 + end - start + 5 * this.#columns);
    const out = this.#out;
    const frame = this.#length;
    let o = frame + 12;
    let columns = 0;
    let i = start;
    for (;;) {
      columns += 1;
      if (data[i] === BACKSLASH && data[i + 1] === 0x4e && (i + 2 === end || data[i + 2] === TAB)) {
        out[o++] = COLUMN.null;
        i += 2;
      } else {
        out[o] = COLUMN.text;
        const text = o + 5;
        let t = text;
        for (; i < end; i += 1) {
          let byte = data[i] as number;
          if (byte === TAB) break;
          if (byte === BACKSLASH) byte = UNESCAPED[data[++i] as number] as number;
          out[t++] = byte;
        }
        out.writeUInt32BE(t - text, o + 1);
        o = t;
      }
      if (i >= end) break;
      i += 1; // the tab
    }
    // A table without columns gives empty lines.
    if (this.#columns === 0) {
      columns = 0;
      o = frame + 12;
    }
    if (columns !== this.#columns) throw new SyntaxError(`COPY gave a row of ${columns} columns, expected ${this.#columns}`);
    out.writeUInt32BE(o - frame - 4, frame);
    out[frame + 4] = TAG.insert;
    out.writeUInt32BE(this.#oid, frame + 5);
    out[frame + 9] = 0x4e;
    out.writeUInt16BE(columns, frame + 10);
    this.#length = o;
    this.#rows += 1;
    this.#total += 1;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#out.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#out.length * 2, this.#length + bytes));
    this.#out.copy(larger, 0, 0, this.#length);
    this.#out = larger;
  }
}
