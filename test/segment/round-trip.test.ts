/** Law 13: Postgres text → spool → DuckDB → Parquet → @dsnp/parquetjs and hyparquet → the same Postgres text, for every type that has a column of its own. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { SegmentBuilder, type SegmentShape } from '../../src/segment/builder.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { digestOfTexts } from '../../src/segment/digest.js';
import { SegmentEncoder } from '../../src/segment/encoder.js';
import { segmentMetadata } from '../../src/segment/metadata.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { identifier, literal } from '../../src/segment/sql.js';
import { verifySegment } from '../../src/segment/verify.js';
import { relationOf, tupleBytes } from './tuple.js';

const numeric = (precision: number, scale: number): [number, number] => [1700, ((precision << 16) | scale) + 4];
const COLUMNS = {
  id: [20, -1], i2: [21, -1], i4: [23, -1], f4: [700, -1], f8: [701, -1], b: [16, -1], n20: numeric(20, 8), n38: numeric(38, 0), n5: numeric(5, 2), n30: numeric(30, 25), n: [1700, -1],
  t: [25, -1], v: [1043, 24], c: [1042, 14], j: [3802, -1], u: [2950, -1], by: [17, -1], d: [1082, -1], tm: [1083, -1], at: [1114, -1], atz: [1184, -1], arr: [1007, -1], iv: [1186, -1],
  a2: [1007, -1], a3: [1009, -1], at8: [1016, -1], atx: [1009, -1], an: [1231, ((20 << 16) | 8) + 4], anu: [1231, -1], af: [1022, -1], abo: [1000, -1], aby: [1001, -1], ad: [1182, -1], aatz: [1185, -1],
} satisfies Record<string, [number, number]>; // biome-ignore format: a table

/** Declared dimensions. */
const DIMENSIONS = { a2: 2, a3: 3 };

const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 1_000_000);
let state = seed;
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 0x1_0000_0000;
};
const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
const digits = (count: number): string => Array.from({ length: count }, () => Math.floor(random() * 10)).join('');
const decimal = (precision: number, scale: number): string => {
  const whole = digits(1 + Math.floor(random() * (precision - scale))).replace(/^0+(?=\d)/, '');
  const text = precision === scale ? `0.${digits(scale)}` : scale === 0 ? whole : `${whole}.${digits(scale)}`;
  return /[1-9]/.test(text) && random() < 0.4 ? `-${text}` : text;
};
const two = (most: number, least = 0): string => String(least + Math.floor(random() * (most - least + 1))).padStart(2, '0');
const date = (): string => `${pick(['0001', '1583', '1900', '1969', '1970', '2000', '2026', '9999'])}-${two(12, 1)}-${two(28, 1)}`;
const clock = (): string => `${two(23)}:${two(59)}:${two(59)}${pick(['', '.5', '.000001', '.999999', '.12'])}`;
const strings = [
  '',
  ' ',
  'a',
  '"',
  '""',
  '\\N',
  '\\',
  '\t',
  '\n',
  '\r\n',
  'tab\there',
  'say "hi"',
  '😀é漢字',
  'x'.repeat(30_000),
  '\u0001',
  ',',
  'NULL',
  "it's",
  '"\n"\t"',
];

/** Texts put together from what a CSV reader might stumble over. */
const nasty = [
  '"',
  '""',
  '\t',
  '\n',
  '\r',
  '\r\n',
  '\\',
  '\\.',
  ',',
  ';',
  '|',
  "'",
  '#',
  '\ufeff',
  '\u2028',
  '\u0085',
  '\u0001',
  '\u007f',
  ' ',
  'a',
  'é',
  '😀',
  '\u{10ffff}',
  'NULL',
  '\\N',
  '0',
];
const nastyText = (): string => Array.from({ length: Math.floor(random() * 12) }, () => pick(nasty)).join('');

/** An array as array_out prints it. */
function array(items: readonly (string | null)[], most = 5): string {
  const quote = (item: string): string =>
    item === '' || /[ \t\n\r\v\f"\\{},]/.test(item) || /^null$/i.test(item) ? `"${item.replace(/["\\]/g, '\\$&')}"` : item;
  const chosen = Array.from({ length: Math.floor(random() * (most + 1)) }, () => pick([...items, null]));
  return `{${chosen.map((item) => (item === null ? 'NULL' : quote(item))).join(',')}}`;
}

/** A random row of texts as Postgres prints them; the first column is unique. */
function randomRow(id: number): (string | null)[] {
  const values: (string | null)[] = [
    pick([String(id), String(-id)]),
    pick(['0', '-32768', '32767']),
    pick(['-2147483648', '2147483647', '7']),
    pick(['0', '-0', 'NaN', 'Infinity', '-Infinity', '1e-45', '3.4028235e+38', '0.1', '1e+06', '123456', '1.1754944e-38', '-2.5']),
    pick([
      '0',
      '-0',
      'NaN',
      'Infinity',
      '-Infinity',
      '5e-324',
      '1.7976931348623157e+308',
      '0.1',
      '0.30000000000000004',
      '1e+15',
      '123456789012345',
      '-0.0001',
      '1e-05',
      '1.2345678901234568e+17',
    ]),
    pick(['t', 'f']),
    pick([decimal(20, 8), 'NaN']),
    decimal(38, 0),
    decimal(5, 2),
    decimal(30, 25),
    pick([decimal(60, 20), 'NaN', 'Infinity', '0']),
    pick(strings),
    nastyText(),
    'padded    ',
    pick(['{"a": 1}', '[1, "\\"", null]', '{}']),
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    pick(['\\x', '\\x00ff22', '\\xdeadbeef']),
    pick([date(), 'infinity', '-infinity', '0044-03-15 BC', '5874897-12-31']),
    pick([clock(), '24:00:00']),
    pick([`${date()} ${clock()}`, 'infinity', '294276-12-31 23:59:59.999999', '4713-01-01 00:00:00 BC']),
    pick([`${date()} ${clock()}+00`, '-infinity', '0044-03-15 12:00:00+00 BC']),
    pick(['{1,2,NULL}', '{}', '{{1,2},{3,4}}']),
    pick(['1 day', '-00:00:01', '1 year 2 mons']),
    pick(['{{1,2},{3,NULL}}', '{}', '{{-2147483648}}', '{1,2}', '[0:1][1:1]={{1},{2}}', '{{{1}}}']),
    pick(['{{{a,b}},{{"c d",NULL}}}', '{}', '{{{"",""}}}']),
    pick([array(['0', '-9223372036854775808', '9223372036854775807', '9007199254740993']), '[2:3]={1,2}', '{{1},{2}}']),
    array([...strings.filter((text) => text.length < 100), nastyText(), nastyText(), 'null', 'Null', '\u00a0', '\v', '\u0085'], 8),
    pick([array([decimal(20, 8), decimal(20, 8)]), '{NaN,1.00000000}']),
    array([decimal(60, 20), 'NaN', 'Infinity', '0']),
    array(['0', 'NaN', 'Infinity', '5e-324', '0.1', '1e+15', pick(['-0', '-1'])]),
    array(['t', 'f']),
    array(['\\x', '\\x00ff22']),
    array([date(), date(), pick([date(), 'infinity', '0044-03-15 BC'])]),
    array([`${date()} ${clock()}+00`, pick([`${date()} ${clock()}+00`, 'infinity'])]),
  ];
  return values.map((value, i) => (i > 0 && random() < 0.1 ? null : value));
}

let dir: string;
let encoder: SegmentEncoder;
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-segment-'));
  encoder = await SegmentEncoder.open({ temporaryDir: dir });
});
after(async () => {
  encoder.close();
  await rm(dir, { recursive: true, force: true });
});

const shapeOf = (relation: SegmentShape['relation'], timestamp = 'at'): SegmentShape => ({
  kind: 'segment',
  relation,
  description: {
    oid: relation.oid,
    schema: relation.schema,
    table: relation.table,
    primaryKey: ['id'],
    columnTypes: {},
    ddl: '',
    types: {},
    dimensions: DIMENSIONS,
  },
  key: ['id'],
  timestamp,
  day: '2026-01-12',
});
const origin = (ordinal: number) => ({
  op: 'insert' as const,
  lsn: 0x1_0000_0000_1234n,
  ordinal,
  xid: 4_000_000_000,
  committedAtMicros: 1_768_212_672_500_001n,
});

test(`random rows come back as they were (TEST_SEED=${seed})`, async () => {
  const builder = new SegmentBuilder(shapeOf(relationOf(COLUMNS)), path.join(dir, 'random.csv'));
  const rows = Array.from({ length: 5000 }, (_, i) => randomRow(i + 1));
  for (const [i, row] of rows.entries()) assert.equal(builder.append(tupleBytes(row), 0, origin(i + 1)), true);
  const spool = builder.finish();
  const file = path.join(dir, 'random.parquet');
  await encoder.encode(spool, file, 'archive');

  const reader = await SegmentReader.open(file);
  assert.ok(reader.rowGroupCount > 1, 'several row groups');
  let at = 0;
  for (let group = 0; group < reader.rowGroupCount; group += 1) {
    const decoded = await reader.readRowGroup(group);
    for (let row = 0; row < decoded.rowCount; row += 1, at += 1) {
      const texts = reader.columns.map((column) => decoded.text(column, row));
      assert.deepEqual(texts, rows[at]);
      assert.equal(decoded.digest(row), digestOfTexts(rows[at] as (string | null)[]));
      assert.equal(decoded.lsn(row), 0x1_0000_0000_1234n);
      assert.equal(decoded.ordinal(row), BigInt(at + 1));
      assert.equal(decoded.op(row), 'insert');
    }
  }
  await reader.close();
  await verifySegment(file, { rows: rows.length, digestSum: spool.digestSum });

  const daily = path.join(dir, 'daily.parquet');
  const own = [...Object.keys(COLUMNS), '_text'].map(identifier).join(', ');
  const metadata = segmentMetadata(shapeOf(relationOf(COLUMNS)), 'archive', 'daily');
  await encoder.run(
    `COPY (SELECT ${own} FROM read_parquet(${literal(file)})) TO ${literal(daily)} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {tidemark: ${literal(metadata)}})`,
  );
  const other = await DailyReader.open(daily);
  let next = 0;
  await other.forEachRow((texts) => assert.deepEqual(texts, rows[next++]));
  assert.deepEqual(await other.digestSum(), { rows: rows.length, digestSum: spool.digestSum });
});

test('line ends of every kind inside the first value are values', async () => {
  for (const [i, value] of ['\r\n', '\r', '\n', 'a\r\nb', '\n\r', '\r\r\n'].entries()) {
    const builder = new SegmentBuilder(shapeOf(relationOf({ id: [25, -1], at: [1114, -1] })), path.join(dir, `line-${i}.csv`));
    for (const text of [value, 'plain', value]) builder.append(tupleBytes([text, '2026-01-12 00:00:00']), 0, origin(1));
    const spool = builder.finish();
    const file = path.join(dir, `line-${i}.parquet`);
    await encoder.encode(spool, file, 'archive');
    await verifySegment(file, { rows: 3, digestSum: spool.digestSum });
  }
});

test('NULL and empty are apart, in the digest too', () => {
  assert.notEqual(digestOfTexts(['']), digestOfTexts([null]));
  assert.notEqual(digestOfTexts(['a', null]), digestOfTexts([null, 'a']));
  assert.notEqual(digestOfTexts(['ab', 'c']), digestOfTexts(['a', 'bc']));
});

test('unchanged TOAST is never NULL: the row is marked unresolved, unless the value is handed in', async () => {
  const builder = new SegmentBuilder(shapeOf(relationOf({ id: [20, -1], at: [1114, -1], v: [25, -1] })), path.join(dir, 'toast.csv'));
  assert.equal(builder.append(tupleBytes(['1', '2026-01-12 00:00:00', undefined]), 0, origin(1)), false);
  assert.equal(builder.append(tupleBytes(['2', '2026-01-12 00:00:00', undefined]), 0, origin(2), new Map([[2, Buffer.from('found "it"')]])), true);
  const spool = builder.finish();
  const file = path.join(dir, 'toast.parquet');
  await encoder.encode(spool, file, 'archive');
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0);
  assert.deepEqual([rows.unresolved(0), rows.unresolved(1)], [true, false]);
  assert.equal(rows.text('v', 1), 'found "it"');
  assert.equal(rows.digest(1), digestOfTexts(['2', '2026-01-12 00:00:00', 'found "it"']));
  assert.deepEqual(reader.timestampRange(0), { min: '2026-01-12 00:00:00', max: '2026-01-12 00:00:00' });
  await reader.close();
});

test('a value of 20 MB passes', async () => {
  const value = `"${'x\t'.repeat(10 * 1024 * 1024)}"`;
  const builder = new SegmentBuilder(shapeOf(relationOf({ id: [20, -1], at: [1114, -1], v: [25, -1] })), path.join(dir, 'large.csv'));
  builder.append(tupleBytes(['1', '2026-01-12 00:00:00', value]), 0, origin(1));
  const spool = builder.finish();
  const file = path.join(dir, 'large.parquet');
  await encoder.encode(spool, file, 'archive');
  await verifySegment(file, { rows: 1, digestSum: spool.digestSum });
});

test('keys segments hold key, kind and boundary; a truncate has no key', async () => {
  const relation = relationOf({ id: [20, -1], at: [1114, -1], v: [25, -1] });
  const builder = new SegmentBuilder({ ...shapeOf(relation), kind: 'keys', day: null }, path.join(dir, 'keys.csv'));
  builder.appendKey(tupleBytes(['7', null, null]), 0, { ...origin(1), op: 'prune' });
  builder.appendKey(Buffer.alloc(0), -1, { ...origin(2), op: 'truncate' });
  const spool = builder.finish();
  const file = path.join(dir, 'keys.parquet');
  await encoder.encode(spool, file, 'archive');
  await verifySegment(file, { rows: 2, digestSum: spool.digestSum });
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0);
  assert.deepEqual(
    [0, 1].map((row) => [rows.op(row), rows.text('id', row)]),
    [
      ['prune', '7'],
      ['truncate', null],
    ],
  );
  await reader.close();
});
