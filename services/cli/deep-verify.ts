/**
 * verify --deep: the archive against its two sources. Every covered row that Postgres still holds is compared, column by column, with its newest archived version, by the very steps of a dry prune
 * run: without those that no run would take (others refer to them, or their timestamp has no day), and without tables that cannot be pruned, which are named. And the stream is replayed into a
 * temporary folder and compared. Deletes nothing and leaves nothing behind.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type pg from 'pg';
import { ArchiveFollower, readKey } from '../../src/archive/manifest.js';
import { ReceiptWriter } from '../../src/archive/receipts.js';
import { oldEnough, readCutoff, tableSql } from '../../src/prune/eligible.js';
import { countRows } from '../../src/prune/nominate.js';
import { Pace } from '../../src/prune/pace.js';
import { pruneTable, type TableOutcome } from '../../src/prune/table.js';
import type { Target } from '../../src/prune/target.js';
import type { Config, TableConfig } from '../../src/runtime/config.js';
import type { Log } from '../../src/runtime/log.js';
import { applicationName } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { type RebuildResult, rebuildArchive } from '../archiver/rebuild.js';

/** What came of one table's rows in Postgres. `compared`: false where none could be. `differing` counts rows that are covered and are not, or not so, in the archive. */
export type HotComparison = {
  readonly table: string;
  readonly compared: boolean;
  readonly equal: number;
  readonly differing: number;
  readonly notes: readonly string[];
  readonly remedy: string | null;
};

export type DeepResult = { readonly ok: boolean; readonly postgres: readonly HotComparison[]; readonly stream: RebuildResult };

/** A retention that lies this far ahead makes every row old enough to be compared. */
const AHEAD_MS = 1000 * 365.25 * 86_400_000;
/** Reasons for leaving a row that was not compared. */
const NOT_COMPARED = /^(not covered yet|locked or changed meanwhile|referred to by )/;
/** What both have is equal. */
const WIDENED = /^archived before a column /;
/** Rows without a day are counted up to here. */
const UNDATED_COUNTED = 100_000;

/** Tables compared with Postgres, messages of the stream replayed, days compared with the replay; and how many there are. */
export type DeepProgress = (what: 'tables' | 'messages' | 'days', done: number, all: number) => void;

export async function verifyDeep(config: Config, log: Log, signal: AbortSignal, progress: DeepProgress = () => undefined): Promise<DeepResult> {
  const postgres = await compareWithPostgres(config, log, signal, progress);
  const stream = await compareWithStream(config, log, signal, progress);
  return { ok: stream.equal !== false && postgres.every(({ differing }) => differing === 0), postgres, stream };
}

async function compareWithPostgres(config: Config, log: Log, signal: AbortSignal, progress: DeepProgress): Promise<HotComparison[]> {
  const follower = new ArchiveFollower(config.archive.dir);
  const state = await follower.refresh();
  if (state === undefined || state.epoch === null)
    return config.tables.map(({ key }) => ({ table: key, compared: false, equal: 0, differing: 0, notes: ['nothing is archived yet'], remedy: null }));
  const client = await connectClient(config.source.url.reveal(), {
    applicationName: applicationName(config.source.name, 'control'),
  });
  try {
    const context = {
      client,
      source: config.source.name,
      archive: state.archive,
      key: await readKey(config.archive.dir),
      epoch: state.epoch,
      run: randomUUID(),
      receipts: new ReceiptWriter(config.archive.dir), // a dry run writes none
    };
    const pace = new Pace(config.prune.maxRowsPerSecond, signal);
    const compared: HotComparison[] = [];
    for (const table of config.tables) {
      progress('tables', compared.length, config.tables.length);
      const every: TableConfig = { ...table, prune: true, keepWhile: undefined, retentionMs: -AHEAD_MS };
      const outcome = await pruneTable({ context, config, follower, pace, dryRun: true, clock: undefined, restores: undefined, log, signal }, every);
      compared.push(comparisonOf(table, outcome, await countUndated(client, config, every, outcome.target)));
    }
    return compared;
  } finally {
    await closeClient(client);
  }
}

/** `undated`: rows that no run ever takes. What stands against pruning a table is no problem of the archive: its remedy would be beside the point. */
function comparisonOf({ key }: TableConfig, { receipt, halt, target }: TableOutcome, undated: number): HotComparison {
  const left = Object.entries(receipt.left);
  const against = target?.obstacles.map(({ reason }) => reason) ?? [];
  const differing = left.reduce((sum, [reason, rows]) => sum + (NOT_COMPARED.test(reason) || WIDENED.test(reason) ? 0 : rows), halt === undefined ? 0 : 1);
  const notes = [
    ...left.map(([reason, rows]) => `${rows} ${reason}${NOT_COMPARED.test(reason) ? ': not compared' : WIDENED.test(reason) ? ', equal in the others' : ''}`),
    ...(undated === 0
      ? []
      : [`${undated}${undated === UNDATED_COUNTED ? ' or more' : ''} whose timestamp has no day (NULL, infinite, before Christ): not compared`]),
    ...(against.length > 0 ? [against.join('; ')] : receipt.problem === null ? [] : [receipt.problem]),
  ];
  const remedy = left.some(([reason]) => !NOT_COMPARED.test(reason))
    ? `tidemark repair ${key} copies its rows again; a prune does so with those that it meets`
    : null;
  const compared = against.length === 0 && (receipt.problem === null || halt !== undefined);
  return { table: key, compared, equal: receipt.deleted, differing, notes, remedy };
}

async function countUndated(client: pg.Client, config: Config, table: TableConfig, target: Target | undefined): Promise<number> {
  if (target === undefined || target.obstacles.length > 0) return 0;
  const cutoff = await readCutoff(client, table.retentionMs, config.source.timezone);
  return await countRows(client, `ONLY ${tableSql(target)} WHERE (${oldEnough(table, target, cutoff)}) IS NOT TRUE`, UNDATED_COUNTED);
}

async function compareWithStream(config: Config, log: Log, signal: AbortSignal, progress: DeepProgress): Promise<RebuildResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-verify-'));
  try {
    return await rebuildArchive(config, {
      into: path.join(folder, 'archive'),
      check: true,
      log,
      signal,
      progress: (done, all) => progress('messages', done, all),
      comparing: (done, all) => progress('days', done, all),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
