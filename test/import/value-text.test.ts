import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BIGINT, BLOB, BOOLEAN, DATE, DECIMAL, DOUBLE, DuckDBBlobValue, DuckDBDateValue, DuckDBDecimalValue, DuckDBListValue, DuckDBMapValue, DuckDBStructValue, DuckDBTimestampNanosecondsValue,
  DuckDBTimestampTZValue, DuckDBTimestampValue, DuckDBTimeValue, type DuckDBType, FLOAT, INTEGER, LIST, MAP, STRUCT, TIME, TIMESTAMP, TIMESTAMP_NS, TIMESTAMPTZ, VARCHAR,
} from '@duckdb/node-api'; // biome-ignore format: names
import { type Carried, isInexact } from '../../src/import/carried.js';
import { columnReading } from '../../src/import/value-text.js';

const numeric = (precision: number, scale: number): number => ((precision << 16) | scale) + 4;
const read = (source: DuckDBType, value: unknown, typeOid: number, typmod = -1, utc = true): Carried =>
  columnReading({ name: 'c', typeOid, typmod, key: false }, {}, source, utc).read(value);

/** What a value becomes: its text, a question, or `≈` and the nearest text. */
function said(carried: Carried): string {
  if (carried === null) return 'NULL';
  if (typeof carried === 'string') return carried;
  if (!isInexact(carried)) return `? ${carried.as} ${carried.ask}`;
  const { nearest } = carried;
  return `≈ ${nearest === null ? 'NULL' : typeof nearest === 'string' ? nearest : nearest.ask}`;
}

const micros = (text: string): bigint => BigInt(Date.parse(text)) * 1000n;
const CASES: readonly (readonly [string, DuckDBType, unknown, string, number, number?])[] = [
  ['an integer with NULLs is float64', DOUBLE, 41, '41', 23],
  ['… exact to 2^53', DOUBLE, 9007199254740991, '9007199254740991', 20],
  ['… and not beyond', DOUBLE, 9007199254740992, '≈ 9007199254740992', 20],
  ['a fraction is no integer', DOUBLE, 0.5, '≈ NULL', 23],
  ['NaN may have been NULL', DOUBLE, Number.NaN, '≈ NULL', 23],
  ['out of range', BIGINT, 32768n, '≈ NULL', 21],
  ['within', BIGINT, -32768n, '-32768', 21],
  ['text of an integer', VARCHAR, '+0042', '42', 23],
  ['text of none', VARCHAR, '4.0', '≈ NULL', 23],
  ['a decimal without a fraction', DECIMAL(5, 2), new DuckDBDecimalValue(4200n, 5, 2), '42', 23],
  ['NaN of a double', DOUBLE, Number.NaN, '≈ NULL', 701],
  ['-0 of a double', DOUBLE, -0, '-0', 701],
  ['a double', DOUBLE, 1e23, '9.999999999999999e+22', 701],
  ['a real as float64 of its text', DOUBLE, 0.1, '0.1', 700],
  ['a real as float64 of itself', DOUBLE, Math.fround(0.1), '0.1', 700],
  ['more than a real', DOUBLE, 0.123456789012, '≈ 0.12345679', 700],
  ['a real', FLOAT, Math.fround(0.1), '0.1', 700],
  ['a numeric that a double stands for alone', DOUBLE, 19.99, '19.99000000', 1700, numeric(20, 8)],
  ['… with 16 digits', DOUBLE, 12345678.12345678, '12345678.12345678', 1700, numeric(20, 8)],
  ['… with too many', DOUBLE, 123456789012.12346, '≈ 123456789012.12345886', 1700, numeric(20, 8)],
  ['… with more than its scale', DOUBLE, 0.1 + 0.2, '≈ 0.30', 1700, numeric(6, 2)],
  ['… beyond its precision', DOUBLE, 12345, '≈ NULL', 1700, numeric(4, 0)],
  ['… with 15 digits and no scale', DOUBLE, 0.1, '0.1', 1700],
  ['… with more and no scale', DOUBLE, 0.1 + 0.2, '≈ 0.30000000000000004', 1700],
  ['a tiny one', DOUBLE, 1e-7, '0.0000001', 1700],
  ['minus nothing', DOUBLE, -0, '0.00', 1700, numeric(6, 2)],
  ['Decimal of fewer digits', DECIMAL(3, 1), new DuckDBDecimalValue(-15n, 3, 1), '-1.50', 1700, numeric(6, 2)],
  ['Decimal of more digits', DECIMAL(5, 3), new DuckDBDecimalValue(-1505n, 5, 3), '≈ -1.51', 1700, numeric(6, 2)],
  ['text of Decimal', VARCHAR, '-1.5E-3', '-0.0015', 1700],
  ['text of a large one', VARCHAR, '1E+3', '1000.00', 1700, numeric(6, 2)],
  ['NaN in text is NaN', VARCHAR, 'NaN', 'NaN', 1700, numeric(6, 2)],
  ['a bool', BOOLEAN, true, 't', 16],
  ['a bool with NULLs', DOUBLE, 0, 'f', 16],
  ['a bool as text', VARCHAR, 'True', 't', 16],
  ['no bool', INTEGER, 2, '≈ NULL', 16],
  ['aware time', TIMESTAMPTZ, new DuckDBTimestampTZValue(micros('2026-01-12T10:00:00Z') + 5n), '2026-01-12 10:00:00.000005+00', 1184],
  ['naive time of a timestamp', TIMESTAMP, new DuckDBTimestampValue(-1n), '1969-12-31 23:59:59.999999', 1114],
  ['naive time of a timestamptz, in UTC', TIMESTAMP_NS, new DuckDBTimestampNanosecondsValue(-1000n), '1969-12-31 23:59:59.999999+00', 1184],
  ['nanoseconds', TIMESTAMP_NS, new DuckDBTimestampNanosecondsValue(-1n), '≈ 1969-12-31 23:59:59.999999', 1114],
  ['infinite', TIMESTAMP, DuckDBTimestampValue.PosInf, '≈ NULL', 1114],
  ['a date as a time', DATE, new DuckDBDateValue(1), '1970-01-02 00:00:00+00', 1184],
  ['text with a T and a Z', VARCHAR, '2026-01-12T10:00:00.500Z', '2026-01-12 10:00:00.5+00', 1184],
  ['text of infinity', VARCHAR, 'Infinity', 'infinity', 1184],
  ['text of no day', VARCHAR, '2026-02-30 00:00:00', '? naive 2026-02-30 00:00:00', 1184],
  ['text of another zone', VARCHAR, '2026-01-12 10:00:00+02:00', '? aware 2026-01-12 10:00:00+02:00', 1184],
  ['text of another zone for a wall clock', VARCHAR, '2026-01-12 10:00:00+02', '? aware 2026-01-12 10:00:00+02', 1114],
  ['text before Christ', VARCHAR, '0044-03-15 12:00:00+00 BC', '? aware 0044-03-15 12:00:00+00 BC', 1184],
  ['text of nanoseconds', VARCHAR, '2026-01-12 10:00:00.1234567', '≈ NULL', 1184],
  ['text with zeros for nanoseconds', VARCHAR, '2026-01-12 10:00:00.123456000', '2026-01-12 10:00:00.123456+00', 1184],
  ['text of no form', VARCHAR, '12.1.2026', '≈ NULL', 1184],
  ['a number for a time says no unit', BIGINT, 1n, '≈ NULL', 1184],
  ['a time at midnight for a date', TIMESTAMP, new DuckDBTimestampValue(-86_400_000_000n), '1969-12-31', 1082],
  ['a time of day for a date', TIMESTAMP, new DuckDBTimestampValue(-1n), '≈ 1969-12-31', 1082],
  ['a time', TIME, new DuckDBTimeValue(1n), '00:00:00.000001', 1083],
  ['bytes', BLOB, new DuckDBBlobValue(new Uint8Array([0, 255])), '\\x00ff', 17],
  ['text of bytes', VARCHAR, '\\xFF', '\\xff', 17],
  ['text for bytes', VARCHAR, 'ff', '≈ NULL', 17],
  ['text', VARCHAR, ' a\tb ', ' a\tb ', 25],
  ['a zero byte', VARCHAR, 'a\0', '≈ NULL', 25],
  ['a number for text', BIGINT, 7n, '≈ 7', 1043],
  ['bytes for text', BLOB, new DuckDBBlobValue(new Uint8Array([0xff])), '≈ NULL', 25],
  ['JSON', VARCHAR, '{"a": 1}', '? value {"a": 1}', 3802],
  ['a whole struct', STRUCT({ a: BIGINT }), new DuckDBStructValue({ a: 1n }), '? value {"a":1}', 3802],
  ['a struct of whole numbers', STRUCT({ a: INTEGER, b: DOUBLE }), new DuckDBStructValue({ a: 1, b: 0.5 }), '? value {"a":1,"b":0.5}', 3802],
  ['a struct with a double that may have been 1 or 1.0', STRUCT({ a: LIST(DOUBLE) }), new DuckDBStructValue({ a: new DuckDBListValue([1]) }), '≈ {"a":[1]}', 3802],
  ['a struct with gaps', STRUCT({ a: BIGINT, b: VARCHAR }), new DuckDBStructValue({ a: 1n, b: null }), '≈ {"a":1,"b":null}', 3802],
  ['a list for JSON', LIST(DOUBLE), new DuckDBListValue([1.5, null]), '? value [1.5,null]', 114],
  ['a map for JSON', MAP(VARCHAR, BIGINT), new DuckDBMapValue([{ key: 'k', value: 1n }]), '? value {"k":1}', 3802],
  ['a list', LIST(BIGINT), new DuckDBListValue([1n, null]), '? value {"1",NULL}', 1007],
  ['a list with what does not fit', LIST(DOUBLE), new DuckDBListValue([1, 0.5]), '≈ NULL', 1007],
  ['a list of texts', LIST(VARCHAR), new DuckDBListValue(['a "b"', '\\']), '? value {"a \\"b\\"","\\\\"}', 1009],
  ['an array as text', VARCHAR, '[2:3]={1,2}', '? value [2:3]={1,2}', 1007],
  ['a JSON list as text', VARCHAR, '[1, null, 2]', '? value {"1",NULL,"2"}', 1007],
  ['a JSON list of long numbers', VARCHAR, '[9007199254740993]', '≈ NULL', 1016],
  ['a list as Python prints it', VARCHAR, "['a']", '≈ NULL', 1009],
  ['an interval as a number', BIGINT, 1n, '≈ NULL', 1186],
  ['an interval', VARCHAR, '1 day', '? value 1 day', 1186],
  ['an oid', BIGINT, 26n, '26', 26],
]; // biome-ignore format: a table

for (const [name, source, value, expected, typeOid, typmod] of CASES) {
  test(`${name}: ${source.toString()} → ${expected}`, () => assert.equal(said(read(source, value, typeOid, typmod)), expected));
}

test('outside UTC, what has no zone and what has one are Postgres’ to reckon with', () => {
  const naive = new DuckDBTimestampValue(0n);
  const aware = new DuckDBTimestampTZValue(0n);
  assert.equal(said(read(TIMESTAMP, naive, 1184, -1, false)), '? naive 1970-01-01 00:00:00');
  assert.equal(said(read(TIMESTAMPTZ, aware, 1114, -1, false)), '? aware 1970-01-01 00:00:00+00');
  assert.equal(said(read(TIMESTAMP, naive, 1114, -1, false)), '1970-01-01 00:00:00');
  assert.equal(said(read(TIMESTAMPTZ, aware, 1184, -1, false)), '1970-01-01 00:00:00+00');
  assert.equal(said(read(VARCHAR, '1970-01-01 00:00:00', 1184, -1, false)), '? naive 1970-01-01 00:00:00');
});

test('a domain is read as the type that it rests on', () => {
  const types = { 20000: { name: 'fee', kind: 'd', baseOid: 1700, baseTypmod: numeric(12, 2) } };
  const { read: of } = columnReading({ name: 'c', typeOid: 20_000, typmod: -1, key: false }, types, DOUBLE, true);
  assert.equal(said(of(1.5)), '1.50');
});
