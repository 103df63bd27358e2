/** What a browser is shown: the status of the pipeline and what the console adds to it. Holds names, counts, positions and texts of errors; never a row, a key or a secret. */
import { Cron } from 'croner';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { describePause, readPause } from '../../src/archive/operations.js';
import type { ReceiptIndex, RunReceipt } from '../../src/archive/receipts.js';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { withoutLogins } from '../../src/runtime/config-problem.js';
import type { ServiceReport } from '../../src/runtime/supervision.js';
import type { HaltNotice } from '../../src/status/halt-notice.js';
import type { PipelineStatus } from '../../src/status/pipeline-state.js';
import type { Look, Sample } from './history.js';
import type { Wish } from './prune.js';

export type Picture = {
  /** ISO, by the console's clock. */
  readonly at: string;
  readonly status: Omit<PipelineStatus, 'lastRun'>;
  readonly sample: Sample;
  readonly archive: {
    readonly files: number;
    readonly bytes: number;
    readonly segments: number;
    readonly sealedDays: number;
    readonly writtenAt: string;
  } | null;
  readonly halts: readonly HaltNotice[];
  /** Null when no supervisor tells of them. */
  readonly services: readonly ServiceReport[] | null;
  readonly prune: PruneState;
  /** Seconds until the slot is lost at the rate of the last seconds; null when nothing bounds it, or nothing is written. */
  readonly lostInSeconds: number | null;
};

export type PruneState = {
  readonly enabled: boolean;
  readonly dryRun: boolean;
  readonly schedule: string;
  readonly retentionMs: number;
  readonly nextRun: string | null;
  readonly paused: string | null;
  /** The newest finished run. */
  readonly last: {
    readonly run: string;
    readonly finishedAt: string;
    readonly dryRun: boolean;
    readonly deleted: number;
    readonly problem: string | null;
  } | null;
  /** A run that deletes now. */
  readonly running: { readonly run: string; readonly since: string; readonly deleted: number } | null;
  readonly wish: Wish | null;
};

/** As it goes out: no address in it keeps its login, wherever it came from. */
export function pictureText(picture: Picture): string {
  return withoutLogins(JSON.stringify(picture));
}

/** A run without a receipt of its end whose newest batch is older than this was broken off. */
const BUSY_MS = 60_000;

export async function pruneState(config: Config, receipts: ReceiptIndex, last: RunReceipt | null, wish: Wish | null): Promise<PruneState> {
  const pause = await readPause(config.archive.dir).catch(() => undefined);
  const { enabled, dryRun, schedule, retention } = config.prune;
  return {
    enabled,
    dryRun,
    schedule,
    retentionMs: retention,
    nextRun: enabled && pause === undefined ? (new Cron(schedule, { timezone: 'UTC', paused: true }).nextRun()?.toISOString() ?? null) : null,
    paused: pause === undefined ? null : describePause(pause),
    last: last === null ? null : { run: last.run, finishedAt: last.finishedAt, dryRun: last.dryRun, deleted: deletedBy(last), problem: last.problem ?? null },
    running: await runningNow(receipts),
    wish,
  };
}

export function deletedBy(run: RunReceipt): number {
  return run.tables.reduce((sum, { deleted }) => sum + deleted, 0);
}

async function runningNow(receipts: ReceiptIndex): Promise<PruneState['running']> {
  const [runs, batches] = await Promise.all([receipts.runs(), receipts.batches()]).catch(() => [[], []] as const);
  const newest = batches.at(-1)?.intent;
  if (newest === undefined || Date.parse(newest.at) < Date.now() - BUSY_MS || runs.some(({ run }) => run === newest.run)) return null;
  const own = batches.filter(({ intent, outcome }) => intent.run === newest.run && outcome === 'committed').map(({ intent }) => intent);
  return { run: newest.run, since: own[0]?.at ?? newest.at, deleted: own.reduce((sum, { rows }) => sum + rows, 0) };
}

/** The rows of committed batches so far. */
export async function prunedRows(receipts: ReceiptIndex): Promise<number | null> {
  const batches = await receipts.batches().catch(() => undefined);
  return batches?.reduce((sum, { intent, outcome }) => sum + (outcome === 'committed' ? intent.rows : 0), 0) ?? null;
}

export function lookOf(status: PipelineStatus, at: number, pruned: number | null): Look {
  const { postgres, stream, archive, slot, lag } = status;
  const lsn = (text: string | null | undefined): Lsn | null => (text == null ? null : parseLsn(text));
  const known = 'problem' in archive ? undefined : archive;
  return {
    at,
    insert: 'problem' in postgres ? null : parseLsn(postgres.insertLsn),
    tail: 'problem' in stream ? null : lsn(stream.tail),
    position: known?.position == null ? null : parsePosition(known.position).lsn,
    fence: lsn(known?.fence),
    confirmed: lsn(slot?.confirmedLsn),
    heldBytes: slot?.heldBytes ?? null,
    archivedRows: known === undefined ? null : status.tables.reduce((sum, { archivedRows }) => sum + archivedRows, 0),
    prunedRows: pruned,
    publishedSeconds: lag.publishedSeconds,
    archivedSeconds: lag.archivedSeconds,
  };
}

export function archiveSummary(state: ArchiveState | undefined): Picture['archive'] {
  if (state === undefined) return null;
  const files = [...state.files.values()];
  return {
    files: files.length,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    segments: files.filter(({ kind }) => kind === 'segment').length,
    sealedDays: new Set(files.flatMap(({ kind, schema, table, day }) => (kind === 'daily' ? [`${schema}.${table} ${day}`] : []))).size,
    writtenAt: state.writtenAt,
  };
}

/** What supervised services said when they halted, and what can be seen from outside; of the same halt once, from who stands still. */
export function allHalts(seen: readonly HaltNotice[], services: readonly ServiceReport[] | null): HaltNotice[] {
  const said = (services ?? []).flatMap(({ service, state, since, last }): HaltNotice[] => {
    if (state !== 'halted') return [];
    const { halt, seen: what, safe, remedy, at } = last ?? { halt: null, seen: '', safe: null, remedy: null, at: since };
    if (halt === null)
      return [
        { halt: null, where: service, seen: 'It halted and did not say why here.', safe: 'What is archived stays.', remedy: `read the log of ${service}`, at },
      ];
    return [{ halt, where: service, seen: what, safe: safe ?? '', remedy: remedy ?? '', at }];
  });
  return [...said, ...seen.filter((one) => !said.some(({ halt }) => halt === one.halt))];
}
