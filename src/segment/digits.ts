/** Numbers and ASCII as bytes, written where the caller says: no string. Each returns the place behind what it wrote. */

const ZERO = 0x30;
const DASH = 0x2d;

/** Both digits of 0 to 99. */
const TENS = Uint8Array.from({ length: 100 }, (_, i) => ZERO + Math.floor(i / 10));
const ONES = Uint8Array.from({ length: 100 }, (_, i) => ZERO + (i % 10));

/** The two digits of 0 to 99. */
export function putTwo(out: Uint8Array, at: number, value: number): number {
  out[at] = TENS[value] as number;
  out[at + 1] = ONES[value] as number;
  return at + 2;
}

const EIGHT = 1e8;

/** Digits of an integer of 0 to 2^53, at least `least` of them. The place behind them. */
export function putDigits(out: Uint8Array, at: number, value: number, least: number): number {
  if (value <= 0x7fff_ffff) return putSmall(out, at, value | 0, least);
  const upper = Math.floor(value / EIGHT);
  return putSmall(out, putSmall(out, at, upper | 0, least - 8), (value - upper * EIGHT) | 0, 8);
}

/** Of 0 to 2^31 - 1: integers divide faster than doubles. */
function putSmall(out: Uint8Array, at: number, value: number, least: number): number {
  let count = 1;
  for (let power = 10; count < 10 && power <= value; power *= 10) count += 1;
  if (count < least) count = least;
  const end = at + count;
  let rest = value;
  let i = end - 2;
  for (; i >= at; i -= 2) {
    const next = (rest / 100) | 0;
    putTwo(out, i, rest - next * 100);
    rest = next;
  }
  if (i === at - 1) out[at] = ZERO + rest;
  return end;
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
