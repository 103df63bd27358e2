/** The row digest tells versions apart, is the same from bytes and from texts, by row and by column, and never changes under format version 1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ColumnwiseDigests, DigestSum, digestOfTexts, RowDigest } from '../../src/segment/digest.js';

const ROWS: readonly (readonly (string | null | undefined)[])[] = [
  [],
  [null],
  [''],
  [undefined],
  ['a'],
  ['abcd'],
  ['abcde'],
  ['a', null],
  [null, 'a'],
  ['ab', 'c'],
  ['a', 'bc'],
  ['', 'abc'],
  ['1', '2026-01-12 10:11:12.5', '😀 "é"', '\t\n'],
  ['x'.repeat(100)],
  ['é'.repeat(70)],
  ['漢'.repeat(5000)],
];

function bytesDigest(values: readonly (string | null | undefined)[]): bigint {
  const digest = new RowDigest();
  digest.reset();
  for (const value of values) {
    if (value === null) digest.nullValue();
    else if (value === undefined) digest.unchanged();
    else {
      const bytes = Buffer.from(`..${value}..`);
      digest.bytes(bytes, 2, bytes.length - 2);
    }
  }
  return digest.value;
}

test('format version 1: these digests never change', () => {
  assert.deepEqual([['1', 'a', null, ''], ['2026-01-12 00:00:00', '0.30000000000000004', '{"a": 1}'], ['😀'], [undefined]].map(digestOfTexts), GOLDEN);
});
const GOLDEN = [-7651510955767762118n, 8228971751585887381n, -4069700953008854121n, -4447540473196953657n];

test('the same from bytes in the middle of a message and from texts, short and long', () => {
  for (const row of ROWS) assert.equal(bytesDigest(row), digestOfTexts(row), JSON.stringify(row).slice(0, 40));
});

test('copied on the way: the same digest, the same bytes and not one more, and a double quote is seen wherever it stands', () => {
  const digest = new RowDigest();
  for (let length = 0; length < 40; length += 1) {
    for (let quote = -1; quote < length; quote += 1) {
      const source = Buffer.from(Array.from({ length: length + 3 }, (_, i) => [0x21, 0x23, 0x00, 0x80, 0xff, 0xa2][(i * 7 + length) % 6] as number));
      if (quote >= 0) source[quote + 1] = 0x22;
      source[0] = 0x22; // before and behind it there are quotes that do not count
      source[length + 1] = 0x22;
      const target = Buffer.alloc(length + 9, 0x5a);
      digest.reset();
      const seen = digest.copied(source, 1, 1 + length, new DataView(target.buffer, target.byteOffset, target.length), 5);
      const { value } = digest;
      digest.reset();
      digest.bytes(source, 1, 1 + length);
      assert.equal(digest.value, value);
      assert.equal(seen, quote >= 0, `a quote at ${quote} of ${length}`);
      assert.deepEqual(target, Buffer.concat([Buffer.alloc(5, 0x5a), source.subarray(1, 1 + length), Buffer.alloc(4, 0x5a)]));
    }
  }
});

test('NULL, empty, unchanged TOAST, order and borders of columns are all apart', () => {
  const digests = ROWS.map(digestOfTexts);
  assert.equal(new Set(digests).size, ROWS.length);
});

test('a column at a time gives the same as a row at a time, whichever form the values have', () => {
  const rows = ROWS.filter((row) => row.length === 2);
  const columnwise = new ColumnwiseDigests(rows.length);
  for (const column of [0, 1]) {
    for (const [i, row] of rows.entries())
      columnwise.fold(i, i % 2 === 0 || typeof row[column] !== 'string' ? row[column] : Buffer.from(row[column] as string));
  }
  assert.deepEqual(
    rows.map((_, i) => columnwise.of(i).value),
    rows.map((row) => digestOfTexts(row)),
  );
});

test('one flipped bit anywhere changes about half of the 64 bits, and never none', () => {
  const text = 'wallet 4Nd1mY… 2026-01-12 10:11:12';
  const base = Buffer.from(text);
  const digest = new RowDigest();
  const of = (bytes: Buffer): bigint => {
    digest.reset();
    digest.bytes(Buffer.from('17'), 0, 2);
    digest.bytes(bytes, 0, bytes.length);
    digest.nullValue();
    digest.bytes(Buffer.from('t'), 0, 1);
    return BigInt.asUintN(64, digest.value);
  };
  const bits = new Array<number>(64).fill(0);
  let changes = 0;
  for (let i = 0; i < base.length * 8; i += 1) {
    const flipped = Buffer.from(base);
    flipped[i >> 3] = (flipped[i >> 3] as number) ^ (1 << (i & 7));
    const difference = of(base) ^ of(flipped);
    assert.notEqual(difference, 0n);
    for (let bit = 0; bit < 64; bit += 1) if ((difference >> BigInt(bit)) & 1n) bits[bit] = (bits[bit] as number) + 1;
    changes += 1;
  }
  const shares = bits.map((count) => count / changes);
  assert.ok(Math.min(...shares) > 0.35 && Math.max(...shares) < 0.65, JSON.stringify(shares));
});

test('a million neighbouring rows, no two alike', () => {
  const seen = new Set<bigint>();
  const lower = new Set<number>();
  const digest = new RowDigest();
  for (let i = 0; i < 1_000_000; i += 1) {
    digest.reset();
    digest.text(String(i));
    digest.nullValue();
    digest.text(String(i % 7));
    seen.add(digest.value);
    lower.add(digest.low(digest.high));
  }
  assert.equal(seen.size, 1_000_000);
  // 32 random bits: about n²/2³³ = 116 pairs alike.
  assert.ok(1_000_000 - lower.size < 300, `${1_000_000 - lower.size} alike in the lower half`);
});

test('sums do not depend on the order, and count modulo 2^64', () => {
  const digests = ROWS.map(digestOfTexts);
  const [forth, back] = [new DigestSum(), new DigestSum()];
  for (const digest of digests) forth.addValue(digest);
  for (const digest of digests.toReversed()) back.addValue(digest);
  const exact = digests.reduce((sum, digest) => BigInt.asUintN(64, sum + digest), 0n);
  assert.equal(forth.toString(), exact.toString());
  assert.equal(back.toString(), exact.toString());
  assert.equal(new DigestSum().toString(), '0');
});
