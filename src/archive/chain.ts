/**
 * Manifest files one after the other: reading one, checking that it continues the chain, and folding its delta into the state. Pure but for reading.
 * A file is one line of JSON whose last field, `checksum`, is the SHA-256 of everything before it: the newest manifest has no successor to vouch for it.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { formatPosition, parsePosition } from '../position/position.js';
import { Halt } from '../runtime/errors.js';
import { manifestName } from './layout.js';
import { type FileEntry, FORMAT_VERSION, type Manifest } from './manifest-format.js';
import { storageError } from './put.js';

/** What the archive holds as of one manifest. */
export type ArchiveState = Omit<Manifest, 'add' | 'drop' | 'files' | 'previous'> & {
  /** SHA-256 of the manifest's file. */
  readonly hash: string;
  /** Every live file, by its relative path. */
  readonly files: ReadonlyMap<string, FileEntry>;
};

/** A manifest whose number is a multiple of this, and the first, lists all live files. */
export const CHECKPOINT_EVERY = 64;

export function isCheckpoint(number: number): boolean {
  return number === 1 || number % CHECKPOINT_EVERY === 0;
}

const CHECKSUM = /,"checksum":"([0-9a-f]{64})"\}\n$/;

export function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The bytes of a manifest file. */
export function encodeManifest(manifest: Manifest): Buffer {
  const body = JSON.stringify(manifest).slice(0, -1);
  return Buffer.from(`${body},"checksum":"${sha256(body)}"}\n`);
}

/** A halt of the chain: `found` is what is wrong with manifest `number`. */
export function brokenChain(dir: string, number: number, found: string): Halt {
  return new Halt('MANIFEST', {
    seen: `${path.join(dir, manifestName(number))}: ${found}.`,
    safe:
      number > 1
        ? `Manifests up to ${number - 1} are not doubted by this; nothing is deleted or confirmed on the word of a later one.`
        : 'Nothing is deleted or confirmed.',
    remedy:
      'see the extent with `tidemark verify`; restore the manifest folder from a copy of the archive, or, without one: stop the services and `tidemark repair --manifest`',
  });
}

/** Reads manifest `number` in `dir` (the manifest folder). Undefined when there is no such file; Halt MANIFEST when it is not whole. */
export async function readManifest(dir: string, number: number): Promise<{ manifest: Manifest; hash: string } | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path.join(dir, manifestName(number)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw storageError(error);
  }
  return { manifest: decodeManifest(dir, number, bytes), hash: sha256(bytes) };
}

function decodeManifest(dir: string, number: number, bytes: Buffer): Manifest {
  const text = bytes.toString('utf8');
  const version = /^\{"formatVersion":(\d+),/.exec(text)?.[1];
  if (version !== undefined && Number(version) > FORMAT_VERSION) {
    throw new Halt('MANIFEST', {
      seen: `${path.join(dir, manifestName(number))} has formatVersion ${version}, this program knows ${FORMAT_VERSION}.`,
      safe: 'Nothing was changed.',
      remedy: 'use a newer tidemark',
    });
  }
  const end = CHECKSUM.exec(text);
  if (!end) throw brokenChain(dir, number, 'it is cut off or not a manifest');
  if (sha256(text.slice(0, end.index)) !== end[1]) throw brokenChain(dir, number, 'its bytes do not have its checksum');
  const manifest = JSON.parse(text) as Manifest;
  if (manifest.formatVersion !== FORMAT_VERSION) throw brokenChain(dir, number, `formatVersion ${manifest.formatVersion} is not known`);
  if (manifest.number !== number) throw brokenChain(dir, number, `it calls itself number ${manifest.number}`);
  return manifest;
}

/** The state of a checkpoint, which needs none before it. */
export function stateOfCheckpoint(dir: string, manifest: Manifest, hash: string): ArchiveState {
  if (manifest.files === null) throw brokenChain(dir, manifest.number, 'it should list all files and does not');
  return fold(manifest, hash, new Map(manifest.files.map((entry) => [entry.file, entry])));
}

/** The state after `manifest`, which must continue `before`. Halt MANIFEST when it does not. */
export function nextState(dir: string, before: ArchiveState, manifest: Manifest, hash: string): ArchiveState {
  if (manifest.previous !== before.hash) throw brokenChain(dir, manifest.number, `it does not continue the manifest ${before.number} that is there`);
  if (manifest.archive !== before.archive)
    throw brokenChain(dir, manifest.number, `it belongs to archive ${manifest.archive}, the one before to ${before.archive}`);
  const files = applyDelta(before.files, manifest);
  if (typeof files === 'string') throw brokenChain(dir, manifest.number, files);
  if (manifest.files !== null && !sameFiles(files, manifest.files))
    throw brokenChain(dir, manifest.number, 'its list of all files is not what its predecessors add up to');
  return fold(manifest, hash, files);
}

/** Live files after a delta, or what is wrong with it. */
export function applyDelta(before: ReadonlyMap<string, FileEntry>, delta: Pick<Manifest, 'add' | 'drop'>): Map<string, FileEntry> | string {
  const files = new Map(before);
  for (const name of delta.drop) if (!files.delete(name)) return `it drops ${name}, which is not there`;
  for (const entry of delta.add) {
    if (files.has(entry.file)) return `it adds ${entry.file}, which is there already`;
    files.set(entry.file, entry);
  }
  return files;
}

function sameFiles(files: ReadonlyMap<string, FileEntry>, listed: readonly FileEntry[]): boolean {
  return files.size === listed.length && listed.every((entry) => files.get(entry.file)?.sha256 === entry.sha256);
}

/** The state that a manifest and the files live after it make. */
export function fold(manifest: Manifest, hash: string, files: ReadonlyMap<string, FileEntry>): ArchiveState {
  const { add: _add, drop: _drop, files: _files, previous: _previous, ...rest } = manifest;
  return Object.freeze({ ...rest, hash, files });
}

/** W as a position text never goes back within one epoch: asked before a manifest is written. */
export function positionGoesBack(before: string | null, after: string | null): boolean {
  if (before === null) return false;
  if (after === null) return true;
  return parsePosition(after).lsn < parsePosition(before).lsn || parsePosition(after).k !== 0 || formatPosition(parsePosition(after)) !== after;
}
