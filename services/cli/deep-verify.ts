/**
 * verify --deep: the archive against its two sources. Every covered row that Postgres still holds and that no other refers to is compared, column by column, with its newest archived version, by the very
 * steps of a dry prune run; and the stream is replayed into a temporary folder and compared. Deletes nothing and leaves nothing behind.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ArchiveFollower, readKey } from '../../src/archive/manifest.js';
import { ReceiptWriter } from '../../src/archive/receipts.js';
import { Pace } from '../../src/prune/brakes.js';
import { pruneTable } from '../../src/prune/table.js';
import type { Config, TableConfig } from '../../src/runtime/config.js';
import type { Log } from '../../src/runtime/log.js';
import { applicationName } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { type RebuildResult, rebuildArchive } from '../archiver/rebuild.js';

/** What came of one table's rows in Postgres. `differing` counts rows that are covered and are not, or not so, in the archive. */
export type HotComparison = { readonly table: string; readonly equal: number; readonly differing: number; readonly notes: readonly string[] };

export type DeepResult = { readonly ok: boolean; readonly postgres: readonly HotComparison[]; readonly stream: RebuildResult };

/** A retention that lies this far ahead makes every row old enough to be compared. */
const AHEAD_MS = 1000 * 365.25 * 86_400_000;
/** Reasons for leaving a row that say nothing against the archive. */
const HARMLESS = /^(not covered yet|locked or changed meanwhile|referred to by )/;

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
    return config.tables.map(({ key }) => ({ table: key, equal: 0, differing: 0, notes: ['nothing is archived yet'] }));
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
      const { receipt, halt } = await pruneTable({ context, config, follower, pace, dryRun: true, clock: undefined, restores: undefined, log, signal }, every);
      const left = Object.entries(receipt.left);
      const differing = left.reduce((sum, [reason, rows]) => sum + (HARMLESS.test(reason) ? 0 : rows), halt === undefined ? 0 : 1);
      const notes = [...left.map(([reason, rows]) => `${rows} ${reason}`), ...(receipt.problem === null ? [] : [receipt.problem])];
      compared.push({ table: table.key, equal: receipt.deleted, differing, notes });
    }
    return compared;
  } finally {
    await closeClient(client);
  }
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
