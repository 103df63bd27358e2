/** Law 13 in the small: which texts a typed column may take, what type it is in the file, and the traps of the readers (facts.md, "Parquet from Node"). */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import parquet from '@dsnp/parquetjs';
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet';
import type { TableDescription } from '../../src/change/relation.js';
import { segmentColumn } from '../../src/segment/columns.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { literal } from '../../src/segment/sql.js';
import { verifySegment } from '../../src/segment/verify.js';
import { numeric, SegmentWorld } from './world.js';

let world: SegmentWorld;
before(async () => {
  world = await SegmentWorld.open();
});
after(() => world[Symbol.asyncDispose]());

const column = (typeOid: number, typmod = -1) => segmentColumn({ name: 'c', typeOid, typmod, key: false });

const FITS: readonly [name: string, type: [number, number], yes: readonly string[], no: readonly string[]][] = [
  ['date', [1082, -1], ['0001-01-01', '9999-12-31'], ['10000-01-01', '0044-03-15 BC', 'infinity', '-infinity', '5874897-12-31']],
  ['time', [1083, -1], ['00:00:00', '23:59:59.999999'], ['24:00:00']],
  ['timestamp', [1114, -1], ['0001-01-01 00:00:00', '9999-12-31 23:59:59.999999'], ['10000-01-01 00:00:00', '0044-03-15 12:00:00 BC', 'infinity', '-infinity', '294276-12-31 23:59:59.999999']],
  ['timestamptz', [1184, -1], ['2026-01-12 10:00:00+00', '0001-01-01 00:00:00.5+00'], ['2026-01-12 10:00:00+01', '2026-01-12 10:00:00+05:30', '0044-03-15 12:00:00+00 BC', 'infinity', '10000-01-01 00:00:00+00']],
  ['float8', [701, -1], ['0', 'NaN', 'Infinity', '-Infinity', '5e-324', '-1'], ['-0']],
  ['float4', [700, -1], ['0', 'NaN', '1e-45'], ['-0']],
  ['bytea', [17, -1], ['\\x', '\\x00ff'], ['', 'abc\\000']],
  ['numeric(20,8)', numeric(20, 8), ['0.00000000', '-123456789012.12345678'], ['NaN', 'Infinity', '-Infinity', '1', '1.5', '1.000000000', '1234567890123.00000000']],
  ['numeric(38,0)', numeric(38, 0), ['0', '-99999999999999999999999999999999999999'], ['NaN', '100000000000000000000000000000000000000', 'Infinity']],
  ['numeric(3,3)', numeric(3, 3), ['0.000', '-0.999'], ['1', '-0.9999']],
  ['text', [25, -1], ['', 'NaN', '\\x'], []],
  ['int4[]', [1007, -1], ['{}', '{1,NULL,-7}'], ['{{1},{2}}', '[0:1]={1,2}', '{1, 2}', '{"1"}', '', '{', '{1', '1}', '{1,2', '{1}}', '{1}x', '{{}}']],
  ['text[]', [1009, -1], ['{a,"b c","NULL","","\\"","\\\\","{}",NULL}', '{"null"}', '{\u00a0,é😀}'], ['{"a"}', '{null}', '{a b}', '{"a\\b"}', '{"a}', '{,}', '{"a"b}']],
  ['numeric(20,8)[]', [1231, numeric(20, 8)[1]], ['{1.00000000}'], ['{NaN}', '{1}']],
]; // biome-ignore format: a table

test('a typed column takes exactly the texts it can give back', () => {
  for (const [name, type, yes, no] of FITS) {
    const { fits } = column(...type);
    for (const [texts, expected] of [
      [yes, true],
      [no, false],
    ] as const) {
      for (const text of texts) {
        const bytes = Buffer.from(`9${text}9`);
        assert.equal(fits(bytes, 1, bytes.length - 1), expected, `${name} ${text}`);
      }
    }
  }
});

test('what is refused by the type comes back all the same, beside what is taken', async () => {
  for (const [name, type, yes, no] of FITS) {
    const rows = [...yes, ...no].map((text, i) => [String(i), text]);
    const { file, spool } = await world.segment({ id: [20, -1], c: type }, rows);
    await verifySegment(file, { rows: rows.length, digestSum: spool.digestSum });
    const reader = await SegmentReader.open(file);
    const decoded = await reader.readRowGroup(0);
    assert.deepEqual(
      rows.map((_, row) => decoded.text('c', row)),
      rows.map((row) => row[1]),
      name,
    );
    assert.deepEqual(
      rows.map((_, row) => decoded.keptText('c', row) !== null),
      rows.map((row) => no.includes(row[1] as string)),
      name,
    );
    await reader.close();
  }
});

test('numeric: decimals where Parquet can say it, text elsewhere', () => {
  assert.equal(column(...numeric(5, 2)).fileType, 'DECIMAL(19, 2)');
  assert.equal(column(...numeric(38, 10)).fileType, 'DECIMAL(38, 10)');
  for (const type of [[1700, -1], numeric(39, 0), numeric(5, -2), numeric(3, 5), numeric(1000, 1000)] as const)
    assert.equal(column(...(type as [number, number])).fileType, 'VARCHAR');
});

test('domains take the form of their base, whatever lies between; unknown types are text', () => {
  const types: TableDescription['types'] = {
    20001: { name: 'money_amount', kind: 'd', baseOid: 20002, baseTypmod: -1 },
    20002: { name: 'amount', kind: 'd', baseOid: 1700, baseTypmod: numeric(10, 2)[1] },
    20003: { name: 'mood', kind: 'e' },
  };
  const form = (typeOid: number) => segmentColumn({ name: 'c', typeOid, typmod: -1, key: false }, { types }).fileType;
  assert.deepEqual([20001, 20002, 20003, 29999, 3802, 2950, 1186].map(form), [
    'DECIMAL(19, 2)',
    'DECIMAL(19, 2)',
    'VARCHAR',
    'VARCHAR',
    'VARCHAR',
    'VARCHAR',
    'VARCHAR',
  ]);
});

const TRAPS = { id: [20, -1], big: [20, -1], n: numeric(38, 0), m: numeric(18, 2), at: [1114, -1], atz: [1184, -1] } as const;
const TRAP_ROW = ['1', '9007199254740993', '12345678901234567890123456789012345678', '19.99', '2026-01-12 10:11:12.123457', '1969-12-31 23:59:59.999999+00'];

test('the library’s records lose digits and microseconds; its column chunks, which we read, do not', async () => {
  const { file } = await world.segment(world.shape(TRAPS as never), [TRAP_ROW]);
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0);
  assert.deepEqual(
    reader.columns.map((name) => rows.text(name, 0)),
    TRAP_ROW,
  );
  const raw = async (name: string) => (await reader.readColumn(0, name)).values.at(0);
  assert.equal(await raw('big'), 9_007_199_254_740_993n);
  assert.ok(Buffer.isBuffer(await raw('n')) && Buffer.isBuffer(await raw('m')), 'decimals arrive as bytes, also short ones');
  assert.equal(await raw('atz'), -1n);
  await reader.close();

  const records = await parquet.ParquetReader.openFile(file);
  const record = (await records.getCursor().next()) as Record<string, unknown>;
  assert.ok(record['at'] instanceof Date, 'a Date has milliseconds');
  assert.equal((record['at'] as Date).getMilliseconds() * 1000, 123_000);
  await records.close();
});

test('timestamptz is adjusted to UTC, timestamp is not; every decimal has at least 19 digits', async () => {
  const { file } = await world.segment(world.shape(TRAPS as never), [TRAP_ROW]);
  const { schema } = await parquetMetadataAsync(await asyncBufferFromFile(file));
  const logical = (name: string) => schema.find((element) => element.name === name);
  const adjusted = (name: string) => (logical(name)?.logical_type as { isAdjustedToUTC?: boolean } | undefined)?.isAdjustedToUTC;
  assert.deepEqual([adjusted('at'), adjusted('atz'), adjusted('_committed_at')], [false, true, true]);
  assert.deepEqual([logical('m')?.precision, logical('m')?.scale, logical('m')?.type_length], [19, 2, 16]);
});

test('0 and -0 in one column stay apart, though DuckDB’s dictionary holds them as one', async () => {
  const rows = Array.from({ length: 3000 }, (_, i) => [String(i), i % 2 === 0 ? '0' : '-0', i % 3 === 0 ? '-0' : '0']);
  const { file, spool } = await world.segment({ id: [20, -1], a: [701, -1], b: [700, -1] }, rows);
  await verifySegment(file, { rows: rows.length, digestSum: spool.digestSum });
  // Another reader sees NULL there, and the text beside it: never a wrong value.
  const seen = await world.encoder.query(`SELECT a, _text AS kept FROM read_parquet(${literal(file)}) WHERE id = 1`);
  assert.deepEqual(seen, [{ a: null, kept: '{"a":"-0"}' }]);
});
