/** What holds pruning back although rows could go: clocks that disagree, and standbys that lag. */
import type pg from 'pg';
import type { Log } from '../runtime/log.js';
import { sleep } from '../runtime/service.js';

/** Clocks may differ by this much before no batch runs (law 12). */
export const CLOCK_TOLERANCE_MS = 5 * 60_000;

/**
 * Pure: why no batch may run, or undefined. The archive's newest commit time counts only when it lies ahead: a quiet database has old commits and a right clock.
 * All in milliseconds since 1970.
 */
export function clocksDisagree(clocks: { readonly database: number; readonly ours: number; readonly newestCommit: number | undefined }): string | undefined {
  const apart = (a: number, b: number): number => Math.round(Math.abs(a - b) / 1000);
  if (Math.abs(clocks.database - clocks.ours) > CLOCK_TOLERANCE_MS) {
    return `the database's clock and this machine's are ${apart(clocks.database, clocks.ours)} s apart (more than ${CLOCK_TOLERANCE_MS / 1000}): set them right`;
  }
  if (clocks.newestCommit !== undefined && clocks.newestCommit - clocks.database > CLOCK_TOLERANCE_MS) {
    return `the newest archived commit lies ${apart(clocks.newestCommit, clocks.database)} s ahead of the database's clock: that clock was set back`;
  }
  return undefined;
}

export async function databaseClock(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ ms: string }>('SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8::text AS ms');
  return Number(rows[0]?.ms);
}

/** Bytes that the slowest physical standby has yet to replay; 0 without standbys. */
export async function standbyLag(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ lag: string }>(
    `SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)), 0)::int8::text AS lag FROM pg_catalog.pg_stat_replication r
      WHERE r.replay_lsn IS NOT NULL AND r.pid NOT IN (SELECT s.active_pid FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL)`,
  );
  return Number(rows[0]?.lag ?? 0);
}

/** How long a batch waits for standbys before the table is left for the next run. */
const STANDBY_PATIENCE_MS = 60_000;
const STANDBY_LOOK_MS = 500;

/** Waits until no standby lags by more than `mostBytes`. The reason to stop when it does not come to that. */
export async function waitForStandbys(client: pg.Client, mostBytes: number, log: Log, signal: AbortSignal): Promise<string | undefined> {
  const until = performance.now() + STANDBY_PATIENCE_MS;
  for (let said = false; ; said = true) {
    const lag = await standbyLag(client);
    if (lag <= mostBytes) return undefined;
    if (signal.aborted) return 'stopped before the end';
    if (performance.now() > until) return `a standby has ${lag} bytes yet to replay (prune.maxStandbyLag is ${mostBytes}): the next run goes on`;
    if (!said) log.info({ event: 'standby-lag', bytes: lag }, 'waiting for a standby');
    await sleep(STANDBY_LOOK_MS, signal);
  }
}
