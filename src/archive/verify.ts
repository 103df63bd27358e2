/**
 * Checks an archive from its files alone: identity, the whole chain of manifests, and every file: there, its size, its SHA-256, every row decoded and its digests added up.
 * Names exactly what is damaged. Changes nothing.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { describeError } from '../runtime/errors.js';
import { MediaHasher } from '../segment/media-hash.js';
import { verifyDaily, verifySegment } from '../segment/verify.js';
import { type ArchiveState, nextState, readManifest, stateOfCheckpoint } from './chain.js';
import { readExpired } from './expire.js';
import { openIdentity } from './identity.js';
import { archivePaths, manifestNumber } from './layout.js';
import type { FileEntry, Manifest } from './manifest-format.js';

/** One thing that is wrong, with what it touches. */
export type Damage = {
  readonly what: 'identity' | 'manifest' | 'file';
  /** Path relative to the archive folder. */
  readonly file: string;
  readonly seen: string;
  readonly schema?: string;
  readonly table?: string;
  readonly day?: string | null;
  readonly rows?: number;
  /** Commit LSNs of the first and last change in it. */
  readonly minLsn?: string;
  readonly maxLsn?: string;
};

export type VerifyResult = {
  /** True when nothing is damaged. The CLI exits with 4 otherwise. */
  readonly ok: boolean;
  readonly archive: string | null;
  /** Newest manifest that was read. */
  readonly manifest: number | null;
  readonly position: string | null;
  readonly manifests: number;
  readonly files: number;
  readonly rows: number;
  readonly bytes: number;
  /** Files whose bytes were read from the medium itself, past the page cache; the others' file system has no such reading. */
  readonly direct: number;
  /** Files that the retention of the archive (`keep`) has let go: they are missing on purpose. */
  readonly expired: number;
  readonly damages: readonly Damage[];
};

/** `progress`: bytes of files that are read, and of all. */
export type VerifyOptions = { readonly deep?: false; readonly progress?: (done: number, all: number, file: string) => void; readonly signal?: AbortSignal };

/** Whose rows are versions of their own. */
const COUNTED: ReadonlySet<FileEntry['kind']> = new Set(['segment', 'daily', 'history']);

/** Verifies the archive in `dir`. Throws only when the folder cannot be read at all. */
export async function verifyArchive(dir: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const damages: Damage[] = [];
  const identity = await openIdentity(dir).catch((error: unknown) => {
    damages.push({ what: 'identity', file: '_tidemark/archive.json', seen: describeError(error) });
    return undefined;
  });
  if (identity === undefined && damages.length === 0) damages.push({ what: 'identity', file: '_tidemark/archive.json', seen: 'it is missing' });
  const { state, count } = await walkChain(dir, damages);
  if (state !== undefined && identity !== undefined && state.archive !== identity.archive) {
    damages.push({ what: 'identity', file: '_tidemark/archive.json', seen: `it names archive ${identity.archive}, the manifests belong to ${state.archive}` });
  }
  const media = new MediaHasher();
  let direct = 0;
  const entries = [...(state?.files.values() ?? [])];
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  let read = 0;
  for (const entry of entries) {
    if (options.signal?.aborted) break;
    options.progress?.(read, bytes, entry.file);
    read += entry.bytes;
    const seen = await findDamage(dir, entry, async (file) => {
      const found = await media.hash(file);
      if (found.direct) direct += 1;
      return found.sha256;
    });
    if (seen !== undefined && !(await droppedSince(dir, state as ArchiveState, entry))) damages.push(damageOf(entry, seen));
  }
  return {
    ok: damages.length === 0,
    archive: identity?.archive ?? state?.archive ?? null,
    manifest: state?.number ?? null,
    position: state?.position ?? null,
    manifests: count,
    files: entries.length,
    rows: entries.reduce((sum, entry) => sum + (COUNTED.has(entry.kind) ? entry.rows : 0), 0),
    bytes,
    direct,
    expired: state === undefined ? 0 : (await readExpired(dir, state)).length,
    damages,
  };
}

/** Every manifest from the first; behind a break it goes on at the next checkpoint, so that one break does not hide what else is wrong. */
async function walkChain(dir: string, damages: Damage[]): Promise<{ state: ArchiveState | undefined; count: number }> {
  const folder = archivePaths(dir).manifests;
  const names = await readdir(folder).catch(() => [] as string[]);
  const numbers = names.map(manifestNumber).filter((number) => number !== undefined);
  const highest = numbers.reduce((most, number) => Math.max(most, number), 0);
  let state: ArchiveState | undefined;
  for (let number = 1; number <= highest; number += 1) {
    try {
      const found = await readManifest(folder, number);
      if (found === undefined) throw new Error(`manifest ${number} is missing`);
      state = continueFrom(folder, state, found.manifest, found.hash, damages);
    } catch (error) {
      damages.push({ what: 'manifest', file: `_tidemark/manifest/${String(number).padStart(12, '0')}.json`, seen: describeError(error) });
    }
  }
  if (highest === 0) damages.push({ what: 'manifest', file: '_tidemark/manifest', seen: 'there is no manifest' });
  return { state, count: numbers.length };
}

function continueFrom(folder: string, state: ArchiveState | undefined, manifest: Manifest, hash: string, damages: Damage[]): ArchiveState | undefined {
  if (manifest.number === 1) return stateOfCheckpoint(folder, manifest, hash);
  const whole = state !== undefined && state.number === manifest.number - 1;
  if (whole) {
    try {
      return nextState(folder, state, manifest, hash);
    } catch (error) {
      if (manifest.files === null) throw error;
      damages.push({ what: 'manifest', file: `_tidemark/manifest/${String(manifest.number).padStart(12, '0')}.json`, seen: describeError(error) });
    }
  }
  return manifest.files === null ? state : stateOfCheckpoint(folder, manifest, hash);
}

/** What is wrong with a file; undefined when it is what the manifest says. */
async function findDamage(dir: string, entry: FileEntry, hash: (file: string) => Promise<string>): Promise<string | undefined> {
  const file = path.join(dir, entry.file);
  try {
    const { size } = await stat(file);
    if (size !== entry.bytes) return `${size} bytes, the manifest says ${entry.bytes}`;
    const sha256 = await hash(file);
    if (sha256 !== entry.sha256) return `its SHA-256 is ${sha256}, the manifest says ${entry.sha256}`;
    if (entry.kind === 'segment' || entry.kind === 'restored' || entry.kind === 'keys') await verifySegment(file, entry);
    else await verifyDaily(file, entry);
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'it is missing';
    return describeError(error);
  }
}

/** True when a running archiver has merged or sealed the file away since the chain was walked. */
async function droppedSince(dir: string, state: ArchiveState, entry: FileEntry): Promise<boolean> {
  const folder = archivePaths(dir).manifests;
  for (let number = state.number + 1; ; number += 1) {
    const found = await readManifest(folder, number).catch(() => undefined);
    if (found === undefined) return false;
    if (found.manifest.drop.includes(entry.file)) return true;
  }
}

function damageOf(entry: FileEntry, seen: string): Damage {
  const { schema, table, day, rows, minLsn, maxLsn } = entry;
  return { what: 'file', file: entry.file, seen, schema, table, day, rows, minLsn, maxLsn };
}
