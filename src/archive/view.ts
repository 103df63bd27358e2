/**
 * Lives of rows, as SQL over segments and keys for DuckDB. A life runs from insert or copy to delete, move, truncate or prune; a version is superseded only when the next
 * event of its key is an update or another insert. A pruned version ends a life and is never superseded (protocol P10). Owns no connection and no file.
 */

import type { Lsn } from '../position/lsn.js';
import { type SegmentColumn, segmentColumn } from '../segment/columns.js';
import type { SegmentEncoder } from '../segment/encoder.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { exactPath, identifier, literal, NOT_PARTITIONED, systemIdentifier } from '../segment/sql.js';

/** Segments or keys that share one metadata: absolute paths. */
export type FileGroup = { readonly files: readonly string[]; readonly metadata: SegmentMetadata };

export type LivesOptions = {
  readonly segments: readonly FileGroup[];
  readonly keys: readonly FileGroup[];
  /** Segments of other days: a row that was copied again may lie there now. */
  readonly elsewhere?: readonly FileGroup[];
  /** Only what committed below it; everything without it. */
  readonly before?: Lsn;
  /** False: the keys have no change of the whole table (see wholeTable), and nothing looks for one, which for a day of millions is half of the work. */
  readonly wholeTable?: boolean;
  /** With a column `_row` of rowKey. */
  readonly rowKeys?: boolean;
  /** SQL condition on a row of keys of a table with these columns: the change is left out, as if it had not come yet. */
  readonly unseen?: (columns: SegmentMetadata['columns']) => string;
};

/** What ended a version: null = it is the last one known and its life goes on. */
export type EndedBy = 'update' | 'insert' | 'copy' | 'delete' | 'prune' | 'truncate' | null;

/** SQL condition on `ended_by`: superseded by a newer version of the same row. */
export const SUPERSEDED = `coalesce(ended_by IN ('update', 'insert', 'copy'), false)`;
/** SQL condition on `ended_by`: ended by somebody's own delete. */
export const USER_DELETED = `coalesce(ended_by IN ('delete', 'truncate'), false)`;

/** `SELECT _lsn, _ordinal, _digest, _unresolved, part, ended_by, ended_at`: one row per version; `part` is the index in `segments`. (_lsn, _ordinal) names a version of a table. */
export function livesSql(options: LivesOptions): string {
  const { segments, keys } = options;
  const identities = identitiesOf([...segments, ...keys, ...(options.elsewhere ?? [])].map(({ metadata }) => metadata));
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
    const named = options.rowKeys === true ? `, ${rowKey(group.metadata)} AS _row` : '';
    const more = `${lsn} AS _lsn, ${ordinal} AS _ordinal, ${digest} AS _digest, ${unresolved} AS _unresolved, ${part} AS part${named}`;
    return `SELECT ${versionColumns(identities, group.metadata, placed(group))}, ${more} ${read(group)}`;
  });
  const events = keys.map((group) => {
    const { key } = group.metadata;
    const seen = options.unseen === undefined ? read(group) : `FROM (SELECT * ${read(group)}) WHERE NOT ${options.unseen(group.metadata.columns)}`;
    return `SELECT ${eventColumns(identities, group.metadata, placed(group), key, key.length === 0)} ${seen}`;
  });
  const elsewhere = (options.elsewhere ?? []).map((group) => {
    const copied = `${systemIdentifier('op', group.metadata.columns)} = 'copy'`;
    return `SELECT ${versionColumns(identities, group.metadata, placed(group))} FROM (SELECT * ${read(group)}) WHERE ${copied}`;
  });
  // Read again for each use, and then only the columns that it needs: all of them, kept aside for a day of millions, are many times the work of its join.
  return `WITH v AS NOT MATERIALIZED (${versions.join(' UNION ALL ')}),
    w AS NOT MATERIALIZED (${[noEvents(identities), ...elsewhere].join(' UNION ALL ')}),
    k AS NOT MATERIALIZED (${[noEvents(identities), ...events].join(' UNION ALL ')}),
    ${endsSql(identities, `v._lsn, v._ordinal, v._digest, v._unresolved, v.part${options.rowKeys === true ? ', v._row' : ''}`, { wholeTable: options.wholeTable ?? true, oneTable: true })}`;
}

/** What changed all rows of the table at once. */
export type WholeTable = { readonly copied: boolean; readonly truncated: boolean };

/** What the keys say of the whole table. */
export async function wholeTable(duckdb: Pick<SegmentEncoder, 'query'>, keys: readonly FileGroup[]): Promise<WholeTable> {
  let all: WholeTable = { copied: false, truncated: false };
  for (const { files, metadata } of keys) {
    const any = (op: string): string => `coalesce(bool_or(${systemIdentifier('op', metadata.columns)} = '${op}'), false)`;
    const [found] = await duckdb.query<WholeTable>(`SELECT ${any('copied')} AS copied, ${any('truncate')} AS truncated FROM ${parquet(files)}`);
    all = { copied: all.copied || found?.copied === true, truncated: all.truncated || found?.truncated === true };
  }
  return all;
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

/**
 * The rest of a WITH that has versions `v` (versionColumns and more), copied rows of other days `w` (versionColumns) and events `k` (eventColumns): `columns` of every version, `ended_by`
 * and `ended_at`. A table that was copied again as a whole begins anew: what lived before, was not copied and has no other end was deleted while nobody looked. `wholeTable`: as of LivesOptions. `oneTable`: all oids are the same one, which need not be
 * compared: a quarter of the CPU of the join of millions.
 */
export function endsSql(
  identities: Identities,
  columns: string,
  { p = 'tm_', wholeTable = true, oneTable = false }: { readonly p?: string; readonly wholeTable?: boolean; readonly oneTable?: boolean } = {},
): string {
  const byKey = identities.keys.flatMap((key, g) => {
    const names = key.map((name) => `${p}k${identities.names.indexOf(name)}`);
    return key.length === 0 ? [] : [endsByKey(names, g, p, oneTable)];
  });
  const digest = identities.keys.findIndex((key) => key.length === 0);
  const ends = digest < 0 ? byKey : [...byKey, endsByDigest(digest, byKey, p)];
  const next = (events: string): string => `ASOF LEFT JOIN ${events} ON v.${p}oid = ${events}.${p}oid AND v.${p}pos < ${events}.${p}pos`;
  const again = digest < 0 || !wholeTable ? '' : `LEFT JOIN a ON v.${p}oid = a.${p}oid AND v.${p}d = a.${p}d AND ${lsnOf(`c.${p}pos`)} = a.lsn`;
  const copied = `${p}first.op = 'copy' AND ${lsnOf(`${p}first.pos`)} = ${lsnOf(`${p}copied`)}`;
  return `t AS (SELECT DISTINCT ON (${p}oid, ${p}pos) ${p}oid, ${p}pos, 'truncate' AS ${p}op, ${p}at FROM k WHERE ${p}op = 'truncate'),
    c AS (SELECT DISTINCT ${p}oid, ${p}pos FROM k WHERE ${p}op = 'copied'),
    a AS (SELECT DISTINCT ${p}oid, ${p}d, ${lsnOf(`${p}pos`)} AS lsn FROM v WHERE ${p}op = 'copy'),
    b AS (SELECT *, row_number() OVER (PARTITION BY ${p}oid ORDER BY ${p}pos) AS ${p}era FROM (SELECT ${p}oid, ${p}pos FROM t UNION ALL FROM c)),
    ${ends.map(({ common }) => common).join(', ')}
    SELECT * EXCLUDE (${p}first, ${p}copied, ${p}again, ${p}unseen),
      CASE WHEN ${p}unseen THEN CASE WHEN ${p}again THEN 'copy' ELSE 'delete' END ELSE ${p}first.op END AS ended_by,
      CASE WHEN ${p}unseen THEN NULL ELSE ${p}first.moment END AS ended_at
    FROM (SELECT *, ${p}copied IS NOT NULL AND coalesce(${p}first.pos > ${p}copied, true) AND coalesce(${p}first.op NOT IN ('update', 'delete', 'prune') AND NOT (${copied}), true) AS ${p}unseen
      FROM (SELECT ${columns}, ${firstOf([...ends.map(({ name }) => name), ...(wholeTable ? ['t'] : [])], p)} AS ${p}first,
        ${wholeTable ? `c.${p}pos` : 'NULL::HUGEINT'} AS ${p}copied, ${again === '' ? 'false' : 'a.lsn IS NOT NULL'} AS ${p}again
        FROM v ${ends.map(({ join }) => join).join(' ')} ${wholeTable ? `${next('t')} ${next('c')} ${again}` : ''}))`;
}

function lsnOf(pos: string): string {
  return `(${pos} // 4294967296)`;
}

/** The earliest of what was joined. */
function firstOf(candidates: readonly string[], p: string): string {
  const event = (from: string): string => `{op: ${from}.${p}op, moment: ${from}.${p}at, pos: ${from}.${p}pos}`;
  const [first, ...others] = candidates as [string, ...string[]];
  if (others.length === 0) return event(first);
  const rest = firstOf(others, p);
  const earliest = others.map((other) => `coalesce(${first}.${p}pos < ${other}.${p}pos, true)`).join(' AND ');
  return `CASE WHEN ${first}.${p}pos IS NOT NULL AND ${earliest} THEN ${event(first)} ELSE ${rest} END`;
}

/** `name`: of the ends in `join`; `common`: CTEs. */
type Ends = { readonly name: string; readonly common: string; readonly join: string };

/** The next event of the same key: a change that names it, or another insert. */
function endsByKey(key: readonly string[], g: number, p: string, oneTable: boolean): Ends {
  const listed = `${p}oid, ${key.map((name) => `${name}, `).join('')}${p}pos`;
  const common = `e${g} AS (SELECT ${listed}, ${p}op, ${p}at FROM k WHERE ${p}g = ${g} AND ${p}op NOT IN ('truncate', 'copied')
      UNION ALL SELECT ${listed}, ${p}op, ${p}at FROM v WHERE ${p}g = ${g} AND ${p}op IN ('insert', 'copy') UNION ALL SELECT ${listed}, ${p}op, ${p}at FROM w WHERE ${p}g = ${g})`;
  const same = [...(oneTable ? [] : [`${p}oid`]), ...key].map((name) => `v.${name} = e${g}.${name}`).join(' AND ');
  return { name: `e${g}`, common, join: `ASOF LEFT JOIN e${g} ON ${same} AND v.${p}pos < e${g}.${p}pos` };
}

/**
 * Equal rows cannot be told apart, nor need they be: of those since the last truncate, the nth that was made is the nth that ended. An end counts only while such a row is
 * there (`level`; `lost` of them came when none was): the others are of rows that are sealed. What ended by a key that the table had is among the ends.
 */
function endsByDigest(g: number, byKey: readonly Ends[], p: string): Ends {
  const keyed =
    byKey.length === 0
      ? ''
      : ` UNION ALL SELECT oid, d, first.pos, -1, first.op, first.moment FROM (
          SELECT v.${p}oid AS oid, v.${p}d AS d, ${firstOf(
            byKey.map(({ name }) => name),
            p,
          )} AS first, t.${p}pos AS emptied
          FROM v ${byKey.map(({ join }) => join).join(' ')} ASOF LEFT JOIN t ON v.${p}oid = t.${p}oid AND v.${p}pos < t.${p}pos)
        WHERE first.pos IS NOT NULL AND coalesce(first.pos < emptied, true)`;
  const since = `OVER (PARTITION BY ${p}oid, ${p}d, ${p}era ORDER BY ${p}pos, step ROWS UNBOUNDED PRECEDING)`;
  const common = `s${g} AS (SELECT c.*, coalesce(u.${p}era, 0) AS ${p}era
      FROM (SELECT ${p}oid, ${p}d, ${p}pos, -1 AS step, ${p}op, ${p}at FROM k WHERE ${p}g = ${g} AND ${p}op NOT IN ('truncate', 'copied')
        UNION ALL SELECT ${p}oid, ${p}d, ${p}pos, 1, ${p}op, ${p}at FROM v${keyed}) c ASOF LEFT JOIN b u ON c.${p}oid = u.${p}oid AND c.${p}pos > u.${p}pos),
    n${g} AS (SELECT *, count(*) FILTER (step > 0) ${since} AS made, count(*) FILTER (step < 0) ${since} AS ended, sum(step) ${since} AS level FROM s${g}),
    l${g} AS (SELECT *, greatest(0, -min(level) ${since}) AS lost FROM n${g}),
    d${g} AS (SELECT *, lag(lost, 1, 0) OVER (PARTITION BY ${p}oid, ${p}d, ${p}era ORDER BY ${p}pos, step) AS before FROM l${g}),
    r${g} AS (SELECT ${p}oid, ${p}d, ${p}era, ${p}pos, made AS ${p}n FROM d${g} WHERE step > 0),
    e${g} AS (SELECT ${p}oid, ${p}d, ${p}era, ${p}pos, ${p}op, ${p}at, ended - lost AS ${p}n FROM d${g} WHERE step < 0 AND lost = before)`;
  const join = `LEFT JOIN r${g} ON v.${p}oid = r${g}.${p}oid AND v.${p}pos = r${g}.${p}pos
      LEFT JOIN e${g} ON v.${p}oid = e${g}.${p}oid AND v.${p}d = e${g}.${p}d AND r${g}.${p}era = e${g}.${p}era AND r${g}.${p}n = e${g}.${p}n`;
  return { name: `e${g}`, common, join };
}

/** `read_parquet([…])` of files with equal columns. `more`: other options of it. */
export function parquet(files: readonly string[], ...more: readonly string[]): string {
  return `read_parquet([${files.map((file) => literal(exactPath(file))).join(', ')}], ${[NOT_PARTITIONED, ...more].join(', ')})`;
}

/** A name for SQL of ours beside columns of a table: none of them has it. DuckDB does not tell names apart that differ in case only. */
export function freeName(name: string, columns: ReadonlySet<string>): string {
  return [...columns].some((column) => column.toLowerCase() === name) ? freeName(`${name}_`, columns) : name;
}

const NUMBER = 'file_row_number';

/** The rows of a file for FROM, with their numbers in it, from 0, as `number`: a free name. DuckDB's own number is none to ask for where a column has its name; there they are counted, which is slower. */
export function numberedRows(file: string, columns: readonly { readonly name: string }[], number: string): string {
  return columns.some(({ name }) => name.toLowerCase() === NUMBER)
    ? `(SELECT *, row_number() OVER () - 1 AS ${number} FROM ${parquet([file])})`
    : `(SELECT * EXCLUDE (${NUMBER}), ${NUMBER} AS ${number} FROM ${parquet([file], `${NUMBER} = true`)})`;
}

/** SQL of one text that names a row by its key, the same in segments and in daily files; NULL without a key. `kept`: the file has a column of texts that its types cannot hold. */
export function rowKey(metadata: SegmentMetadata, kept = true): string {
  const texts = metadata.key.flatMap((name) => metadata.columns.filter((column) => column.name === name));
  return texts.length === 0 ? 'NULL' : `to_json([${texts.map((column) => versionText(segmentColumn(column, metadata), metadata, kept)).join(', ')}])::VARCHAR`;
}

/** Text of a key column of a version that is equal to eventText of the same value. */
function versionText({ name, fileType }: SegmentColumn, { columns }: SegmentMetadata, hasKept = true): string {
  const column = identifier(name);
  if (fileType === 'VARCHAR') return column;
  if (fileType === 'BLOB') return `('\\x' || lower(hex(${column})))`;
  if (!hasKept) return `CAST(${column} AS VARCHAR)`;
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
