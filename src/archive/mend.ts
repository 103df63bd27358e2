/**
 * A broken chain of manifests, brought back to its last sound one by a person's word. What lies behind it, and the files that only it knew, are moved aside and never removed: rows may have
 * been deleted on its word, and the stream, or that folder, is where they are then. Must never go back to a state whose own files are gone.
 */
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { configError, describeError, Halt, TidemarkError } from '../runtime/errors.js';
import { DailyReader } from '../segment/daily-reader.js';
import { type ArchiveState, brokenChain, isCheckpoint, nextState, readManifest, stateOfCheckpoint } from './chain.js';
import { openIdentity } from './identity.js';
import { archivePaths, isEmptyFile, manifestName, manifestNumber } from './layout.js';
import { storageError, syncFolder } from './put.js';

export type Broken = {
  /** After the last sound manifest. */
  readonly state: ArchiveState;
  /** What is wrong with the next one. */
  readonly seen: string;
  /** Manifests from there on, and files that no sound manifest names, relative to the archive. */
  readonly manifests: readonly string[];
  readonly strays: readonly string[];
};

/** Where the chain breaks; undefined when it is whole. Throws `failed` when nothing can be gone back to. */
export async function findBreak(dir: string): Promise<Broken | undefined> {
  const identity = await openIdentity(dir);
  if (identity === undefined) throw configError(`archive.dir: there is no archive in ${dir}`, 'mount its volume, or correct archive.dir');
  const { manifests } = archivePaths(dir);
  const numbers = (await readdir(manifests)).map(manifestNumber).filter((number) => number !== undefined);
  const highest = numbers.reduce((most, number) => Math.max(most, number), 0);
  const { state, seen } = await lastSound(manifests, highest);
  if (state?.number === highest) return undefined;
  if (state === undefined || state.archive !== identity.archive)
    throw new TidemarkError('failed', `no manifest is sound (${seen})`, { remedy: 'bring the folder _tidemark back from a copy of the archive' });
  const gone = await missingFiles(dir, state);
  if (gone.length > 0) {
    throw new TidemarkError('failed', `manifest ${state.number} is the last sound one, and ${gone.length} of its files are replaced or gone (${gone[0]} …)`, {
      remedy: 'bring the folder _tidemark/manifest back from a copy of the archive',
    });
  }
  const behind = numbers.filter((number) => number > state.number).map((number) => path.relative(dir, path.join(manifests, manifestName(number))));
  return { state, seen, manifests: behind, strays: await strayFiles(dir, state) };
}

/** From the newest checkpoint that is whole, as far as each manifest continues the one before. */
async function lastSound(manifests: string, highest: number): Promise<{ state: ArchiveState | undefined; seen: string }> {
  let seen = 'there is none';
  for (let start = highest; start > 0; start -= 1) {
    if (!isCheckpoint(start)) continue;
    let state: ArchiveState | undefined;
    try {
      for (let number = start; number <= highest; number += 1) {
        const found = await readManifest(manifests, number);
        if (found === undefined) throw brokenChain(manifests, number, 'it is missing');
        state = state === undefined ? stateOfCheckpoint(manifests, found.manifest, found.hash) : nextState(manifests, state, found.manifest, found.hash);
      }
    } catch (error) {
      if (!(error instanceof Halt)) throw error; // what the volume says now is no break
      seen = describeError(error);
    }
    if (state !== undefined) return { state, seen };
  }
  return { state: undefined, seen };
}

async function missingFiles(dir: string, state: ArchiveState): Promise<string[]> {
  const gone: string[] = [];
  for (const { file, bytes } of state.files.values()) {
    const found = await stat(path.join(dir, file)).catch(orGone);
    if (found?.size !== bytes) gone.push(file);
  }
  return gone;
}

function orGone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw storageError(error);
}

/** A file that was read and is none of ours; not one that the volume does not give. */
function orForeign(error: NodeJS.ErrnoException): undefined {
  if (typeof error.code === 'string') throw storageError(error);
}

/** Parquet files of this archive that its state does not name. Outside `_tidemark/` only those that say of themselves whose they are. */
async function strayFiles(dir: string, state: ArchiveState): Promise<string[]> {
  const { open, history, restored, own } = archivePaths(dir);
  const strays: string[] = [];
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(dir, file).split(path.sep).join('/');
    if (!entry.isFile() || !name.endsWith('.parquet') || state.files.has(name) || isEmptyFile(name)) continue;
    const inside = [open, history, restored].some((folder) => file.startsWith(`${folder}${path.sep}`));
    if (!inside && file.startsWith(`${own}${path.sep}`)) continue;
    const owner = inside ? state.archive : (await DailyReader.open(file).catch(orForeign))?.metadata.archive;
    if (owner === state.archive) strays.push(name);
  }
  return strays;
}

/** Moves everything behind the break into `_tidemark/damaged/…`, durable when it resolves; the manifests last and from the end, so that it can be begun again. Returns the folder. */
export async function moveAside(dir: string, { state, manifests, strays }: Broken): Promise<string> {
  const aside = path.join(archivePaths(dir).own, 'damaged', `behind-${String(state.number).padStart(12, '0')}-${new Date().toISOString().replaceAll(':', '')}`);
  try {
    for (const name of [...strays, ...[...manifests].reverse()]) {
      const target = path.join(aside, name);
      await mkdir(path.dirname(target), { recursive: true });
      await rename(path.join(dir, name), target);
      await syncFolder(path.dirname(target));
      await syncFolder(path.dirname(path.join(dir, name)));
    }
  } catch (error) {
    throw storageError(error);
  }
  return aside;
}
