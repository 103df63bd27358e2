/** Smallest and largest of many texts, compared byte by byte where they lie: no string per row. Texts of timestamps that have a day compare like the moments they name. */

type Held = { bytes: Uint8Array; length: number };

export class TextRange {
  readonly #least: Held = { bytes: new Uint8Array(64), length: -1 };
  readonly #most: Held = { bytes: new Uint8Array(64), length: -1 };

  /** Takes the text at [start, end) into account. */
  see(buffer: Uint8Array, start: number, end: number): void {
    if (this.#least.length < 0 || compare(buffer, start, end, this.#least) < 0) hold(this.#least, buffer, start, end);
    if (this.#most.length < 0 || compare(buffer, start, end, this.#most) > 0) hold(this.#most, buffer, start, end);
  }

  /** Null when there was none. */
  get min(): string | null {
    return textOf(this.#least);
  }

  get max(): string | null {
    return textOf(this.#most);
  }
}

function compare(buffer: Uint8Array, start: number, end: number, held: Held): number {
  const shared = Math.min(end - start, held.length);
  for (let i = 0; i < shared; i += 1) {
    const difference = (buffer[start + i] as number) - (held.bytes[i] as number);
    if (difference !== 0) return difference;
  }
  return end - start - held.length;
}

function hold(held: Held, buffer: Uint8Array, start: number, end: number): void {
  if (end - start > held.bytes.length) held.bytes = new Uint8Array(end - start);
  for (let i = start; i < end; i += 1) held.bytes[i - start] = buffer[i] as number;
  held.length = end - start;
}

function textOf(held: Held): string | null {
  return held.length < 0 ? null : Buffer.from(held.bytes.subarray(0, held.length)).toString('utf8');
}
