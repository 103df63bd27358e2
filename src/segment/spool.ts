/**
 * An append-only file of CSV bytes under `_tidemark/tmp`: what a builder has taken in and DuckDB will read. Bounded memory for any number of tables, days and
 * rows: it is written in pieces of 256 KB, of less when there are many, and open only while it is written. Never durable, never trusted: swept at the next start. After a failed
 * write it refuses everything: half a row must not become one.
 */
import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs';
import { viewOf } from './byte-view.js';
import type { RowDigest } from './digest.js';
import { putInteger } from './digits.js';

const PIECE_BYTES = 256 * 1024;
/** What all that fill hold in memory together, bytes, about: each at least a small piece, and a line. */
const ALL_PIECES_BYTES = 32 * 1024 * 1024;
const LEAST_PIECE_BYTES = 4096;
/** How many fill. */
let filling = 0;

const pieceBytes = (): number => Math.max(LEAST_PIECE_BYTES, Math.min(PIECE_BYTES, ALL_PIECES_BYTES / filling));

const QUOTE = 0x22;
const TAB = 0x09;
const NEWLINE = 0x0a;

/** fs.writeSync, as far as it is needed; a test puts a full or slow disk in its place. */
export type WriteSync = (descriptor: number, buffer: Uint8Array, offset: number, length: number) => number;

/** A value of more bytes goes into the file piece by piece: it is never in memory a second time. */
const LARGE = 1024 * 1024;

/** A text that goes into many rows: copied four bytes at a time, the last of them beyond its end. */
export class SpoolText {
  readonly length: number;
  readonly words: DataView;

  constructor(text: string) {
    const bytes = Buffer.from(text);
    this.length = bytes.length;
    const whole = new Uint8Array((bytes.length + 3) & ~3);
    whole.set(bytes);
    this.words = new DataView(whole.buffer);
  }
}

export class SpoolWriter {
  readonly file: string;
  readonly #write: WriteSync;
  #flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  #made = false;
  #fills = true;
  #failed = false;
  #buffer: Buffer = Buffer.allocUnsafe(4096);
  #view: DataView = viewOf(this.#buffer);
  #at = 0;
  /** Where the line began, in bytes taken in. */
  #lineStart = 0;
  /** Bytes that left the buffer for the file. */
  #written = 0;
  #longestLine = 0;

  /** The file is made when the first piece is written. */
  constructor(file: string, write: WriteSync = writeSync) {
    this.file = file;
    this.#write = write;
    filling += 1;
  }

  /** Bytes taken in so far. */
  get bytes(): number {
    return this.#written + this.#at;
  }

  get longestLine(): number {
    return this.#longestLine;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#use(larger);
  }

  #use(buffer: Buffer): void {
    this.#buffer = buffer;
    this.#view = viewOf(buffer);
  }

  /** The bytes of a value, folded into `digest` on their way. `quoted`: in double quotes, those inside doubled; else as they are. */
  digested(source: Uint8Array, start: number, end: number, digest: RowDigest, quoted: boolean): void {
    if (end - start > LARGE) {
      digest.bytes(source, start, end);
      if (quoted) this.quoted(source, start, end);
      else this.#pieces(start, end, (from, to) => this.raw(source.subarray(from, to)));
      return;
    }
    this.#reserve(end - start + 2);
    if (quoted) this.#buffer[this.#at++] = QUOTE;
    const hasQuote = digest.copied(source, start, end, this.#view, this.#at);
    if (!quoted) this.#at += end - start;
    else {
      if (hasQuote) this.#doubled(source, start, end);
      else this.#at += end - start;
      this.#buffer[this.#at++] = QUOTE;
    }
  }

  tab(): void {
    this.#reserve(1);
    this.#buffer[this.#at++] = TAB;
  }

  /** A text that needs no quotes. */
  text({ length, words }: SpoolText): void {
    this.#reserve(length + 3);
    for (let i = 0; i < length; i += 4) this.#view.setInt32(this.#at + i, words.getInt32(i));
    this.#at += length;
  }

  /** Bytes that need no quotes. */
  raw(source: Uint8Array): void {
    this.#reserve(source.length);
    this.#buffer.set(source, this.#at);
    this.#at += source.length;
  }

  /** Bytes in double quotes, those inside doubled. */
  quoted(source: Uint8Array, start = 0, end = source.length): void {
    this.#reserve(1);
    this.#buffer[this.#at++] = QUOTE;
    if (end - start > LARGE) this.#pieces(start, end, (from, to) => this.#doubled(source, from, to));
    else this.#doubled(source, start, end);
    this.#reserve(1);
    this.#buffer[this.#at++] = QUOTE;
  }

  /** Has `put` take in a large value piece by piece, each written before the next. */
  #pieces(start: number, end: number, put: (from: number, to: number) => void): void {
    for (let from = start; from < end; from += PIECE_BYTES) {
      put(from, Math.min(end, from + PIECE_BYTES));
      this.#flush();
    }
  }

  /** Leaves room for a quote behind them. */
  #doubled(source: Uint8Array, start: number, end: number): void {
    this.#reserve((end - start) * 2 + 1);
    for (let i = start; i < end; i += 1) {
      const byte = source[i] as number;
      if (byte === QUOTE) this.#buffer[this.#at++] = QUOTE;
      this.#buffer[this.#at++] = byte;
    }
  }

  /** A whole number of at most 53 bits. */
  integer(value: number): void {
    this.#reserve(20);
    this.#at = putInteger(this.#buffer, this.#at, value);
  }

  /** Ends the row. Throws what the write says (ENOSPC, EEXIST when the file was there already): then the spool is lost, discard it. */
  endLine(): void {
    if (this.#failed) this.#flush();
    this.#reserve(1);
    this.#buffer[this.#at++] = NEWLINE;
    const line = this.bytes - this.#lineStart;
    if (line > this.#longestLine) this.#longestLine = line;
    if (this.#at >= LEAST_PIECE_BYTES && this.#at >= pieceBytes()) this.#flush();
    this.#lineStart = this.bytes;
  }

  /** Writes until everything is in the file: a short write is no error by itself, the next one says why. */
  #flush(): void {
    if (this.#failed) throw new Error(`${this.file} is not whole: a write to it failed`);
    this.#failed = true;
    const descriptor = openSync(this.file, this.#flags, 0o640);
    try {
      this.#made = true;
      this.#flags = constants.O_WRONLY | constants.O_APPEND;
      for (let from = 0; from < this.#at; ) {
        const written = this.#write(descriptor, this.#buffer, from, this.#at - from);
        if (written <= 0) throw new Error(`${this.file} took no more bytes and gave no reason`);
        from += written;
      }
    } finally {
      closeSync(descriptor);
    }
    this.#failed = false;
    this.#written += this.#at;
    this.#at = 0;
    if (this.#buffer.length > 2 * pieceBytes()) this.#use(Buffer.allocUnsafe(LEAST_PIECE_BYTES));
  }

  /** Writes the rest. Throws like endLine. */
  finish(): void {
    this.#flush();
    this.#end();
  }

  /** Removes what was written; a file that was there already is somebody else's. */
  discard(): void {
    this.#end();
    if (this.#made) rmSync(this.file, { force: true });
  }

  #end(): void {
    if (this.#fills) filling -= 1;
    this.#fills = false;
    this.#use(Buffer.alloc(0));
  }
}
