/** How fast long work goes, and how long it will take: the average of the last while, so that a slow beginning does not weigh for hours. Knows no clock: the caller says when. */

/** What counts: the rate over this much time, milliseconds. */
const WINDOW_MS = 15_000;
/** Samples of it. */
const SAMPLES = 30;

export class ProgressRate {
  readonly #samples: { readonly at: number; readonly done: number }[] = [];

  /** `now`: milliseconds, of any clock that only goes forward. */
  note(done: number, now: number): void {
    const newest = this.#samples.at(-1);
    if (newest !== undefined && this.#samples.length > 1 && now - newest.at < WINDOW_MS / SAMPLES) this.#samples.pop();
    this.#samples.push({ at: now, done });
    while (this.#samples.length > 2 && now - (this.#samples[1] as { at: number }).at >= WINDOW_MS) this.#samples.shift();
  }

  /** Units a second; undefined before it can be told. */
  get perSecond(): number | undefined {
    const [oldest, newest] = [this.#samples[0], this.#samples.at(-1)];
    if (oldest === undefined || newest === undefined || newest.at - oldest.at < 250) return undefined;
    return ((newest.done - oldest.done) * 1000) / (newest.at - oldest.at);
  }

  /** Seconds until `all` are done; undefined when nobody can tell: nothing moves, or more is done than was expected. */
  secondsLeft(all: number): number | undefined {
    const rate = this.perSecond;
    const done = this.#samples.at(-1)?.done ?? 0;
    return rate === undefined || rate <= 0 || done > all ? undefined : (all - done) / rate;
  }
}

/** `3 d 4 h`, `5 h 10 min`, `12 min`, `40 s`. */
export function timeText(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 90) return `${whole} s`;
  const minutes = Math.ceil(whole / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
