/** What is written without a string is what JavaScript writes, which postgres-text.test.ts holds against a server. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { putDouble } from '../../src/segment/shortest-double.js';

const out = Buffer.alloc(64, '#');
const double = new Float64Array(1);
const bits = new BigUint64Array(double.buffer);
const ofBits = (of: bigint): number => {
  bits[0] = of;
  return double[0] as number;
};
const bitsOf = (value: number): bigint => {
  double[0] = value;
  return bits[0] as bigint;
};

/** How many of these it leaves to others. Throws where its text is another one. */
function left(values: Iterable<number>): number {
  let skipped = 0;
  for (const value of values) {
    const end = putDouble(out, 3, value);
    if (end < 0) skipped += 1;
    else if (out.toString('latin1', 3, end) !== String(value)) assert.equal(out.toString('latin1', 3, end), String(value));
  }
  return skipped;
}

const COUNT = 300_000;
const random = randomBytes(COUNT * 8);

function* ofRandomBits(): Generator<number> {
  for (let i = 0; i < COUNT; i += 1) {
    const wild = random.readBigUInt64LE(i * 8);
    yield ofBits((wild & 0x800f_ffff_ffff_ffffn) | (BigInt(1023 - 13 + (i % 62)) << 52n)); // 2^-13 to 2^48
  }
}

/** `digits` digits, `scale` of them behind the point, but for zeros. */
function* decimals(): Generator<number> {
  for (let i = 0; i < COUNT; i += 1) yield Number(`${random.readBigUInt64LE(i * 8) % 10n ** BigInt(1 + (i % 17))}.5e-${i % 15}`);
}

/** Where the number of digits changes, and where the interval does. */
function* nearPowers(): Generator<number> {
  for (let power = -5; power <= 16; power += 1)
    for (let step = -2000n; step <= 2000n; step += 1n) {
      yield ofBits(bitsOf(Number(`1e${power}`)) + step);
      yield ofBits(bitsOf(2 ** (power * 3)) + step);
      yield -ofBits(bitsOf(5 * 10 ** power) + step);
    }
}

/** Next to decimals of nine digits and fewer: what stands behind those digits is as good as nothing, or as good as one of them. */
function* nearShort(): Generator<number> {
  for (let i = 0; i < 20_000; i += 1) {
    const near = bitsOf(Number(`${(random.readUInt32LE(i * 8) % 10 ** (1 + (i % 9))) + 1}e-${i % 12}`));
    for (let step = -4n; step <= 4n; step += 1n) yield ofBits(near + step);
  }
}

test('doubles of any bits, decimals of any length, and those next to short ones and to powers of ten and two: each the text that JavaScript has', () => {
  assert.ok(left(ofRandomBits()) < COUNT / 100, 'hardly any is left to others: those that lie in the middle between two decimals');
  assert.ok(left(decimals()) < COUNT / 4);
  left(nearPowers());
  left(nearShort());
});

test('what it does not write: out of range, a power of two, no number', () => {
  const others = [0, -0, Number.NaN, Infinity, -Infinity, 9.99e-5, 5e-324, 1e15, 1e22, 0.5, 0.25, -4];
  assert.equal(left(others), others.length);
  assert.equal(left([1e-4, -1e-4, 999_999_999_999_999.9, 0.1, 0.30000000000000004, -123.456]), 0);
});

test('it writes no more than 24 bytes', () => {
  out.fill('#');
  for (const value of ofRandomBits()) putDouble(out, 3, value);
  assert.equal(out.toString('latin1', 27), '#'.repeat(37));
  assert.equal(out.toString('latin1', 0, 3), '###');
});
