/** When something that grows will be full, and how fast it grows. Pure but for the samples that a Rate keeps. */

/** What came within so many seconds, in bytes or rows; less than nothing: it shrank. */
export type Growth = { readonly amount: number; readonly seconds: number };

/** Less than this says nothing about a day. */
const LEAST_SECONDS = 600;

/** A day's worth of it; null when it was not watched for long enough. */
export function perDay(growth: Growth | null): number | null {
  return growth === null || growth.seconds < LEAST_SECONDS ? null : (growth.amount / growth.seconds) * 86_400;
}

/** Seconds until `free` is used up, if it goes on as it did; null when that is not known, or it does not grow. */
export function secondsUntilFull(free: number, growth: Growth | null): number | null {
  const day = perDay(growth);
  return day === null || day <= 0 ? null : (Math.max(0, free) / day) * 86_400;
}

/** The rate of a value that only grows, over the last ten minutes. */
export class Rate {
  readonly #windowMs: number;
  readonly #samples: { readonly at: number; readonly value: number }[] = [];

  constructor(windowMs = 600_000) {
    this.#windowMs = windowMs;
  }

  /** `at`: milliseconds of a monotonic clock. A value that went back begins anew. */
  add(at: number, value: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && value < last.value) this.#samples.length = 0;
    this.#samples.push({ at, value });
    while ((this.#samples[1]?.at ?? at) <= at - this.#windowMs) this.#samples.shift();
  }

  /** By the second; null before two samples. */
  get perSecond(): number | null {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.at <= first.at) return null;
    return ((last.value - first.value) * 1000) / (last.at - first.at);
  }
}
