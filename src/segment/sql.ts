/** SQL text for DuckDB: quoting, and the one way segments are written. */

import { SYSTEM_COLUMNS, type SystemColumn, systemPrefix } from '../change/system-columns.js';
import type { SegmentShape, Spool } from './builder.js';

/** `'it''s'`. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** `"a ""name"""`. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A path for DuckDB's readers that stands for itself: they take names for patterns (a table `a[b]` would be read from the files of `ab`). */
export function exactPath(file: string): string {
  return file.replace(/[*?[]/g, '[$&]');
}

/** For every reader of files: a folder `x=y` on the way is a name, not a column. */
export const NOT_PARTITIONED = 'hive_partitioning = false';

/** Types of the system columns. */
export const SYSTEM_TYPES: Readonly<Record<SystemColumn, string>> = {
  op: 'VARCHAR', lsn: 'BIGINT', ordinal: 'BIGINT', xid: 'BIGINT', committed_at: 'TIMESTAMPTZ', digest: 'BIGINT', unresolved: 'VARCHAR', text: 'VARCHAR', deleted_at: 'TIMESTAMPTZ', ended_by: 'VARCHAR', ended_at: 'TIMESTAMPTZ',
}; // biome-ignore format: a table

/** System columns of segments, and of keys. */
export function systemColumnsOf(kind: SegmentShape['kind']): readonly SystemColumn[] {
  return kind === 'keys' ? SYSTEM_COLUMNS.slice(0, 5) : SYSTEM_COLUMNS;
}

/** A system column of the files of a table with these columns, as an identifier. */
export function systemIdentifier(column: SystemColumn, columns: readonly { readonly name: string }[]): string {
  return identifier(systemPrefix(columns.map(({ name }) => name)) + column);
}

/** `COPY (…) TO` options of segments: snappy and V1 pages, because that is what the verifier reads. */
export function segmentOptions(rowGroupRows: number, metadata: string): string {
  return `FORMAT parquet, USE_TMP_FILE false, COMPRESSION snappy, PARQUET_VERSION V1, ROW_GROUP_SIZE ${rowGroupRows}, KV_METADATA {tidemark: ${literal(metadata)}}`;
}

/** Rows of a row group so that it decodes to about 8 MB: a multiple of DuckDB's vector of 2048, at most 122880. */
export function rowGroupRows(rows: number, bytes: number): number {
  const fitting = Math.floor((8 * 1024 * 1024) / Math.max(1, bytes / Math.max(1, rows)));
  return Math.min(122_880, Math.max(2048, fitting - (fitting % 2048)));
}

/** The typed SELECT over a spool. */
export function selectSpool(spool: Spool): string {
  const keys = spool.shape.kind === 'keys';
  const csv = spool.columns.map((column, i): [name: string, type: string] => [`c${i}`, column.csvType]);
  csv.push(['s_op', 'VARCHAR'], ['s_lsn', 'BIGINT'], ['s_ordinal', 'BIGINT'], ['s_xid', 'BIGINT'], ['s_committed_at', 'TIMESTAMPTZ']);
  if (keys) csv.push(['s_end', 'VARCHAR']);
  else csv.push(['s_high', 'BIGINT'], ['s_low', 'BIGINT'], ['s_unresolved', 'VARCHAR'], ['s_text', 'VARCHAR']);
  const out = spool.columns.map((column, i) => `${column.select(`c${i}`)} AS ${identifier(column.name)}`);
  for (const name of systemColumnsOf(spool.shape.kind)) {
    out.push(`${name === 'digest' ? '(s_high * 4294967296 + s_low)' : `s_${name}`} AS ${systemIdentifier(name, spool.shape.relation.columns)}`);
  }
  const line = Math.max(2_097_152, spool.longestLine + 16);
  const options = [
    literal(exactPath(spool.file)),
    NOT_PARTITIONED,
    // Said outright: left to itself, the reader takes a carriage return inside a quoted first row for the line's end.
    `auto_detect=false, header=false, parallel=false, new_line='\\n'`,
    `delim='\t', quote='"', escape='"', nullstr='', allow_quoted_nulls=false`,
    `max_line_size=${line}, buffer_size=${Math.max(8 * 1024 * 1024, line * 2)}`,
    `columns={${csv.map(([name, type]) => `${name}: ${literal(type)}`).join(', ')}}`,
  ];
  return `SELECT ${out.join(', ')} FROM read_csv(${options.join(', ')})`;
}
