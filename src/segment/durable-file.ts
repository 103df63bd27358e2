/**
 * Publishing a file so that it survives a power cut at any step (design decision 10): the temporary file is created here and its descriptor kept while somebody else
 * writes it, so that a write-back error is seen by our fsync. A file whose fsync failed is abandoned, never tried again.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { link, lstat, mkdir, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { faultPoint } from '../runtime/fault-point.js';

/** What is known of a published file. */
export type Published = { readonly bytes: number; readonly sha256: string };

/** What tells a file from another that has its name, or, later, its inode. */
type Stat = { readonly size: bigint; readonly ino: bigint; readonly dev: bigint; readonly mtimeNs: bigint };

/** An open file, as far as publishing needs it. */
export interface OpenFile {
  sync(): Promise<void>;
  stat(options: { bigint: true }): Promise<Stat>;
  close(): Promise<void>;
}

/** The calls that publishing makes. Tests put in their place ones that fail at a chosen call. */
export interface FileSystem {
  open(file: string, flags: number, mode?: number): Promise<OpenFile>;
  mkdir(folder: string, options: { recursive: true; mode: number }): Promise<string | undefined>;
  link(existing: string, name: string): Promise<void>;
  unlink(file: string): Promise<void>;
}

const REAL: FileSystem = { open, mkdir, link, unlink };

export class DurableFile {
  readonly temporary: string;
  #handle: OpenFile;
  readonly #files: FileSystem;
  #closed = false;
  #stat: Stat | undefined;

  private constructor(temporary: string, handle: OpenFile, files: FileSystem) {
    this.temporary = temporary;
    this.#handle = handle;
    this.#files = files;
  }

  /** Creates the empty temporary file, on the volume of its final name; EEXIST when the name is taken. */
  static async create(temporary: string, files: FileSystem = REAL): Promise<DurableFile> {
    return new DurableFile(temporary, await createEmpty(temporary, files), files);
  }

  /** Begins with an empty file again: the writer gave up, and may have removed ours. */
  async renew(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await this.#files.unlink(this.temporary).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    this.#handle = await createEmpty(this.temporary, this.#files);
  }

  /**
   * After somebody wrote the temporary file: fsync → size → `prove` gives its SHA-256, hex, and decodes it → untouched meanwhile → link to `final` → fsync of the folder → unlink.
   * `final` must be free (EEXIST). On an error before the link nothing has the final name; on one behind it the name may or may not last: no manifest may say it, and
   * the next start sweeps it. The temporary file is removed in any case.
   */
  async publish(final: string, prove: (file: string) => Promise<string>): Promise<Published> {
    try {
      faultPoint('A3');
      await this.#handle.sync();
      faultPoint('A4');
      const synced = await this.#statOfOurs();
      const sha256 = await prove(this.temporary);
      const proved = await this.#statOfOurs();
      if (proved.size !== synced.size || proved.mtimeNs !== synced.mtimeNs) throw new Error(`${this.temporary} was changed while it was proved`);
      faultPoint('A5');
      const folder = path.dirname(final);
      await makeFolder(folder, path.dirname(this.temporary), this.#files);
      await this.#files.link(this.temporary, final);
      faultPoint('A6');
      await syncFolderTogether(folder, this.#files);
      faultPoint('A7');
      return { bytes: Number(proved.size), sha256 };
    } finally {
      await this.abandon();
    }
  }

  /** The writer, or somebody else, may have replaced the file instead of filling ours: then our fsync was of another one. */
  async #statOfOurs(): Promise<Stat> {
    const mine = await this.#handle.stat({ bigint: true });
    this.#stat = mine;
    const named = await this.#files.open(this.temporary, constants.O_RDONLY);
    try {
      const theirs = await named.stat({ bigint: true });
      if (mine.ino !== theirs.ino || mine.dev !== theirs.dev) throw new Error(`${this.temporary} was replaced while it was written`);
    } finally {
      await named.close();
    }
    return mine;
  }

  /** Takes the name `final` back when no manifest says it, if it is this very file: the name may never have been ours, or be another one's by now. */
  async withdraw(final: string): Promise<void> {
    const ours = this.#stat;
    const there = await lstat(final, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (ours === undefined || there === undefined) return;
    if (ours.ino === there.ino && ours.dev === there.dev && ours.mtimeNs === there.mtimeNs && ours.size === there.size) await this.#files.unlink(final);
  }

  /** Closes and removes the temporary file; what cannot be removed is swept at the next start. */
  async abandon(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close().catch(() => undefined);
    await this.#files.unlink(this.temporary).catch(() => undefined);
  }
}

function createEmpty(temporary: string, files: FileSystem): Promise<OpenFile> {
  return files.open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o640);
}

/** SHA-256 of a whole file, hex. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

type Syncing = { readonly now: Promise<void>; next: Promise<void> | undefined };
/** Folders that are being fsynced, and who comes meanwhile. */
const syncing = new Map<string, Syncing>();

/**
 * Makes the entries of a folder durable, for many at once: whoever comes while it is done waits for the next time, together with all others, as an fsync says nothing of a name that came behind its
 * beginning. Who waited hears of that fsync only, not of one before it that failed; where that counts it is syncFolder (archive/put), an fsync of the caller's own.
 */
export async function syncFolderTogether(folder: string, files: FileSystem = REAL): Promise<void> {
  const going = syncing.get(folder);
  if (going === undefined) return await beginSync(folder, files);
  going.next ??= going.now.then(
    () => beginSync(folder, files),
    () => beginSync(folder, files),
  );
  await going.next;
}

async function beginSync(folder: string, files: FileSystem): Promise<void> {
  const now = syncOnce(folder, files);
  const mine: Syncing = { now, next: undefined };
  syncing.set(folder, mine);
  try {
    await now;
  } finally {
    if (syncing.get(folder) === mine && mine.next === undefined) syncing.delete(folder);
  }
}

async function syncOnce(folder: string, files: FileSystem): Promise<void> {
  const handle = await files.open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Folders whose own name, and those of their parents, this process has made durable. */
const durable = new Set<string>();

/**
 * Creates a folder and its missing parents, each name durable. A folder that is there already may be what a killed process left: at its first use the names up to the
 * one that holds `beside` too (a folder of the same archive) are fsynced.
 */
export async function makeFolder(folder: string, beside: string, files: FileSystem = REAL): Promise<void> {
  const whole = path.resolve(folder);
  const created = (await files.mkdir(whole, { recursive: true, mode: 0o750 })) !== undefined;
  if (!created && durable.has(whole)) return;
  durable.delete(whole);
  const top = commonFolder(whole, path.resolve(beside));
  for (let below = whole; below !== top; below = path.dirname(below)) await syncFolderTogether(path.dirname(below), files);
  durable.add(whole);
}

/** The deepest folder that both lie in (or are). */
function commonFolder(a: string, b: string): string {
  let common = a;
  while (common !== path.dirname(common) && b !== common && !b.startsWith(`${common}${path.sep}`)) common = path.dirname(common);
  return common;
}
