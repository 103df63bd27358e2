/**
 * Archived rows that are to go back: found by DuckDB, as the numbers of rows in files; read by the readers of segments and daily files, as the text that Postgres printed. The rows are those that
 * the views show: the last version of each life. Owns a DuckDB in memory and a temporary folder; changes nothing in the archive.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { groupFiles, tableFiles } from '../archive/groups.js';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { freeName, livesMemory, livesSql, numberedRows, rowKey, SUPERSEDED, USER_DELETED, wholeTable } from '../archive/view.js';
import { parseLsn } from '../position/lsn.js';
import { configError, messageOf } from '../runtime/errors.js';
import { DailyReader } from '../segment/daily-reader.js';
import { SegmentEncoder } from '../segment/encoder.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { SegmentReader } from '../segment/reader.js';
import { literal, systemIdentifier } from '../segment/sql.js';
import { requireCondition } from './condition.js';
import { requireWhole } from './files.js';
import { type ChosenPart, dailyParts, segmentParts, type Wanted } from './parts.js';
import { conditionSql, type Selection, withColumns } from './selection.js';

/** A file whose rows may be chosen. */
type Source = { readonly entry: FileEntry; readonly metadata: SegmentMetadata; readonly text: boolean; readonly unresolved: boolean };

export type ChosenCounts = {
  readonly rows: number;
  /** Earlier lives of keys that are among the chosen: of each key the last one counts. */
  readonly older: number;
  readonly unresolved: number;
};

export type ChoosingOptions = {
  readonly selection: Selection;
  /** OID of the table that the rows go back into, when it is the archived one: its living rows are marked. */
  readonly oid: number | undefined;
  /** Key of the table that they go into; empty: it has none. */
  readonly key: readonly string[];
  readonly deletes: 'history' | 'keep';
};

export class ChosenRows implements AsyncDisposable {
  readonly #dir: string;
  readonly #temporary: string;
  readonly #duckdb: SegmentEncoder;
  readonly #sources: Source[] = [];
  /** Files that are what was written. */
  readonly #sound = new Set<string>();

  private constructor(dir: string, temporary: string, duckdb: SegmentEncoder) {
    this.#dir = dir;
    this.#temporary = temporary;
    this.#duckdb = duckdb;
  }

  /** `dir`: the archive. */
  static async open(dir: string): Promise<ChosenRows> {
    const temporary = await mkdtemp(path.join(tmpdir(), 'tidemark-restore-'));
    const duckdb = await SegmentEncoder.open({ temporaryDir: temporary });
    await duckdb.run(
      'CREATE TEMP TABLE chosen (file INTEGER, row BIGINT, pos HUGEINT, k VARCHAR, living BOOLEAN, unresolved BOOLEAN, day VARCHAR, day_sealed BOOLEAN)',
    );
    return new ChosenRows(dir, temporary, duckdb);
  }

  /** Chooses among the segments and daily files of a table, whatever its OID was. Throws `config` when the condition is none, Halt DIGEST for a damaged file. */
  async choose(state: ArchiveState, files: readonly FileEntry[], options: ChoosingOptions): Promise<ChosenCounts> {
    if (options.selection.where !== undefined) await requireCondition(this.#duckdb, options.selection.where);
    for (const entry of files) this.#sources.push(await this.#source(entry));
    const names = new Set(this.#sources.flatMap(({ metadata }) => metadata.columns.map(({ name }) => name)));
    const days = new Map(files.filter(({ kind }) => kind === 'segment').map(({ oid, day }) => [`${oid} ${day}`, { oid, day }]));
    for (const { oid, day } of days.values()) await this.#openDay(state, oid, day, names, options);
    for (const [number, { entry }] of this.#sources.entries()) if (entry.kind === 'daily') await this.#daily(number, names, options);
    const counted = await this.#count('chosen');
    // Of open days the place in the stream is known; a daily file tells the place of its newest change only, which may be another row's: there the later day has the later life.
    const newest = (by: string): string => `SELECT * FROM chosen QUALIFY k IS NULL OR row_number() OVER (PARTITION BY k${by}) = 1`;
    await this.#duckdb.run(
      `CREATE OR REPLACE TEMP TABLE chosen AS ${newest(', CASE WHEN day_sealed THEN row END, CASE WHEN day_sealed THEN file END ORDER BY pos DESC')}`,
    );
    await this.#duckdb.run(`CREATE OR REPLACE TEMP TABLE chosen AS ${newest(' ORDER BY living DESC, day DESC NULLS LAST, pos DESC')}`);
    const { rows, unresolved } = await this.#count('chosen');
    return { rows, older: counted.rows - rows, unresolved };
  }

  async #count(table: string): Promise<{ rows: number; unresolved: number }> {
    const [found] = await this.#duckdb.query<{ rows: number; unresolved: number }>(
      `SELECT count(*)::INTEGER AS rows, (count(*) FILTER (unresolved))::INTEGER AS unresolved FROM ${table}`,
    );
    return found ?? { rows: 0, unresolved: 0 };
  }

  async #source(entry: FileEntry): Promise<Source> {
    const file = path.join(this.#dir, entry.file);
    await this.#whole([entry]);
    if (entry.kind === 'daily') {
      const { metadata, text, unresolved } = await DailyReader.open(file);
      return { entry, metadata, text: text !== undefined, unresolved: unresolved !== undefined };
    }
    const reader = await SegmentReader.open(file);
    await reader.close();
    return { entry, metadata: reader.metadata, text: true, unresolved: true };
  }

  async #whole(entries: readonly FileEntry[]): Promise<readonly FileEntry[]> {
    for (const entry of entries) {
      if (!this.#sound.has(entry.file)) await requireWhole(this.#dir, entry);
      this.#sound.add(entry.file);
    }
    return entries;
  }

  async #daily(number: number, names: ReadonlySet<string>, { selection, key }: ChoosingOptions): Promise<void> {
    const { entry, metadata, text, unresolved } = this.#sources[number] as Source;
    const row = freeName('tidemark_row', names);
    const from = withColumns(numberedRows(path.join(this.#dir, entry.file), metadata.columns, row), metadata, names);
    const pos = `${parseLsn(entry.maxLsn)}::HUGEINT * 4294967296 + ${row}`;
    const missing = unresolved ? `${systemIdentifier('unresolved', metadata.columns)} IS NOT NULL` : 'false';
    await this.#insert(
      `SELECT ${number}, ${row}, ${pos}, ${keySql(metadata, key, text)}, false, ${missing}, ${dayOf(entry)}, true FROM ${from} WHERE ${conditionSql(selection, metadata)}`,
      selection,
    );
  }

  /** The rows of an open day that count: as in the views, over the files of the whole table where it began anew. */
  async #openDay(state: ArchiveState, oid: number, day: string | null, names: ReadonlySet<string>, options: ChoosingOptions): Promise<void> {
    const segments = await groupFiles(this.#dir, tableFiles(state, oid, 'segment', day));
    const keys = await groupFiles(this.#dir, await this.#whole(tableFiles(state, oid, 'keys')));
    const { copied, truncated } = await wholeTable(this.#duckdb, keys);
    const others = copied ? tableFiles(state, oid, 'segment').filter((entry) => entry.day !== day) : [];
    const elsewhere = await groupFiles(this.#dir, await this.#whole(others));
    const memory = livesMemory([...segments, ...keys, ...elsewhere].flatMap(({ entries }) => entries).reduce((sum, entry) => sum + entry.rows, 0));
    await this.#duckdb.run(`CREATE OR REPLACE TEMP TABLE lives AS ${livesSql({ segments, keys, elsewhere, wholeTable: copied || truncated })}`, { memory });
    const counts = options.deletes === 'keep' ? `NOT ${SUPERSEDED}` : `NOT ${SUPERSEDED} AND NOT ${USER_DELETED}`;
    const [row, key] = ['tidemark_row', 'tidemark_key'].map((name) => freeName(name, names)) as [string, string];
    for (const [part, { entries, metadata }] of segments.entries()) {
      const [lsn, ordinal] = (['lsn', 'ordinal'] as const).map((name) => `r.${systemIdentifier(name, metadata.columns)}`);
      for (const entry of entries) {
        const number = this.#sources.findIndex((source) => source.entry.file === entry.file);
        const from = withColumns(numberedRows(path.join(this.#dir, entry.file), metadata.columns, row), metadata, names);
        await this.#insert(
          `SELECT ${number}, r.${row}, l._lsn::HUGEINT * 4294967296 + l._ordinal, r.${key}, ${oid === options.oid ? 'l.ended_by IS NULL' : 'false'}, l._unresolved IS NOT NULL, ${dayOf(entry)}, false
             FROM (SELECT *, ${keySql(metadata, options.key, true)} AS ${key} FROM ${from} WHERE ${conditionSql(options.selection, metadata)}) r
             JOIN (SELECT * FROM lives WHERE part = ${part} AND ${counts}) l ON ${lsn} = l._lsn AND ${ordinal} = l._ordinal`,
          options.selection,
        );
      }
    }
    await this.#duckdb.run('DROP TABLE lives');
  }

  async #insert(select: string, { where }: Selection): Promise<void> {
    try {
      await this.#duckdb.run(`INSERT INTO chosen ${select}`);
    } catch (error) {
      if (where === undefined || !/^(Parser|Binder|Catalog|Conversion|Invalid Input) Error/.test(messageOf(error))) throw error;
      throw configError(`--where: ${messageOf(error).split('\n')[0]}`, "write a condition of DuckDB's SQL on the table's columns");
    }
  }

  /** The chosen rows with all their values, file by file; living ones first where `livingFirst`. Those with a value that was never archived are not among them. */
  async *parts(livingFirst: boolean): AsyncGenerator<ChosenPart> {
    for (const living of livingFirst ? [true, false] : [undefined]) {
      for (const [number, source] of this.#sources.entries()) {
        const condition = `file = ${number} AND NOT unresolved${living === undefined ? '' : living ? ' AND living' : ' AND NOT living'}`;
        const wanted: Wanted = (start, end) => this.#numbers(condition, start, end);
        const file = path.join(this.#dir, source.entry.file);
        yield* source.entry.kind === 'daily' ? dailyParts(file, wanted) : segmentParts(file, wanted);
      }
    }
  }

  /** Numbers of the chosen rows from `start` to before `end`, each with whether its life goes on. */
  async #numbers(condition: string, start: number, end: number): Promise<Map<number, boolean>> {
    const rows = await this.#duckdb.query<{ row: number; living: boolean }>(
      `SELECT row::INTEGER AS row, living FROM chosen WHERE ${condition} AND row >= ${start} AND row < ${end}`,
    );
    return new Map(rows.map(({ row, living }) => [row, living]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#duckdb.close();
    await rm(this.#temporary, { recursive: true, force: true });
  }
}

function dayOf({ day }: FileEntry): string {
  return day === null ? 'NULL' : literal(day);
}

/** SQL of the text that names a row by the key of the table it goes into; NULL when it has none, or the file lacks a column of it. */
function keySql(metadata: SegmentMetadata, key: readonly string[], text: boolean): string {
  const whole = key.length > 0 && key.every((name) => metadata.columns.some((column) => column.name === name));
  return whole ? rowKey({ ...metadata, key }, text) : 'NULL';
}
