/** Which rows are meant: options and the SQL they become. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionSql, mayHold, parseSelection } from '../../src/restore/selection.js';
import { copyLine } from '../../src/restore/stage.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';

const metadata = (typeOid: number): SegmentMetadata => ({
  formatVersion: 1, archive: '', kind: 'daily', oid: 1, schema: 'public', table: 't', day: null, timestamp: 'at', key: [], signature: '',
  columns: [{ name: 'at', typeOid, typmod: -1, key: false }], types: {}, columnTypes: {}, ddl: '',
}); // biome-ignore format: one value

test('times count in UTC for timestamptz, as they stand for timestamp and date', () => {
  const sql = (from: string, typeOid = 1184): string => conditionSql(parseSelection({ from }), metadata(typeOid));
  assert.equal(sql('2026-01-12'), `"at" >= CAST('2026-01-12 00:00:00+00:00' AS TIMESTAMPTZ)`);
  assert.equal(sql('2026-01-12 10:30'), `"at" >= CAST('2026-01-12 10:30:00+00:00' AS TIMESTAMPTZ)`);
  assert.equal(sql('2026-01-12T10:30:01.5-0330'), `"at" >= CAST('2026-01-12 10:30:01.5-03:30' AS TIMESTAMPTZ)`);
  assert.equal(sql('2026-01-12 10:30+02'), `"at" >= CAST('2026-01-12 10:30:00+02:00' AS TIMESTAMPTZ)`);
  assert.equal(sql('2026-01-12 10:30', 1114), `"at" >= CAST('2026-01-12 10:30:00' AS TIMESTAMP)`);
  assert.throws(() => sql('2026-01-12 10:30Z', 1114), /has no time zone/);
  assert.throws(() => sql('2026-01-12', 25), /kept as text/);
  assert.equal(
    conditionSql({ to: '2026-01-12', where: 'a = 1 -- all' }, metadata(1082)),
    `"at" < CAST('2026-01-12 00:00:00' AS TIMESTAMP) AND (a = 1 -- all\n)`,
  );
  assert.equal(conditionSql({ from: '2026-01-12' }, { ...metadata(1184), columns: [] }), 'false');
});

test('a span begins before it ends, to the microsecond, whatever the offsets', () => {
  const span = (from: string, to: string) => (): unknown => parseSelection({ from, to });
  for (const [from, to] of [
    ['2026-11-23', '2026-11-22'],
    ['2026-11-23', '2026-11-23 00:00'],
    ['2026-01-12 10:00:00.000002', '2026-01-12 10:00:00.000001'],
    ['2026-01-12 10:00+00', '2026-01-12 11:30+02'],
  ] as const)
    assert.throws(span(from, to), /is not before --to/, `${from} ${to}`);
  assert.ok(span('2026-01-12 10:00:00.000001', '2026-01-12 10:00:00.000002')());
  assert.ok(span('2026-01-12 11:30+02', '2026-01-12 10:00Z')());
});

test('days whose files may hold rows of a span, with room for offsets', () => {
  const days = ['2026-01-10', '2026-01-11', '2026-01-12', '2026-01-13', null];
  const held = (selection: Parameters<typeof mayHold>[1]): (string | null)[] => days.filter((day) => mayHold({ day }, selection));
  assert.deepEqual(held({}), days);
  assert.deepEqual(held({ day: 'undated' }), [null]);
  assert.deepEqual(held({ day: '2026-01-11' }), ['2026-01-11']);
  assert.deepEqual(held({ from: '2026-01-12 00:30+02' }), ['2026-01-11', '2026-01-12', '2026-01-13']);
  assert.deepEqual(held({ to: '2026-01-10' }), ['2026-01-10', '2026-01-11']);
});

test('lines of COPY: NULL, empty and what needs an escape', () => {
  assert.equal(copyLine([null, '', '\\N', 'a\tb\nc\rd\\', '\u0001é']), '\\N\t\t\\\\N\ta\\tb\\nc\\rd\\\\\t\u0001é\n');
});
