/**
 * Are the files that merging and sealing read still what was written? Digests guard the columns of the table only: one bit in a place or an op decides which version is kept, and what is written from
 * it would pass for whole. Owns nothing but what it has seen.
 */
import path from 'node:path';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { hashFile } from '../../src/segment/durable-file.js';

/** What is read beside the files that are replaced is hashed so often at most: days that are sealed one after the other read the same ones. */
export const BESIDE_MS = 3_600_000;

export class WholeFiles {
  readonly #dir: string;
  /** When each was hashed, milliseconds of the monotonic clock. */
  readonly #seen = new Map<string, number>();

  /** `dir`: the archive. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Throws an Error that names the first file whose bytes are not those of the manifest, and what the volume says. `withinMs`: one that was whole so lately is not read again. */
  async require(entries: readonly FileEntry[], withinMs = 0): Promise<void> {
    for (const [file, at] of this.#seen) if (at + BESIDE_MS <= performance.now()) this.#seen.delete(file);
    for (const { file, sha256 } of entries) {
      if (performance.now() - (this.#seen.get(file) ?? Number.NEGATIVE_INFINITY) < withinMs) continue;
      if ((await hashFile(path.join(this.#dir, file))) !== sha256)
        throw new Error(`${file} is not what was written: its SHA-256 differs; see \`tidemark verify\``);
      this.#seen.set(file, performance.now());
    }
  }
}
