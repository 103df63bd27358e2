/** Which files belong together: the open segments and keys of a table, grouped by the columns they have. Reads footers, decides nothing. */
import path from 'node:path';
import { parseLsn } from '../position/lsn.js';
import { DailyReader } from '../segment/daily-reader.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { SegmentReader } from '../segment/reader.js';
import type { ArchiveState } from './chain.js';
import type { FileEntry } from './manifest-format.js';
import type { FileGroup } from './view.js';

type TableName = { readonly schema: string; readonly table: string };

/** Live files of one kind of a table, readers' view: without those of an unfinished copy. `day` undefined: of every day. */
export function tableFiles(state: ArchiveState, oid: number, kind: FileEntry['kind'], day?: string | null): FileEntry[] {
  return [...state.files.values()].filter(
    (entry) => entry.oid === oid && entry.kind === kind && entry.pendingCopy === null && (day === undefined || entry.day === day),
  );
}

/**
 * Live files whose rows are those of the table of this name, readers' view: of the table that has it now, whatever its name was when they were written, and of those that had it and have no other by
 * now (dropped, or not archived under another).
 */
export function filesOfName(state: ArchiveState, { schema, table }: TableName): FileEntry[] {
  const names = new Map<number, TableName>(state.tables.map((one) => [one.oid, one]));
  return [...state.files.values()].filter((entry) => {
    const name = names.get(entry.oid) ?? entry;
    return name.schema === schema && name.table === table && entry.pendingCopy === null;
  });
}

/** Groups entries by signature and key, with the metadata of one of each. Order: by first change. */
export async function groupFiles(dir: string, entries: readonly FileEntry[]): Promise<(FileGroup & { readonly entries: readonly FileEntry[] })[]> {
  const groups = new Map<string, { files: string[]; entries: FileEntry[]; metadata: FileGroup['metadata'] }>();
  for (const entry of [...entries].sort(byFirstChange)) {
    const file = path.join(dir, entry.file);
    const metadata = await segmentMetadataOf(file);
    const name = `${entry.kind} ${metadata.signature} ${JSON.stringify(metadata.key)}`;
    const group = groups.get(name) ?? { files: [], entries: [], metadata };
    group.files.push(file);
    group.entries.push(entry);
    groups.set(name, group);
  }
  return [...groups.values()];
}

/** What a file of the archive says of itself. `dir`: the archive. Throws what its reader throws. */
export async function metadataOf(dir: string, { file, kind }: Pick<FileEntry, 'file' | 'kind'>): Promise<SegmentMetadata> {
  const name = path.join(dir, file);
  return isOpen(kind) ? await segmentMetadataOf(name) : (await DailyReader.open(name)).metadata;
}

/** Of a segment, or a file like one, wherever it lies. */
export async function segmentMetadataOf(file: string): Promise<SegmentMetadata> {
  const reader = await SegmentReader.open(file);
  await reader.close();
  return reader.metadata;
}

const isOpen = (kind: FileEntry['kind']): boolean => kind === 'segment' || kind === 'restored' || kind === 'keys';

/** By LSN of the first change, then by name. */
export function byFirstChange(a: FileEntry, b: FileEntry): number {
  const [x, y] = [parseLsn(a.minLsn), parseLsn(b.minLsn)];
  return x < y ? -1 : x > y ? 1 : a.file < b.file ? -1 : 1;
}
