/** When a fence is due: a table of cases (an idle server is never kept awake). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceEvery } from '../../src/change/fence.js';
import { FENCE_WAL_BYTES, type FenceFacts, fenceDue } from '../../src/wal/fence.js';

const base: FenceFacts = { now: 10_000, everyMs: 1000, lastFenceAt: 0, rowsSince: 0, walSince: 0n, owed: false };
const CASES: [what: string, change: Partial<FenceFacts>, due: boolean][] = [
  ['idle', {}, false],
  ['idle for a year', { now: 31_557_600_000 }, false],
  ['a row of ours', { rowsSince: 1 }, true],
  ['at most one a second', { rowsSince: 1000, lastFenceAt: 9001 }, false],
  ['a second later', { rowsSince: 1000, lastFenceAt: 9000 }, true],
  ['other people’s WAL, less than 64 MB', { walSince: FENCE_WAL_BYTES - 1n }, false],
  ['other people’s WAL, 64 MB', { walSince: FENCE_WAL_BYTES }, true],
  ['one is owed', { owed: true }, true],
];
for (const [flushMs, everyMs] of [
  [1000, 200],
  [2000, 400],
  [60_000, 1000],
  [10, 200],
] as const) {
  test(`flushed every ${flushMs} ms: a fence every ${everyMs} ms`, () => {
    assert.equal(fenceEvery(flushMs), everyMs);
  });
}
for (const [what, change, due] of CASES) {
  test(`${what}: ${due ? 'due' : 'not due'}`, () => {
    assert.equal(fenceDue({ ...base, ...change }), due);
  });
}
