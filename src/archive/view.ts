/**
 * Lives of rows, as SQL over segments and keys for DuckDB. A life runs from insert or copy to delete, move, truncate or prune; a version is superseded only when the next
 * event of its key is an update or another insert. A pruned version ends a life and is never superseded (protocol P10). Pure text: owns no connection and no file.
 */

import type { Lsn } from '../position/lsn.js';
import { type SegmentColumn, segmentColumn } from '../segment/columns.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { identifier, literal } from '../segment/sql.js';

/** Segments or keys that share one metadata: absolute paths. */
export type FileGroup = { readonly files: readonly string[]; readonly metadata: SegmentMetadata };

export type LivesOptions = {
  readonly segments: readonly FileGroup[];
  readonly keys: readonly FileGroup[];
  /** Key columns; empty: rows cannot be told apart, every version stands until a truncate. */
  readonly key: readonly string[];
  /** Only what committed below it; everything without it. */
  readonly before?: Lsn;
};

/** What ended a version: null = it is the last one known and its life goes on. */
export type EndedBy = 'update' | 'insert' | 'delete' | 'prune' | 'truncate' | null;

/** SQL condition on `ended_by`: superseded by a newer version of the same row. */
export const SUPERSEDED = `coalesce(ended_by IN ('update', 'insert'), false)`;
/** SQL condition on `ended_by`: ended by somebody's own delete. */
export const USER_DELETED = `coalesce(ended_by IN ('delete', 'truncate'), false)`;

/** `SELECT _lsn, _ordinal, _digest, _unresolved, part, ended_by, ended_at`: one row per version; `part` is the index in `segments`. (_lsn, _ordinal) names a version of a table. */
export function livesSql(options: LivesOptions): string {
  const { segments, keys, key } = options;
  const before = options.before === undefined ? '' : ` WHERE _lsn < ${options.before}`;
  const versions = segments.map(
    ({ files, metadata }, part) =>
      `SELECT 0 AS oid, ${keyList(key, metadata, versionText)}${POSITION} AS pos, _lsn, _ordinal, _op, _digest, _unresolved, ${part} AS part, _committed_at FROM ${parquet(files)}${before}`,
  );
  const events = keys.map(
    ({ files, metadata }) => `SELECT 0 AS oid, ${keyList(key, metadata, eventText)}${POSITION} AS pos, _op, _committed_at FROM ${parquet(files)}${before}`,
  );
  const noEvents = `SELECT 0 AS oid, ${key.map((_, i) => `NULL::VARCHAR AS k${i}, `).join('')}NULL::HUGEINT AS pos, NULL::VARCHAR AS _op, NULL::TIMESTAMPTZ AS _committed_at WHERE false`;
  return `WITH v AS (${versions.join(' UNION ALL ')}),
    k AS (${[noEvents, ...events].join(' UNION ALL ')}),
    ${endsSql(key.length, 'v._lsn, v._ordinal, v._digest, v._unresolved, v.part')}`;
}

/**
 * The rest of a WITH that has versions `v` (oid, k0…, pos, _op, _committed_at, more) and events `k` (oid, k0…, pos, _op, _committed_at): `columns` of every version with
 * `ended_by`, `ended_at`. `keys`: number of key columns.
 */
export function endsSql(keys: number, columns: string): string {
  const names = Array.from({ length: keys }, (_, i) => `k${i}`);
  const listed = names.map((name) => `${name}, `).join('');
  const nextEvent =
    keys === 0
      ? 'LEFT JOIN (SELECT NULL::HUGEINT AS pos, NULL::VARCHAR AS _op, NULL::TIMESTAMPTZ AS _committed_at) e ON false'
      : `ASOF LEFT JOIN e ON v.oid = e.oid AND ${names.map((name) => `v.${name} = e.${name}`).join(' AND ')} AND v.pos < e.pos`;
  const truncatedFirst = 't.pos IS NOT NULL AND (e.pos IS NULL OR t.pos < e.pos)';
  return `e AS (SELECT oid, ${listed}pos, _op, _committed_at FROM k WHERE _op <> 'truncate' UNION ALL SELECT oid, ${listed}pos, 'insert', _committed_at FROM v WHERE _op IN ('insert', 'copy')),
    t AS (SELECT DISTINCT ON (oid, pos) oid, pos, _committed_at FROM k WHERE _op = 'truncate')
    SELECT ${columns},
      CASE WHEN ${truncatedFirst} THEN 'truncate' ELSE e._op END AS ended_by,
      CASE WHEN ${truncatedFirst} THEN t._committed_at ELSE e._committed_at END AS ended_at
    FROM v ${nextEvent} ASOF LEFT JOIN t ON v.oid = t.oid AND v.pos < t.pos`;
}

/** Orders changes of all transactions: 32 bits are enough for the changes of one. */
export const POSITION = '(_lsn::HUGEINT * 4294967296 + _ordinal)';

/** `read_parquet([…])` of files with equal columns. */
export function parquet(files: readonly string[]): string {
  return `read_parquet([${files.map(literal).join(', ')}])`;
}

type KeyText = (name: string, column: SegmentColumn) => string;

function keyList(key: readonly string[], metadata: SegmentMetadata, text: KeyText): string {
  return key
    .map((name, i) => {
      const column = metadata.columns.find((one) => one.name === name);
      if (column === undefined) throw new Error(`${metadata.schema}.${metadata.table}: key column ${name} is not in a version of the table`);
      return `${text(name, segmentColumn(column, metadata))} AS k${i}, `;
    })
    .join('');
}

/** Text of a key column of a version that is equal to eventText of the same value. */
export function versionText(name: string, { fileType }: SegmentColumn): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR') return column;
  if (fileType === 'BLOB') return `('\\x' || lower(hex(${column})))`;
  const kept = `(_text ->> ${literal(`$.${JSON.stringify(name)}`)})`;
  return `COALESCE(CAST(${column} AS VARCHAR), CAST(TRY_CAST(${kept} AS ${fileType}) AS VARCHAR), ${kept})`;
}

/** keys hold the Postgres text: the detour through the type makes equal what the typed column makes equal. */
export function eventText(name: string, { fileType }: SegmentColumn): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR' || fileType === 'BLOB') return column;
  return `COALESCE(CAST(TRY_CAST(${column} AS ${fileType}) AS VARCHAR), ${column})`;
}

/** SQL of the sum of `_digest` modulo 2^64 as decimal text, as the manifest has it. */
export const DIGEST_SUM = `CAST(((coalesce(sum(_digest::HUGEINT), 0) % 18446744073709551616) + 18446744073709551616) % 18446744073709551616 AS VARCHAR)`;
