/** Temporary archive folders for tests, and file entries that no Parquet file stands behind. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createArchive } from '../../src/archive/identity.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';

export type TemporaryFolder = AsyncDisposable & { readonly dir: string };

export async function temporaryFolder(): Promise<TemporaryFolder> {
  const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-archive-'));
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

/** A folder with an archive of source `test` in it. */
export async function temporaryArchive(): Promise<TemporaryFolder> {
  const folder = await temporaryFolder();
  await createArchive(folder.dir, 'test');
  return folder;
}

export function fileEntry(file: string, change: Partial<FileEntry> = {}): FileEntry {
  return {
    file,
    kind: 'segment',
    oid: 16384,
    schema: 'public',
    table: 'prices',
    day: '2026-01-12',
    rows: 1,
    bytes: 100,
    sha256: '0'.repeat(64),
    signature: '"id":20:-1',
    digestSum: '1',
    minTimestamp: null,
    maxTimestamp: null,
    minLsn: '0/10',
    maxLsn: '0/10',
    pendingCopy: null,
    ...change,
  };
}
