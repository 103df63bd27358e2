/**
 * One prune run over all tables: settle what is open, check the server, prune table by table, leave a receipt, ask for the sealing of emptied days. A table's failure is its own; a lost
 * connection is made again, what a lost COMMIT came to is found out, and the run goes on.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { noArchive } from '../archive/identity.js';
import { type ArchiveFollower, type ArchiveState, readKey } from '../archive/manifest.js';
import { type FlushWish, reach } from '../archive/reach.js';
import { ReceiptIndex, ReceiptWriter, type RunReceipt, type TableReceipt } from '../archive/receipts.js';
import { RestoreIndex } from '../archive/restores.js';
import { takeSettings } from '../archive/settings.js';
import type { Epoch } from '../position/epoch.js';
import { parseLsn } from '../position/lsn.js';
import type { Config, TableConfig } from '../runtime/config.js';
import { configError, describeError, Halt, type HaltName } from '../runtime/errors.js';
import type { Log } from '../runtime/log.js';
import { closeClient } from '../wal/session.js';
import { takeClock } from './clock.js';
import { connectPruner, isUsable, otherServer, takeLock } from './connection.js';
import { readCutoff } from './eligible.js';
import { type EmptyDay, emptyDays, type SealRequest, sealRequests } from './empty-days.js';
import { estimateRows } from './nominate.js';
import { Pace } from './pace.js';
import { type Settled, settleIntents } from './settle.js';
import { MOST_UNPROVED, pruneTable, type TableOutcome, wouldDelete } from './table.js';
import { readTarget } from './target.js';

export type PruneOptions = {
  readonly config: Config;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly follower: ArchiveFollower;
  readonly trigger: 'schedule' | 'request' | 'command';
  /** Key of one table; all when absent. */
  readonly table?: string | undefined;
  readonly dryRun: boolean;
  /** The run takes its time: `overMs` milliseconds, or until `hurry` aborts. A dry run does not. Absent: prune.maxRowsPerSecond from the start. */
  readonly spread?: { readonly overMs: number; readonly hurry: AbortSignal } | undefined;
  /** Hands a finished day to the archiver; its failure is logged, the next run asks again. */
  readonly seal?: ((request: SealRequest) => Promise<void>) | undefined;
  /** Has rows copied again that the archive does not hold as they are. Never throws: the next run finds them again. */
  readonly recopy?: ((request: { schema: string; table: string; keys?: readonly (readonly string[])[] }) => Promise<void>) | undefined;
  /** Asks for the flush that sealing waits for; without it, it waits for the next one. */
  readonly flush?: FlushWish | undefined;
  /** Told the result as soon as it stands: the sealing that follows may wait for the archive's next flush. */
  readonly finished?: ((result: PruneResult) => void) | undefined;
  /** Told of every batch of a table that is deleted (or, dry, compared), in the milliseconds that it took, and of the rate that the run keeps to by now. */
  readonly batch?: ((table: TableConfig, rows: number, ms: number, rowsPerSecond: number) => void) | undefined;
};

export type PruneResult = RunReceipt & {
  /** False: another pruner is at work on this database; nothing was done and nothing is wrong. */
  readonly ran: boolean;
  /** Names of halted tables' halts. */
  readonly halts: readonly HaltName[];
  /** The halted tables. */
  readonly halted: readonly HaltedTable[];
};

/** A table that stands still until a person has looked at it; the others go on. */
export type HaltedTable = { readonly table: string; readonly halt: HaltName; readonly seen: string; readonly remedy: string | null };

/** A connection that the server lost may hold the lock until it notices: longer than idle_in_transaction_session_timeout of a batch. */
const RELOCK_MS = 20_000;
/** A table is begun again on a new connection so often. */
const ATTEMPTS = 3;

/** Runs once. Throws `config` for an unknown table, a halt of the archive (MANIFEST, WRONG_VOLUME), and what the database says when it cannot be reached at first. */
export async function runPrune(options: PruneOptions): Promise<PruneResult> {
  const tables = chosenTables(options.config, options.table);
  const run = new Run(options);
  const state = await options.follower.refresh();
  if (state === undefined) return run.nothing(describeError(await noArchive(options.config.archive.dir)));
  if (state.epoch === null) return run.nothing('the first copy of the tables is not complete');
  if (!options.dryRun) {
    const changed = await takeSettings(options.config.archive.dir, options.config);
    if (changed.length > 0) options.log.info({ event: 'settings-changed', changed }, 'the configuration is another than at the last run');
    run.clock = await takeClock(options.config.archive.dir);
  }
  try {
    if (!(await run.connect(state.epoch, 0))) return run.nothing('another pruner is at work on this database', false);
    return await run.over(tables, state, state.epoch);
  } finally {
    await run.disconnect();
  }
}

/** The configured tables that a request means. Throws `config` for a name that is none. */
export function chosenTables(config: Config, name: string | undefined): readonly TableConfig[] {
  const tables = name === undefined ? config.tables : config.tables.filter((table) => table.key === name || `${table.schema}.${table.table}` === name);
  if (tables.length > 0) return tables;
  throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((table) => table.key).join(', ')}`);
}

class Run {
  readonly #options: PruneOptions;
  readonly #receipts: ReceiptWriter;
  readonly #restores: RestoreIndex;
  readonly #id = randomUUID();
  readonly #at = new Date().toISOString();
  /** Dry run: `schema.table` of those that a real one would have deleted rows of by now. */
  readonly #before = new Set<string>();
  #client: pg.Client | undefined;
  /** Why the clock is not believed; a dry run has none. */
  clock: (() => string | undefined) | undefined;

  constructor(options: PruneOptions) {
    this.#options = options;
    this.#receipts = new ReceiptWriter(options.config.archive.dir);
    this.#restores = new RestoreIndex(options.config.archive.dir);
  }

  /** Opens the connection, proves the server, takes the lock, settles open intents. Undefined: another pruner has the lock. A dry run needs no lock and settles nothing. */
  async connect(epoch: Epoch, patienceMs: number): Promise<Settled | undefined> {
    const { config, dryRun, log, signal } = this.#options;
    await this.disconnect();
    this.#client = await connectPruner(config);
    if (dryRun) return new Map();
    if (!(await takeLock(this.#client, config.source.name, patienceMs, signal))) return undefined;
    // On another server or timeline the ids of open intents mean nothing; no table is covered there, so nothing is deleted either.
    if ((await otherServer(this.#client, epoch)) !== undefined) return new Map();
    return settleIntents(this.#client, new ReceiptIndex(config.archive.dir), this.#receipts, log);
  }

  async disconnect(): Promise<void> {
    if (this.#client) await closeClient(this.#client);
    this.#client = undefined;
  }

  async over(tables: readonly TableConfig[], state: ArchiveState, epoch: Epoch): Promise<PruneResult> {
    const { signal, config } = this.#options;
    const pace = await this.#pace(tables);
    const key = await readKey(config.archive.dir);
    const outcomes: TableOutcome[] = [];
    for (const table of tables) {
      if (signal.aborted) break;
      const outcome = await this.#table(table, { archive: state.archive, key, epoch }, pace);
      outcomes.push(outcome);
      pace.done(table.key);
      if (this.#options.dryRun && wouldDelete(outcome.receipt)) this.#before.add(`${table.schema}.${table.table}`);
      if (this.#client === undefined) return await this.#finish(outcomes, outcome.receipt.problem);
    }
    const result = await this.#finish(outcomes, signal.aborted ? 'stopped before the end' : null);
    this.#options.finished?.(result);
    if (!this.#options.dryRun) await this.#copyAgain(outcomes);
    if (!this.#options.dryRun && this.#options.seal) await this.#sealEmptied(outcomes, this.#options.seal);
    return result;
  }

  /** The full rate, or what takes the rows that are estimated through the time that the run has. */
  async #pace(tables: readonly TableConfig[]): Promise<Pace> {
    const { config, log, signal, spread, dryRun } = this.#options;
    const pace = new Pace(config.prune.maxRowsPerSecond, signal);
    if (spread === undefined || spread.overMs <= 0 || dryRun) return pace;
    const expected = new Map<string, number>();
    for (const table of tables) if (table.prune) expected.set(table.key, await this.#estimate(table));
    pace.spread({ overMs: spread.overMs, expected }, spread.hurry);
    const rows = [...expected.values()].reduce((sum, each) => sum + each, 0);
    const seen = { event: 'prune-spread', run: this.#id, rows, overSeconds: Math.round(spread.overMs / 1000), rowsPerSecond: Math.round(pace.rowsPerSecond) };
    if (rows > 0) log.info(seen, 'this run takes its time (prune.spread); one on request does not');
    return pace;
  }

  /** 0 where it cannot be had: why shows when the table's turn comes. */
  async #estimate(table: TableConfig): Promise<number> {
    const { config } = this.#options;
    const client = this.#client as pg.Client;
    try {
      const target = await readTarget(client, config.source.name, table);
      if (target === undefined || target.obstacles.length > 0) return 0;
      return await estimateRows(client, table, target, await readCutoff(client, table.retentionMs, config.source.timezone));
    } catch {
      return 0;
    }
  }

  /** One table, begun again when the connection is lost. Leaves no connection when it cannot be made again. */
  async #table(table: TableConfig, proof: { archive: string; key: Buffer; epoch: Epoch }, pace: Pace): Promise<TableOutcome> {
    const { config, follower, dryRun, log, signal, batch } = this.#options;
    let before = { deleted: 0, batches: 0 };
    for (let attempt = 1; ; attempt += 1) {
      const context = { client: this.#client as pg.Client, source: config.source.name, ...proof, run: this.#id, receipts: this.#receipts };
      let outcome = withEarlier(
        await pruneTable(
          { context, config, follower, pace, dryRun, before: this.#before, clock: this.clock, restores: this.#restores, log, signal, batch },
          table,
        ),
        before,
      );
      if (outcome.unknown === undefined && (!outcome.failed || (await isUsable(context.client)))) return outcome;
      log.warn({ event: 'connection-lost', table: table.key, reason: outcome.receipt.problem }, 'connecting again');
      try {
        const settled = await this.connect(proof.epoch, RELOCK_MS);
        if (settled === undefined) throw new Error('another pruner has taken over');
        if (outcome.unknown && settled.get(outcome.unknown.batch) === 'committed')
          outcome = withEarlier(outcome, { deleted: outcome.unknown.rows, batches: 1 });
      } catch (error) {
        await this.disconnect();
        return { ...outcome, receipt: { ...outcome.receipt, problem: `${outcome.receipt.problem}; ${describeError(error)}` } };
      }
      if (attempt === ATTEMPTS || signal.aborted) return outcome;
      before = outcome.receipt;
    }
  }

  /** A run that had nothing to do or may not; it leaves no receipt. */
  nothing(problem: string, ran = true): PruneResult {
    this.#options.log.info({ event: 'prune-run', run: this.#id, problem }, ran ? 'nothing was pruned' : 'this pruner stays idle');
    return { ...this.#receipt([], problem), ran, halts: [], halted: [] };
  }

  #receipt(tables: readonly TableReceipt[], problem: string | null): RunReceipt {
    const { dryRun, trigger } = this.#options;
    return { type: 'run', run: this.#id, at: this.#at, finishedAt: new Date().toISOString(), dryRun, trigger, tables, problem };
  }

  async #finish(outcomes: readonly TableOutcome[], problem: string | null): Promise<PruneResult> {
    const receipt = this.#receipt(
      outcomes.map((outcome) => outcome.receipt),
      problem,
    );
    await this.#receipts.append(receipt);
    const deleted = receipt.tables.reduce((sum, table) => sum + table.deleted, 0);
    this.#options.log.info({ event: 'prune-run', run: this.#id, dryRun: receipt.dryRun, deleted, problem }, 'prune run done');
    const halted = outcomes.flatMap(({ halt, receipt: { schema, table } }) =>
      halt ? [{ table: `${schema}.${table}`, halt: halt.halt, seen: halt.message, remedy: halt.remedy ?? null }] : [],
    );
    return { ...receipt, ran: true, halts: halted.map(({ halt }) => halt), halted };
  }

  async #copyAgain(outcomes: readonly TableOutcome[]): Promise<void> {
    for (const { receipt, unproved } of outcomes) {
      const { schema, table } = receipt;
      if (unproved.length > 0) await this.#options.recopy?.(unproved.length > MOST_UNPROVED ? { schema, table } : { schema, table, keys: unproved });
    }
  }

  /** Asks for the sealing of emptied days, when the archive has come behind the look at them. Keeps no connection meanwhile. */
  async #sealEmptied(outcomes: readonly TableOutcome[], seal: (request: SealRequest) => Promise<void>): Promise<void> {
    const { config, follower, log, signal, flush } = this.#options;
    try {
      const requests = this.#client === undefined ? [] : await this.#emptyDays(this.#client, outcomes);
      await this.disconnect();
      if (requests[0] === undefined) return;
      await reach({ follower, upTo: parseLsn(requests[0].asOf), flushEveryMs: config.archive.flush.every, signal, flush });
      for (const request of requests) {
        if (signal.aborted) return;
        await seal(request).catch((error: unknown) =>
          log.warn(
            { event: 'seal-failed', table: request.table, day: request.day, reason: describeError(error) },
            'a day was not sealed; the next run asks again',
          ),
        );
      }
    } catch (error) {
      if (error instanceof Halt) throw error;
      log.warn({ event: 'seal-failed', reason: describeError(error) }, 'days were not sealed; the next run asks again');
    }
  }

  /**
   * Days that lie behind the retention and that Postgres holds no row of. Of a table that is not pruned (`prune: false`) these are the days that somebody else has emptied; its
   * others stay open segments.
   */
  async #emptyDays(client: pg.Client, outcomes: readonly TableOutcome[]): Promise<SealRequest[]> {
    const state = await this.#options.follower.refresh();
    const found: EmptyDay[] = [];
    for (const { receipt, target } of outcomes) {
      const table = this.#options.config.tables.find((entry) => entry.schema === receipt.schema && entry.table === receipt.table);
      if (state === undefined || table === undefined || target === undefined || target.obstacles.length > 0) continue;
      found.push(...(await emptyDays(client, state, table, target, undefined, table.retentionMs)));
    }
    return sealRequests(client, found);
  }
}

function withEarlier(outcome: TableOutcome, earlier: { deleted: number; batches: number }): TableOutcome {
  const { deleted, batches } = outcome.receipt;
  return { ...outcome, receipt: { ...outcome.receipt, deleted: deleted + earlier.deleted, batches: batches + earlier.batches } };
}
