/** The second reader of sealed days: from zstd files back to the same texts and digests, in any row groups, with and without `_text`. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { digestOfTexts } from '../../src/segment/digest.js';
import { segmentMetadata } from '../../src/segment/metadata.js';
import { literal } from '../../src/segment/sql.js';
import { verifyDaily, verifySegment } from '../../src/segment/verify.js';
import { numeric, SegmentWorld } from './world.js';

let world: SegmentWorld;
before(async () => {
  world = await SegmentWorld.open();
});
after(() => world[Symbol.asyncDispose]());

const COLUMNS = {
  id: [20, -1], at: [1184, -1], d: [1082, -1], t: [1083, -1], f: [701, -1], g: [700, -1], b: [16, -1], n: numeric(18, 2), m: numeric(38, 10), s: [25, -1], y: [17, -1], i: [21, -1],
} as const; // biome-ignore format: a table
const row = (i: number): (string | null)[] => [
  `-900719925474099${i % 10}`,
  `2026-01-12 10:11:12.${String((i % 999_999) + 1)
    .padStart(6, '0')
    .replace(/0+$/, '')}+00`,
  '1969-12-31',
  '23:59:59.999999',
  '0.30000000000000004',
  '1e-45',
  i % 2 === 0 ? 't' : 'f',
  '-9999999999999999.99',
  '1234567890123456789012345678.0123456789',
  i % 3 === 0 ? null : `é"\t\n ${i % 50}`,
  '\\x00ff',
  '-32768',
];

test('several row groups, every kind of value, row by row and summed', async () => {
  const rows = Array.from({ length: 5000 }, (_, i) => row(i));
  const segment = await world.segment(COLUMNS as never, rows);
  const reader = await DailyReader.open(await world.daily(segment, { text: false, rowGroup: 2048 }));
  assert.deepEqual([reader.rowCount, reader.columns, reader.metadata.kind], [5000, Object.keys(COLUMNS), 'daily']);
  let next = 0;
  await reader.forEachRow((texts) => assert.deepEqual(texts, rows[next++]));
  assert.equal(next, 5000);
  assert.deepEqual(await reader.digestSum(), { rows: 5000, digestSum: segment.spool.digestSum });
});

test('values beyond the typed column are there when the file has `_text`', async () => {
  const rows = [
    ['1', 'infinity'],
    ['2', null],
    ['3', '2026-01-12 00:00:00'],
    ['4', '0044-03-15 12:00:00 BC'],
  ];
  const segment = await world.segment({ id: [20, -1], at: [1114, -1] }, rows);
  const reader = await DailyReader.open(await world.daily(segment));
  const seen: (string | null)[][] = [];
  await reader.forEachRow((texts) => seen.push([...texts]));
  assert.deepEqual(seen, rows);
  assert.deepEqual(await reader.digestSum(), { rows: 4, digestSum: segment.spool.digestSum });
  // Without it they would be NULL: the sum tells.
  const bare = await DailyReader.open(await world.daily(segment, { text: false }));
  assert.notEqual((await bare.digestSum()).digestSum, segment.spool.digestSum);
});

test('rows are found by their key in every row group, by types that statistics are of and by others', async () => {
  const rows = Array.from({ length: 5000 }, (_, i) => [`${i * 2 - 5000}`, `${i % 100}`, i % 7 === 0 ? null : `n${i % 50}`]);
  const segment = await world.segment({ id: [20, -1], n: numeric(5, 0), s: [25, -1] }, rows);
  const reader = await DailyReader.open(await world.daily(segment, { text: false, rowGroup: 2048 }));
  const found = async (columns: string[], wanted: string[]): Promise<readonly (string | null | undefined)[][]> =>
    (await reader.findRows(columns, wanted)).map(({ texts }) => [...texts]);
  for (const at of [0, 2047, 2048, 4095, 4096, 4999]) assert.deepEqual(await found(['id'], [rows[at]?.[0] as string]), [rows[at]], `row ${at}`);
  for (const absent of ['1', '-5002', '5000', '99999999999999999999', 'x']) assert.deepEqual(await found(['id'], [absent]), [], absent);
  assert.deepEqual(
    await found(['n', 's'], ['51', 'n1']),
    rows.filter(([, n, s]) => n === '51' && s === 'n1'),
  );
  const [one] = await reader.findRows(['id'], [rows[1]?.[0] as string]);
  assert.equal(one?.digest, digestOfTexts(rows[1] as string[]));
  assert.equal(one?.system('deleted_at'), null);
});

test('a value changed by the writer is found', async () => {
  const segment = await world.segment(
    COLUMNS as never,
    Array.from({ length: 100 }, (_, i) => row(i)),
  );
  const daily = await world.daily(segment, { text: false });
  const changed = world.path('parquet');
  await world.encoder.run(
    `COPY (SELECT * EXCLUDE (rowid_) REPLACE (CASE WHEN rowid_ = 50 THEN m + 0.0000000001 ELSE m END AS m) FROM (SELECT *, row_number() OVER () AS rowid_ FROM read_parquet(${literal(daily)})))
      TO ${literal(changed)} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {tidemark: ${literal(segmentMetadata(segment.spool.shape, 'archive', 'daily'))}})`,
  );
  const found = await (await DailyReader.open(changed)).digestSum();
  assert.equal(found.rows, 100);
  assert.notEqual(found.digestSum, segment.spool.digestSum);
});

test('no rows, and files that are not ours', async () => {
  const segment = await world.segment({ id: [20, -1] }, []);
  assert.deepEqual(await (await DailyReader.open(await world.daily(segment))).digestSum(), { rows: 0, digestSum: '0' });
  const foreign = world.path('parquet');
  await world.encoder.run(`COPY (SELECT 1 AS id) TO ${literal(foreign)} (FORMAT parquet)`);
  await assert.rejects(DailyReader.open(foreign), /not a file of Tidemark/);
});

test('columns are found by their place in the schema: one has the name of its root, another that of what is within a list', async () => {
  const rows = Array.from({ length: 3000 }, (_, i) => [
    String(i),
    i % 3 === 0 ? null : `root ${i}`,
    i % 5 === 0 ? null : `{${i},NULL}`,
    i % 7 === 0 ? null : `e${i}`,
  ]);
  const columns = { id: [20, -1], duckdb_schema: [25, -1], arr: [1007, -1], element: [25, -1] } as const;
  const segment = await world.segment(columns as never, rows);
  const reader = await DailyReader.open(await world.daily(segment, { rowGroup: 2048 }));
  assert.equal(reader.misdeclared(), undefined);
  assert.deepEqual(await reader.digestSum(), { rows: 3000, digestSum: segment.spool.digestSum });
  const [found] = await reader.findRows(['id'], ['4']);
  assert.deepEqual([found?.texts, found?.digest], [rows[4], digestOfTexts(rows[4] as string[])]);
  await verifySegment(segment.file, { rows: 3000, digestSum: segment.spool.digestSum });
});

test('the same bytes declared as another type are refused: every reader would take them for other values', async () => {
  const columns = { id: [20, -1], moment: [1184, -1], stamp: [1114, -1], n: numeric(18, 2), s: [25, -1] };
  const segment = await world.segment(columns as never, [['1', '2026-01-12 10:11:12+00', '2026-01-12 10:11:12', '1.25', 'x']]);
  const metadata = segmentMetadata(segment.spool.shape, 'archive', 'daily');
  const expected = { rows: 1, digestSum: segment.spool.digestSum };
  const written = async (replaced: string): Promise<string> => {
    const file = world.path('parquet');
    const all = `SELECT id, moment, stamp, CAST(n AS DECIMAL(18, 2)) AS n, s FROM read_parquet(${literal(segment.file)})`;
    await world.encoder.run(
      `COPY (SELECT * ${replaced} FROM (${all})) TO ${literal(file)} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {tidemark: ${literal(metadata)}})`,
    );
    return file;
  };
  await verifyDaily(await written(''), expected);
  const otherwise = {
    moment: ['REPLACE (epoch_us(moment) AS moment)', "REPLACE (moment AT TIME ZONE 'UTC' AS moment)"],
    stamp: ['REPLACE (make_timestamp_ns(epoch_us(stamp) * 1000) AS stamp)', "REPLACE (stamp AT TIME ZONE 'UTC' AS stamp)"],
    n: ['REPLACE ((n * 100)::BIGINT AS n)', 'REPLACE (CAST(n / 100 AS DECIMAL(18, 4)) AS n)'],
    s: ['REPLACE (s::BLOB AS s)'],
  };
  for (const [column, selects] of Object.entries(otherwise)) {
    for (const select of selects)
      await assert.rejects(
        written(select).then((file) => verifyDaily(file, expected)),
        new RegExp(`column ${column} is declared as another type`),
        select,
      );
  }
});
