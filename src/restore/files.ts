/** The files of a table by its name, whatever its OID was, and what the newest of them says of its columns. */
import path from 'node:path';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { parseLsn } from '../position/lsn.js';
import { DailyReader } from '../segment/daily-reader.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { SegmentReader } from '../segment/reader.js';
import type { TableName } from './target.js';

/** Those whose rows a reader sees: open segments and sealed days. */
export function tableFilesByName(state: ArchiveState, { schema, table }: TableName): FileEntry[] {
  return [...state.files.values()].filter(
    (entry) => entry.schema === schema && entry.table === table && entry.pendingCopy === null && (entry.kind === 'segment' || entry.kind === 'daily'),
  );
}

/** Metadata of the file with the newest change; undefined: there is none. */
export async function newestForm(dir: string, files: readonly FileEntry[]): Promise<SegmentMetadata | undefined> {
  const newest = files.reduce<FileEntry | undefined>(
    (best, entry) => (best === undefined || parseLsn(entry.maxLsn) > parseLsn(best.maxLsn) ? entry : best),
    undefined,
  );
  return newest === undefined ? undefined : await metadataOf(dir, newest);
}

async function metadataOf(dir: string, entry: FileEntry): Promise<SegmentMetadata> {
  const file = path.join(dir, entry.file);
  if (entry.kind === 'daily') return (await DailyReader.open(file)).metadata;
  const reader = await SegmentReader.open(file);
  await reader.close();
  return reader.metadata;
}
