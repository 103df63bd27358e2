/**
 * Receipts as lines: one JSON object each, in one file per UTC day of writing, appended and fsynced. Owns their form on disk and the reader's rule: what is not a whole line of JSON was never
 * acknowledged as written, and counts for nothing. Must never rewrite a line.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError } from '../runtime/errors.js';
import { writeLines } from './json-lines.js';
import { archivePaths } from './layout.js';
import { storageError, syncFolder } from './put.js';

/** Before the day in a file's name: what the pruner meant to delete has nothing, what was restored `restore-`. */
export type ReceiptPrefix = '' | 'restore-';

/** Where a line stands. */
export type LinePlace = { readonly file: string; readonly offset: number; readonly length: number };

/** Appends lines; one at a time, in the order of the calls. Others may append to the same file. */
export class ReceiptLines {
  readonly #dir: string;
  readonly #prefix: ReceiptPrefix;
  /** The file whose name this writer has made durable: who created it may have died before that. */
  #named = '';
  #failed = false;
  #tail: Promise<void> = Promise.resolve();

  /** `dir`: the archive folder. */
  constructor(dir: string, prefix: ReceiptPrefix) {
    this.#dir = archivePaths(dir).receipts;
    this.#prefix = prefix;
  }

  /** Durable when it resolves. When it throws, nobody may act as if the line existed. After a failed fsync it takes nothing more. */
  append(receipt: unknown): Promise<void> {
    const done = this.#tail.then(() => this.#append(receipt));
    this.#tail = done.catch(() => undefined);
    return done;
  }

  async #append(receipt: unknown): Promise<void> {
    if (this.#failed)
      throw new TidemarkError('transient', 'an fsync of the receipts failed before', { remedy: 'check the archive volume; the next run begins anew' });
    const file = path.join(this.#dir, `${this.#prefix}${new Date().toISOString().slice(0, 10)}.jsonl`);
    try {
      const handle = await open(file, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o640);
      try {
        await writeLines(handle, [receipt]);
        this.#failed = true;
        await handle.sync();
        if (this.#named !== file) await syncFolder(this.#dir);
        this.#named = file;
        this.#failed = false;
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw storageError(error);
    }
  }
}

const DAY_FILE = /^\d{4}-\d{2}-\d{2}\.jsonl$/;
/** Names of the files of receipts in their folder, newest first; none where there is no such folder. */
export async function receiptFiles(folder: string, prefix: ReceiptPrefix): Promise<string[]> {
  try {
    return (await readdir(folder))
      .filter((name) => name.startsWith(prefix) && DAY_FILE.test(name.slice(prefix.length)))
      .sort()
      .reverse();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw storageError(error);
  }
}

/** Far behind the place where the rows of a receipt begin. */
const HEAD_BYTES = 2048;

/**
 * A line without the rows that it lists, which are nearly all of it: those are for who asks for a line again. One that was torn is no JSON without them either: what stands behind the lists is
 * the end of the line.
 */
function headText(bytes: Buffer, from: number, end: number): string {
  const rows = bytes.subarray(from, Math.min(end, from + HEAD_BYTES)).indexOf(',"keys":[');
  if (rows < 0) return bytes.toString('utf8', from, end);
  const behind = bytes.lastIndexOf(']', end - 1) + 1;
  return bytes.toString('utf8', from, from + rows) + bytes.toString('utf8', behind, end);
}

const READ_BYTES = 4 * 1024 * 1024;

/** Reads each line once: a second look reads only what came since. */
export class ReceiptReader {
  readonly #dir: string;
  readonly #prefix: ReceiptPrefix;
  readonly #take: (line: string, place: LinePlace) => void;
  /** Bytes read of each file, up to the end of its last whole line. */
  readonly #offsets = new Map<string, number>();
  #tail: Promise<void> = Promise.resolve();

  /** `dir`: the archive folder; `take` gets every whole line, without its end, and without the `keys` and `digests` in it. */
  constructor(dir: string, prefix: ReceiptPrefix, take: (line: string, place: LinePlace) => void) {
    this.#dir = archivePaths(dir).receipts;
    this.#prefix = prefix;
    this.#take = take;
  }

  async readAll(): Promise<void> {
    for (const file of await this.files()) await this.read(file);
  }

  /** Names, newest first. */
  files(): Promise<string[]> {
    return receiptFiles(this.#dir, this.#prefix);
  }

  /** One reading at a time, whoever asks: else a line would be taken twice. */
  read(name: string): Promise<void> {
    const done = this.#tail.then(() => this.#readOn(name));
    this.#tail = done.catch(() => undefined);
    return done;
  }

  async #readOn(name: string): Promise<void> {
    const handle = await open(path.join(this.#dir, name), 'r');
    try {
      let offset = this.#offsets.get(name) ?? 0;
      let rest = Buffer.alloc(0);
      const { size } = await handle.stat();
      for (;;) {
        const more = Math.min(READ_BYTES, size - offset - rest.length); // no larger a buffer: the archiver reads on for each batch of the pruner
        if (more <= 0) return;
        const room = Buffer.alloc(rest.length + more);
        rest.copy(room);
        const { bytesRead } = await handle.read(room, rest.length, more, offset + rest.length);
        if (bytesRead === 0) return;
        const bytes = room.subarray(0, rest.length + bytesRead);
        let from = 0;
        for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, from)) {
          if (end > from) this.#take(headText(bytes, from, end), { file: name, offset: offset + from, length: end - from });
          from = end + 1;
        }
        offset += from;
        rest = bytes.subarray(from);
        this.#offsets.set(name, offset);
      }
    } finally {
      await handle.close();
    }
  }

  /** A line once more. */
  async line({ file, offset, length }: LinePlace): Promise<string> {
    const handle = await open(path.join(this.#dir, file), 'r');
    try {
      const bytes = Buffer.alloc(length);
      const { bytesRead } = await handle.read(bytes, 0, length, offset);
      if (bytesRead < length) throw new Error(`${file}: a receipt at byte ${offset} is shorter than it was`);
      return bytes.toString('utf8');
    } finally {
      await handle.close();
    }
  }
}
