/**
 * Publishing a file so that it survives a power cut at any step (design decision 10): the temporary file is created here and its descriptor kept while somebody else
 * writes it, so that a write-back error is seen by our fsync. A file whose fsync failed is abandoned, never tried again.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, link, mkdir, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { faultPoint } from '../runtime/fault-point.js';

/** What is known of a published file. */
export type Published = { readonly bytes: number; readonly sha256: string };

export class DurableFile {
  readonly temporary: string;
  readonly #handle: FileHandle;

  private constructor(temporary: string, handle: FileHandle) {
    this.temporary = temporary;
    this.#handle = handle;
  }

  /** Creates the empty temporary file; EEXIST when the name is taken. */
  static async create(temporary: string): Promise<DurableFile> {
    return new DurableFile(temporary, await open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o640));
  }

  /**
   * After somebody wrote the temporary file: fsync → size → SHA-256 → `verify` decodes it → link to `final` → fsync of the folder → unlink.
   * `final` must be free (EEXIST). On any error the temporary file is removed and nothing is published.
   */
  async publish(final: string, verify: (file: string) => Promise<void>): Promise<Published> {
    try {
      faultPoint('A3');
      await this.#handle.sync();
      faultPoint('A4');
      const { size } = await this.#handle.stat();
      const named = await open(this.temporary, 'r');
      try {
        // The writer may have replaced the file instead of filling ours: then our fsync was of another one.
        const [mine, theirs] = [await this.#handle.stat({ bigint: true }), await named.stat({ bigint: true })];
        if (mine.ino !== theirs.ino || mine.dev !== theirs.dev) throw new Error(`${this.temporary} was replaced while it was written`);
      } finally {
        await named.close();
      }
      const sha256 = await hashFile(this.temporary);
      await verify(this.temporary);
      faultPoint('A5');
      const folder = path.dirname(final);
      await makeFolder(folder);
      await link(this.temporary, final);
      faultPoint('A6');
      await syncFolder(folder);
      faultPoint('A7');
      return { bytes: size, sha256 };
    } finally {
      await this.abandon();
    }
  }

  /** Closes and removes the temporary file. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await unlink(this.temporary).catch(() => undefined);
  }
}

/** SHA-256 of a whole file, hex. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

/** Makes the entries of a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a folder and its missing parents, each name durable. */
export async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o750 });
  if (first === undefined) return;
  for (let parent = path.dirname(folder); ; parent = path.dirname(parent)) {
    await syncFolder(parent);
    if (parent === path.dirname(first)) return;
  }
}
