/** The chunk that begins an epoch by a planned switchover: may the archive follow? Pure. */
import type { ForkState } from '../../src/archive/manifest-format.js';
import type { ForkFound } from '../../src/change/chunk.js';
import { type Epoch, parseEpoch, sameEpoch } from '../../src/position/epoch.js';
import { parseLsn } from '../../src/position/lsn.js';
import { boundary, comparePositions, formatPosition, type Position } from '../../src/position/position.js';
import { Halt } from '../../src/runtime/errors.js';
import type { StreamChunk } from '../../src/stream/consume.js';

/** `archive`: the one that capture must have been bound to; undefined: any. */
export type Followed = { readonly epoch: Epoch; readonly mine: Position | null; readonly archive: string | undefined };

/** What to follow it with; `foreign`: it is not of this archive's history; `gap`: something before it is missing. Throws Halt TIMELINE when more was taken than the two have in common. */
export function readFork({ header, payload }: StreamChunk, { epoch, mine, archive }: Followed): ForkState | 'foreign' | 'gap' {
  const found = JSON.parse(payload.toString('utf8')) as ForkFound;
  const from = parseEpoch(found.from);
  const to = header.epoch;
  const carriesOn = from.systemId === to.systemId && from.generation === to.generation && from.timeline < to.timeline;
  if (!carriesOn || !sameEpoch(epoch, from) || (archive !== undefined && found.archive !== archive)) return 'foreign';
  if (mine === null || comparePositions(header.prev, mine) > 0) return 'gap';
  if (comparePositions(mine, boundary(parseLsn(found.at))) > 0) {
    throw new Halt('TIMELINE', {
      seen: `the server left timeline ${from.timeline} at ${found.at}, and the changes up to ${formatPosition(mine)} were taken before that was known.`,
      safe: 'Nothing of the new timeline was taken.',
      remedy: 'start again; if capture halts with TIMELINE: stop the services, `tidemark resync`, and start them',
    });
  }
  return { from, at: found.at, seen: found.seen };
}
