/**
 * SHA-256 of a file as it lies on the medium: read past the page cache (O_DIRECT), which may still hold good bytes of what the disk has lost. Where the file system has no such
 * reading, the ordinary one, and it says so.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hashFile } from './durable-file.js';

/** `direct`: the page cache had no part in it. */
export type MediaHash = { readonly sha256: string; readonly direct: boolean };

const PIECE = 1024 * 1024;
/** O_DIRECT wants memory, place and length in whole blocks; no block is larger. */
const BLOCK = 4096;
const STEP = 16;

export class MediaHasher {
  readonly #memory = Buffer.allocUnsafeSlow(PIECE + BLOCK);
  /** Places in the memory where a block may begin: only the kernel can tell. The first is where it does after the allocator's own 16 bytes. */
  readonly #places = [BLOCK - STEP, ...Array.from({ length: BLOCK / STEP - 1 }, (_, i) => i * STEP)];

  async hash(file: string): Promise<MediaHash> {
    const handle = await openDirect(file);
    if (handle !== undefined) {
      try {
        for (const at of this.#places) {
          const sha256 = await this.#read(handle, at);
          if (sha256 === undefined) continue;
          this.#places.splice(this.#places.indexOf(at), 1);
          this.#places.unshift(at);
          return { sha256, direct: true };
        }
      } finally {
        await handle.close();
      }
    }
    return { sha256: await hashFile(file), direct: false };
  }

  /** Undefined: the kernel does not take this place. */
  async #read(handle: FileHandle, at: number): Promise<string | undefined> {
    const hash = createHash('sha256');
    for (let position = 0; ; ) {
      const bytesRead = await handle.read(this.#memory, at, PIECE, position).then((read) => read.bytesRead, refused);
      if (bytesRead === false) return undefined;
      hash.update(this.#memory.subarray(at, at + bytesRead));
      position += bytesRead;
      if (bytesRead < PIECE) return hash.digest('hex');
    }
  }
}

async function openDirect(file: string): Promise<FileHandle | undefined> {
  if (constants.O_DIRECT === undefined) return undefined;
  return await open(file, constants.O_RDONLY | constants.O_DIRECT).catch((error: unknown) => {
    refused(error);
    return undefined;
  });
}

/** EINVAL: not this way. All else is what the volume says. */
function refused(error: unknown): false {
  if ((error as NodeJS.ErrnoException).code === 'EINVAL') return false;
  throw error;
}
