/**
 * Lives of rows, as SQL over segments and keys for DuckDB. A life runs from insert or copy to delete, move, truncate or prune; a version is superseded only when the next
 * event of its key is an update or another insert. A pruned version ends a life and is never superseded (protocol P10). Pure text: owns no connection and no file.
 */

import type { Lsn } from '../position/lsn.js';
import { type SegmentColumn, segmentColumn } from '../segment/columns.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { identifier, literal, systemIdentifier } from '../segment/sql.js';

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
  const read = ({ files, metadata }: FileGroup): string => {
    const before = options.before === undefined ? '' : ` WHERE ${systemIdentifier('lsn', metadata.columns)} < ${options.before}`;
    return `FROM ${parquet(files)}${before}`;
  };
  const versions = segments.map((group, part) => {
    const [lsn, ordinal, digest, unresolved] = (['lsn', 'ordinal', 'digest', 'unresolved'] as const).map((name) =>
      systemIdentifier(name, group.metadata.columns),
    );
    const more = `${lsn} AS _lsn, ${ordinal} AS _ordinal, ${digest} AS _digest, ${unresolved} AS _unresolved, ${part} AS part`;
    return `SELECT ${changeColumns(key, group.metadata, versionText)}, ${more} ${read(group)}`;
  });
  const events = keys.map((group) => `SELECT ${changeColumns(key, group.metadata, eventText)} ${read(group)}`);
  const noEvents = `SELECT 0 AS tm_oid, ${key.map((_, i) => `NULL::VARCHAR AS tm_k${i}, `).join('')}NULL::HUGEINT AS tm_pos, NULL::VARCHAR AS tm_op, NULL::TIMESTAMPTZ AS tm_at WHERE false`;
  return `WITH v AS (${versions.join(' UNION ALL ')}),
    k AS (${[noEvents, ...events].join(' UNION ALL ')}),
    ${endsSql(key.length, 'v._lsn, v._ordinal, v._digest, v._unresolved, v.part')}`;
}

type KeyText = (name: string, column: SegmentColumn, metadata: SegmentMetadata) => string;

/**
 * What endsSql needs of a change, as columns of its file: `oid` (SQL; of the table), key columns as text, position (orders changes of all transactions: 32 bits are enough for
 * the changes of one), kind, time. `p`: what stands before the names.
 */
export function changeColumns(key: readonly string[], metadata: SegmentMetadata, text: KeyText, { oid = '0', p = 'tm_' } = {}): string {
  const [lsn, ordinal, op, at] = (['lsn', 'ordinal', 'op', 'committed_at'] as const).map((name) => systemIdentifier(name, metadata.columns));
  const keys = key.map((name, i) => {
    const column = metadata.columns.find((one) => one.name === name);
    if (column === undefined) throw new Error(`${metadata.schema}.${metadata.table}: key column ${name} is not in a version of the table`);
    return `${text(name, segmentColumn(column, metadata), metadata)} AS ${p}k${i}, `;
  });
  return `${oid} AS ${p}oid, ${keys.join('')}(${lsn}::HUGEINT * 4294967296 + ${ordinal}) AS ${p}pos, ${op} AS ${p}op, ${at} AS ${p}at`;
}

/** The rest of a WITH that has versions `v` (changeColumns and more) and events `k` (changeColumns): `columns` of every version, `ended_by` and `ended_at`. `keys`: number of key columns. */
export function endsSql(keys: number, columns: string, p = 'tm_'): string {
  const names = Array.from({ length: keys }, (_, i) => `${p}k${i}`);
  const listed = names.map((name) => `${name}, `).join('');
  const nextEvent =
    keys === 0
      ? `LEFT JOIN (SELECT NULL::HUGEINT AS ${p}pos, NULL::VARCHAR AS ${p}op, NULL::TIMESTAMPTZ AS ${p}at) e ON false`
      : `ASOF LEFT JOIN e ON v.${p}oid = e.${p}oid AND ${names.map((name) => `v.${name} = e.${name}`).join(' AND ')} AND v.${p}pos < e.${p}pos`;
  const truncatedFirst = `t.${p}pos IS NOT NULL AND (e.${p}pos IS NULL OR t.${p}pos < e.${p}pos)`;
  return `e AS (SELECT ${p}oid, ${listed}${p}pos, ${p}op, ${p}at FROM k WHERE ${p}op <> 'truncate'
      UNION ALL SELECT ${p}oid, ${listed}${p}pos, 'insert', ${p}at FROM v WHERE ${p}op IN ('insert', 'copy')),
    t AS (SELECT DISTINCT ON (${p}oid, ${p}pos) ${p}oid, ${p}pos, ${p}at FROM k WHERE ${p}op = 'truncate')
    SELECT ${columns},
      CASE WHEN ${truncatedFirst} THEN 'truncate' ELSE e.${p}op END AS ended_by,
      CASE WHEN ${truncatedFirst} THEN t.${p}at ELSE e.${p}at END AS ended_at
    FROM v ${nextEvent} ASOF LEFT JOIN t ON v.${p}oid = t.${p}oid AND v.${p}pos < t.${p}pos`;
}

/** `read_parquet([…])` of files with equal columns. */
export function parquet(files: readonly string[]): string {
  return `read_parquet([${files.map(literal).join(', ')}])`;
}

/** Text of a key column of a version that is equal to eventText of the same value. */
export function versionText(name: string, { fileType }: SegmentColumn, { columns }: SegmentMetadata): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR') return column;
  if (fileType === 'BLOB') return `('\\x' || lower(hex(${column})))`;
  const kept = `(${systemIdentifier('text', columns)} ->> ${literal(`$.${JSON.stringify(name)}`)})`;
  return `COALESCE(CAST(${column} AS VARCHAR), CAST(TRY_CAST(${kept} AS ${fileType}) AS VARCHAR), ${kept})`;
}

/** keys hold the Postgres text: the detour through the type makes equal what the typed column makes equal. */
export function eventText(name: string, { fileType }: SegmentColumn): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR' || fileType === 'BLOB') return column;
  return `COALESCE(CAST(TRY_CAST(${column} AS ${fileType}) AS VARCHAR), ${column})`;
}

/** SQL of the sum of digests modulo 2^64 as decimal text, as the manifest has it. `digest`: an expression. */
export const digestSum = (digest = '_digest'): string =>
  `CAST(((coalesce(sum(${digest}::HUGEINT), 0) % 18446744073709551616) + 18446744073709551616) % 18446744073709551616 AS VARCHAR)`;
