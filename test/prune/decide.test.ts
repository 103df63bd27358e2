/** The pure decisions of pruning: comparison, clocks, pace. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clocksDisagree } from '../../src/prune/brakes.js';
import { setForward } from '../../src/prune/clock.js';
import { compareRow, type LiveRow } from '../../src/prune/compare.js';
import { type Archived, keyOf } from '../../src/prune/proof.js';
import type { Target } from '../../src/prune/target.js';

const target = { signature: 's2', columns: ['id', 'v', 'added'].map((name) => ({ name, typeOid: 25 })) } as unknown as Target;
const archived = (texts: Record<string, string | null>, change: Partial<Archived> = {}): Archived => ({
  file: 'f',
  signature: 's2',
  op: 'insert',
  xid: 700,
  unresolved: false,
  digest: 0n,
  is: (column, bytes, start, end) => (texts[column] ?? null) === (start < 0 ? null : Buffer.from(bytes).toString('utf8', start, end)),
  has: (column) => column in texts,
  ...change,
});

/** A row as the database gives it back. */
function live(xmin: number, texts: readonly (string | null)[]): LiveRow {
  const lengths = texts.map((text) => Buffer.byteLength(text ?? ''));
  const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((sum, length) => sum + length, 0));
  return {
    xmin,
    bytes: Buffer.from(texts.join('')),
    starts: texts.map((text, i) => (text === null ? -1 : (ends[i] as number) - (lengths[i] as number))),
    ends,
  };
}

test('a row is equal only when every column is', () => {
  const whole = { id: '1', v: 'a', added: null };
  const same = (texts: (string | null)[], then: Archived | undefined): string => compareRow(target, live(700, texts), then, '500');
  assert.equal(same(['1', 'a', null], archived(whole)), 'equal');
  assert.equal(same(['1', 'a', null], undefined), 'absent');
  assert.equal(same(['1', 'a', null], archived(whole, { unresolved: true })), 'unresolved');
  assert.equal(same(['1', 'b', null], archived(whole)), 'differs');
  assert.equal(same(['1', '', null], archived({ ...whole, v: null })), 'differs', 'NULL is not empty');
  assert.equal(same(['1', 'a', null], archived({ id: '1', v: 'a' }, { signature: 's1' })), 'equal', 'a column added since, NULL in the live row');
  assert.equal(same(['1', 'a', '5'], archived({ id: '1', v: 'a' }, { signature: 's1' })), 'widened', 'a column added with a default');
  assert.equal(same(['1', 'b', '5'], archived({ id: '1', v: 'a' }, { signature: 's1' })), 'other-schema', 'and another value');
});

test('a row that differs is accused only when it is the very version that was archived', () => {
  const then = archived({ id: '1', v: 'a', added: null });
  const copied = archived({ id: '1', v: 'a', added: null }, { op: 'copy', xid: 0 });
  const verdict = (xmin: number, version: Archived, copiedBefore = '500'): string => compareRow(target, live(xmin, ['1', 'b', null]), version, copiedBefore);
  assert.equal(verdict(700, then), 'differs');
  assert.equal(verdict(701, then), 'rewritten', 'ALTER TABLE … USING wrote it');
  assert.equal(verdict(499, copied), 'differs', 'it was in the copy as it is');
  assert.equal(verdict(500, copied), 'rewritten');
  assert.equal(verdict(5, copied, String(2n ** 32n - 10n)), 'rewritten', 'ids wrap');
  assert.equal(verdict(2 ** 32 - 11, copied, String(2n ** 32n - 10n)), 'differs');
  const labels = { ...target, columns: target.columns.map((column) => ({ ...column, typeOid: column.name === 'v' ? 20_000 : 25 })) };
  assert.equal(compareRow(labels, live(700, ['1', 'b', null]), then, '500'), 'other-schema', 'a label of an enum was renamed');
  assert.equal(compareRow(labels, live(700, ['2', 'b', null]), then, '500'), 'differs');
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

test('law 12: a clock that was set forward while the machine counted on is not believed, also when all clocks went together', () => {
  const boot = { id: 'a', at: 1_800_000_000_000 };
  const later = (ms: number, id = 'a') => ({ id, at: boot.at + ms });
  assert.match(setForward(boot, later(48 * 3_600_000)) ?? '', /set forward by 172800 s/);
  assert.match(setForward(boot, later(300_001)) ?? '', /set forward by 300 s/);
  assert.equal(setForward(boot, later(299_999)), undefined);
  assert.equal(setForward(boot, later(-48 * 3_600_000)), undefined, 'set back: rows leave later');
  assert.equal(setForward(boot, later(48 * 3_600_000, 'b')), undefined, 'another boot: nothing is known');
  assert.equal(setForward(undefined, boot), undefined);
});
