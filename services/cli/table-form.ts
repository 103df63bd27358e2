/** The form in which rows of old files are taken over: the table's columns in Postgres, or, when it is not there any more, the newest that the archive knows. */
import type pg from 'pg';
import { metadataOf } from '../../src/archive/groups.js';
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { TableForm } from '../../src/import/stage.js';
import { parseLsn } from '../../src/position/lsn.js';
import type { TableConfig } from '../../src/runtime/config.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
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
  return newest && formOf(await metadataOf(dir, newest), timestamp);
}

function newestFile(state: ArchiveState, schema: string, table: string): FileEntry | undefined {
  let newest: FileEntry | undefined;
  for (const entry of state.files.values()) {
    if (entry.schema !== schema || entry.table !== table || entry.kind === 'keys') continue;
    if (newest === undefined || parseLsn(entry.maxLsn) >= parseLsn(newest.maxLsn)) newest = entry;
  }
  return newest;
}

function formOf({ oid, schema, table, columns, key, types, columnTypes, ddl, dimensions = {} }: SegmentMetadata, timestamp: string): TableForm {
  return {
    relation: { oid, schema, table, identity: 'd', columns },
    description: { oid, schema, table, primaryKey: key, types, columnTypes, ddl, dimensions },
    key,
    timestamp,
  };
}
