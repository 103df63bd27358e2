/** The files of a table by its name, whatever its OID was; that they are what was written; and what the newest of them says of its columns. */
import path from 'node:path';
import { filesOfName, metadataOf } from '../archive/groups.js';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { parseLsn } from '../position/lsn.js';
import { Halt } from '../runtime/errors.js';
import { hashFile } from '../segment/durable-file.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import type { TableName } from './target.js';

/** Those whose rows a reader sees: open segments and sealed days. */
export function tableFilesByName(state: ArchiveState, name: TableName): FileEntry[] {
  return filesOfName(state, name).filter(({ kind }) => kind === 'segment' || kind === 'daily');
}

/** Which days they are of, as a person reads it. */
export function daysText(files: readonly FileEntry[]): string {
  const days = files.flatMap(({ day }) => day ?? []).sort();
  const [first, last] = [days[0], days.at(-1)];
  const dated = first === undefined ? [] : [first === last ? `the day ${first}` : `days from ${first} to ${last}`];
  const undated = files.some(({ day }) => day === null) ? ['rows without a date'] : [];
  return [...dated, ...undated].join(' and ');
}

/** Nothing is restored from a file whose bytes are not those that were written: some flipped bits read as another value. Throws Halt DIGEST. */
export async function requireWhole(dir: string, entry: FileEntry): Promise<void> {
  if ((await hashFile(path.join(dir, entry.file))) === entry.sha256) return;
  throw new Halt('DIGEST', {
    seen: `${entry.file}: its bytes are not those that were written, SHA-256 differs.`,
    safe: 'Nothing of it was restored.',
    remedy: 'run `tidemark verify` and bring the file back from a copy of the archive',
  });
}

/** Metadata of the file with the newest change; undefined: there is none. */
export async function newestForm(dir: string, files: readonly FileEntry[]): Promise<SegmentMetadata | undefined> {
  const newest = files.reduce<FileEntry | undefined>(
    (best, entry) => (best === undefined || parseLsn(entry.maxLsn) > parseLsn(best.maxLsn) ? entry : best),
    undefined,
  );
  if (newest === undefined) return undefined;
  await requireWhole(dir, newest);
  return await metadataOf(dir, newest);
}
