/** What the pipeline looks like now, gathered from Postgres, the stream and the archive: for status and explain. Each part may be missing, with its reason. */
import type pg from 'pg';
import { filesOfName } from '../archive/groups.js';
import { ArchiveGrowth, archiveBytes } from '../archive/growth.js';
import { folderProblem } from '../archive/identity.js';
import { ArchiveFollower, type ArchiveState } from '../archive/manifest.js';
import { describePause, readPause } from '../archive/operations.js';
import { ReceiptIndex, type RunReceipt } from '../archive/receipts.js';
import { tableCoverage } from '../coverage/coverage.js';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';
import { readTarget } from '../prune/target.js';
import type { Config } from '../runtime/config.js';
import { describeError } from '../runtime/errors.js';
import { applicationName, slotName } from '../wal/identifier.js';
import { readServerIdentity } from '../wal/identity.js';
import { closeClient, connectClient } from '../wal/session.js';
import { slotAlarm } from '../wal/slot-health.js';
import { LIVE_ROWS } from '../wal/table-estimate.js';
import { type Forecast, forecastOf } from './forecast.js';
import { tableHalts } from './halt-notice.js';
import { type StreamState, streamOf } from './stream-state.js';

export type TableStatus = {
  readonly table: string;
  /** Estimate of the planner; null before the first ANALYZE. */
  readonly hotRows: number | null;
  readonly archivedRows: number;
  readonly segments: number;
  readonly sealedDays: number;
  readonly bytes: number;
  /** Rows that were ever pruned from it, as the receipts say. */
  readonly prunedRows: number;
  readonly prunable: boolean;
  /** Why not; null when it is. */
  readonly why: string | null;
};

export type PipelineStatus = {
  readonly source: string;
  /** When this was looked at, by the clock of this machine. */
  readonly at: string;
  readonly postgres: { readonly insertLsn: string; readonly systemId: string; readonly timeline: number; readonly now: string } | { readonly problem: string };
  readonly slot: {
    readonly name: string; readonly active: boolean; readonly confirmedLsn: string | null; readonly walStatus: string | null; readonly safeWalBytes: number | null; readonly heldBytes: number; readonly catalogXminAge: number | null; readonly lostInSeconds: number | null; readonly invalidation: string | null; readonly alarm: { readonly level: number; readonly seen: string };
  } | null; // biome-ignore format: one line a fact
  readonly stream: StreamState;
  readonly archive:
    | {
        readonly position: string | null;
        readonly committedAt: string | null;
        readonly manifest: number;
        readonly fence: string | null;
        readonly epoch: string | null;
        readonly files: number;
        readonly bytes: number;
      }
    | { readonly problem: string };
  /** Bytes of WAL between the stages, null where a stage is unknown. */
  readonly lag: {
    readonly publishedBytes: number | null;
    readonly archivedBytes: number | null;
    readonly confirmedBytes: number | null;
    /** 0: nothing waits for that stage. */
    readonly publishedSeconds: number | null;
    readonly archivedSeconds: number | null;
    readonly confirmedSeconds: number | null;
    /** The role of `source.url` may not see the seconds of the stream: it lacks pg_read_all_stats. */
    readonly publishedHidden: boolean;
  };
  readonly tables: readonly TableStatus[];
  readonly lastRun: RunReceipt | null;
  /** `paused since …`: pruning stands still until `tidemark resume`. */
  readonly paused: string | null;
  readonly forecast: Forecast;
};

/** What is kept from one look to the next: each then reads only what is new. */
export class StatusMemory {
  readonly receipts: ReceiptIndex;
  readonly growth: ArchiveGrowth;

  constructor({ archive: { dir } }: Config) {
    this.receipts = new ReceiptIndex(dir);
    this.growth = new ArchiveGrowth(dir);
  }
}

export async function readStatus(
  config: Config,
  follower = new ArchiveFollower(config.archive.dir),
  memory = new StatusMemory(config),
): Promise<PipelineStatus> {
  const { receipts, growth } = memory;
  const [state, found, runs] = await Promise.all([archiveOf(follower, config.archive.dir), streamOf(config), receipts.runs().catch(() => [])]);
  const pruned = await prunedRows(receipts);
  const { stream } = found;
  const archived = 'problem' in state ? undefined : state;
  const volume = await growth.forecast(archived).catch(() => null);
  const pause = await readPause(config.archive.dir).catch(() => undefined);
  const paused = pause === undefined ? null : describePause(pause);
  const database = await databaseOf(config, archived, paused);
  const insert = 'problem' in database.postgres ? undefined : parseLsn(database.postgres.insertLsn);
  const behind = (lsn: Lsn | undefined): number | null => (insert === undefined || lsn === undefined ? null : Math.max(0, Number(insert - lsn)));
  const position = archived?.position ? parsePosition(archived.position).lsn : undefined;
  const confirmed = database.slot?.confirmedLsn ? parseLsn(database.slot.confirmedLsn) : undefined;
  const tail = 'problem' in stream || stream.tail === null ? undefined : parseLsn(stream.tail);
  const waiting = archivedSeconds(database.nowMs, archived, tail);
  const lastRun = runs.at(-1) ?? null;
  return {
    source: config.source.name,
    at: new Date().toISOString(),
    postgres: database.postgres,
    slot: database.slot,
    stream,
    archive: archived
      ? {
          position: archived.position,
          committedAt: archived.committedAt,
          manifest: archived.number,
          fence: archived.fences.at(-1)?.lsn ?? null,
          epoch: archived.epoch === null ? null : `${archived.epoch.systemId}/${archived.epoch.timeline}`,
          files: archived.files.size,
          bytes: archiveBytes(archived),
        }
      : (state as { problem: string }),
    lag: {
      publishedBytes: behind(tail),
      archivedBytes: behind(position),
      confirmedBytes: behind(confirmed),
      publishedSeconds: database.publishedSeconds,
      archivedSeconds: waiting,
      // The slot is confirmed to the newest archived fence: then it is as old as the archive.
      confirmedSeconds: database.slot?.confirmedLsn != null && database.slot.confirmedLsn === archived?.fences.at(-1)?.lsn ? waiting : null,
      publishedHidden: database.publishedHidden,
    },
    tables: config.tables.map((table) => tableStatus(table, archived, database.tables.get(table.key), { pruned, lastRun })),
    lastRun,
    paused,
    forecast: forecastOf(volume, found.forecast),
  };
}

async function archiveOf(follower: ArchiveFollower, dir: string): Promise<ArchiveState | { problem: string }> {
  try {
    const state = await follower.refresh();
    if (state !== undefined) return state;
    const folder = await folderProblem(dir);
    return { problem: folder === undefined ? 'no manifest yet' : `archive.dir: ${folder.seen} → ${folder.remedy}` };
  } catch (error) {
    return { problem: describeError(error) };
  }
}

/** By `schema.table`. */
async function prunedRows(receipts: ReceiptIndex): Promise<ReadonlyMap<string, number>> {
  const rows = new Map<string, number>();
  for (const { intent, outcome } of await receipts.batches().catch(() => [])) {
    const name = `${intent.schema}.${intent.table}`;
    if (outcome === 'committed') rows.set(name, (rows.get(name) ?? 0) + intent.rows);
  }
  return rows;
}

type DatabaseTable = { readonly hotRows: number | null; readonly why: string | null };
type Database = {
  postgres: PipelineStatus['postgres'];
  slot: PipelineStatus['slot'];
  tables: Map<string, DatabaseTable>;
  /** The database's clock, milliseconds since 1970. */
  nowMs: number | undefined;
  publishedSeconds: number | null;
  publishedHidden: boolean;
};

async function databaseOf(config: Config, state: ArchiveState | undefined, paused: string | null): Promise<Database> {
  let client: pg.Client | undefined;
  try {
    client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control'), queryTimeoutMs: 10_000 });
    const identity = await readServerIdentity(client);
    const { rows } = await client.query<{ now: string; next: string; ms: string }>(
      `SELECT now()::text AS now, pg_snapshot_xmax(pg_current_snapshot())::text AS next, (extract(epoch FROM clock_timestamp()) * 1000)::int8::text AS ms`,
    );
    const { now, next, ms } = rows[0] as { now: string; next: string; ms: string };
    const tables = new Map<string, DatabaseTable>();
    const held = config.prune.enabled ? paused : 'prune.enabled: false';
    for (const table of config.tables) {
      const target = await readTarget(client, config.source.name, table);
      const coverage = target && tableCoverage(state, target, { systemId: identity.systemId, timeline: identity.timeline, nextXid: next });
      const estimate = target ? await estimateRows(client, target.oid) : -1;
      const why = !table.prune
        ? 'prune: false'
        : !target
          ? 'the table does not exist'
          : (target.obstacles[0]?.reason ?? (coverage?.state === 'not' ? coverage.reason : held));
      tables.set(table.key, { hotRows: estimate < 0 ? null : estimate, why });
    }
    return {
      postgres: { insertLsn: formatLsn(identity.insertLsn), systemId: identity.systemId, timeline: identity.timeline, now },
      slot: await slotOf(client, config),
      tables,
      nowMs: Number(ms),
      ...(await publishedLag(client, config.source.name)),
    };
  } catch (error) {
    return { postgres: { problem: describeError(error) }, slot: null, tables: new Map(), nowMs: undefined, publishedSeconds: null, publishedHidden: false };
  } finally {
    if (client !== undefined) await closeClient(client);
  }
}

/** About; -1 when nobody knows. */
async function estimateRows(client: pg.Client, oid: number): Promise<number> {
  const { rows } = await client.query<{ n: string }>(`SELECT ${LIVE_ROWS}::text AS n FROM pg_catalog.pg_class c WHERE c.oid = $1`, [oid]);
  return Number(rows[0]?.n ?? -1);
}

/** How long what was committed waits for capture: 0 when all is sent, null when capture is not connected, or the role may not see it. */
async function publishedLag(client: pg.Client, source: string): Promise<Pick<Database, 'publishedSeconds' | 'publishedHidden'>> {
  const { rows } = await client.query<{ seconds: string | null; hidden: string }>(
    `SELECT (NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'))::text AS hidden,
            (CASE WHEN sent_lsn >= pg_catalog.pg_current_wal_flush_lsn() THEN 0 ELSE round(extract(epoch FROM write_lag), 1) END)::text AS seconds
       FROM (SELECT) always LEFT JOIN pg_catalog.pg_stat_replication ON application_name = $1`,
    [applicationName(source, 'capture')],
  );
  const { seconds = null, hidden } = rows[0] ?? {};
  return { publishedSeconds: seconds === null ? null : Number(seconds), publishedHidden: hidden === 'true' };
}

async function slotOf(client: pg.Client, config: Config): Promise<PipelineStatus['slot']> {
  const name = slotName(config.source.name);
  const { rows } = await client.query<Record<'active' | 'confirmed' | 'status' | 'safe' | 'held' | 'age' | 'lost_in' | 'reason', string | null>>(
    `SELECT active::text AS active, confirmed_flush_lsn::text AS confirmed, wal_status AS status, safe_wal_size::text AS safe,
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::int8::text AS held, age(catalog_xmin)::text AS age,
            (safe_wal_size / nullif(w.wal_bytes / nullif(extract(epoch FROM now() - w.stats_reset), 0), 0))::int8::text AS lost_in, pg_catalog.to_jsonb(s) ->> 'invalidation_reason' AS reason
       FROM pg_catalog.pg_replication_slots s, pg_catalog.pg_stat_wal w WHERE slot_name = $1`,
    [name],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const number = (text: string | null): number | null => (text === null ? null : Number(text));
  const alarm = slotAlarm({ walStatus: row.status, invalidation: row.reason, heldBytes: number(row.held) ?? 0, safeBytes: number(row.safe) });
  return {
    name,
    invalidation: row.reason,
    alarm,
    active: row.active === 'true',
    confirmedLsn: row.confirmed,
    walStatus: row.status,
    safeWalBytes: number(row.safe),
    heldBytes: number(row.held) ?? 0,
    catalogXminAge: number(row.age),
    lostInSeconds: number(row.lost_in),
  };
}

/** Seconds since the newest archived commit while something published waits to be archived; 0 when nothing of ours waits. */
function archivedSeconds(nowMs: number | undefined, state: ArchiveState | undefined, tail: Lsn | undefined): number | null {
  if (nowMs === undefined || state === undefined || state.position === null || tail === undefined) return null;
  if (tail <= parsePosition(state.position).lsn) return 0;
  return state.committedAt === null ? null : Math.max(0, Math.round((nowMs - Date.parse(state.committedAt)) / 100) / 10);
}

function tableStatus(
  table: Config['tables'][number],
  state: ArchiveState | undefined,
  database: DatabaseTable | undefined,
  { pruned, lastRun }: { readonly pruned: ReadonlyMap<string, number>; readonly lastRun: RunReceipt | null },
): TableStatus {
  const files = (state === undefined ? [] : filesOfName(state, table)).filter((file) => file.kind === 'segment' || file.kind === 'daily');
  const halted = tableHalts(lastRun).find(({ where }) => where === table.table);
  const why =
    database === undefined ? 'the database cannot be asked' : (database.why ?? (halted === undefined ? null : `its last prune halted: ${halted.halt}`));
  return {
    table: table.key,
    hotRows: database?.hotRows ?? null,
    archivedRows: files.reduce((sum, file) => sum + file.rows, 0),
    segments: files.filter((file) => file.kind === 'segment').length,
    sealedDays: new Set(files.filter((file) => file.kind === 'daily').map((file) => file.day)).size,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    prunedRows: pruned.get(`${table.schema}.${table.table}`) ?? 0,
    prunable: why === null,
    why,
  };
}
