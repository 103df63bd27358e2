/** Decision 11: the day of a row stands in the text of its timestamp; what has no plain day is undated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dayOf, nextDay } from '../../src/segment/day.js';

test('dates and timestamps as Postgres prints them have their own day', () => {
  for (const text of ['2026-01-12', '2026-01-12 00:00:00', '2026-01-12 23:59:59.999999', '2026-01-12 10:00:00+00', '2026-01-12 10:00:00.5+00']) {
    assert.equal(dayOf(text), '2026-01-12', text);
  }
  assert.equal(dayOf('0001-01-01 00:00:00'), '0001-01-01');
});

test('NULL, infinities, BC, years of five digits and other zones have none', () => {
  for (const text of [
    null,
    '',
    'infinity',
    '-infinity',
    '0044-03-15 BC',
    '0044-03-15 12:00:00 BC',
    '10000-01-01',
    '2026-01-12 10:00:00+01',
    '2026-1-12',
    ' 2026-01-12',
  ]) {
    assert.equal(dayOf(text), null, String(text));
  }
});

test('the day after, over months, leap days and years', () => {
  assert.deepEqual(['2026-01-31', '2024-02-28', '2026-02-28', '2026-12-31'].map(nextDay), ['2026-02-01', '2024-02-29', '2026-03-01', '2027-01-01']);
});
