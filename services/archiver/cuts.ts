/** Where the batch that fills ends: what is wished of it, decided at the end of each transaction. Pure; the intake cuts. Must never end a batch inside a transaction. */
import { formatLsn, type Lsn } from '../../src/position/lsn.js';
import type { Batch } from './batch.js';

/** While the archiver is behind, what it takes in is late already: batches may grow older, so that many tables and days do not become a file each for few rows. */
const BEHIND_TIMES = 5;
const BEHIND_MOST_MS = 4000;
/** Of the flush interval. */
const PATIENT_PART = 0.75;
const PATIENT_MOST_MS = 10_000;

/** Age at which a batch is due, ms. `every`: the flush interval. */
export function dueMs(every: number, behind: boolean): number {
  return behind ? every + Math.min(BEHIND_MOST_MS, every * BEHIND_TIMES) : every;
}

/**
 * Age from which a batch ends before a transaction that may be long, ms. Most are short, and only their message is at its end: under load each message ends within one, and must not make a batch.
 * `late`: the archiver is behind, or at work on the batch before.
 */
export function patienceMs(every: number, late: boolean): number {
  return late ? dueMs(every, true) : Math.min(every * PATIENT_PART, PATIENT_MOST_MS);
}

export class Cuts {
  #wanted: 'no' | 'behind a fence' | 'now' = 'no';
  /** The batch that ends at or behind it is cut there. */
  #asked: Lsn | undefined;
  /** Where the batches end that were cut: archived, or on their way. */
  #reached: Lsn;
  #uncoveredSince: number | undefined;
  /** For endBeforeLong. */
  patienceMs = Number.POSITIVE_INFINITY;

  /** `reached`: what is archived. */
  constructor(reached: Lsn) {
    this.#reached = reached;
  }

  /**
   * Milliseconds of the monotonic clock when rows came whose batch was cut on request, before the fence that covers them: the next batch, with the fence, is due as that one would have been.
   * undefined: none.
   */
  get uncoveredSince(): number | undefined {
    return this.#uncoveredSince;
  }

  want(when: 'now' | 'behind a fence'): void {
    if (this.#wanted !== 'now') this.#wanted = when;
  }

  /** Asks for a batch that ends at or behind `upTo`, unless one that does is cut already. Of several the lowest counts. */
  ask(upTo: Lsn): void {
    if (this.#reached < upTo && (this.#asked === undefined || upTo < this.#asked)) this.#asked = upTo;
  }

  /** Whether the batch ends here, at a transaction's end. `fenced`: that of a fence of ours. */
  endHere(batch: Batch, fenced: boolean): boolean {
    return this.#wanted === 'now' || (this.#wanted === 'behind a fence' && fenced) || batch.full || this.reaches(batch);
  }

  /** Whether it ends before a transaction whose end is not there yet: what came before does not wait for that, unless it is younger than `patienceMs`. */
  endBeforeLong({ boundary, startedAt }: Batch): boolean {
    return boundary !== undefined && startedAt !== undefined && performance.now() - startedAt >= this.patienceMs;
  }

  /** It holds the whole of what was asked for. */
  reaches({ boundary }: Batch): boolean {
    return this.#asked !== undefined && boundary !== undefined && boundary.lsn >= this.#asked;
  }

  /** `batch` is cut. */
  cut(batch: Batch): void {
    this.#uncoveredSince = this.reaches(batch) && !this.#isDue(batch) ? (this.#uncoveredSince ?? batch.startedAt) : undefined;
    if (this.reaches(batch)) this.#asked = undefined;
    this.#wanted = 'no';
    this.#reached = batch.boundary?.lsn ?? this.#reached;
  }

  /** It would have been cut without being asked for, or nothing in it waits for a fence. */
  #isDue(batch: Batch): boolean {
    const { boundary, fences, rows } = batch;
    return this.#wanted === 'now' || batch.full || rows === 0 || fences.at(-1)?.end === formatLsn(boundary?.lsn as Lsn);
  }
}
