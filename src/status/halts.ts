/**
 * Halts that can be seen from outside: what capture would halt with as the slot and the archive stand, a message at the end of the stream that is no chunk (POISON), an archive that cannot be read, tables
 * that the newest prune run halted. Owns no decision: the slot's is wal/slot's. What it cannot see (a chunk that cannot be decoded, STREAM_GAP, SUPERSEDED) only the service that halted knows.
 */
import type { ArchiveFollower, ArchiveState } from '../archive/manifest.js';
import { parseLsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';
import { Halt } from '../runtime/errors.js';
import { decideSlot } from '../wal/slot.js';
import { type HaltNotice, tableHalts } from './halt-notice.js';
import type { PipelineStatus } from './pipeline-state.js';

/** `follower`: looked at again after `status` was read, so that the slot is never taken for being ahead of an older manifest. */
export async function findHalts(status: PipelineStatus, follower: ArchiveFollower): Promise<HaltNotice[]> {
  let state: ArchiveState | undefined;
  const stray = 'problem' in status.stream && status.stream.halt !== undefined ? [status.stream.halt] : [];
  try {
    state = await follower.refresh();
  } catch (error) {
    if (!(error instanceof Halt)) return [...stray, ...tableHalts(status.lastRun)];
    return [...stray, { halt: error.halt, where: 'archive', seen: error.seen, safe: error.safe, remedy: error.remedy ?? '', at: null }];
  }
  const slot = slotHalt(status, state);
  return [...stray, ...(slot === undefined ? [] : [slot]), ...tableHalts(status.lastRun)];
}

/** Pure. Undefined while the database cannot be asked, or no archive counts on the slot yet. */
export function slotHalt(status: PipelineStatus, state: ArchiveState | undefined): HaltNotice | undefined {
  const { postgres, slot, archive } = status;
  if ('problem' in postgres || state?.epoch == null || state.copy?.state !== 'complete') return undefined;
  const { systemId, timeline } = postgres;
  if (systemId === state.epoch.systemId && timeline !== state.epoch.timeline) {
    return {
      halt: 'TIMELINE',
      where: 'capture',
      seen: `the server writes timeline ${timeline}, the archive is of timeline ${state.epoch.timeline}.`,
      safe: `Everything up to ${state.position ?? 'the first copy'} is archived; nothing is pruned meanwhile.`,
      remedy: 'a planned switchover goes on by itself; when capture has halted: stop the services, `tidemark resync`, and start them',
      at: null,
    };
  }
  // The insert position was read before `state`: only against the position of its own time does it say something.
  const insert = parseLsn(postgres.insertLsn);
  const then = 'problem' in archive || archive.position === null ? undefined : parsePosition(archive.position).lsn;
  const now = state.position === null ? insert : parsePosition(state.position).lsn;
  const decision = decideSlot({
    database: '',
    server: { systemId, timeline, inRecovery: false, insertLsn: (then !== undefined && insert < then) || insert > now ? insert : now },
    slot: slot === null ? undefined : slotRow(slot),
    archived: state,
    tail: undefined,
  });
  if (decision.act !== 'halt') return undefined;
  const { halt, seen, safe, remedy } = decision;
  return { halt, where: 'capture', seen, safe, remedy, at: null };
}

function slotRow(slot: NonNullable<PipelineStatus['slot']>): NonNullable<Parameters<typeof decideSlot>[0]['slot']> {
  return {
    plugin: 'pgoutput',
    database: '',
    active: slot.active,
    confirmed: slot.confirmedLsn === null ? null : parseLsn(slot.confirmedLsn),
    failover: null,
    walStatus: slot.walStatus,
    invalidation: slot.invalidation,
    heldBytes: slot.heldBytes,
    safeBytes: slot.safeWalBytes,
  };
}
