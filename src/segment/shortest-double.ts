/**
 * The shortest decimal that reads back as a double, written as bytes: the same text as JavaScript's own for doubles that both print without an exponent, in less than half of its time and without a string.
 * Exact, not approximate. With p such that x·10^p has 17 digits (so that its neighbours, half a unit in the last place of x away, lie more than half an integer away), 10^p is a double without a rounding
 * for p up to 22, so x·10^p is the sum of two doubles (Dekker, "A floating-point technique for extending the available precision", 1971), and half a unit in the last place of x, a power of two, times
 * 10^p is one double. No decimal as short as these lies on an edge of the interval (postgres-text.ts); of two that are equally near the rule of others decides.
 */

import { viewOf } from './byte-view.js';

const MOST_POWER = 22;
const POWERS = Float64Array.from({ length: MOST_POWER + 1 }, (_, p) => Number(`1e${p}`));
/** Of Dekker: splits a double into two of 26 bits each. */
const SPLIT = 2 ** 27 + 1;
const upperHalf = (value: number): number => {
  const wide = value * SPLIT;
  return wide - (wide - value);
};
const POWERS_UPPER = POWERS.map(upperHalf);
const POWERS_LOWER = POWERS.map((power, p) => power - (POWERS_UPPER[p] as number));

/** Half a unit in the last place of a double, by its exponent: those from 1e-4 to 1e15. */
const LEAST_EXPONENT = -14;
const HALF_UNITS = Float64Array.from({ length: 64 }, (_, i) => 2 ** (LEAST_EXPONENT + i - 53));

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer); // little-endian, like every machine that this runs on

const ZERO = 0x30;
const DASH = 0x2d;
const DOT = 0x2e;
const HALF = 1e8;
const DIGITS = 17;

/**
 * Writes the text of `value` at `at`: at most 24 bytes. The place behind it, or -1 for what it leaves to others: zero, NaN, infinities, below 1e-4 and from 1e15 on, powers of two, and where
 * only a rule decides.
 */
export function putDouble(out: Uint8Array, at: number, value: number): number {
  const x = Math.abs(value);
  if (!(x >= 1e-4 && x < 1e15)) return -1;
  double[0] = x;
  const high = words[1] as number;
  if (words[0] === 0 && (high & 0xf_ffff) === 0) return -1; // the interval of a power of two is narrower below it
  const exponent = (high >>> 20) - 1023;
  let power = 16 - Math.floor(exponent * 0.30102999566398114); // log10 of 2, a little less: x may have a digit more
  let scaled = x * (POWERS[power] as number);
  if (scaled >= 1e17) {
    power -= 1;
    scaled = x * (POWERS[power] as number);
  }
  const xUpper = upperHalf(x);
  const xLower = x - xUpper;
  const tUpper = POWERS_UPPER[power] as number;
  const tLower = POWERS_LOWER[power] as number;
  const rest = xUpper * tUpper - scaled + xUpper * tLower + xLower * tUpper + xLower * tLower;
  const near = (HALF_UNITS[exponent - LEAST_EXPONENT] as number) * (POWERS[power] as number);

  // x·10^p = upper·10^8 + lower + fraction, the fraction in [-0.5, 0.5].
  let upper = Math.floor(scaled / HALF);
  const wholeRest = Math.round(rest);
  const fraction = rest - wholeRest;
  let lower = scaled - upper * HALF + wholeRest;
  if (lower < 0) {
    upper -= 1;
    lower += HALF;
  } else if (lower >= HALF) {
    upper += 1;
    lower -= HALF;
  }
  const hundredth = (lower | 0) % 100;
  let candidate = hundredth > 50 ? lower - hundredth + 100 : lower - hundredth;
  let distance = Math.abs(lower - candidate + fraction);
  if (distance >= near) {
    const tenth = (lower | 0) % 10;
    if (tenth + fraction === 5) return -1;
    candidate = tenth + fraction > 5 ? lower - tenth + 10 : lower - tenth;
    distance = Math.abs(lower - candidate + fraction);
    if (distance >= near) {
      if (fraction === 0.5 || fraction === -0.5) return -1;
      candidate = lower; // at most half away, and `near` is more
    }
  }
  if (candidate >= HALF) {
    candidate -= HALF;
    upper += 1;
  }
  if (upper < 1e8 || upper >= 1e9) return -1; // not 17 digits after all
  return putDigits(out, value < 0 ? putDash(out, at) : at, upper | 0, candidate | 0, DIGITS - power);
}

function putDash(out: Uint8Array, at: number): number {
  out[at] = DASH;
  return at + 1;
}

/** Four digits each, of 0 to 9999, the first one in the lowest byte. */
const FOURS = Uint32Array.from(
  { length: 10_000 },
  (_, i) => 0x30303030 + Math.floor(i / 1000) + (Math.floor(i / 100) % 10) * 0x100 + (Math.floor(i / 10) % 10) * 0x1_0000 + (i % 10) * 0x100_0000,
);

/** The eight digits of `value` from `at` on. */
function putEight(out: DataView, at: number, value: number): void {
  const upper = (value / 10_000) | 0;
  out.setUint32(at, FOURS[upper] as number, true);
  out.setUint32(at + 4, FOURS[value - upper * 10_000] as number, true);
}

/** 17 digits, 9 and 8, without the zeros at their end; `before` of them stand before the point (0 or less: zeros behind it come first). */
function putDigits(out: Uint8Array, at: number, upper: number, lower: number, before: number): number {
  const start = before > 0 ? at + 1 : at + 2 - before; // where there is a digit before the point, the first ones go back by a place for it
  const first = (upper / 1e8) | 0;
  const view = viewOf(out);
  out[start] = ZERO + first;
  putEight(view, start + 1, upper - first * 1e8);
  let end = start + 9;
  if (lower !== 0) {
    putEight(view, end, lower);
    end = start + DIGITS;
  }
  while (out[end - 1] === ZERO) end -= 1;
  if (before <= 0) {
    out[at] = ZERO;
    out[at + 1] = DOT;
    for (let i = at + 2; i < start; i += 1) out[i] = ZERO;
    return end;
  }
  const point = at + before;
  for (let i = end; i <= point; i += 1) out[i] = ZERO;
  for (let i = at; i < point; i += 1) out[i] = out[i + 1] as number;
  if (end <= point + 1) return point;
  out[point] = DOT;
  return end;
}
