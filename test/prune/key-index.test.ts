/** Keys are found by their bytes, each at its newest row. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyIndex, KeyTexts } from '../../src/prune/key-index.js';
import { segmentColumn } from '../../src/segment/columns.js';
import { PackedBytes } from '../../src/segment/packed-values.js';
import { RowTexts, ValueTexts } from '../../src/segment/value-texts.js';

const form = (typeOid: number) => segmentColumn({ name: 'c', typeOid, typmod: -1, key: false });

function numbers(values: readonly bigint[]): RowTexts {
  const { places, text } = form(20);
  return new RowTexts(new ValueTexts(BigInt64Array.from(values), places, text), undefined, () => null);
}

/** NULL is null. */
function texts(values: readonly (string | null)[]): RowTexts {
  const there = values.filter((value) => value !== null).map((value) => Buffer.from(value));
  let end = 0;
  const ends = Uint32Array.from(there, ({ length }) => {
    end += length;
    return end;
  });
  const starts = Uint32Array.from(ends, (_, i) => (i === 0 ? 0 : (ends[i - 1] as number)));
  let next = 0;
  const at = Int32Array.from(values, (value) => (value === null ? -1 : next++));
  const { places, text } = form(25);
  return new RowTexts(new ValueTexts(new PackedBytes(Buffer.concat(there), starts, ends), places, text), at, () => null);
}

test('each of many keys of two columns is found at its newest row, and no other', () => {
  const ids = Array.from({ length: 30_000 }, (_, row) => BigInt(((row * 7919) % 20_011) - 10_000) * 4_294_967_296n);
  const names = ids.map((id) => (id % 3n === 0n ? 'é'.repeat(300) : `n${id}`));
  const index = new KeyIndex([numbers(ids), texts(names)], ids.length, (row, other) => row > other);
  const newest = new Map(ids.map((id, row) => [id, row]));
  assert.ok(newest.size < ids.length, 'some keys are there twice');
  const key = new KeyTexts();
  for (const [id, row] of newest) assert.equal(index.find(key.takeTexts([String(id), names[row] as string])), row);
  for (const id of [...newest.keys()].slice(0, 1000)) assert.equal(index.find(key.takeTexts([String(id + 1n), `n${id}`])), undefined);
});

test('the newest row is what isNewer says, not the last', () => {
  const index = new KeyIndex([texts(['a', 'b', 'a'])], 3, (row, other) => row < other);
  assert.equal(index.find(new KeyTexts().takeTexts(['a'])), 0);
});

test('where one column ends and the next begins belongs to the key; a row without a part of its key has none', () => {
  const index = new KeyIndex([texts(['ab', 'a', '', null]), texts(['c', 'bc', '', ''])], 4, () => true);
  const found = (...of: string[]): number | undefined => index.find(new KeyTexts().takeTexts(of));
  assert.deepEqual([found('ab', 'c'), found('a', 'bc'), found('', ''), found('abc', ''), found('', 'abc')], [0, 1, 2, undefined, undefined]);
});

test('of no rows nothing is found', () => {
  assert.equal(new KeyIndex([texts([])], 0, () => true).find(new KeyTexts().takeTexts([''])), undefined);
});
