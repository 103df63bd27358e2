/**
 * One SQL over the hot rows in Postgres and the cold rows in the archive, each row exactly once.
 *
 * A result is the state at one moment S, a snapshot of Postgres that is the same for all tables of the statement: the rows that Postgres holds at S (hot), and of each table the archived versions whose life
 * was ended by a prune that S sees (cold). A row is in one of the two because a prune deletes it in one transaction, which S sees or does not. What makes it exact:
 *
 *   1. The archive is read after S, by one manifest N: every version that a prune visible in S deleted was in a manifest before that prune committed, so it is in N.
 *   2. N may know more than S. A prune that S does not see (by the transaction id in the keys files) has not come yet: its row is hot. Inserts, updates and deletes after S can make no version cold.
 *   3. N may know less than S, by a flush. A prune that S sees and N does not hold as a change yet is found in the receipts, where its intent was fsynced before its COMMIT: a version whose life goes on in N
 *      and whose digest stands in such an intent is cold, when Postgres says that the transaction committed.
 *   4. Daily files do not tell which prune ended a row. A day is sealed when Postgres holds no row of it, so what was sealed before S is cold. A day that is sealed (or a table copied again) between the
 *      manifest read before S and N makes S be taken again.
 *   5. Postgres must be the server, on the timeline, that the archive's epoch names: else the two could not be held together, and the query is refused.
 *   6. A restored row that nobody changed since is in Postgres and in the archive: its transaction's receipt says so, and it counts in the archive.
 *
 * Rows that somebody else deleted are in neither, but for tables with `deletes: keep`: those are cold from when the archive holds the delete. Must never write anything but its own temporary folder.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { noArchive } from '../archive/identity.js';
import { lateIntents } from '../archive/late-intents.js';
import { ArchiveFollower, type ArchiveState } from '../archive/manifest.js';
import { RestoreIndex, restoredTransactions } from '../archive/restores.js';
import type { Config } from '../runtime/config.js';
import { configError, TidemarkError } from '../runtime/errors.js';
import { identifier } from '../segment/sql.js';
import { archivedForms, type Ends, findColdRows } from './cold.js';
import { Engine } from './engine.js';
import { hotForm, loadHotRows } from './hot.js';
import { type HotTable, Moment, sees } from './moment.js';
import { type Plan, Planner, refusal } from './planner.js';
import { type Form, mentioned, OWN_SCHEMA, placed, placeSql, type QueriedTable, Shape } from './table.js';

/** `both`; `hot`: Postgres alone; `cold`: the archive alone, every row that it knows of, as of its position. */
export type Sides = 'both' | 'hot' | 'cold';

export type QueryOptions = {
  readonly sides: Sides;
  /** Bytes of DuckDB. */
  readonly memory: number;
  /** Where the temporary folder is made. */
  readonly temporary: string;
};

/** What was read for a statement. */
export type QueryFacts = { readonly files: number; readonly filesOf: number; readonly hotRows: number; readonly hotTables: number };

export type QueryResult = {
  readonly columns: readonly string[];
  /** Its only column is text to be shown as it stands. */
  readonly explains: boolean;
  readonly rows: number;
  readonly facts: QueryFacts;
  /** See Engine.kept. */
  kept(each: (column: string) => string, limit?: number): AsyncGenerator<(string | null)[][]>;
};

/** S is taken again at most so often: a day is sealed within seconds, and days are few. */
const MOST_MOMENTS = 50;

type Sources = { readonly moment: Moment | undefined; readonly state: ArchiveState | undefined };

export class Query {
  readonly #config: Config;
  readonly #options: QueryOptions;
  readonly #follower: Pick<ArchiveFollower, 'refresh'>;

  constructor(config: Config, options: QueryOptions, follower: Pick<ArchiveFollower, 'refresh'> = new ArchiveFollower(config.archive.dir)) {
    this.#config = config;
    this.#options = options;
    this.#follower = follower;
  }

  /** The tables that can be asked for: those of the configuration; of the archive alone all that it holds. */
  async tables(): Promise<QueriedTable[]> {
    const { tables } = this.#config;
    const listed = tables.map(({ key, schema, table, timestamp, deletes }) => ({ key, schema, table, timestamp, deletes }));
    if (this.#options.sides !== 'cold') return placed(listed);
    const names = new Map((await this.#state()).tables.map((one) => [`${one.schema}.${one.table}`, one]));
    return placed(
      [...names.values()].map(({ schema, table, timestamp }) => {
        const configured = listed.find((one) => one.schema === schema && one.table === table);
        return { key: schema === 'public' ? table : `${schema}.${table}`, schema, table, timestamp, deletes: configured?.deletes ?? 'history' };
      }),
    );
  }

  /** Runs one statement and hands its result to `use`. `signal` ends it. Throws one clear line. */
  async run(sql: string, signal: AbortSignal, use: (result: QueryResult) => Promise<void>): Promise<void> {
    await this.#prepared(sql, signal, [], async (engine, plan, facts) => {
      const { columns, explains } = plan;
      const rows = await executed(explains ? engine.explain(sql) : engine.keep(sql, columns.length));
      await use({ columns, explains, rows, facts, kept: (each, limit) => engine.kept(explains ? 1 : columns.length, each, limit) });
    });
  }

  /** Writes the result of one statement into a Parquet file, which must not be there. Returns its rows. */
  async writeParquet(sql: string, file: string, signal: AbortSignal): Promise<{ readonly rows: number; readonly facts: QueryFacts }> {
    let written = { rows: 0, facts: NOTHING_READ };
    await this.#prepared(sql, signal, [file], async (engine, { explains }, facts) => {
      if (explains) throw new TidemarkError('config', 'EXPLAIN gives text', { remedy: 'leave --format parquet out' });
      written = { rows: await executed(engine.writeParquet(sql, file)), facts };
    });
    return written;
  }

  async #prepared(
    sql: string,
    signal: AbortSignal,
    files: readonly string[],
    then: (engine: Engine, plan: Plan, facts: QueryFacts) => Promise<void>,
  ): Promise<void> {
    const folder = await temporaryFolder(this.#options.temporary);
    try {
      using planner = await Planner.open(signal);
      await planner.checkSyntax(sql);
      using engine = await Engine.open({ memory: this.#options.memory, spill: folder }, signal);
      const all = await this.tables();
      const tables = mentioned(sql, all);
      const names = all.map(({ key }) => key);
      let read: { plan: Plan; files: string[]; facts: QueryFacts };
      if (tables.length === 0) read = { plan: await planner.plan(sql, new Map(), names), files: [], facts: NOTHING_READ };
      else {
        await using moment = await this.#moment(signal);
        const sources = { moment, state: await this.#settle(moment, tables) };
        read = await this.#fill(engine, planner, sql, { tables, names, sources, folder });
      }
      await engine.lock([...read.files, ...files]);
      await then(engine, read.plan, read.facts);
    } catch (error) {
      throw signal.aborted ? new TidemarkError('failed', 'interrupted', { cause: error }) : goneFile(error);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #moment(signal: AbortSignal): Promise<Moment | undefined> {
    if (this.#options.sides === 'cold') return undefined;
    const { url, name } = this.#config.source;
    try {
      return await Moment.connect(url.reveal(), name, signal);
    } catch (error) {
      if (!(error instanceof TidemarkError) || this.#options.sides === 'hot') throw error;
      const remedy = `${error.remedy === undefined ? '' : `${error.remedy}; `}--cold asks the archive alone`;
      throw new TidemarkError(error.kind, error.message, { remedy, cause: error });
    }
  }

  async #state(): Promise<ArchiveState> {
    const { dir } = this.#config.archive;
    const remedy = this.#options.sides === 'both' ? '; --hot asks Postgres alone' : '';
    const state = await this.#follower.refresh().catch((error: Error & { code?: string }) => {
      if (error instanceof TidemarkError || error.code === undefined) throw error;
      throw new TidemarkError('failed', `the archive in ${dir} cannot be read: ${error.message}`, { remedy: `bring the folder back${remedy}`, cause: error });
    });
    if (state === undefined) {
      const none = await noArchive(dir);
      throw new TidemarkError(none.kind, none.message, { remedy: `${none.remedy}${remedy}` });
    }
    return state;
  }

  /** Takes S, and the manifest N after it, until nothing came between that cannot be told apart. Undefined: the archive is not asked. */
  async #settle(moment: Moment | undefined, tables: readonly QueriedTable[]): Promise<ArchiveState | undefined> {
    if (this.#options.sides === 'hot') {
      await moment?.take(tables);
      return undefined;
    }
    let before = await this.#state();
    if (moment === undefined) return before;
    for (let taken = 0; taken < MOST_MOMENTS; taken += 1) {
      await moment.take(tables);
      const state = await this.#state();
      if (isSettled(before, state, tables)) {
        requireSameServer(moment, state);
        return withNames(state, moment, tables);
      }
      before = state;
    }
    throw new TidemarkError('transient', 'the archive was sealed all the while', { remedy: 'ask again' });
  }

  async #fill(
    engine: Engine,
    planner: Planner,
    sql: string,
    from: { tables: readonly QueriedTable[]; names: readonly string[]; sources: Sources; folder: string },
  ): Promise<{ plan: Plan; files: string[]; facts: QueryFacts }> {
    const { moment, state } = from.sources;
    const { dir } = this.#config.archive;
    const archived = state === undefined ? new Map<QueriedTable, Form[]>() : await archivedForms(engine, dir, state, from.tables);
    const hot = new Map<QueriedTable, Form>();
    const shapes = new Map<QueriedTable, Shape>();
    for (const table of from.tables) {
      const now = moment?.table(table);
      if (now !== undefined) hot.set(table, hotForm(now, state));
      const forms = [...(now === undefined ? [] : [hot.get(table) as Form]), ...(archived.get(table) ?? [])];
      if (forms.length > 0) shapes.set(table, new Shape(table, forms));
    }
    const plan = await planner.plan(sql, shapes, from.names);
    const ends = await this.#ends(from.sources, [...plan.readings.keys()]);
    const files: string[] = [];
    let facts = NOTHING_READ;
    for (const [i, [table, shape]] of [...shapes].entries()) {
      await engine.run(`CREATE SCHEMA IF NOT EXISTS ${identifier(table.place.schema)}; CREATE TABLE ${OWN_SCHEMA}.form_${i} AS ${shape.emptySql()}`);
      const branches = [`FROM ${OWN_SCHEMA}.form_${i}`];
      const reading = plan.readings.get(table);
      if (reading !== undefined && state !== undefined) {
        const cold = await findColdRows(engine, { dir, state }, { table, shape, range: reading.range, ends, name: `cold_${i}` });
        branches.push(...cold.sql);
        files.push(...cold.files);
        facts = { ...facts, files: facts.files + cold.files.length, filesOf: facts.filesOf + cold.of };
      }
      const now = moment?.table(table);
      if (reading !== undefined && moment !== undefined && now !== undefined) {
        const rows = await loadHotRows(
          engine,
          moment.client,
          { table, hot: now, form: hot.get(table) as Form, shape, reading, name: `hot_${i}`, restored: await this.#restored(from.sources, now) },
          from.folder,
        );
        branches.push(rows.sql);
        facts = { ...facts, hotRows: facts.hotRows + rows.rows, hotTables: facts.hotTables + 1 };
      }
      await engine.run(`CREATE VIEW ${placeSql(table)} AS ${shape.unitedSql(branches)}`);
    }
    return { plan, files, facts };
  }

  /** Transactions whose rows, as long as nobody changes them, are in the archive as they stand: there they count, and not as hot ones. */
  async #restored({ moment, state }: Sources, { relation }: HotTable): Promise<string[]> {
    if (moment === undefined || state === undefined) return [];
    const table = { oid: relation.oid, systemId: moment.server.systemId, nextXid: moment.snapshot.xmax.toString() };
    const found = await restoredTransactions(new RestoreIndex(this.#config.archive.dir), table);
    return found.filter(({ known }) => known).map(({ xmin }) => xmin);
  }

  /** Which prunes count: those that S sees; of the newest the receipts and Postgres are asked. */
  async #ends({ moment, state }: Sources, tables: readonly QueriedTable[]): Promise<Ends> {
    const fence = state?.fences.at(-1);
    if (moment === undefined || state === undefined) return { snapshot: undefined, late: [], living: moment === undefined };
    const { snapshot } = moment;
    if (fence === undefined) return { snapshot, late: [], living: false };
    const oids = new Set(state.tables.filter((one) => tables.some(({ schema, table }) => one.schema === schema && one.table === table)).map(({ oid }) => oid));
    const seen = (await lateIntents(this.#config.archive.dir, BigInt(fence.horizon), oids)).filter(({ xid }) => sees(snapshot, xid));
    const committed = await moment.committed(seen.map(({ xid }) => xid));
    return { snapshot, late: seen.filter(({ xid }) => committed.has(xid)), living: false };
  }
}

const NOTHING_READ: QueryFacts = { files: 0, filesOf: 0, hotRows: 0, hotTables: 0 };

/** False when something came into the archive that does not say whether S sees it: a sealed day, a table copied again. */
function isSettled(before: ArchiveState, after: ArchiveState, tables: readonly QueriedTable[]): boolean {
  const asked = (one: { readonly schema: string; readonly table: string }): boolean =>
    tables.some(({ schema, table }) => one.schema === schema && one.table === table);
  const sealed = [...after.files.values()].some((entry) => entry.kind === 'daily' && asked(entry) && !before.files.has(entry.file));
  const copies = ({ copy, recopy, epoch }: ArchiveState): string => JSON.stringify([copy?.generation, copy?.state, recopy?.id, recopy?.state, epoch]);
  return !sealed && copies(before) === copies(after);
}

function requireSameServer({ server }: Moment, { epoch }: ArchiveState): void {
  if (epoch === null) return;
  if (!server.inRecovery && server.systemId === epoch.systemId && server.timeline === epoch.timeline) return;
  const why = server.inRecovery
    ? 'is a standby'
    : `is server ${server.systemId} on timeline ${server.timeline}, the archive is of ${epoch.systemId} on ${epoch.timeline}`;
  throw new TidemarkError('failed', `source.url: this Postgres ${why}: hot and cold rows do not belong together`, {
    remedy: 'let source.url name the primary that the archive is made from; --cold asks the archive alone, --hot Postgres',
  });
}

/** A table that was renamed, and has not been heard of since, by the name that it has at the moment. */
function withNames(state: ArchiveState, moment: Moment, names: readonly QueriedTable[]): ArchiveState {
  const now = new Map(names.map(({ schema, table }) => [moment.table({ schema, table })?.relation.oid, { schema, table }]));
  return { ...state, tables: state.tables.map((one) => ({ ...one, ...now.get(one.oid) })) };
}

/** What DuckDB says while it runs the statement. */
async function executed<T>(running: Promise<T>): Promise<T> {
  try {
    return await running;
  } catch (error) {
    const { message } = error as Error;
    if (GONE.test(message)) throw error;
    const [first = ''] = message.split('\n');
    const remedy = /^Out of Memory/.test(first) ? 'give it more with --memory, or room for its temporary folder with --temp' : undefined;
    throw refusal(first) ?? new TidemarkError('failed', `SQL: ${first}`, { ...(remedy === undefined ? {} : { remedy }), cause: error });
  }
}

async function temporaryFolder(within: string): Promise<string> {
  return await mkdtemp(path.join(within, 'tidemark-query-')).catch((error: Error) => {
    throw configError(`no temporary folder can be made in ${within} (${error.message.split(',')[0]})`, 'name another one with --temp');
  });
}

const GONE = /No such file|No files found|Cannot open file/;

/** Files that a manifest dropped stay for ten minutes. */
function goneFile(error: unknown): unknown {
  const { message, code } = error as { message?: string; code?: string };
  if (error instanceof TidemarkError || !(code === 'ENOENT' || GONE.test(message ?? ''))) return error;
  return new TidemarkError('failed', `a file of the archive went away while the query ran (${message?.split('\n')[0]})`, {
    remedy: 'ask again: merged and sealed files stay for ten minutes, a query that runs longer may lose one; if it comes again, tidemark verify',
    cause: error,
  });
}
