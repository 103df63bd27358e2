/**
 * The rows of a table that Postgres does not hold (any more), out of the files of one manifest: those of daily files, and of open days the versions whose life a prune has ended. Owns the choice of files and of
 * versions; moment.ts says which prunes count. Never reads a file that the manifest does not name.
 */
import path from 'node:path';
import { filesOfName, tableFiles } from '../archive/groups.js';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { type FileGroup, livesSql, parquet, SUPERSEDED, USER_DELETED } from '../archive/view.js';
import { type Lsn, parseLsn } from '../position/lsn.js';
import { segmentColumn } from '../segment/columns.js';
import { parseMetadata, type SegmentMetadata } from '../segment/metadata.js';
import { exactPath, literal, systemIdentifier } from '../segment/sql.js';
import type { Engine } from './engine.js';
import { type Snapshot, unseenSql } from './moment.js';
import { dayMatches, type Range } from './reading.js';
import { OWN_SCHEMA, type QueriedTable, type Shape } from './table.js';

/** Which ends of lives make a row cold. */
export type Ends = {
  /** Changes that it does not see have not come yet; undefined: all have. */
  readonly snapshot: Snapshot | undefined;
  /** Committed prunes that it sees and that may not be archived as changes yet. */
  readonly late: readonly { readonly xid: bigint; readonly oid: number; readonly digests: readonly string[] }[];
  /** Rows whose life goes on, by what the archive knows, count too: nobody asks Postgres. */
  readonly living: boolean;
};

/** `sql`: SELECTs in the table's shape; `files`: absolute paths of what they read; `of`: how many files of rows the table has. */
export type ColdRows = { readonly sql: readonly string[]; readonly files: readonly string[]; readonly of: number };

type Archive = { readonly dir: string; readonly state: ArchiveState };
type Wanted = {
  readonly table: QueriedTable;
  readonly shape: Shape;
  readonly ends: Ends /** Begins the names of tables that are made. */;
  readonly name: string;
};
type Group = FileGroup & { readonly entries: readonly FileEntry[] };

function filesOf(state: ArchiveState, table: QueriedTable, kind: FileEntry['kind']): FileEntry[] {
  return filesOfName(state, table).filter((entry) => entry.kind === kind);
}

/** One metadata for each set of columns, and of their types, that the rows of the tables have, the newest first, by table. */
export async function archivedForms(
  engine: Engine,
  dir: string,
  state: ArchiveState,
  tables: readonly QueriedTable[],
): Promise<Map<QueriedTable, SegmentMetadata[]>> {
  const found = new Map<QueriedTable, SegmentMetadata[]>();
  for (const table of tables) {
    const forms: SegmentMetadata[] = [];
    for (const entries of bySignature([...filesOf(state, table, 'segment'), ...filesOf(state, table, 'daily')]))
      forms.push(...(await byForm(engine, dir, entries)).map(({ metadata }) => metadata));
    found.set(table, forms);
  }
  return found;
}

/** Files of equal columns, in groups: the groups and the files of each by their newest change, the newest first. */
function bySignature(entries: readonly FileEntry[]): FileEntry[][] {
  const found = new Map<string, FileEntry[]>();
  for (const entry of [...entries].sort(byNewestChange)) found.set(entry.signature, [...(found.get(entry.signature) ?? []), entry]);
  return [...found.values()];
}

/** Such a group by the types that the columns have in the files: an array is text while it is part of the key. Where the first and the last have the same, so have all between. */
async function byForm(
  engine: Engine,
  dir: string,
  entries: readonly FileEntry[],
): Promise<{ readonly metadata: SegmentMetadata; readonly entries: FileEntry[] }[]> {
  const ends = await readMetadata(
    engine,
    dir,
    [...new Set([entries.at(0), entries.at(-1)])].filter((entry) => entry !== undefined),
  );
  const types = (metadata: SegmentMetadata): string => JSON.stringify(metadata.columns.map((column) => segmentColumn(column, metadata).fileType));
  const [metadata, last] = [...ends.values()] as [SegmentMetadata, SegmentMetadata | undefined];
  if (last === undefined || types(last) === types(metadata)) return [{ metadata, entries: [...entries] }];
  const read = await readMetadata(engine, dir, entries);
  const groups = new Map<string, { metadata: SegmentMetadata; entries: FileEntry[] }>();
  for (const entry of entries) {
    const one = read.get(entry.file) as SegmentMetadata;
    const group = groups.get(types(one)) ?? { metadata: one, entries: [] };
    group.entries.push(entry);
    groups.set(types(one), group);
  }
  return [...groups.values()];
}

function byNewestChange(a: FileEntry, b: FileEntry): number {
  const [x, y] = [parseLsn(a.maxLsn), parseLsn(b.maxLsn)];
  return x < y ? 1 : x > y ? -1 : 0;
}

/** What files of ours say of themselves, by their relative path: one query for all of them. */
async function readMetadata(engine: Engine, dir: string, entries: readonly FileEntry[]): Promise<Map<string, SegmentMetadata>> {
  if (entries.length === 0) return new Map();
  const files = entries.map((entry) => literal(exactPath(path.join(dir, entry.file))));
  const rows = await engine.query<{ file: string; value: string }>(
    `SELECT file_name AS file, decode(value) AS value FROM parquet_kv_metadata([${files.join(', ')}]) WHERE decode(key) = 'tidemark'`,
  );
  const texts = new Map(rows.map(({ file, value }) => [file, value]));
  return new Map(
    entries.map((entry) => {
      const file = path.join(dir, entry.file);
      const text = texts.get(file);
      return [entry.file, parseMetadata(text === undefined ? {} : { tidemark: text }, file)];
    }),
  );
}

/** Files that belong together: of equal columns and key. */
async function grouped(engine: Engine, dir: string, entries: readonly FileEntry[]): Promise<Group[]> {
  const read = await readMetadata(engine, dir, entries);
  const groups = new Map<string, Group & { entries: FileEntry[]; files: string[] }>();
  for (const entry of [...entries].sort((a, b) => -byNewestChange(a, b))) {
    const metadata = read.get(entry.file) as SegmentMetadata;
    const name = `${entry.kind} ${entry.signature} ${JSON.stringify(metadata.key)}`;
    const group = groups.get(name) ?? { files: [], entries: [], metadata };
    group.files.push(path.join(dir, entry.file));
    group.entries.push(entry);
    groups.set(name, group);
  }
  return [...groups.values()];
}

/** Chooses them. Makes tables in our schema. */
export async function findColdRows(engine: Engine, archive: Archive, from: Wanted & { readonly range: Range }): Promise<ColdRows> {
  const { dir, state } = archive;
  const { table, shape, range } = from;
  const all = [...filesOf(state, table, 'daily'), ...filesOf(state, table, 'segment')];
  const prunes = isPrunedByDay(state, table);
  const days = all.filter((entry) => entry.kind === 'daily' && (!prunes || dayMatches(entry.day, range)));
  const sql: string[] = [];
  const files: string[] = [];
  for (const { metadata, entries } of (await Promise.all(bySignature(days).map((group) => byForm(engine, dir, group)))).flat()) {
    const group = entries.map((entry) => path.join(dir, entry.file));
    sql.push(shape.dailySql(metadata, parquet(group, 'union_by_name = true')));
    files.push(...group);
  }
  const oids = new Set(all.filter(({ kind }) => kind === 'segment').map(({ oid }) => oid));
  for (const oid of oids) {
    const open = await new OpenDays(engine, archive, from, oid).find(prunes ? range : { from: undefined, to: undefined });
    sql.push(...open.sql);
    files.push(...open.files);
  }
  return { sql, files, of: all.length };
}

/** Days say something only by the column that all files were divided by. */
function isPrunedByDay(state: ArchiveState, { schema, table, timestamp }: QueriedTable): boolean {
  return state.tables.every((one) => one.schema !== schema || one.table !== table || (one.timestamp === timestamp && one.dividedBy === undefined));
}

/** The open days of one table, by its OID. */
class OpenDays {
  readonly #engine: Engine;
  readonly #archive: Archive;
  readonly #from: Wanted;
  readonly #oid: number;

  constructor(engine: Engine, archive: Archive, from: Wanted, oid: number) {
    this.#engine = engine;
    this.#archive = archive;
    this.#from = from;
    this.#oid = oid;
  }

  async find(range: Range): Promise<{ sql: string[]; files: string[] }> {
    const { dir, state } = this.#archive;
    const { ends, table } = this.#from;
    const none = { sql: [], files: [] };
    const chosen = tableFiles(state, this.#oid, 'segment').filter(({ day }) => dayMatches(day, range));
    if (chosen.length === 0) return none;
    const keys = await grouped(this.#engine, dir, tableFiles(state, this.#oid, 'keys'));
    const facts = await this.#facts(keys);
    const late = ends.late.filter(({ oid, xid }) => oid === this.#oid && !facts.archived.has(BigInt.asUintN(32, xid).toString()));
    if (!ends.living && !facts.ended && late.length === 0) return none;
    const segments = await grouped(this.#engine, dir, chosen);
    const others = facts.copied ? tableFiles(state, this.#oid, 'segment').filter((entry) => !chosen.includes(entry)) : [];
    const since = chosen.map(({ minLsn }) => parseLsn(minLsn)).reduce((least, lsn) => (lsn < least ? lsn : least));
    const lives = livesSql({
      segments,
      keys: keys.map((group) => endingSince(group, since)).filter(({ files }) => files.length > 0),
      elsewhere: await grouped(this.#engine, dir, others),
      ...(ends.snapshot === undefined ? {} : { unseen: unseen(ends.snapshot) }),
    });
    const name = `${OWN_SCHEMA}.${this.#from.name}_${this.#oid}`;
    const digests = late.flatMap((one) => one.digests);
    if (digests.length > 0) await this.#keepDigests(`${name}_late`, digests);
    const conditions = ends.living
      ? [`NOT ${SUPERSEDED}${table.deletes === 'keep' ? '' : ` AND NOT ${USER_DELETED}`}`]
      : [
          `coalesce(ended_by = 'prune', false)`,
          ...(table.deletes === 'keep' ? [USER_DELETED] : []),
          ...(digests.length > 0 ? [`(ended_by IS NULL AND _digest IN (FROM ${name}_late))`] : []),
        ];
    await this.#engine.run(`CREATE TABLE ${name} AS SELECT part, _lsn, _ordinal FROM (${lives}) WHERE ${conditions.join(' OR ')}`);
    const parts = await this.#engine.query<{ part: number }>(`SELECT DISTINCT part FROM ${name} ORDER BY part`);
    const found = parts.map(({ part }) => ({ part, group: segments[part] as Group }));
    return { sql: found.map(({ part, group }) => this.#versionsSql(name, part, group)), files: found.flatMap(({ group }) => [...group.files]) };
  }

  #versionsSql(name: string, part: number, { files, metadata }: Group): string {
    const [lsn, ordinal] = (['lsn', 'ordinal'] as const).map((column) => `r.${systemIdentifier(column, metadata.columns)}`);
    return this.#from.shape.segmentSql(
      metadata,
      `${parquet(files)} r JOIN (SELECT _lsn, _ordinal FROM ${name} WHERE part = ${part}) tm ON ${lsn} = tm._lsn AND ${ordinal} = tm._ordinal`,
    );
  }

  /** Of the changes that count: whether one ended a cold row, and whether the table was copied anew; and the transactions (32 bits, decimal) of archived late prunes. */
  async #facts(keys: readonly Group[]): Promise<{ ended: boolean; copied: boolean; archived: Set<string> }> {
    const { ends, table } = this.#from;
    const late = ends.late.map(({ xid }) => BigInt.asUintN(32, xid).toString());
    const facts = { ended: false, copied: false, archived: new Set<string>() };
    for (const { files, metadata } of keys) {
      const [op, xid] = (['op', 'xid'] as const).map((column) => systemIdentifier(column, metadata.columns));
      const seen = ends.snapshot === undefined ? 'true' : `NOT ${unseen(ends.snapshot)(metadata.columns)}`;
      const cold = table.deletes === 'keep' ? `${op} IN ('prune', 'delete', 'truncate', 'copied')` : `${op} = 'prune'`;
      const [row] = await this.#engine.query<{ ended: boolean; copied: boolean; archived: string[] | null }>(
        `SELECT coalesce(bool_or(${cold} AND ${seen}), false) AS ended, coalesce(bool_or(${op} = 'copied'), false) AS copied,
          list(DISTINCT ${xid}::VARCHAR) FILTER (${op} = 'prune' AND ${xid} IN (${late.length === 0 ? 'NULL' : late.join(', ')})) AS archived FROM ${parquet(files)}`,
      );
      facts.ended ||= row?.ended === true;
      facts.copied ||= row?.copied === true;
      for (const one of row?.archived ?? []) facts.archived.add(one);
    }
    return facts;
  }

  async #keepDigests(name: string, digests: readonly string[]): Promise<void> {
    await this.#engine.run(`CREATE TABLE ${name} (digest BIGINT)`);
    for (let at = 0; at < digests.length; at += 5000)
      await this.#engine.run(
        `INSERT INTO ${name} SELECT unnest([${digests
          .slice(at, at + 5000)
          .map((digest) => BigInt(digest))
          .join(', ')}]::BIGINT[])`,
      );
  }
}

/** Keys files that can end something since then. */
function endingSince(group: Group, since: Lsn): Group {
  const kept = group.entries.map(({ maxLsn }) => parseLsn(maxLsn) >= since);
  return { ...group, files: group.files.filter((_, i) => kept[i]), entries: group.entries.filter((_, i) => kept[i]) };
}

/** A change that the snapshot does not see. `copied` is none of a transaction. */
function unseen(snapshot: Snapshot): (columns: SegmentMetadata['columns']) => string {
  return (columns) => {
    const [op, xid, committedAt] = (['op', 'xid', 'committed_at'] as const).map((name) => systemIdentifier(name, columns)) as [string, string, string];
    return `(${op} <> 'copied' AND ${unseenSql(snapshot, { xid, committedAt })})`;
  };
}
