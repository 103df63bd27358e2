/**
 * How fast a run deletes: at the rate that a person has set, or spread over a time, so that an application beside it hardly feels it. Owns the rate and the waiting; which rows go
 * is no matter of its.
 */
import { sleep } from '../runtime/service.js';

/** A run is not spread thinner, rows a second: what is little enough to be felt by nobody need not last. */
export const LEAST_ROWS_PER_SECOND = 100;
/** A batch is what the rate gives in this time: a short one, so that nobody waits long behind it. */
const BITE_MS = 250;
/** Each batch has a price of its own, receipts and their fsyncs above all: with a quarter of these rows pruner and archiver took 1.7 times the CPU a row. */
const LEAST_BATCH = 1000;
/** So much more than was estimated is reckoned with: a run that is done early is no harm, one that is late ends in a hurry. */
const MARGIN = 1.1;
/** At the full rate what was missed in this time is caught up with; a run that is spread catches up with one bite. */
const CATCH_UP_MS = 1000;

/** What passes the time. */
export type Time = {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Ends early, without throwing, when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
};

const REAL: Time = { now: () => performance.now(), sleep };

export type Spread = {
  /** Milliseconds from the start of the run; after them the rate is the full one. */
  readonly overMs: number;
  /** Rows of each table (by key) that will go, as far as anybody knows. */
  readonly expected: ReadonlyMap<string, number>;
};

/** Pure: rows a second that take `left` rows to the end of the time, within the bounds of LEAST_ROWS_PER_SECOND and `most`. */
export function spreadRate(left: number, remainingMs: number, most: number): number {
  if (remainingMs <= 0) return most;
  return Math.min(most, Math.max(LEAST_ROWS_PER_SECOND, (left / remainingMs) * 1000));
}

/** Pure: rows of a batch at this rate, at most `most` (prune.batch). */
export function batchRows(rowsPerSecond: number, most: number): number {
  return Math.min(most, Math.max(LEAST_BATCH, Math.round((rowsPerSecond * BITE_MS) / 1000)));
}

/** Keeps deletes at or below a rate: after each batch it waits until the average is met. */
export class Pace {
  readonly #most: number;
  readonly #signal: AbortSignal;
  readonly #time: Time;
  readonly #began: number;
  #free: number;
  #hurry: AbortSignal | undefined;
  /** Ends a slow wait. */
  #wake: AbortSignal;
  #overMs = 0;
  /** Those that are not done. */
  readonly #tables = new Map<string, { readonly expected: number; readonly deleted: number }>();

  /** `most`: rows a second (prune.maxRowsPerSecond). */
  constructor(most: number, signal: AbortSignal, time: Time = REAL) {
    this.#most = most;
    this.#signal = this.#wake = signal;
    this.#time = time;
    this.#began = time.now();
    this.#free = this.#began;
  }

  /** From here on the rows are spread. Once `hurry` aborts they are not any more: somebody waits. */
  spread({ overMs, expected }: Spread, hurry: AbortSignal): void {
    this.#overMs = overMs;
    this.#hurry = hurry;
    this.#wake = AbortSignal.any([this.#signal, hurry]); // once for all waits: the signals remember each
    for (const [table, rows] of expected) this.#tables.set(table, { expected: rows * MARGIN, deleted: 0 });
  }

  get #spreads(): boolean {
    return this.#hurry?.aborted === false && this.#time.now() - this.#began < this.#overMs;
  }

  /** Rows a second, as things stand. */
  get rowsPerSecond(): number {
    if (!this.#spreads) return this.#most;
    const left = [...this.#tables.values()].reduce((sum, { expected, deleted }) => sum + (expected > deleted ? expected - deleted : deleted), 0);
    return spreadRate(left, this.#began + this.#overMs - this.#time.now(), this.#most);
  }

  /** Rows that the next batch may have, at most `most`. */
  batch(most: number): number {
    return batchRows(this.rowsPerSecond, most);
  }

  /** Waits as long as these rows of a table (by key) are worth. A table that gives more than was estimated is reckoned to have as many again: the run gets faster, until its time is over. */
  async after(table: string, rows: number): Promise<void> {
    const known = this.#tables.get(table) ?? { expected: 0, deleted: 0 };
    this.#tables.set(table, { ...known, deleted: known.deleted + rows });
    const hurry = this.#spreads ? this.#hurry : undefined;
    this.#free = Math.max(this.#free, this.#time.now() - (hurry ? BITE_MS : CATCH_UP_MS)) + (rows / this.rowsPerSecond) * 1000;
    const waitMs = this.#free - this.#time.now();
    if (waitMs <= 0) return;
    await this.#time.sleep(waitMs, hurry ? this.#wake : this.#signal);
    if (hurry?.aborted) this.#free = this.#time.now(); // what is left of the wait belonged to the slow rate
  }

  /** A table has no more to give, however much was expected of it. */
  done(table: string): void {
    this.#tables.delete(table);
  }
}
