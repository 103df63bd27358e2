/** What the page is shown is counted right: rates and ages, days, halts. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { daysOfMonth, months } from '../../../services/console/calendar.js';
import { FIELDS, History, type Look } from '../../../services/console/history.js';
import { allHalts } from '../../../services/console/picture.js';
import { Sessions } from '../../../services/console/session.js';
import type { FileEntry } from '../../../src/archive/manifest-format.js';
import type { Lsn } from '../../../src/position/lsn.js';
import { parseConfig } from '../../../src/runtime/config.js';
import { Secret } from '../../../src/runtime/config-values.js';
import { Halt } from '../../../src/runtime/errors.js';
import { lastWordsOf } from '../../../src/runtime/supervision.js';
import { tableHalts } from '../../../src/status/halt-notice.js';

const lsn = (n: number): Lsn => BigInt(n) as Lsn;
const look = (at: number, insert: number, fence: number, rows: number): Look => ({
  at,
  insert: lsn(insert),
  tail: lsn(insert),
  position: lsn(fence),
  fence: lsn(fence),
  confirmed: null,
  heldBytes: null,
  archivedRows: rows,
  prunedRows: null,
  publishedSeconds: 0,
  archivedSeconds: 0,
});

test('rates are means over the last seconds, lag in seconds is the age of a position; unknown stays unknown', () => {
  const history = new History();
  const first = history.add(look(1_000_000, 1000, 900, 50));
  assert.equal(first.walRate, null, 'one look has no rate');
  assert.equal(first.coveredBytes, 100);
  assert.equal(first.coveredSeconds, null, 'the WAL ended there before anybody looked');
  assert.equal(first.confirmedBytes, null);
  history.add(look(1_002_000, 3000, 1000, 50));
  const third = history.add(look(1_004_000, 5000, 3000, 40));
  assert.equal(third.walRate, 1000);
  assert.equal(third.coveredSeconds, 2, 'the WAL ended at 3000 two seconds ago');
  assert.equal(third.rowRate, 0, 'what merging takes away is no rate below 0');
  const late = history.add(look(1_060_000, 6000, 6000, 90));
  assert.equal(late.walRate, null, 'nobody looked for a minute');
  assert.equal(late.coveredSeconds, 0);
  assert.deepEqual(
    history.rows()[2],
    FIELDS.map((field) => third[field]),
  );
});

test('the history is bounded', () => {
  const history = new History();
  for (let i = 0; i < 2500; i += 1) history.add(look(i * 2000, i, i, i));
  assert.equal(history.rows().length, 1800);
  assert.equal(history.rows()[0]?.[0], 700 * 2000);
});

const file = (change: Partial<FileEntry>): FileEntry =>
  ({ file: 'prices/x', kind: 'segment', schema: 'public', table: 'prices', day: '2026-01-12', rows: 10, bytes: 100, ...change }) as FileEntry;

test('a day is open, sealed, or sealed with rows that came later', () => {
  const { tables } = parseConfig('source: { url: "postgresql://x", name: goat }\ntables: { prices: { timestamp: at } }', { file: '/x/tidemark.yaml' });
  const files = [
    file({ day: '2026-01-11', kind: 'daily', file: 'prices/b', rows: 7 }),
    file({ day: '2026-01-11', kind: 'daily', file: 'prices/a', rows: 5 }),
    file({ day: '2026-01-11', kind: 'history', rows: 3 }),
    file({}),
    file({ rows: 2 }),
    file({ day: '2026-01-10', kind: 'daily' }),
    file({ day: '2026-01-10' }),
    file({ day: '2026-02-01' }),
    file({ kind: 'keys', day: null }),
    file({ table: 'stranger' }),
  ];
  assert.deepEqual(months(files), ['2026-02', '2026-01']);
  const days = daysOfMonth(tables, files, '2026-01')[0]?.days;
  assert.deepEqual(
    days?.map(({ day, state, rows, bytes, segments, dailies, history }) => [day, state, rows, bytes, segments, dailies.length, history]),
    [
      ['2026-01-10', 'late', 20, 200, 1, 1, 0],
      ['2026-01-11', 'sealed', 12, 200, 0, 2, 3],
      ['2026-01-12', 'open', 12, 200, 2, 0, 0],
    ],
  );
  assert.deepEqual(days?.[1]?.dailies, ['prices/a', 'prices/b']);
});

test('a halt is shown once, with what was seen, what is safe and the remedy', () => {
  const halt = new Halt('POISON', {
    seen: 'a chunk cannot be decoded.',
    safe: 'Nothing was archived of it.',
    remedy: 'stop the services, `tidemark repair --stream`',
  });
  const words = lastWordsOf(halt, new Date(0));
  const archiver = { service: 'archiver', state: 'halted' as const, since: words.at, restarts: 0, last: words };
  const said = { halt: 'POISON' as const, where: 'archiver', seen: halt.seen, safe: halt.safe, remedy: halt.remedy as string, at: words.at };
  assert.deepEqual(allHalts([{ ...said, where: 'capture', at: null }], [archiver]), [said]);
  assert.deepEqual(allHalts([], [{ ...archiver, state: 'running' }]), [], 'it was started again since');
  assert.equal(allHalts([], [{ ...archiver, last: null }])[0]?.halt, null, 'it did not say why');
  const digest = new Halt('DIGEST', {
    seen: 'a row differs.',
    safe: 'Nothing of this batch was deleted; the other tables go on.',
    remedy: '`tidemark repair prices`',
  });
  const table = { oid: 1, schema: 'public', table: 'prices', nominated: 1, deleted: 0, batches: 0, left: {} };
  const run = { type: 'run' as const, run: 'x', at: '', finishedAt: '2026-01-12T00:00:00Z', dryRun: false };
  assert.deepEqual(
    tableHalts({
      ...run,
      tables: [
        { ...table, problem: `${digest.message} → ${digest.remedy}` },
        { ...table, problem: 'prune: false' },
      ],
    }),
    [{ halt: 'DIGEST', where: 'prices', seen: digest.seen, safe: digest.safe, remedy: digest.remedy, at: run.finishedAt }],
  );
});

test('a session ends, sessions are bounded, and an address that guesses is refused for a while', () => {
  const sessions = new Sessions(new Secret('sixteen letters!'));
  const first = sessions.open(0);
  assert.ok(sessions.isOpen(first, 12 * 3_600_000 - 1));
  assert.ok(!sessions.isOpen(first, 12 * 3_600_000));
  assert.ok(!sessions.isOpen('guessed', 0));
  const second = sessions.open(1);
  assert.ok(sessions.isWishToken(sessions.wishToken(second), second));
  assert.ok(!sessions.isWishToken(sessions.wishToken(second), first), 'bound to its session');
  for (let i = 0; i < 64; i += 1) sessions.open(2);
  assert.ok(!sessions.isOpen(second, 2), 'the oldest goes');
  for (let i = 0; i < 10; i += 1) assert.ok(!sessions.tokenIsRight('guess', '10.0.0.7', 1000 + i));
  assert.ok(!sessions.tokenIsRight('sixteen letters!', '10.0.0.7', 2000), 'too many were wrong');
  assert.ok(sessions.tokenIsRight('sixteen letters!', '10.0.0.8', 2000), 'others are let in');
  assert.ok(sessions.tokenIsRight('sixteen letters!', '10.0.0.7', 62_000), 'a minute later again');
});
