/**
 * A fence: a transactional logical decoding message whose snapshot horizon rides through the pipe. Every transaction id below `horizon` had finished
 * before the fence was written, and lies before it in the stream (protocol.md; the commit record is inserted before the id leaves the snapshot).
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const FENCE_PREFIX = 'tidemark.fence';
export const PRUNE_PREFIX = 'tidemark.prune';
export const RESTORE_PREFIX = 'tidemark.restore';

/** At most one fence in this time. */
const EVERY_MS = 1000;
const LEAST_MS = 200;

/**
 * Milliseconds between fences under load, for an archive that flushes every `flushMs`: a row waits for its fence and then for the flush that takes the fence, so fences come oftener, and a flush that is nearly
 * due is made right behind one.
 */
export function fenceEvery(flushMs: number): number {
  return Math.min(EVERY_MS, Math.max(LEAST_MS, flushMs / 5));
}

export type FencePayload = {
  /** Random UUID. */
  readonly nonce: string;
  /** pg_snapshot_xmin() of a snapshot taken before the message: 64-bit transaction id, decimal. */
  readonly horizon: string;
  readonly generation: string;
  /** The archive this slot is bound to. */
  readonly archive: string;
};

/** First message of a pruner's transaction: marks its deletes for the archiver. Honoured only with a matching fsynced intent. */
export type PrunePayload = { readonly run: string; readonly batch: string; readonly archive: string };

/** First message of a transaction that restores rows: marks its inserts. Honoured only with a matching fsynced receipt. */
export type RestorePayload = { readonly run: string; readonly batch: string; readonly archive: string };

type Payload = FencePayload | PrunePayload | RestorePayload;

/** `json.hmac`: any role may emit messages, so they carry a proof of the archive's key. */
export function signMessage(key: Buffer, payload: Payload): string {
  const json = JSON.stringify(payload);
  return `${json}.${createHmac('sha256', key).update(json).digest('base64url')}`;
}

/** The payload, or undefined when it was not signed with this key. */
export function openMessage<T extends Payload>(key: Buffer, text: string): T | undefined {
  const dot = text.lastIndexOf('.');
  if (dot < 0) return undefined;
  const expected = createHmac('sha256', key).update(text.slice(0, dot)).digest();
  const given = Buffer.from(text.slice(dot + 1), 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  return JSON.parse(text.slice(0, dot)) as T;
}
