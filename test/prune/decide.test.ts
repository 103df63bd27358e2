/** The pure decisions of pruning: comparison, clocks, pace. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clocksDisagree, Pace } from '../../src/prune/brakes.js';
import { compareRow } from '../../src/prune/compare.js';
import { type Archived, keyOf } from '../../src/prune/proof.js';
import type { Target } from '../../src/prune/target.js';

const target = { signature: 's2', columns: [{ name: 'id' }, { name: 'v' }, { name: 'added' }] } as unknown as Target;
const archived = (texts: Record<string, string | null>, change: Partial<Archived> = {}): Archived => ({
  file: 'f',
  signature: 's2',
  lsn: 1n,
  ordinal: 1n,
  unresolved: false,
  digest: 0n,
  texts: new Map(Object.entries(texts)),
  ...change,
});

test('a row is equal only when every column is', () => {
  const whole = { id: '1', v: 'a', added: null };
  assert.equal(compareRow(target, ['1', 'a', null], archived(whole)), 'equal');
  assert.equal(compareRow(target, ['1', 'a', null], undefined), 'absent');
  assert.equal(compareRow(target, ['1', 'a', null], archived(whole, { unresolved: true })), 'unresolved');
  assert.equal(compareRow(target, ['1', 'b', null], archived(whole)), 'differs');
  assert.equal(compareRow(target, ['1', '', null], archived({ ...whole, v: null })), 'differs', 'NULL is not empty');
  assert.equal(compareRow(target, ['1', 'a', null], archived({ id: '1', v: 'a' }, { signature: 's1' })), 'equal', 'a column added since, NULL in the live row');
  assert.equal(compareRow(target, ['1', 'a', '5'], archived({ id: '1', v: 'a' }, { signature: 's1' })), 'other-schema', 'a column added with a default');
});

test('keys of several columns cannot be confused', () => {
  assert.notEqual(keyOf(['1', '23']), keyOf(['12', '3']));
});

test('law 12: no batch runs when the clocks are more than five minutes apart', () => {
  const now = 1_800_000_000_000;
  const minutes = (count: number): number => now + count * 60_000;
  assert.equal(clocksDisagree({ database: now, ours: minutes(4.9), newestCommit: undefined }), undefined);
  assert.match(clocksDisagree({ database: minutes(48 * 60), ours: now, newestCommit: undefined }) ?? '', /apart/);
  assert.match(clocksDisagree({ database: now, ours: minutes(5.1), newestCommit: undefined }) ?? '', /apart/);
  assert.equal(clocksDisagree({ database: now, ours: now, newestCommit: minutes(-60 * 24) }), undefined, 'a quiet database has old commits');
  assert.match(clocksDisagree({ database: now, ours: now, newestCommit: minutes(6) }) ?? '', /set back/);
});

test('the pace keeps the average at the limit', async () => {
  const pace = new Pace(100_000, new AbortController().signal);
  const started = performance.now();
  for (let i = 0; i < 5; i += 1) await pace.after(5000);
  assert.ok(performance.now() - started >= 240, '25,000 rows at 100,000 a second');
});
