/** The form in which rows of old files are taken over: the table's columns in Postgres, or, when it is not there any more, the newest that the archive knows. */
import path from 'node:path';
import type pg from 'pg';
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { TableForm } from '../../src/import/stage.js';
import { parseLsn } from '../../src/position/lsn.js';
import type { TableConfig } from '../../src/runtime/config.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { describeTable, readRelationFromCatalog } from '../../src/wal/describe.js';
import { keyOf } from '../archiver/tables.js';

/** Undefined: neither knows the table. */
export async function readTableForm(
  client: pg.Client,
  dir: string,
  state: ArchiveState,
  { schema, table, timestamp }: TableConfig,
): Promise<TableForm | undefined> {
  const relation = await readRelationFromCatalog(client, schema, table);
  if (relation !== undefined) {
    const description = await describeTable(client, relation);
    return { relation, description, key: keyOf(relation, description), timestamp };
  }
  const newest = newestFile(state, schema, table);
  return newest && formOf(await metadataOf(path.join(dir, newest.file), newest.kind), timestamp);
}

function newestFile(state: ArchiveState, schema: string, table: string): FileEntry | undefined {
  let newest: FileEntry | undefined;
  for (const entry of state.files.values()) {
    if (entry.schema !== schema || entry.table !== table || entry.kind === 'keys') continue;
    if (newest === undefined || parseLsn(entry.maxLsn) >= parseLsn(newest.maxLsn)) newest = entry;
  }
  return newest;
}

async function metadataOf(file: string, kind: FileEntry['kind']): Promise<SegmentMetadata> {
  if (kind !== 'segment' && kind !== 'restored') return (await DailyReader.open(file)).metadata;
  const reader = await SegmentReader.open(file);
  await reader.close();
  return reader.metadata;
}

function formOf({ oid, schema, table, columns, key, types, columnTypes, ddl, dimensions = {} }: SegmentMetadata, timestamp: string): TableForm {
  return {
    relation: { oid, schema, table, identity: 'd', columns },
    description: { oid, schema, table, primaryKey: key, types, columnTypes, ddl, dimensions },
    key,
    timestamp,
  };
}
