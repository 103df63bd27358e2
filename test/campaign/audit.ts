/**
 * The archive held against the journal, by readers of its own: hyparquet for the files that the manifest names, DuckDB for the views. While the run goes on: what is settled and archived
 * is in the view, once. At the end: every version is where its fate puts it, and nothing else is anywhere.
 */
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { parsePosition } from '../../src/position/position.js';
import type { Pipeline } from '../pipeline/pipeline.js';
import { counted, dayText, type Journal, print, textOf, type Version } from './journal.js';
import type { Kind } from './tables.js';

type Row = Record<string, unknown>;

/** Microseconds as they are in the file. */
const EXACT = { timestampFromMicroseconds: (value: bigint) => value };

function rowText(kind: Kind, row: Row): string {
  const kept = typeof row['_text'] === 'string' ? (JSON.parse(row['_text']) as { at?: string }) : {};
  const at = row['at'];
  const micros = at === null || at === undefined ? (kept.at ?? 'null') : String(at);
  const text = (value: unknown): string | null => (value === null || value === undefined ? null : String(value));
  const key = kind.key.map((name) => text((row['_text'] as string | undefined) ? ((kept as Row)[name] ?? row[name]) : row[name]) ?? '∅');
  return print(key, micros, text(row['ver']), text(row['big']), text(row['n']));
}

/** A row whose large value is not known yet, or was deleted before it could be copied, says so: here it gets the value it should have. Returns its version; undefined: it is whole. */
function fillUnresolved(row: Row, versions: readonly Version[]): Version | undefined {
  if (row['_unresolved'] !== 'big') return undefined;
  const version = versions.find(({ ver }) => ver === row['ver']);
  row['big'] = version?.big;
  return version;
}

/** A text that is somewhere more or less often than it should be. */
export type Difference = { readonly where: string; readonly text: string; readonly there: number; readonly wanted: number };

export function describeDifference({ where, text, there, wanted }: Difference): string {
  return `${where}: ${there} times instead of ${wanted}: ${text}`;
}

/** In what `there` differs from `least` to `most` of every text. */
function differences(where: string, there: ReadonlyMap<string, number>, least: ReadonlyMap<string, number>, most: ReadonlyMap<string, number>): Difference[] {
  const found: Difference[] = [];
  for (const [text, count] of least) if ((there.get(text) ?? 0) < count) found.push({ where, text, there: there.get(text) ?? 0, wanted: count });
  for (const [text, count] of there) if (count > (most.get(text) ?? 0)) found.push({ where, text, there: count, wanted: most.get(text) ?? 0 });
  return found;
}

const texts = (versions: readonly Version[]): Map<string, number> => counted(versions.map(textOf));

export class Views {
  readonly #instance: DuckDBInstance;
  private constructor(instance: DuckDBInstance) {
    this.#instance = instance;
  }

  static async of(pipeline: Pipeline): Promise<Views> {
    const { code, stdout, stderr } = await pipeline.cli(['views', '-c', pipeline.configFile]);
    if (code !== 0) throw new Error(stderr);
    const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'; ${stdout}`);
    connection.closeSync();
    return new Views(instance);
  }

  async texts(kind: Kind, versions: readonly Version[]): Promise<Map<string, number>> {
    const key = kind.key.map((name) => `${name}::VARCHAR AS ${name}`).join(', ');
    const rows = await this.#read(`SELECT ${key}, epoch_us("at")::VARCHAR AS "at", ver, big, n::VARCHAR AS n, _text, _unresolved FROM ${kind.name}`);
    for (const row of rows) fillUnresolved(row, versions);
    return counted(rows.map((row) => rowText(kind, row)));
  }

  /** Values of a query's rows, in the order of its columns. */
  async rows(sql: string): Promise<unknown[][]> {
    return (await this.#read(sql)).map((row) => Object.values(row));
  }

  async #read(sql: string): Promise<Row[]> {
    const connection = await this.#instance.connect();
    try {
      await connection.run(`SET TimeZone = 'UTC'`);
      return (await connection.runAndReadAll(sql)).getRowObjects();
    } finally {
      connection.closeSync();
    }
  }

  close(): void {
    this.#instance.closeSync();
  }
}

/** What the view shows of a table, against what is settled at or before W as it was when the question was asked. */
export async function auditView(pipeline: Pipeline, views: Views, journal: Journal, kind: Kind): Promise<string[]> {
  const state = await pipeline.state();
  if (!state?.position || state.copy?.state !== 'complete') return [];
  const reached = parsePosition(state.position).lsn;
  const shown = (version: Version): boolean => version.fate === 'live' || version.fate === 'pruned' || (version.fate === 'deleted' && kind.deletes === 'keep');
  const mine = journal.versions.filter((version) => version.kind === kind);
  const there = await views.texts(kind, mine);
  const least = texts(mine.filter((version) => version.made <= reached && shown(version)));
  const most = texts(mine.filter((version) => shown(version) || version.ended > reached));
  return differences(`view of ${kind.name} at ${state.position}`, there, least, most).map(describeDifference);
}

type Place = 'open' | 'daily' | 'history' | 'changes';

/** Where everything of a table lies: texts by place; of the open segments also without what was copied again. */
async function places(pipeline: Pipeline, state: ArchiveState, kind: Kind): Promise<Map<Place, Row[]>> {
  const found = new Map<Place, Row[]>([
    ['open', []],
    ['daily', []],
    ['history', []],
    ['changes', []],
  ]);
  for (const entry of state.files.values()) {
    if (entry.table !== kind.name || entry.kind === 'keys' || entry.kind === 'restored' || entry.pendingCopy !== null) continue;
    const file = await asyncBufferFromFile(path.join(pipeline.archiveDir, entry.file));
    const rows = (await parquetReadObjects({ file, compressors, parsers: EXACT as never })) as Row[];
    found
      .get(entry.kind === 'segment' ? 'open' : entry.kind)
      ?.push(...rows.map((row) => ({ ...row, '#day': entry.day ?? 'undated', '#kind': entry.kind, '#file': entry.file })));
  }
  return found;
}

/** What ALTER TABLE wrote into rows that were pruned afterwards must have been archived before. */
function filledColumns(journal: Journal, kind: Kind, mine: readonly Version[], rows: readonly Row[]): string[] {
  const problems: string[] = [];
  const pruned = mine.filter(({ fate }) => fate === 'pruned');
  for (const { column, values } of journal.filled.filter((one) => one.kind === kind)) {
    const there = new Set(rows.map((row) => `${row['ver']} ${row[column]}`));
    for (const { ver } of pruned) {
      const value = values.get(ver);
      if (value !== undefined && !there.has(`${ver} ${value}`))
        problems.push(`${kind.name} ${ver}: pruned, and ${column} is not in the archive as ALTER TABLE wrote it`);
    }
  }
  return problems;
}

/** Where a version stands in the order of the WAL, by its text that no other has. */
type Order = Map<string, { readonly lsn: bigint; readonly ordinal: bigint }>;

export type FilesAudit = { readonly differences: readonly Difference[]; readonly problems: readonly string[]; readonly order: Order };

/** Every version of a table in its place, when everything is archived and every finished day sealed. */
export async function auditFiles(pipeline: Pipeline, journal: Journal, kind: Kind, firstOpen: string): Promise<FilesAudit> {
  const state = (await pipeline.state()) as ArchiveState;
  const found = await places(pipeline, state, kind);
  const problems: string[] = [];
  const mine = journal.versions.filter((version) => version.kind === kind);
  const order: Order = new Map();
  for (const row of [...found.values()].flat()) {
    const version = row['_unresolved'] === 'big' ? fillUnresolved(row, mine) : undefined;
    if (version?.fate === 'pruned' && row['#kind'] === 'daily') problems.push(`${kind.name}: pruned without its large value: ${textOf(version)}`);
    const day = typeof row['at'] === 'bigint' ? new Date(Number(row['at'] / 1000n)).toISOString().slice(0, 10) : 'undated';
    if (day !== row['#day']) problems.push(`${String(row['#file'])}: a row of ${day}`);
    if (typeof row['_lsn'] === 'bigint' && row['_op'] !== 'copy')
      order.set(String(row['ver']), { lsn: row['_lsn'], ordinal: BigInt(row['_ordinal'] as bigint) });
  }
  problems.push(...filledColumns(journal, kind, mine, [...found.values()].flat()));
  const of = (place: Place, streamed = false): Map<string, number> =>
    counted((found.get(place) ?? []).filter((row) => !streamed || row['_op'] !== 'copy').map((row) => rowText(kind, row)));
  const left = [...new Set((found.get('open') ?? []).map((row) => String(row['#day'])))].filter((day) => day < firstOpen || day === 'undated');
  if (left.length > 0) problems.push(`${kind.name}: days that were not sealed: ${left.sort().join(' ')}`);
  const over: Version[] = [];
  const still: Version[] = [];
  for (const version of mine) (dayText(version) < firstOpen || dayText(version) === 'undated' ? over : still).push(version);
  const inDaily = texts(over.filter(({ fate }) => fate === 'pruned' || (fate === 'deleted' && kind.deletes === 'keep')));
  const inHistory = texts(over.filter(({ fate }) => fate === 'deleted' && kind.deletes === 'history'));
  const stream = of('changes', true);
  if (!kind.changes && stream.size > 0) problems.push(`${kind.name}: changes that nobody asked for`);
  return {
    differences: [
      ...differences(`daily files of ${kind.name}`, of('daily'), inDaily, inDaily),
      ...differences(`history of ${kind.name}`, of('history'), inHistory, inHistory),
      ...(kind.changes ? differences(`changes of ${kind.name}`, stream, texts(over), texts(over)) : []),
      ...differences(`open segments of ${kind.name}`, of('open', true), texts(still), texts(still)),
    ],
    problems,
    order,
  };
}
