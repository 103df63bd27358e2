/**
 * Positions that somebody waits for the archive to come up to: the batch that reaches one is not kept until it is old enough. Owns how often that may be; whoever waits asks again, so that only
 * one position is kept, and a wrong one is forgotten with the next.
 */
import type { Lsn } from '../../src/position/lsn.js';

/** What is asked within this time is one flush. */
const EVERY_MS = 1000;

export class AskedFlushes {
  #upTo: Lsn | undefined;
  #takenAt = Number.NEGATIVE_INFINITY;
  #heard: () => void = () => undefined;

  /** Of several the lowest counts: it comes first. */
  ask(upTo: Lsn): void {
    if (this.#upTo === undefined || upTo < this.#upTo) this.#upTo = upTo;
    this.#heard();
  }

  /** Who is told at once that something was asked. */
  hear(heard: () => void): void {
    this.#heard = heard;
  }

  /** What is to be reached now, once. undefined: nothing was asked, or it was taken just now and the next is not due. `now`: milliseconds of the monotonic clock. */
  take(now: number): Lsn | undefined {
    const upTo = this.#upTo;
    if (upTo === undefined || now - this.#takenAt < EVERY_MS) return undefined;
    this.#upTo = undefined;
    this.#takenAt = now;
    return upTo;
  }
}
