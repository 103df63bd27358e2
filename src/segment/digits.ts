/** Numbers and ASCII as bytes, written where the caller says: no string. Each returns the place behind what it wrote. */

const ZERO = 0x30;
const DASH = 0x2d;

/** Digits of an integer of 0 to 2^53, at least `least` of them. The place behind them. */
export function putDigits(out: Uint8Array, at: number, value: number, least: number): number {
  let count = 1;
  for (let power = 10; power <= value; power *= 10) count += 1;
  if (count < least) count = least;
  let rest = value;
  let i = at + count - 1;
  // The double's part first: integers of 31 bits divide faster.
  for (; rest > 0x7fff_ffff; i -= 1) {
    const next = Math.floor(rest / 10);
    out[i] = ZERO + (rest - next * 10);
    rest = next;
  }
  for (let small = rest | 0; i >= at; i -= 1) {
    const next = (small / 10) | 0;
    out[i] = ZERO + (small - next * 10);
    small = next;
  }
  return at + count;
}

/** An integer of −2^53 to 2^53. */
export function putInteger(out: Uint8Array, at: number, value: number): number {
  if (value >= 0) return putDigits(out, at, value, 1);
  out[at] = DASH;
  return putDigits(out, at + 1, -value, 1);
}

export function putAscii(out: Uint8Array, at: number, text: string): number {
  for (let i = 0; i < text.length; i += 1) out[at + i] = text.charCodeAt(i);
  return at + text.length;
}
