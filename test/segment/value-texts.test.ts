/** The texts of decoded values as bytes are those of the form's `text`, which postgres-text.test.ts holds against a server. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { segmentColumn } from '../../src/segment/columns.js';
import { PackedBooleans, PackedBytes, type Values } from '../../src/segment/packed-values.js';
import { RowTexts, ValueTexts } from '../../src/segment/value-texts.js';
import { numeric } from './world.js';

const COUNT = 20_000;
const form = (typeOid: number, typmod = -1) => segmentColumn({ name: 'c', typeOid, typmod, key: false });
const bytes = randomBytes(COUNT * 16);
const each = <T>(make: (i: number) => T): T[] => Array.from({ length: COUNT }, (_, i) => make(i));
/** Of all lengths: the random bits lose some of their number. */
const bits = (i: number): bigint => BigInt.asIntN(64, bytes.readBigInt64BE(i * 16)) >> BigInt(i % 64);
const exactly = (i: number, within: bigint): bigint => ((bits(i) % within) + within) % within;

/** Of 16 bytes each, the highest first. */
function packed(values: readonly bigint[]): PackedBytes {
  const all = Buffer.alloc(values.length * 16);
  values.forEach((value, i) => {
    all.writeBigInt64BE(value >> 64n, i * 16);
    all.writeBigUInt64BE(BigInt.asUintN(64, value), i * 16 + 8);
  });
  return new PackedBytes(
    all,
    Uint32Array.from(values, (_, i) => i * 16),
    Uint32Array.from(values, (_, i) => (i + 1) * 16),
  );
}

const LIMITS = [0n, 1n, -1n, 9n, 10n, 99n, 100n, 2n ** 31n - 1n, 2n ** 31n, -(2n ** 31n), 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n), -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n), 10n ** 15n, 10n ** 15n - 1n, -(10n ** 15n)]; // biome-ignore format: one list
const FIRST = -62_135_596_800_000_000n; // 0001-01-01
const SPAN = 253_402_300_800_000_000n - FIRST; // to the end of 9999
const moments = (): BigInt64Array => BigInt64Array.from([FIRST, FIRST + SPAN - 1n, 0n, -1n, 1n, 999_999n, 1_000_000n, -1_000_000n, ...each((i) => FIRST + exactly(i, SPAN)), ...each((i) => exactly(i, 2n ** 52n) - 2n ** 51n)]); // biome-ignore format: one list
const wide = [
  ...LIMITS,
  ...each((i) => bits(i) * 2n ** BigInt((i % 3) * 20)),
  10n ** 38n - 1n,
  -(10n ** 38n) + 1n,
  ...each((i) => BigInt((i - COUNT / 2) * 7)),
];

const KINDS: readonly [name: string, type: [number, number?], values: Values][] = [
  ['int2', [21], Int32Array.from([0, -1, 32_767, -32_768, ...each((i) => bytes.readInt16BE(i * 16))])],
  ['int4', [23], Int32Array.from([0, 2 ** 31 - 1, -(2 ** 31), ...each((i) => bytes.readInt32BE(i * 16) >> (i % 32))])],
  ['int8', [20], BigInt64Array.from([...LIMITS, ...each(bits)])],
  ['float8', [701], Float64Array.from([0, -0, Number.NaN, Infinity, -Infinity, 1e15, -1e15, 1e15 - 1, 5e-324, 0.5, ...each((i) => bytes.readDoubleBE(i * 16)), ...each((i) => (i - COUNT / 2) / 8), ...each((i) => Number(bits(i)))])],
  ['float4', [700], Float32Array.from([0, Number.NaN, Infinity, 1e6, ...each((i) => bytes.readFloatBE(i * 16)), ...each((i) => i / 8)])],
  ['bool', [16], new PackedBooleans(Uint8Array.from(each((i) => (bytes[i] as number) & 1)))],
  ['date', [1082], Int32Array.from([-719_162, 2_932_896, 0, -1, ...each((i) => Number(exactly(i, 3_652_059n)) - 719_162)])],
  ['time', [1083], BigInt64Array.from([0n, 86_399_999_999n, ...each((i) => exactly(i, 86_400_000_000n))])],
  ['timestamp', [1114], moments()],
  ['timestamptz', [1184], moments()],
  ['numeric(20,8)', numeric(20, 8), packed(wide)],
  ['numeric(38,0)', numeric(38, 0), packed(wide)],
  ['numeric(15,15)', numeric(15, 15), packed(wide)],
  ['numeric(38,20)', numeric(38, 20), packed(wide)],
  ['numeric(9,2) of a daily file', numeric(9, 2), Int32Array.from([0, 999_999_999, -999_999_999, 5, -5, ...each((i) => bytes.readInt32BE(i * 16) >> (i % 32))])],
  ['numeric(18,4) of a daily file', numeric(18, 4), BigInt64Array.from([...LIMITS, ...each(bits)])],
  ['text', [25], packed(wide)],
  ['bytea', [17], packed(wide)],
  ['values in an array', [20], [1n, 2n ** 63n - 1n, 5]],
  ['lists', [1007], [[1, null, 3], []] as never],
]; // biome-ignore format: a table

test('each value of each kind has the bytes of its text', () => {
  for (const [name, type, values] of KINDS) {
    const { places, text } = form(...type);
    const texts = new ValueTexts(values, places, text);
    for (let i = 0; i < values.length; i += 1) {
      const expected = Buffer.from(text(values.at(i) as never), 'utf8');
      texts.at(i);
      const found = texts.buffer.subarray(texts.start, texts.end);
      if (name === 'text') assert.ok(found.equals(values.at(i) as Buffer), 'the bytes as they lie there');
      else if (!found.equals(expected)) assert.fail(`${name} ${i}: ${found.toString()} instead of ${expected.toString()}`);
      if (name !== 'text') assert.equal(texts.text(), expected.toString());
    }
  }
});

test('a row is a text only byte for byte, and NULL only when it has none', () => {
  const { places, text } = form(25);
  const values = ['', 'a', 'é', 'x'.repeat(100), `${'x'.repeat(99)}y`].map((value) => Buffer.from(value));
  const all = Buffer.concat(values);
  const ends = Uint32Array.from(values, (_, i) => values.slice(0, i + 1).reduce((sum, value) => sum + value.length, 0));
  const bytes = new PackedBytes(
    all,
    Uint32Array.from(values, (value, i) => (ends[i] as number) - value.length),
    ends,
  );
  const rows = new RowTexts(new ValueTexts(bytes, places, text), Int32Array.from([0, 1, 2, 3, 4, -1, -1]), (row) => (row === 5 ? 'kept é' : null));
  const found = ['', 'a', 'é', 'x'.repeat(100), `${'x'.repeat(99)}y`, 'kept é', null];
  for (const [row] of found.entries()) {
    for (const [other, value] of [...found, 'b', 'e', 'kept e', '\0'].entries()) {
      const live = Buffer.from(`?${value ?? ''}?`);
      const is = value === null ? rows.is(row, live, -1, 1) : rows.is(row, live, 1, live.length - 1);
      assert.equal(is, row === other, `row ${row} and text ${other}`);
    }
  }
});

test('a damaged time of day, or one beyond what a double counts, is not taken for another one', () => {
  const { places, text } = form(1083);
  const texts = new ValueTexts(BigInt64Array.from([-1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]), places, text);
  for (let i = 0; i < 4; i += 1) {
    texts.at(i);
    assert.doesNotMatch(texts.text(), /^\d\d:\d\d:\d\d(\.\d+)?$/);
  }
});
