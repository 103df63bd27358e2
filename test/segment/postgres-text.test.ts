/** Law 13 against a real server: our texts are its texts, and a table of every type comes back from Parquet as the server printed it, from both readers. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import {
  bigEndianInteger,
  dateText,
  decimalText,
  decimalTextOfBytes,
  float4Text,
  float8Text,
  timestampText,
  timeText,
} from '../../src/segment/postgres-text.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { verifySegment } from '../../src/segment/verify.js';
import { describeTable, readRelationFromCatalog } from '../../src/wal/describe.js';
import { connectClient } from '../../src/wal/session.js';
import { SegmentWorld } from './world.js';

let server: PostgresServer;
let client: pg.Client;
before(async () => {
  server = await startPostgres();
  client = await connectClient(await server.createDatabase(), { applicationName: 'test' });
});
after(async () => {
  await client.end();
  await server[Symbol.asyncDispose]();
});

/** What the server prints for texts read as `type`. */
async function printed(type: string, texts: readonly string[]): Promise<string[]> {
  const result = await client.query<{ t: string }>(`SELECT u.v::text AS t FROM unnest($1::text[]::${type}[]) WITH ORDINALITY u(v, i) ORDER BY i`, [texts]);
  return result.rows.map((row) => row.t);
}

/** `mantissas`: integers of 53 bits. */
function randomFloats(count: number): { float8: number[]; float4: number[]; mantissas: number[] } {
  const bytes = randomBytes(count * 8);
  const float8 = Array.from({ length: count }, (_, i) => bytes.readDoubleBE(i * 8));
  const float4 = Array.from({ length: count }, (_, i) => bytes.readFloatBE(i * 8));
  const mantissas = Array.from({ length: count }, (_, i) => Number(bytes.readBigUInt64BE(i * 8) >> 11n));
  return { float8, float4, mantissas };
}

test('floats of random bits, powers of ten and limits print as the server prints them', async () => {
  const { float8, float4 } = randomFloats(20_000);
  for (let e = -330; e <= 308; e += 1) float8.push(Number(`1e${e}`), Number(`-1.5e${e}`), Number(`9.999999999999999e${e}`));
  for (let e = -46; e <= 38; e += 1) float4.push(Math.fround(Number(`1e${e}`)), Math.fround(Number(`-2.5e${e}`)), Math.fround(Number(`9.99999e${e}`)));
  float8.push(-0, 5e-324, Number.MAX_VALUE, 2 ** 53, 123_456_789_012_345, 999_999_999_999_999, 1e15, 0.0001, 0.00001, 0.1 + 0.2);
  float4.push(-0, 2 ** -149, 3.4028234663852886e38, 999_999, 1e6, 16_777_216, Math.fround(0.1));
  // Where JavaScript takes digits on the edge of the interval and Postgres does not: large integers; powers of two, whose interval is lopsided; values in the middle between two texts.
  for (let e = -60; e <= 90; e += 1) for (const double of randomFloats(100).mantissas) float8.push(double * 2 ** e);
  for (let i = 1; i < 2000; i += 1) float8.push(1e14 + i / 64, 9e14 + i / 8, 2 ** 50 - i / 8, i / 4096);
  for (let e = -1074; e <= 1023; e += 1) float8.push(2 ** e, -(2 ** e));
  for (let e = -149; e <= 127; e += 1) float4.push(2 ** e, -(2 ** e));
  for (let e = -90; e <= 40; e += 1) for (const double of randomFloats(100).mantissas) float4.push(Math.fround(double * 2 ** e));
  for (let i = 1; i < 2000; i += 1) float4.push(Math.fround(39_772 + i / 256), Math.fround(8_388_607 + i), Math.fround(i / 512));
  assert.deepEqual(await differences('float8', float8, float8Text), []);
  assert.deepEqual(await differences('float4', float4, float4Text), []);
});

/** Values that we print otherwise than the server does. */
async function differences(type: string, values: readonly number[], text: (value: number) => string): Promise<string[]> {
  const theirs = await printed(
    type,
    values.map((value) => (Object.is(value, -0) ? '-0' : String(value))),
  );
  return values.map((value, i) => (text(value) === theirs[i] ? '' : `${text(value)} instead of ${theirs[i]}`)).filter((difference) => difference !== '');
}

test('dates, times, timestamps and decimals print as the server prints them', async () => {
  const days = Array.from({ length: 5000 }, (_, i) => -719_162 + Math.floor((i * 3_652_058) / 4999));
  const random = randomBytes(16 * 2000);
  const micros = Array.from({ length: 2000 }, (_, i) => (random.readBigUInt64BE(i * 16) % 315_537_897_600_000_000n) - 62_135_596_800_000_000n);
  micros.push(-1n, 0n, 1n, -62_135_596_800_000_000n, 253_402_300_799_999_999n);
  const result = await client.query<{ d: string }>(`SELECT (date '1970-01-01' + u.v)::text AS d FROM unnest($1::int[]) WITH ORDINALITY u(v, i) ORDER BY i`, [
    days,
  ]);
  assert.deepEqual(
    days.map(dateText),
    result.rows.map((row) => row.d),
  );
  const back = await client.query<{ t: string; m: string }>(
    `SELECT u.v::text AS t, (extract(epoch FROM u.v) * 1000000)::bigint::text AS m FROM unnest($1::text[]::timestamp[]) WITH ORDINALITY u(v, i) ORDER BY i`,
    [micros.map(timestampText)],
  );
  assert.deepEqual(
    back.rows.map((row) => [row.t, row.m]),
    micros.map((value) => [timestampText(value), String(value)]),
  );
  const clock = [0, 1, 999_999, 1_000_000, 86_399_999_999, 43_200_000_000, 3_600_100_000];
  assert.deepEqual(
    clock.map(timeText),
    await printed(
      'time',
      clock.map((value) => `${value} microseconds`.replace(/^(\d+) microseconds$/, () => timeText(value))),
    ),
  );
  const unscaled = Array.from({ length: 2000 }, (_, i) => bigEndianInteger(random.subarray(i * 16, i * 16 + 16)) % 10n ** BigInt(1 + (i % 38)));
  // Small ones, of both signs, go another way than those beyond 53 bits.
  for (let i = 0; i < 2000; i += 1) {
    const bytes = Buffer.from(random.subarray(i * 16, i * 16 + 16));
    const sign = i % 2 === 0 ? 0 : 0xff;
    bytes.fill(sign, 0, 8 + (i % 9));
    for (const scale of [0, 1, 8, 15, 16]) assert.equal(decimalTextOfBytes(bytes, scale), decimalText(bigEndianInteger(bytes), scale), bytes.toString('hex'));
  }
  for (const scale of [0, 2, 10, 38]) {
    const texts = unscaled.map((value) => decimalText(value, scale));
    assert.deepEqual(texts, await printed('numeric', texts));
  }
});

/** Every kind of type of the lossless promise, with its limits; the server makes the texts. */
const TYPES: readonly [type: string, ...values: string[]][] = [
  ['smallint', '-32768', '32767'],
  ['integer', '-2147483648', '2147483647'],
  ['bigint', '-9223372036854775808', '9223372036854775807', '9007199254740993'],
  ['real', 'NaN', 'Infinity', '-Infinity', '-0', '1e-45', '3.4028235e38', '0.1'],
  ['double precision', 'NaN', 'Infinity', '-Infinity', '-0', '5e-324', '1e-320', '1.7976931348623157e308', '0.30000000000000004'],
  ['numeric(20,8)', '0', '-999999999999.99999999', 'NaN', '0.00000001'],
  ['numeric(38,0)', '99999999999999999999999999999999999999', '-1', 'NaN'],
  ['numeric(38,38)', '0.00000000000000000000000000000000000001', '-0.99999999999999999999999999999999999999'],
  ['numeric(5,2)', '999.99', '-0.01'],
  ['numeric(19,18)', '9.999999999999999999', '-1'],
  ['numeric(30,25)', '-12345.1234567890123456789012345'],
  ['numeric(5,-2)', '1234567', '-50'],
  ['numeric(3,5)', '0.00123'],
  ['numeric', '1e130', '-0.00000000000000000000000000000000000000000000000001', 'NaN', 'Infinity', '0.10'],
  ['boolean', 'true', 'false'],
  ['text', '', ' ', '"', '\\N', '\t', 'a\r\nb', '😀é漢字', 'NULL', "it's", '\u0001', '\u{10ffff}'],
  ['varchar(30)', '', 'padded  '],
  ['char(10)', 'abc', ''],
  ['"char"', 'x', ''],
  ['name', 'some_name'],
  ['bytea', '\\x', '\\x00', '\\x22090a5c', '\\xdeadbeef'],
  ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['date', '0001-01-01', '9999-12-31', '10000-01-01', 'infinity', '-infinity', '4713-01-01 BC', '5874897-12-31', '1969-12-31'],
  ['time', '00:00', '23:59:59.999999', '24:00:00'],
  ['time(3)', '12:00:00.1235'],
  ['timetz', '12:00:00.5+05:30', '24:00:00-15:59'],
  ['timestamp', '0001-01-01', '1969-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999', '4713-01-01 00:00:00 BC', 'infinity', '-infinity'],
  ['timestamptz', '2026-01-12 10:00:00.000001+05:30', '0001-01-01 00:00:00+00', 'infinity', '-infinity', '0044-03-15 12:00:00+00 BC', '294276-12-31 23:59:59+00'],
  ['timestamptz(0)', '2026-01-12 10:00:00.6+00'],
  ['interval', '1 year 2 mons -3 days 04:05:06.000007', '-178000000 years', '0'],
  ['json', '{"a" : 1,  "a":2, "n": 12345678901234567890.123456789}', '"\\u00e9"', 'null'],
  ['jsonb', '{"b": [1, "\\"", null], "n": 12345678901234567890.123456789}', '{}'],
  ['integer[]', '{1,NULL,3}', '{}', '{{1,2},{3,4}}', '[0:1]={5,6}'],
  ['text[]', '{"",NULL,"NULL","a,b","say \\"hi\\"","\\\\","{"}'],
  ['numeric(10,2)[]', '{1.10,NaN}'],
  ['timestamp[]', '{infinity,2026-01-12 00:00:00}'],
  ['public.mood', 'ok', 'very, "odd"'],
  ['public.mood[]', '{ok,NULL}'],
  ['public.amount', '1.5', 'NaN'],
  ['public.small_amount', '2.50'],
  ['public.moment', '2026-01-12 10:00:00.5', 'infinity'],
  ['public.pair', '(1,"a,\\"b")', '(,)'],
  ['int4range', '[1,10)', 'empty', '(,5)'],
  ['tstzrange', '["2026-01-12 00:00:00+00",)'],
  ['int8multirange', '{[1,3),[5,8)}', '{}'],
  ['inet', '192.168.0.1/24', '::1'],
  ['cidr', '10.0.0.0/8'],
  ['macaddr', '08:00:2b:01:02:03'],
  ['macaddr8', '08:00:2b:01:02:03:04:05'],
  ['bit(3)', '101'],
  ['varbit', '', '1010101'],
  ['money', '-92233720368547758.08', '12.34'],
  ['xml', '<a b="c">é</a>'],
  ['tsvector', "'a':1A 'it''s':2"],
  ['tsquery', "'a' & !'b'"],
  ['point', '(1.5,-0)'],
  ['polygon', '((0,0),(1,1),(1,0))'],
  ['pg_lsn', '16/B374D848'],
  ['oid', '4294967295'],
  ['regclass', 'pg_catalog.pg_class'],
  ['pg_snapshot', '10:20:10,14'],
]; // biome-ignore format: a table

test('a table of every type, NULLs between: segment and daily file give back what the server printed', async () => {
  await client.query(`CREATE TYPE public.mood AS ENUM ('ok', 'very, "odd"'); CREATE TYPE public.pair AS (a int, b text);
    CREATE DOMAIN public.amount AS numeric(20,4); CREATE DOMAIN public.small_amount AS public.amount CHECK (VALUE < 10); CREATE DOMAIN public.moment AS timestamp`);
  await client.query(`CREATE TABLE public.every_type (id bigint PRIMARY KEY, ${TYPES.map(([type], i) => `c${i} ${type}`).join(', ')})`);
  const most = Math.max(...TYPES.map((values) => values.length - 1));
  for (let row = 0; row <= most; row += 1) {
    const values = TYPES.map(([, ...texts]) => texts[row] ?? null);
    const places = TYPES.map(([type], i) => `$${i + 2}::text::${type}`);
    await client.query(`INSERT INTO public.every_type VALUES ($1, ${places.join(', ')})`, [row, ...values]);
  }
  const relation = await readRelationFromCatalog(client, 'public', 'every_type');
  assert.ok(relation);
  const description = await describeTable(client, relation);
  const result = await client.query<(string | null)[]>({ text: 'SELECT * FROM public.every_type ORDER BY id', rowMode: 'array' });
  assert.equal(result.rows.length, most + 1);

  await using world = await SegmentWorld.open();
  const shape = { ...world.shape({}, description, { key: ['id'], timestamp: 'id' }), relation };
  const segment = await world.segment(shape, result.rows);
  await verifySegment(segment.file, { rows: result.rows.length, digestSum: segment.spool.digestSum });
  const reader = await SegmentReader.open(segment.file);
  const decoded = await reader.readRowGroup(0);
  const daily: (string | null)[][] = [];
  await (await DailyReader.open(await world.daily(segment))).forEachRow((texts) => daily.push([...texts]));
  for (const [row, expected] of result.rows.entries()) {
    for (const [i, name] of reader.columns.entries()) {
      const what = `${i === 0 ? 'id' : TYPES[i - 1]?.[0]}, row ${row}`;
      assert.equal(decoded.text(name, row), expected[i], what);
      assert.equal(daily[row]?.[i], expected[i], `${what}, daily`);
    }
  }
  // Typed where they can be: a domain is what its base is.
  const typed = Object.fromEntries(TYPES.map(([type], i) => [type, reader.form(`c${i}`).fileType]));
  assert.deepEqual(
    [
      typed['public.amount'],
      typed['public.small_amount'],
      typed['public.moment'],
      typed['numeric(38,38)'],
      typed['timestamptz(0)'],
      typed['public.mood'],
      typed['numeric'],
    ],
    ['DECIMAL(20, 4)', 'DECIMAL(20, 4)', 'TIMESTAMP', 'DECIMAL(38, 38)', 'TIMESTAMPTZ', 'VARCHAR', 'VARCHAR'],
  );
  await reader.close();
});
