/**
 * Takes chunks out of the stream that are archived and no longer wanted for replay: older than replay.age, or when the stream fills up. Never one that is not
 * archived: the bound is the stream place in the newest manifest, in that very stream, and the last chunk to go says itself that it lies before W: an older copy of the stream that was put in
 * its place gives its numbers a second time, under the same creation time.
 */
import type { StreamInfo } from 'nats';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { decodeChunkHeader } from '../../src/change/chunk.js';
import { comparePositions, parsePosition } from '../../src/position/position.js';
import { findMessage } from '../../src/stream/tail.js';
import { findStream, type StreamConnection } from '../../src/stream/topology.js';
import type { ArchiverContext } from './context.js';

/** Above this share of replay.bytes chunks go before their age; until this share is free again. */
const FULL_SHARE = 0.8;
const TARGET_SHARE = 0.7;

export type StreamFill = { readonly created: string; readonly first: number; readonly messages: number; readonly bytes: number };

/** Everything below this sequence is archived: the chunk that W lies in is the first that is still needed. 0: nothing may go. */
export function archivedBelow(state: Pick<ArchiveState, 'streamHint'>, fill: StreamFill): number {
  return state.streamHint !== null && state.streamHint.created === fill.created ? state.streamHint.sequence : 0;
}

/** Sequence below which chunks must go because the stream is too full; 0 when it is not. Pure. */
export function pressedBelow(fill: StreamFill, replayBytes: number): number {
  if (fill.messages === 0 || fill.bytes <= replayBytes * FULL_SHARE) return 0;
  const excess = fill.bytes - replayBytes * TARGET_SHARE;
  return fill.first + Math.ceil((excess / fill.bytes) * fill.messages);
}

export async function purge(context: ArchiverContext, stream: StreamConnection, now = Date.now()): Promise<void> {
  const info = await findStream(stream.manager, context.config.source.name);
  if (info !== undefined) context.metrics.stream(info);
  if (info === undefined || info.state.messages === 0) return;
  const fill = fillOf(info);
  const most = archivedBelow(context.state, fill);
  if (most <= fill.first) return;
  const { age, bytes } = context.config.stream.replay;
  const wanted = Math.max(pressedBelow(fill, bytes), await firstSince(stream, fill.first, most, now - age));
  const below = Math.min(most, wanted);
  if (below <= fill.first || !(await isArchived(context.state, stream, below - 1))) return;
  const { purged } = await stream.manager.streams.purge(stream.name, { seq: below });
  context.metrics.purged(purged);
  context.log.info({ event: 'purge', below, messages: purged }, 'archived chunks beyond the replay window were taken out of the stream');
}

async function isArchived({ epoch, copy, position }: ArchiveState, { manager, name }: StreamConnection, sequence: number): Promise<boolean> {
  const message = await findMessage(manager, name, sequence);
  if (message === undefined) return false;
  const header = decodeChunkHeader((field) => (message.header.has(field) ? message.header.get(field) : undefined));
  if (header.epoch.generation !== epoch?.generation) return true; // left from before this one began
  if (header.kind.startsWith('copy')) return copy !== null && (copy.state === 'complete' || header.end.k <= copy.rows); // counted on a lane of its own
  return position !== null && comparePositions(header.end, parsePosition(position)) <= 0;
}

function fillOf(info: StreamInfo): StreamFill {
  return { created: info.created, first: info.state.first_seq, messages: info.state.messages, bytes: info.state.bytes };
}

/** The first sequence in [first, end) stored at or after `since`, by halving; `end` when all are older. */
async function firstSince(stream: StreamConnection, first: number, end: number, since: number): Promise<number> {
  let [low, high] = [first, end];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const message = await stream.manager.streams.getMessage(stream.name, { seq: middle });
    if (message.time.getTime() < since) low = middle + 1;
    else high = middle;
  }
  return low;
}
