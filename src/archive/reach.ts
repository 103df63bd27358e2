/** Waiting for the archive to come up to a position, which nobody but the archiver can bring about: it is asked to, and waited for without an answer too. */
import { LSN_ZERO, type Lsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';
import { sleep } from '../runtime/service.js';
import type { ArchiveFollower, ArchiveState } from './manifest.js';

/** Asks the archiver to come up to a position soon. False: no archiver took it. Must never throw. */
export type FlushWish = (upTo: Lsn) => Promise<boolean>;

export type Reach = {
  readonly follower: ArchiveFollower;
  readonly upTo: Lsn;
  /** Milliseconds of archive.flush.every: an archiver that is not asked takes as long, and a while. */
  readonly flushEveryMs: number;
  readonly signal: AbortSignal;
  readonly flush?: FlushWish | undefined;
  /** Told once, when it takes longer than a moment. `asked`: an archiver took the wish. `mostMs`: that it is waited for. */
  readonly waiting?: (asked: boolean, mostMs: number) => void;
};

const REACH_MS = 15_000;
const LOOK_MS = 100;
/** A wish may be lost with the archiver that took it. */
const ASK_EVERY_MS = 1000;
/** Waiting for longer than this is said. */
const SILENT_MS = 1000;

/** W; nothing is archived at zero. */
function positionOf(state: ArchiveState | undefined): Lsn {
  return state?.position ? parsePosition(state.position).lsn : LSN_ZERO;
}

/** True for a state that holds everything before `upTo`. */
export function holds(state: ArchiveState | undefined, upTo: Lsn): boolean {
  return positionOf(state) >= upTo;
}

/** The newest state once it holds everything before `upTo`; or, when no archiver brings it there in time or the signal aborts, as it is. Throws a halt of the archive. */
export async function reach({ follower, upTo, flushEveryMs, signal, flush, waiting }: Reach): Promise<ArchiveState | undefined> {
  const began = Date.now();
  const mostMs = flushEveryMs + REACH_MS;
  let [asked, asking, askAt, said] = [false, false, 0, waiting === undefined];
  for (;;) {
    const state = await follower.refresh();
    const waited = Date.now() - began;
    if (holds(state, upTo) || signal.aborted || waited >= mostMs) return state;
    if (flush !== undefined && !asking && waited >= askAt) {
      [asking, askAt] = [true, waited + ASK_EVERY_MS];
      void flush(upTo).then((taken) => {
        [asked, asking] = [taken, false];
      });
    }
    if (!said && waited >= SILENT_MS) {
      waiting?.(asked, mostMs);
      said = true;
    }
    await sleep(LOOK_MS, signal);
  }
}
