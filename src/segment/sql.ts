/** SQL text for DuckDB: quoting, and the one way segments are written. */

import type { Spool } from './builder.js';
import type { SYSTEM_COLUMNS } from './system-columns.js';

/** `'it''s'`. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** `"a ""name"""`. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Names and types of the system columns of segments and of keys, in file order. */
export const SYSTEM_TYPES: Readonly<Record<(typeof SYSTEM_COLUMNS)[number], string>> = {
  _op: 'VARCHAR', _lsn: 'BIGINT', _ordinal: 'BIGINT', _xid: 'BIGINT', _committed_at: 'TIMESTAMPTZ', _digest: 'BIGINT', _unresolved: 'VARCHAR', _text: 'VARCHAR',
}; // biome-ignore format: a table

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
  out.push('s_op AS _op', 's_lsn AS _lsn', 's_ordinal AS _ordinal', 's_xid AS _xid', 's_committed_at AS _committed_at');
  if (!keys) out.push('(s_high * 4294967296 + s_low) AS _digest', 's_unresolved AS _unresolved', 's_text AS _text');
  const line = Math.max(2_097_152, spool.longestLine + 16);
  const options = [
    literal(spool.file),
    // Said outright: left to itself, the reader takes a carriage return inside a quoted first row for the line's end.
    `auto_detect=false, header=false, parallel=false, new_line='\\n'`,
    `delim='\t', quote='"', escape='"', nullstr='', allow_quoted_nulls=false`,
    `max_line_size=${line}, buffer_size=${Math.max(8 * 1024 * 1024, line * 2)}`,
    `columns={${csv.map(([name, type]) => `${name}: ${literal(type)}`).join(', ')}}`,
  ];
  return `SELECT ${out.join(', ')} FROM read_csv(${options.join(', ')})`;
}
