/** What is looked for: each digest as often as it is wanted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WantedDigests } from '../../src/restore/wanted-digests.js';

test('each digest is taken as often as it is wanted, and no other', () => {
  const wanted = new WantedDigests(BigInt64Array.of(7n, -5n, 7n, 2n ** 62n));
  assert.deepEqual(
    [7n, 0n, 7n, 7n, -5n, -5n, 2n ** 62n, -(2n ** 63n)].map((digest) => wanted.take(digest)),
    [true, false, true, false, true, false, true, false],
  );
  assert.equal(wanted.size, 0);
  assert.equal(new WantedDigests(new BigInt64Array(0)).take(1n), false);
});

test('a run of more rows than a Set holds', () => {
  const wanted = new WantedDigests(new BigInt64Array(2 ** 24 + 2));
  assert.deepEqual([wanted.take(0n), wanted.take(1n), wanted.take(0n), wanted.size], [true, false, true, 2 ** 24]);
});
