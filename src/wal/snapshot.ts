/**
 * A snapshot and the WAL position that belongs to it: what the snapshot sees is what committed before the position, no more and no less. Only making a slot gives both
 * (manual: "Exported Snapshots" of logical decoding). It waits for every transaction that writes; says for which.
 */
import type pg from 'pg';
import type { Lsn } from '../position/lsn.js';
import { quoteLiteral } from './identifier.js';
import { cutConnection } from './session.js';
import { type CreatedSlot, createSlot, readServerVersion } from './slot.js';

const SAY_MS = 3000;

export type SnapshotWaiting = {
  readonly signal?: AbortSignal | undefined;
  /** Hears now and then what is waited for. */
  readonly onWaiting?: ((reason: string) => void) | undefined;
};

/**
 * Makes slot `name` on `creator`, a replication connection that does nothing else, and puts `reader` into a transaction with its snapshot; the snapshot lives on when `creator` ends.
 * `watcher` may be `reader`, as long as it is in no transaction. Returns the position.
 */
export async function beginAtSnapshot(
  { creator, reader, watcher }: { creator: pg.Client; reader: pg.Client; watcher: pg.Client },
  slot: { readonly name: string; readonly temporary: boolean },
  { signal, onWaiting }: SnapshotWaiting = {},
): Promise<Lsn> {
  const version = await readServerVersion(reader);
  let saying: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    saying = waitingFor(watcher).then(onWaiting, () => undefined);
  }, SAY_MS);
  let created: CreatedSlot;
  try {
    created = await untilAborted(signal, creator, createSlot(creator, slot.name, version, slot.temporary));
  } finally {
    clearInterval(timer);
    await saying; // the next statement of the reader must be the first of its transaction
  }
  await reader.query('SET row_security = off'); // a copy of the rows that policies leave is none: it fails instead
  await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  await reader.query(`SET TRANSACTION SNAPSHOT ${quoteLiteral(created.snapshot)}`);
  return created.consistentPoint;
}

/** Names the oldest transaction that is waited for, and prepared ones, which nobody may remember. */
async function waitingFor(client: pg.Client): Promise<string> {
  await client.query('SELECT pg_catalog.pg_stat_clear_snapshot()'); // else a transaction sees one state of the activity for ever
  const result = await client.query<{ prepared: string | null; pid: string | null; since: string | null }>(
    `SELECT (SELECT string_agg(gid, ', ') FROM pg_catalog.pg_prepared_xacts) AS prepared, a.pid::text, a.xact_start::text AS since
       FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT pid, xact_start FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1) a ON true`,
  );
  const row = result.rows[0];
  if (row?.prepared) return `making the slot waits for prepared transactions: ${row.prepared}`;
  return row?.pid ? `making the slot waits for running transactions; the oldest is process ${row.pid}, since ${row.since}` : 'making the slot takes its time';
}

/** The server does not listen while it waits for writers: the connection is cut. Should a lasting slot be made all the same, the next start drops it. */
async function untilAborted<T>(signal: AbortSignal | undefined, client: pg.Client, work: Promise<T>): Promise<T> {
  const cut = (): void => cutConnection(client);
  signal?.addEventListener('abort', cut, { once: true });
  if (signal?.aborted) cut(); // it was before there was anything to wait for
  try {
    return await work;
  } finally {
    signal?.removeEventListener('abort', cut);
  }
}
