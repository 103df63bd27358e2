import assert from 'node:assert/strict';
import { test } from 'node:test';
import { confirmedTables, expiredDays, keptDay } from '../../src/archive/expire.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { parseConfig } from '../../src/runtime/config.js';

const NOW = Date.parse('2026-03-01T00:00:00Z');
const DAY_MS = 86_400_000;
const config = (tables: string, archive = ''): ReturnType<typeof parseConfig> =>
  parseConfig(`source: { url: "postgres://localhost/x", name: x }\n${archive}\ntables:\n${tables}`, { file: 'x' });
const entry = (table: string, day: string | null, kind: FileEntry['kind'], file = `${table}/${kind}_${day}`): FileEntry => ({
  file, kind, day, schema: 'public', table, oid: 1, rows: 1, bytes: 1, sha256: '', signature: '', digestSum: '0', minTimestamp: null, maxTimestamp: null, minLsn: '0/0', maxLsn: '0/0', pendingCopy: null,
}); // biome-ignore format: an entry
const days = (entries: readonly FileEntry[], tables: string, committedAt: string | null = new Date(NOW).toISOString()): string[] =>
  expiredDays({ files: new Map(entries.map((one) => [one.file, one])), committedAt }, config(tables).tables, NOW).map(
    ({ table, day, files }) => `${table} ${day} ${files.length}`,
  );

test('a day goes with all its sealed files, once its end lies keep behind; to the moment', () => {
  const files = [
    entry('a', '2026-01-29', 'daily'),
    entry('a', '2026-01-29', 'history'),
    entry('a', '2026-01-29', 'changes'),
    entry('a', '2026-01-30', 'daily'),
  ];
  assert.deepEqual(days(files, '  a: { timestamp: at, keep: 30d }'), ['a 2026-01-29 3']);
  assert.equal(keptDay('2026-01-29', 30 * DAY_MS, { committedAt: new Date(NOW).toISOString() }, NOW), false);
  assert.equal(keptDay('2026-01-29', 30 * DAY_MS + 1, { committedAt: new Date(NOW).toISOString() }, NOW), true);
});

test('never a day with open segments or restored rows, a row without a day, a table that is kept for ever or is not configured', () => {
  const old = '2020-01-01';
  const tables = '  a: { timestamp: at, keep: 30d }\n  b: { timestamp: at }';
  assert.deepEqual(days([entry('a', old, 'daily'), entry('a', old, 'segment')], tables), []);
  assert.deepEqual(days([entry('a', old, 'daily'), entry('a', old, 'restored')], tables), [], 'the proof of a restored row is there');
  assert.deepEqual(days([entry('a', null, 'daily'), entry('b', old, 'daily'), entry('c', old, 'daily'), entry('a', null, 'keys')], tables), []);
});

test('a clock that was set forward takes nothing: the earlier of ours and the database’s counts, and without any nothing goes', () => {
  const files = [entry('a', '2026-01-29', 'daily')];
  assert.deepEqual(days(files, '  a: { timestamp: at, keep: 30d }', '2026-02-28T23:59:59Z'), []);
  assert.deepEqual(days(files, '  a: { timestamp: at, keep: 30d }', '2027-01-01T00:00:00Z'), ['a 2026-01-29 1']);
  assert.deepEqual(days(files, '  a: { timestamp: at, keep: 30d }', null), []);
});

test('keep is that of the archive unless a table has its own; forever is for ever; what is shorter than the retention is refused', () => {
  const { tables } = config('  a: { timestamp: at }\n  b: { timestamp: at, keep: 3d }\n  c: { timestamp: at, keep: forever }', 'archive: { keep: 2y }');
  assert.deepEqual(tables.map(({ keepMs }) => keepMs), [2 * 31_557_600_000, 3 * DAY_MS, undefined]); // biome-ignore format: one line
  assert.deepEqual(config('  a: { timestamp: at }').tables[0]?.keepMs, undefined);
  assert.throws(() => config('  a: { timestamp: at, keep: 3d, retention: 4d }'), /tables\.a: keep is shorter than its retention/);
  assert.throws(() => config('  a: { timestamp: at, keep: 3h, retention: 1h }'), /tables\.a: keep is shorter than a day/);
  assert.throws(() => config('  a: { timestamp: at, keep: soon }'), /keep/);
});

test('by itself only what a person has confirmed goes, and nothing younger than that', () => {
  const { tables } = config('  a: { timestamp: at, keep: 30d }\n  b: { timestamp: at, keep: 30d }\n  c: { timestamp: at, keep: 30d }\n  d: { timestamp: at }');
  const confirmed = { 'public.a': 30 * DAY_MS, 'public.b': 60 * DAY_MS, 'public.d': 1 };
  assert.deepEqual(confirmedTables(tables, confirmed).map(({ key }) => key), ['a']); // biome-ignore format: one line
});
