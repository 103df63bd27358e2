/** Digests of rows that are looked for, each as often as it is wanted: for runs of any size, which a Set does not hold (16.7 million at most). */
export class WantedDigests {
  readonly #sorted: BigInt64Array;
  readonly #taken: Uint8Array;
  #left: number;

  /** Takes `digests` as its own. */
  constructor(digests: BigInt64Array) {
    this.#sorted = digests.sort();
    this.#taken = new Uint8Array(digests.length);
    this.#left = digests.length;
  }

  /** How many are not taken yet. */
  get size(): number {
    return this.#left;
  }

  /** Takes one of this digest; false: none is wanted, or all were taken. */
  take(digest: bigint): boolean {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as bigint) < digest) low = middle + 1;
      else high = middle;
    }
    while (low < this.#sorted.length && this.#sorted[low] === digest && this.#taken[low] === 1) low += 1;
    if (this.#sorted[low] !== digest) return false;
    this.#taken[low] = 1;
    this.#left -= 1;
    return true;
  }
}
