/**
 * Whether a service's loop turns and whether it is ready. Owns the two judgements; what a service waits for, and what it needs, it says itself. Asks nobody anything: every answer is made
 * of what the loop knows already.
 */

/** A loop that has not come round for this long stands still. */
const TURN_MS = 120_000;

/** What keeps a service from being ready. */
export type Unready = { readonly check: string; readonly problem: string };

export class Health {
  #turnedAt = performance.now();
  #withinMs = TURN_MS;
  readonly #needs = new Map<string, () => string | undefined>();

  /** The loop has come round, and will again within `withinMs`; Infinity: it waits for something that may take any time. */
  turn(withinMs = TURN_MS): void {
    this.#turnedAt = performance.now();
    this.#withinMs = withinMs;
  }

  /** Why the loop does not count as turning, undefined when it does. */
  stuck(): string | undefined {
    const ms = performance.now() - this.#turnedAt;
    return ms <= this.#withinMs ? undefined : `the loop has not come round for ${Math.round(ms / 1000)} s`;
  }

  /** `problem`: why this is not so now, undefined when it is. */
  needs(check: string, problem: () => string | undefined): void {
    this.#needs.set(check, problem);
  }

  /** What is missing, in the order in which it was asked for; empty: ready. */
  unready(): Unready[] {
    return [...this.#needs].flatMap(([check, ask]) => {
      const problem = ask();
      return problem === undefined ? [] : [{ check, problem }];
    });
  }
}
