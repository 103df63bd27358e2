/** One prune run over all tables: settle what is open, check the clocks, prune table by table, leave a receipt, ask for the sealing of emptied days. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type ArchiveFollower, openIdentity, readKey } from '../archive/manifest.js';
import { ReceiptIndex, ReceiptWriter, type RunReceipt, type TableReceipt } from '../archive/receipts.js';
import type { Config } from '../runtime/config.js';
import { configError, Halt, type HaltName } from '../runtime/errors.js';
import type { Log } from '../runtime/log.js';
import { applicationName } from '../wal/identifier.js';
import { connectClient } from '../wal/session.js';
import { clocksDisagree, databaseClock, Pace } from './brakes.js';
import { emptyDays, type SealRequest } from './empty-days.js';
import { settleIntents } from './settle.js';
import { pruneTable, type TableOutcome } from './table.js';

export type PruneOptions = {
  readonly config: Config;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly follower: ArchiveFollower;
  readonly trigger: 'schedule' | 'request' | 'command';
  /** Key of one table; all when absent. */
  readonly table?: string | undefined;
  readonly dryRun: boolean;
  /** Hands a finished day to the archiver; its failure is logged, the next run asks again. */
  readonly seal?: ((request: SealRequest) => Promise<void>) | undefined;
};

export type PruneResult = RunReceipt & { /** Names of halted tables' halts. */ readonly halts: readonly HaltName[] };

/** No answer of the server within this time ends the connection. */
const QUERY_TIMEOUT_MS = 60_000;

/** Runs once. Throws `config` for an unknown table, and what the database says when it cannot be reached. */
export async function runPrune(options: PruneOptions): Promise<PruneResult> {
  const { config, log } = options;
  const tables =
    options.table === undefined
      ? config.tables
      : config.tables.filter((table) => table.key === options.table || `${table.schema}.${table.table}` === options.table);
  if (tables.length === 0)
    throw configError(
      `table ${JSON.stringify(options.table)} is not in the configuration`,
      `name one of: ${config.tables.map((table) => table.key).join(', ')}`,
    );
  const receipts = new ReceiptWriter(config.archive.dir);
  const run = { id: randomUUID(), at: new Date().toISOString() };
  const url = (config.source.prunerUrl ?? config.source.url).reveal();
  const client = await connectClient(url, { applicationName: applicationName(config.source.name, 'pruner'), queryTimeoutMs: QUERY_TIMEOUT_MS });
  try {
    const finish = async (outcomes: TableOutcome[], problem: string | null): Promise<PruneResult> => {
      const done: TableReceipt[] = outcomes.map((outcome) => outcome.receipt);
      const receipt: RunReceipt = {
        type: 'run',
        run: run.id,
        at: run.at,
        finishedAt: new Date().toISOString(),
        dryRun: options.dryRun,
        trigger: options.trigger,
        tables: done,
        problem,
      };
      await receipts.append(receipt);
      const deleted = done.reduce((sum, table) => sum + table.deleted, 0);
      log.info({ event: 'prune-run', run: run.id, dryRun: options.dryRun, deleted, problem }, 'prune run done');
      return { ...receipt, halts: outcomes.flatMap((outcome) => (outcome.halt ? [outcome.halt.halt] : [])) };
    };
    const state = await options.follower.refresh();
    const identity = await openIdentity(config.archive.dir);
    if (state === undefined || identity === undefined)
      return {
        type: 'run',
        run: run.id,
        at: run.at,
        finishedAt: run.at,
        dryRun: options.dryRun,
        tables: [],
        problem: `there is no archive in ${config.archive.dir} yet: start the archiver`,
        halts: [],
      };
    if (!(await alone(client, config.source.name))) return await finish([], 'another pruner is at work on this database');
    if (!options.dryRun) await settleIntents(client, new ReceiptIndex(config.archive.dir), receipts, log);
    const newestCommit = state.committedAt === null ? undefined : Date.parse(state.committedAt);
    const clocks = clocksDisagree({ database: await databaseClock(client), ours: Date.now(), newestCommit });
    if (clocks !== undefined) return await finish([], clocks);
    if (state.epoch === null) return await finish([], 'the first copy of the tables is not complete');

    const context = {
      client,
      source: config.source.name,
      archive: identity.archive,
      key: await readKey(config.archive.dir),
      epoch: state.epoch,
      run: run.id,
      receipts,
    };
    const pace = new Pace(config.prune.maxRowsPerSecond, options.signal);
    const outcomes: TableOutcome[] = [];
    for (const table of tables) {
      if (options.signal.aborted) break;
      const outcome = await pruneTable({ context, config, follower: options.follower, pace, dryRun: options.dryRun, log, signal: options.signal }, table);
      outcomes.push(outcome);
      if (outcome.unknown) return await finish(outcomes, 'a COMMIT got no answer');
    }
    const result = await finish(outcomes, options.signal.aborted ? 'stopped before the end' : null);
    if (!options.dryRun && options.seal) await sealEmptied(options, client, outcomes);
    return result;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** The session lock that only one pruner of a source holds; it goes with the connection. */
async function alone(client: pg.Client, source: string): Promise<boolean> {
  const { rows } = await client.query<{ got: string }>(`SELECT pg_try_advisory_lock(hashtextextended($1, 0))::text AS got`, [`tidemark:${source}:pruner`]);
  return rows[0]?.got === 'true';
}

/** Asks for sealing, table by table; what fails is asked again by the next run. */
async function sealEmptied(options: PruneOptions, client: pg.Client, outcomes: readonly TableOutcome[]): Promise<void> {
  const state = await options.follower.refresh();
  if (state === undefined) return;
  for (const { receipt, target } of outcomes) {
    const table = options.config.tables.find((entry) => entry.schema === receipt.schema && entry.table === receipt.table);
    if (table === undefined || target === undefined || target.obstacles.length > 0) continue;
    for (const request of await emptyDays(client, state, table, target)) {
      if (options.signal.aborted) return;
      await options
        .seal?.(request)
        .catch((error: unknown) =>
          options.log.warn({ event: 'seal-failed', table: table.key, day: request.day, reason: String(error) }, 'a day was not sealed'),
        );
    }
  }
}

/** Throws when a table halted: for those who end with an exit code. */
export function requireNoHalt(result: PruneResult): void {
  const halted = result.tables.filter((table) => table.problem?.startsWith('DIGEST'));
  if (result.halts.length === 0 || halted.length === 0) return;
  throw new Halt('DIGEST', { seen: halted.map((table) => table.problem).join(' '), safe: '', remedy: 'see the receipt of this run' });
}
