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
  const { segments, keys } = options;
  const identities = identitiesOf([...segments, ...keys].map(({ metadata }) => metadata));
  const read = ({ files, metadata }: FileGroup): string => {
    const before = options.before === undefined ? '' : ` WHERE ${systemIdentifier('lsn', metadata.columns)} < ${options.before}`;
    return `FROM ${parquet(files)}${before}`;
  };
  const placed = ({ metadata }: FileGroup): Placed => ({
    oid: '0',
    p: 'tm_',
    identity: String(identities.keys.findIndex((key) => JSON.stringify(key) === JSON.stringify(metadata.key))),
  });
  const versions = segments.map((group, part) => {
    const [lsn, ordinal, digest, unresolved] = (['lsn', 'ordinal', 'digest', 'unresolved'] as const).map((name) =>
      systemIdentifier(name, group.metadata.columns),
    );
    const more = `${lsn} AS _lsn, ${ordinal} AS _ordinal, ${digest} AS _digest, ${unresolved} AS _unresolved, ${part} AS part`;
    return `SELECT ${versionColumns(identities, group.metadata, placed(group))}, ${more} ${read(group)}`;
  });
  const events = keys.map((group) => {
    const { key } = group.metadata;
    return `SELECT ${eventColumns(identities, group.metadata, placed(group), key, key.length === 0)} ${read(group)}`;
  });
  // Read again for each use, and then only the columns that it needs: all of them, kept aside for a day of millions, are many times the work of its join.
  return `WITH v AS NOT MATERIALIZED (${versions.join(' UNION ALL ')}),
    k AS NOT MATERIALIZED (${[noEvents(identities), ...events].join(' UNION ALL ')}),
    ${endsSql(identities, 'v._lsn, v._ordinal, v._digest, v._unresolved, v.part')}`;
}

/** What DuckDB needs to join and sort while it spills, in bytes for each version and event: 40 million were too many for 192 MB and well within 384. */
const LIVES_BYTES = 10;

/** Memory that livesSql takes over this many versions and events, bytes: said beforehand, because what is tried with too little begins anew. */
export function livesMemory(rows: number): number {
  return rows * LIVES_BYTES;
}

/**
 * What told the rows of a table apart, over time: the columns of its key, or, without one, the digest of the whole row. A change of the key is another identity: an event ends
 * the versions of before that it names by its own.
 */
export type Identities = {
  /** Every column of every key. */
  readonly names: readonly string[];
  /** Each a list of `names`; empty: the digest. */
  readonly keys: readonly (readonly string[])[];
};

export function identitiesOf(forms: readonly Pick<SegmentMetadata, 'key'>[]): Identities {
  const keys = [...new Map(forms.map(({ key }) => [JSON.stringify(key), key])).values()];
  return { names: [...new Set(keys.flat())], keys };
}

/** `oid`: SQL of the table's; `identity`: SQL of the number of its identity; `p`: what stands before the names of the columns. */
export type Placed = { readonly oid: string; readonly identity: string; readonly p: string };

/** Columns that endsSql needs of a version: oid, k0… (the identities' names as text), d (digest as text), pos (orders changes of all transactions), op, at, g (its identity). */
export function versionColumns(identities: Identities, metadata: SegmentMetadata, placed: Placed): string {
  const keys = identities.names.map((name) => {
    const column = metadata.columns.find((one) => one.name === name);
    return column === undefined ? 'NULL::VARCHAR' : versionText(segmentColumn(column, metadata), metadata);
  });
  return changeColumns(keys, `CAST(${systemIdentifier('digest', metadata.columns)} AS VARCHAR)`, metadata, placed);
}

/** The same of an event. `names`: those of the identities' that the keys files have; without any they have the digest. */
export function eventColumns(identities: Identities, metadata: SegmentMetadata, placed: Placed, names: readonly string[], digest: boolean): string {
  const keys = identities.names.map((name) => {
    const column = metadata.columns.find((one) => one.name === name);
    return column === undefined || !names.includes(name) ? 'NULL::VARCHAR' : eventText(segmentColumn(column, metadata));
  });
  return changeColumns(keys, digest ? systemIdentifier('digest', metadata.columns) : 'NULL::VARCHAR', metadata, placed);
}

function changeColumns(keys: readonly string[], digest: string, { columns }: SegmentMetadata, { oid, identity, p }: Placed): string {
  const [lsn, ordinal, op, at] = (['lsn', 'ordinal', 'op', 'committed_at'] as const).map((name) => systemIdentifier(name, columns));
  const listed = keys.map((key, i) => `${key} AS ${p}k${i}, `).join('');
  return `${oid} AS ${p}oid, ${listed}${digest} AS ${p}d, (${lsn}::HUGEINT * 4294967296 + ${ordinal}) AS ${p}pos, ${op} AS ${p}op, ${at} AS ${p}at, ${identity} AS ${p}g`;
}

function noEvents({ names }: Identities): string {
  const keys = names.map((_, i) => `NULL::VARCHAR AS tm_k${i}, `).join('');
  return `SELECT 0 AS tm_oid, ${keys}NULL::VARCHAR AS tm_d, NULL::HUGEINT AS tm_pos, NULL::VARCHAR AS tm_op, NULL::TIMESTAMPTZ AS tm_at, 0 AS tm_g WHERE false`;
}

/** The rest of a WITH that has versions `v` (versionColumns and more) and events `k` (eventColumns): `columns` of every version, `ended_by` and `ended_at`. */
export function endsSql(identities: Identities, columns: string, p = 'tm_'): string {
  const ends = identities.keys.map((key, g) =>
    key.length === 0
      ? endsByDigest(g, p)
      : endsByKey(
          key.map((name) => `${p}k${identities.names.indexOf(name)}`),
          g,
          p,
        ),
  );
  const joins = `${ends.map(({ join }) => join).join(' ')} ASOF LEFT JOIN t ON v.${p}oid = t.${p}oid AND v.${p}pos < t.${p}pos`;
  return `t AS (SELECT *, row_number() OVER (PARTITION BY ${p}oid ORDER BY ${p}pos) AS ${p}era
      FROM (SELECT DISTINCT ON (${p}oid, ${p}pos) ${p}oid, ${p}pos, 'truncate' AS ${p}op, ${p}at FROM k WHERE ${p}op = 'truncate')),
    ${ends.map(({ common }) => common).join(', ')}
    SELECT * EXCLUDE (${p}first), ${p}first.op AS ended_by, ${p}first.moment AS ended_at
    FROM (SELECT ${columns}, ${firstOf([...ends.map((_, g) => `e${g}`), 't'], p)} AS ${p}first FROM v ${joins})`;
}

/** The earliest of what was joined. */
function firstOf(candidates: readonly string[], p: string): string {
  const event = (from: string): string => `{op: ${from}.${p}op, moment: ${from}.${p}at}`;
  const [first, ...others] = candidates as [string, ...string[]];
  if (others.length === 0) return event(first);
  const rest = firstOf(others, p);
  const earliest = others.map((other) => `coalesce(${first}.${p}pos < ${other}.${p}pos, true)`).join(' AND ');
  return `CASE WHEN ${first}.${p}pos IS NOT NULL AND ${earliest} THEN ${event(first)} ELSE ${rest} END`;
}

type Ends = { readonly common: string; readonly join: string };

/** The next event of the same key: a change that names it, or another insert. */
function endsByKey(key: readonly string[], g: number, p: string): Ends {
  const listed = `${p}oid, ${key.map((name) => `${name}, `).join('')}${p}pos`;
  const common = `e${g} AS (SELECT ${listed}, ${p}op, ${p}at FROM k WHERE ${p}g = ${g} AND ${p}op <> 'truncate'
      UNION ALL SELECT ${listed}, 'insert', ${p}at FROM v WHERE ${p}g = ${g} AND ${p}op IN ('insert', 'copy'))`;
  const same = key.map((name) => `v.${name} = e${g}.${name}`).join(' AND ');
  return { common, join: `ASOF LEFT JOIN e${g} ON v.${p}oid = e${g}.${p}oid AND ${same} AND v.${p}pos < e${g}.${p}pos` };
}

/** Equal rows cannot be told apart, nor need they be: the nth event that names such a row, since the last truncate, ends the nth version of it. */
function endsByDigest(g: number, p: string): Ends {
  const ranked = (from: string): string =>
    `(SELECT c.*, coalesce(u.${p}era, 0) AS ${p}era FROM ${from} c ASOF LEFT JOIN t u ON c.${p}oid = u.${p}oid AND c.${p}pos > u.${p}pos)`;
  const rank = `row_number() OVER (PARTITION BY ${p}oid, ${p}d, ${p}era ORDER BY ${p}pos) AS ${p}n`;
  const common = `e${g} AS (SELECT ${p}oid, ${p}d, ${p}era, ${p}pos, ${p}op, ${p}at, ${rank} FROM ${ranked(`(SELECT * FROM k WHERE ${p}g = ${g} AND ${p}op <> 'truncate')`)}),
    r${g} AS (SELECT ${p}oid, ${p}d, ${p}era, ${p}pos, ${rank} FROM ${ranked('v')})`;
  const join = `LEFT JOIN r${g} ON v.${p}oid = r${g}.${p}oid AND v.${p}pos = r${g}.${p}pos
      LEFT JOIN e${g} ON v.${p}oid = e${g}.${p}oid AND v.${p}d = e${g}.${p}d AND r${g}.${p}era = e${g}.${p}era AND r${g}.${p}n = e${g}.${p}n AND v.${p}pos < e${g}.${p}pos`;
  return { common, join };
}

/** `read_parquet([…])` of files with equal columns. */
export function parquet(files: readonly string[]): string {
  return `read_parquet([${files.map(literal).join(', ')}])`;
}

/** Text of a key column of a version that is equal to eventText of the same value. */
function versionText({ name, fileType }: SegmentColumn, { columns }: SegmentMetadata): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR') return column;
  if (fileType === 'BLOB') return `('\\x' || lower(hex(${column})))`;
  const kept = `(${systemIdentifier('text', columns)} ->> ${literal(`$.${JSON.stringify(name)}`)})`;
  return `COALESCE(CAST(${column} AS VARCHAR), CAST(TRY_CAST(${kept} AS ${fileType}) AS VARCHAR), ${kept})`;
}

/** keys hold the Postgres text: the detour through the type makes equal what the typed column makes equal. */
function eventText({ name, fileType }: SegmentColumn): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR' || fileType === 'BLOB') return column;
  return `COALESCE(CAST(TRY_CAST(${column} AS ${fileType}) AS VARCHAR), ${column})`;
}

/** SQL of the sum of digests modulo 2^64 as decimal text, as the manifest has it. `digest`: an expression. */
export const digestSum = (digest = '_digest'): string =>
  `CAST(((coalesce(sum(${digest}::HUGEINT), 0) % 18446744073709551616) + 18446744073709551616) % 18446744073709551616 AS VARCHAR)`;
