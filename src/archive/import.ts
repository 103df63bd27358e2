/**
 * Taking over the old script's files: what the command asks of the archiver, what a day's rows are made of, and the record of what was taken. Pure but for the record. Which rows count:
 * of one key the last row of the newest file; none whose key the archive holds already.
 */
import path from 'node:path';
import type { SegmentMetadata } from '../segment/metadata.js';
import { identifier, systemIdentifier } from '../segment/sql.js';
import { appendLines, readLines } from './json-lines.js';
import { archivePaths } from './layout.js';
import type { Original } from './manifest-format.js';
import { parquet, rowKey } from './view.js';

/** A file whose rows are staged, in the order of age. `parts`: names in the staging folder; their rows stand at the file's number, from 1. */
export type StagedOriginal = Original & { readonly rows: number; readonly parts: readonly string[] };

/** `plan.json` of a staging folder. */
export type ImportPlan = {
  readonly schema: string;
  readonly table: string /** Of the table whose form the rows were given. */;
  readonly oid: number;
  readonly originals: readonly StagedOriginal[];
};

/** Request on `tidemark.<source>.import`. `staged`: name of a folder in `_tidemark/import`. `asOf`: LSN text, taken after the files were read: what they hold and Postgres still has is archived by then. */
export type ImportRequest = { readonly staged: string; readonly asOf: string; readonly dryRun: boolean };

/** What becomes of the rows of one table. */
export type ImportCounts = {
  /** Rows of the files. */
  readonly rows: number;
  /** Rows that are in daily files now, or would be. */
  readonly imported: number;
  readonly days: number;
  /** Equal rows of one key beyond the first. */
  readonly duplicates: number;
  /** Rows of a key that a newer file, or a later row, has another version of. */
  readonly olderVersions: number;
  /** Rows whose key the archive holds: they came through Postgres. */
  readonly archived: number;
  /** Rows of days that `keep` has let go. */
  readonly expired: number;
};

export type ImportReply = ({ readonly ok: true; readonly files: readonly string[] } & ImportCounts) | { readonly ok: false; readonly reason: string };

/** Reads a request. Throws SyntaxError that says what is wrong. */
export function parseImportRequest(text: string): ImportRequest {
  const request = JSON.parse(text) as Partial<ImportRequest> | null;
  const { staged, asOf, dryRun } = request ?? {};
  if (typeof staged !== 'string' || !/^[0-9a-f-]{36}$/.test(staged)) throw new SyntaxError('an import request needs the name of its staging folder');
  if (typeof asOf !== 'string' || !/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(asOf)) throw new SyntaxError('an import request needs asOf, an LSN');
  return { staged, asOf, dryRun: dryRun === true };
}

/** Names of the tables that importSql makes. */
export const STAGED_ROWS = 'import_rows';
export const CHOSEN_ROWS = 'import_chosen';

/** SQL of `_key` for the rows of a file of this form: its key as a text, of a table without one the whole row. `text`: the file has the column of values that its types cannot hold. */
export function keySql(metadata: SegmentMetadata, key: readonly string[], text: boolean): string {
  if (key.length > 0) return rowKey({ ...metadata, key }, text);
  const columns = metadata.columns.map(({ name }) => `CAST(${identifier(name)} AS VARCHAR)`);
  return `to_json([${[...columns, text ? systemIdentifier('text', metadata.columns) : 'NULL'].join(', ')}])::VARCHAR`;
}

/** Every staged row: `_key, _digest, _lsn` (number of its file), `_ordinal, day, place` (0 = the version that counts), `newest` (digest of that one). */
export function stagedRowsSql(parts: readonly string[], metadata: SegmentMetadata): string {
  const [lsn, ordinal, digest] = (['lsn', 'ordinal', 'digest'] as const).map((name) => systemIdentifier(name, metadata.columns));
  const newestFirst = 'PARTITION BY _key ORDER BY _lsn DESC, _ordinal DESC';
  return `CREATE OR REPLACE TEMP TABLE ${STAGED_ROWS} AS
    SELECT *, row_number() OVER (${newestFirst}) - 1 AS place, first_value(_digest) OVER (${newestFirst}) AS newest
    FROM (SELECT ${keySql(metadata, metadata.key, true)} AS _key, ${digest} AS _digest, ${lsn} AS _lsn, ${ordinal} AS _ordinal,
      CAST(CAST(CAST(${identifier(metadata.timestamp)} AS TIMESTAMP) AS DATE) AS VARCHAR) AS day FROM ${parquet(parts)})`;
}

/** `held`: SELECTs of `_key` over the files of the archive. */
export function chosenRowsSql(held: readonly string[]): string {
  const keys = held.length === 0 ? `SELECT NULL::VARCHAR AS _key WHERE false` : held.join(' UNION ALL ');
  return `CREATE OR REPLACE TEMP TABLE ${CHOSEN_ROWS} AS
    SELECT r._lsn, r._ordinal, r.day, h._key IS NOT NULL AS held FROM ${STAGED_ROWS} r LEFT JOIN (SELECT DISTINCT k._key FROM (${keys}) k SEMI JOIN ${STAGED_ROWS} s ON k._key = s._key) h ON r._key = h._key
    WHERE r.place = 0`;
}

/** A line of `_tidemark/imports.jsonl`. */
export type ImportRecord = Original & { readonly at: string; readonly schema: string; readonly table: string; readonly rows: number };

/** Appends records, durable when it resolves. */
export async function recordImports(dir: string, records: readonly ImportRecord[]): Promise<void> {
  await appendLines(archivePaths(dir).imports, records);
}

/** SHA-256 of every file of a table that was taken over. A line that a crash has torn counts for nothing: its file is imported again, and adds nothing. */
export async function importedFiles(dir: string): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for await (const { schema, table, sha256 } of readLines<ImportRecord>(archivePaths(dir).imports)) found.add(importName(schema, table, sha256));
  return found;
}

export function importName(schema: string, table: string, sha256: string): string {
  return `${schema}.${table} ${sha256}`;
}

/** Path of a staging folder. */
export function stagingFolder(dir: string, staged: string): string {
  return path.join(archivePaths(dir).staging, staged);
}
