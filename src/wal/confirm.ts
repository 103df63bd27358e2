/**
 * What may be confirmed to Postgres. Pure: received, published, archived and confirmed are four values; only this file turns the third into the fourth.
 * The slot may stand only at the start of an archived fence's commit record (so that each reconnect brings that fence again), never beyond W, in the same epoch.
 */
import { type Epoch, sameEpoch } from '../position/epoch.js';
import type { Fork } from '../position/fork.js';
import { type Lsn, parseLsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';

/** What capture reads in a manifest. */
export type ArchivedState = {
  readonly archive: string;
  readonly epoch: Epoch | null;
  readonly forked?: Fork;
  /** W, `lsn:0`; null until the first copy is complete. */
  readonly position: string | null;
  /** Newest last. */
  readonly fences: readonly { readonly lsn: string; readonly end: string; readonly nonce: string }[];
  readonly copy: { readonly generation: string; readonly state: 'running' | 'complete'; readonly consistentPoint: string } | null;
};

export type ConfirmFacts = {
  /** The archive this capture is bound to and the epoch it streams. */
  readonly archive: string;
  readonly epoch: Epoch;
  readonly archived: ArchivedState | undefined;
  /** Newest WAL position heard of on this connection. */
  readonly received: Lsn;
  /** Where the slot stands. */
  readonly confirmed: Lsn;
  /** True once this connection has sent every archived fence again that it had to. */
  readonly anchored: boolean;
};

/** The position to confirm now, or undefined: it only ever rises. */
export function confirmable(facts: ConfirmFacts): Lsn | undefined {
  const { archived } = facts;
  if (!facts.anchored || archived?.position == null || archived.epoch === null) return undefined;
  if (archived.archive !== facts.archive || !sameEpoch(archived.epoch, facts.epoch)) return undefined;
  const w = parsePosition(archived.position).lsn;
  let best: Lsn | undefined;
  for (const fence of archived.fences) {
    const lsn = parseLsn(fence.lsn);
    const behind = parseLsn(fence.end) <= w && lsn < w && lsn <= facts.received;
    if (behind && lsn > facts.confirmed && (best === undefined || lsn > best)) best = lsn;
  }
  return best;
}
