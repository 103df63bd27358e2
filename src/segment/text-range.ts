/** Smallest and largest of many texts, compared byte by byte where they lie: no string per row. Texts of timestamps that have a day compare like the moments they name. */

import { viewOf } from './byte-view.js';

type Held = { bytes: Uint8Array; view: DataView; length: number };

const nothing = (): Held => heldIn(new Uint8Array(64));
const heldIn = (bytes: Uint8Array): Held => ({ bytes, view: new DataView(bytes.buffer), length: -1 });

export class TextRange {
  readonly #least = nothing();
  readonly #most = nothing();

  /** Takes the text at [start, end) into account. */
  see(buffer: Uint8Array, start: number, end: number): void {
    const view = viewOf(buffer);
    if (this.#least.length < 0 || compare(view, start, end, this.#least) < 0) hold(this.#least, buffer, start, end);
    if (this.#most.length < 0 || compare(view, start, end, this.#most) > 0) hold(this.#most, buffer, start, end);
  }

  /** Null when there was none. */
  get min(): string | null {
    return textOf(this.#least);
  }

  get max(): string | null {
    return textOf(this.#most);
  }
}

/** Four bytes at a time, the highest first. */
function compare(text: DataView, start: number, end: number, held: Held): number {
  const shared = Math.min(end - start, held.length);
  let i = 0;
  for (; i + 4 <= shared; i += 4) {
    const difference = text.getUint32(start + i) - held.view.getUint32(i);
    if (difference !== 0) return difference;
  }
  for (; i < shared; i += 1) {
    const difference = text.getUint8(start + i) - held.view.getUint8(i);
    if (difference !== 0) return difference;
  }
  return end - start - held.length;
}

function hold(held: Held, buffer: Uint8Array, start: number, end: number): void {
  if (end - start > held.bytes.length) Object.assign(held, heldIn(new Uint8Array(end - start)));
  for (let i = start; i < end; i += 1) held.bytes[i - start] = buffer[i] as number;
  held.length = end - start;
}

function textOf(held: Held): string | null {
  return held.length < 0 ? null : Buffer.from(held.bytes.subarray(0, held.length)).toString('utf8');
}
