/** Decision 11: the day of a row stands in the text of its timestamp; what has no plain day is undated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dayOf, dayOfBytes, nextDay } from '../../src/segment/day.js';

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

test('the bytes of a text have the same day as the text, whatever is wrong with it', () => {
  const plain = ['2026-01-12', '2026-01-12 00:00:00', '2026-01-13 23:59:59.999999', '2026-01-12 10:00:00+00', '2026-01-12 10:00:00.5+00'];
  const odd = [
    '',
    'infinity',
    '0044-03-15 12:00:00 BC',
    '10000-01-01',
    '2026-01-12 10:00:00+01',
    '2026-01-12 10:00:00.1234567',
    '2026-01-12 10:00:00.',
    '2026-01-12 10:00:00.+00',
  ];
  const marks = [...'0129-:.+ /;'];
  const texts = [...plain, ...odd];
  for (const text of plain) {
    for (let at = 0; at <= text.length; at += 1) {
      texts.push(text.slice(0, at), text.slice(0, at) + text.slice(at + 1));
      for (const mark of marks) texts.push(text.slice(0, at) + mark + text.slice(at), text.slice(0, at) + mark + text.slice(at + 1));
    }
  }
  for (const text of texts) {
    const around = Buffer.from(`2026${text}+00`);
    assert.equal(dayOfBytes(around, 4, 4 + text.length), dayOf(text), JSON.stringify(text));
  }
});

test('the day after, over months, leap days and years', () => {
  assert.deepEqual(['2026-01-31', '2024-02-28', '2026-02-28', '2026-12-31'].map(nextDay), ['2026-02-01', '2024-02-29', '2026-03-01', '2027-01-01']);
});
