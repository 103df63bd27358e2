/**
 * Emits fences: transactional messages that carry a transaction-id horizon through the pipe. The horizon is read in a statement of its own before the message, so
 * every smaller id has finished before the fence's commit. Decides when one is due. Must never keep an idle server awake.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { FENCE_PREFIX, type FencePayload, signMessage } from '../change/fence.js';
import { type Lsn, parseLsn } from '../position/lsn.js';

/** WAL that anyone wrote since the last fence which makes one due, so that the slot moves on under other people's load. */
export const FENCE_WAL_BYTES = 64n * 1024n * 1024n;

export type EmittedFence = {
  readonly horizon: bigint;
  /** 64-bit id of the fence's own transaction: all that was read before it was written has a smaller one. */
  readonly xid: bigint;
};

/** Every 64-bit transaction id below it has ended. */
export async function readHorizon(client: pg.Client): Promise<bigint> {
  const { rows } = await client.query<{ xmin: string }>('SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text AS xmin');
  const [{ xmin }] = rows as [{ xmin: string }];
  return BigInt(xmin);
}

/** Writes one fence. The connection must be in autocommit, and have synchronous_commit = local: a standby has no say in it. */
export async function emitFence(client: pg.Client, key: Buffer, binding: { generation: string; archive: string }): Promise<EmittedFence> {
  const horizon = await readHorizon(client);
  const payload: FencePayload = { nonce: randomUUID(), horizon: String(horizon), ...binding };
  const { rows } = await client.query<{ xid: string }>(
    'SELECT pg_catalog.pg_logical_emit_message(true, $1::text, $2::text), pg_catalog.pg_current_xact_id()::text AS xid',
    [FENCE_PREFIX, signMessage(key, payload)],
  );
  const [{ xid }] = rows as [{ xid: string }];
  return { horizon, xid: BigInt(xid) };
}

/** Current end of WAL. */
export async function readInsertLsn(client: pg.Client): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS lsn');
  const [{ lsn }] = rows as [{ lsn: string }];
  return parseLsn(lsn);
}

export type FenceFacts = {
  /** Milliseconds of the monotonic clock, as lastFenceAt. */
  readonly now: number;
  /** Of fenceEvery. */
  readonly everyMs: number;
  /** -Infinity before the first. */
  readonly lastFenceAt: number;
  /** Row changes read since the last fence was written. */
  readonly rowsSince: number;
  readonly walSince: bigint;
  /** A transaction that was still running at the last fence kept rows before it uncovered; it has ended now. */
  readonly owed: boolean;
};

/** Pure. */
export function fenceDue(facts: FenceFacts): boolean {
  if (facts.now - facts.lastFenceAt < facts.everyMs) return false;
  return facts.rowsSince > 0 || facts.owed || facts.walSince >= FENCE_WAL_BYTES;
}
