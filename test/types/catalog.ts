/** Every kind of type Postgres has, with the values that go wrong first and an expression for random ones. One column each, of one table: of the tests and of docs/types.md. */

export type TypeCase = {
  /** Name of the column. */
  readonly column: string;
  /** As written in CREATE TABLE. */
  readonly type: string;
  /** SQL expressions. */
  readonly values: readonly string[];
  /** SQL expression of a random value; it may use `i`, the number of the row. */
  readonly random: string;
  /** Left out where the server lacks it. */
  readonly extension?: string;
};

/** Types of our own that the columns use. */
export const TYPE_DDL = `
CREATE TYPE mood AS ENUM ('calm', 'so so', 'wild');
CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN handle AS text;
CREATE TYPE point3 AS (x float8, y numeric, label text);
CREATE TYPE spread AS RANGE (subtype = float8);
CREATE DOMAIN fee AS cents CHECK (VALUE < 1000000);
CREATE DOMAIN place AS point3 CHECK ((VALUE).label <> 'nowhere');
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN scores AS integer[];
CREATE TYPE trade AS (at timestamptz, paid fee, legs point3[], mood mood);
CREATE TYPE geometry;
CREATE FUNCTION geometry_in(cstring) RETURNS geometry LANGUAGE internal IMMUTABLE STRICT AS 'byteain';
CREATE FUNCTION geometry_out(geometry) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'byteaout';
CREATE TYPE geometry (INPUT = geometry_in, OUTPUT = geometry_out, DELIMITER = ':', STORAGE = main);
`;

const q = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const all = (type: string, ...texts: string[]): string[] => texts.map((text) => `${q(text)}::${type}`);
const MOMENT = `timestamp '2020-01-01' + random() * interval '2000 days'`;
const TEXT = `array_to_string(ARRAY(SELECT chr((1 + random() * CASE WHEN random() < 0.8 THEN 126 ELSE 55000 END)::int) FROM generate_series(1, (i * 7) % 20)), '')`;
const NUMBER = `(random() * 10 ^ ((random() * 30)::int))::numeric * CASE WHEN random() < 0.5 THEN 1 ELSE -1 END`;

function one(column: string, type: string, values: readonly string[], random: string, extension?: string): TypeCase {
  return { column, type, values, random, ...(extension === undefined ? {} : { extension }) };
}

export const TYPES: readonly TypeCase[] = [
  one('c_int2', 'smallint', all('int2', '-32768', '32767', '0'), `(random() * 65535 - 32768)::int2`),
  one('c_int4', 'integer', all('int4', '-2147483648', '2147483647', '0'), `(random() * 4e9 - 2e9)::int4`),
  one('c_int8', 'bigint', all('int8', '-9223372036854775808', '9223372036854775807', '9007199254740993'), `(random() * 1.8e19 - 9e18)::int8`),
  one('c_oid', 'oid', all('oid', '0', '4294967295'), `(random() * 4e9)::int8::oid`),
  one('c_float4', 'real', all('float4', 'NaN', 'Infinity', '-Infinity', '-0', '0', '1e-45', '3.4028235e38'), `(random() * 10 ^ (random() * 60 - 30))::float4`),
  one('c_float8', 'double precision', all('float8', 'NaN', 'Infinity', '-Infinity', '-0', '0', '5e-324', '1.7976931348623157e308', '0.1'), `random() * 10 ^ (random() * 600 - 300)`),
  one('c_numeric_10_2', 'numeric(10,2)', all('numeric(10,2)', '-99999999.99', '99999999.99', '0', 'NaN'), `random() * 1e8`),
  one('c_numeric_38_12', 'numeric(38,12)', all('numeric(38,12)', '99999999999999999999999999.999999999999', '-0.000000000001', '1'), `(${NUMBER}) % 1e20`),
  one('c_numeric_38_0', 'numeric(38)', all('numeric(38)', '99999999999999999999999999999999999999', '-1'), `trunc(${NUMBER})`),
  one('c_numeric_50_20', 'numeric(50,20)', all('numeric(50,20)', '999999999999999999999999999999.99999999999999999999', '-1.5'), `(${NUMBER}) % 1e20`),
  one('c_numeric_neg', 'numeric(6,-3)', all('numeric(6,-3)', '123456000', '-1000'), `random() * 1e8`),
  one('c_numeric', 'numeric', all('numeric', 'NaN', 'Infinity', '1e500', '-0.1000', '1.0', '123456789012345678901234567890.123456789'), NUMBER),
  one('c_money', 'money', all('money', '-92233720368547758.08', '92233720368547758.07', '0'), `(random() * 1e9)::numeric::money`),
  one('c_bool', 'boolean', all('bool', 't', 'f'), `random() < 0.5`),
  one('c_text', 'text', [...all('text', '', ' ', 'NULL', '\\N', '\\.', '"', 'a"b', "it's", ',;|\t', '漢字 é 😀', '\u{10ffff}', '\ufeffbom'), `E'\\r\\n'`, `E'\\001\\177'`, `repeat('long ', 5000)`], TEXT),
  one('c_varchar', 'character varying(40)', all('varchar(40)', '', 'trailing  ', 'naïve'), `left(${TEXT}, 40)`),
  one('c_char', 'character(6)', all('char(6)', '', 'ab', 'sixsix'), `left(md5(random()::text), 4)`),
  one('c_char1', '"char"', all('"char"', 'x', ''), `chr((65 + random() * 25)::int)::"char"`),
  one('c_name', 'name', all('name', 'pg_class', ''), `md5(random()::text)::name`),
  one('c_bytea', 'bytea', all('bytea', '\\x', '\\x00', '\\x00ff0a0d2200'), `decode(md5(random()::text), 'hex')`),
  one('c_uuid', 'uuid', all('uuid', '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'), `gen_random_uuid()`),
  one('c_date', 'date', all('date', 'infinity', '-infinity', '4713-01-01 BC', '5874897-12-31', '0001-01-01', '1969-12-31', '1582-10-10'), `(${MOMENT})::date`),
  one('c_time', 'time', all('time', '00:00', '24:00:00', '23:59:59.999999'), `(${MOMENT})::time`),
  one('c_timetz', 'time with time zone', all('timetz', '00:00+15:59', '24:00:00-15:59:59', '12:34:56.789+02'), `(${MOMENT})::time::timetz`),
  one('c_timestamp', 'timestamp', all('timestamp', 'infinity', '-infinity', '4713-01-01 00:00 BC', '294276-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999', '0001-01-01', '1969-12-31 23:59:59.999999', '1500-02-28 12:00'), MOMENT),
  one('c_timestamp_3', 'timestamp(3)', all('timestamp(3)', '2026-01-12 10:11:12.3456'), MOMENT),
  one('c_timestamptz', 'timestamptz', all('timestamptz', 'infinity', '-infinity', '4713-01-01 00:00+00 BC', '294276-12-31 23:59:59.999999+00', '0001-01-01 00:00+00', '2026-03-29 02:30 Europe/Berlin'), `(${MOMENT}) AT TIME ZONE 'UTC'`),
  one('c_timestamptz_0', 'timestamptz(0)', all('timestamptz(0)', '2026-01-12 10:11:12.6+00', '-infinity'), `(${MOMENT}) AT TIME ZONE 'UTC'`),
  one('c_interval', 'interval', all('interval', '0', '-1 year 2 mons -3 days 04:05:06.000007', '178000000 years', '-00:00:00.000001'), `random() * interval '1000 days' - interval '3 mons'`),
  one('c_interval_3', 'interval day to second(3)', all('interval day to second(3)', '-3 days 04:05:06.1234'), `random() * interval '10 days'`),
  one('c_json', 'json', all('json', '{"a":  1,\n "b": [null, "\\u00e9", 1e400]}', 'null', '"x"', '{"a":1,"a":2}'), `json_build_object('i', i, 'x', random(), 't', md5(random()::text))`),
  one('c_jsonb', 'jsonb', all('jsonb', '{"a":  1, "b": [null, "\\u00e9", 123456789012345678901234567890.10]}', 'null', '[]', '"\\"quoted\\""'), `jsonb_build_object('i', i, 'x', random()::numeric)`),
  one('c_jsonpath', 'jsonpath', all('jsonpath', '$.a[*] ? (@ > 1)'), `('$[' || i || ']')::jsonpath`),
  one('c_xml', 'xml', all('xml', '<a b="1">é<!-- x --></a>', 'text &amp; <b/>', '<?xml version="1.0" standalone="yes"?>\n<a/>'), `xmlelement(name a, xmlattributes(i AS n), md5(random()::text))`),
  one('c_enum', 'mood', all('mood', 'calm', 'so so'), `(enum_range(NULL::mood))[1 + i % 3]`),
  one('c_domain', 'cents', all('cents', '0', '9999999999.99'), `(random() * 1e6)::numeric(12,2)`),
  one('c_domain_text', 'handle', all('handle', '', '@a "b"'), TEXT),
  one('c_domain_domain', 'fee', all('fee', '0.01', '999999.99'), `(random() * 1e6)::numeric(12,2) % 1000000`),
  one('c_domain_enum', 'feeling', all('feeling', 'so so'), `(enum_range(NULL::mood))[1 + i % 3]`),
  one('c_domain_composite', 'place', [`ROW(1, -0.50, '(,)')::point3`, `ROW(NULL, 'NaN', '')::point3`], `ROW(random(), ${NUMBER}, ${TEXT})::point3`),
  one('c_domain_array', 'scores', all('int4[]', '{}', '{1,NULL}', '{{1},{2}}'), `ARRAY[i, -i]`),
  one('c_composite', 'point3', [`ROW(1.5, NULL, 'a,"b"')::point3`, `ROW(NULL, NULL, NULL)::point3`, `ROW('NaN', 'NaN', '')::point3`], `ROW(random(), ${NUMBER}, ${TEXT})::point3`),
  one('c_composite_nested', 'trade', [`ROW('infinity', 1.5, ARRAY[ROW(1, NULL, 'a,"b"')::point3, NULL], 'so so')::trade`], `ROW((${MOMENT}) AT TIME ZONE 'UTC', 1, ARRAY[ROW(i, 1, ${TEXT})::point3], 'calm')::trade`),
  one('c_int4range', 'int4range', all('int4range', 'empty', '[1,5]', '(,)', '[,7)'), `int4range(i, i + 5)`),
  one('c_int8range', 'int8range', all('int8range', '[9223372036854775806,9223372036854775807)'), `int8range(i, i + 5)`),
  one('c_numrange', 'numrange', all('numrange', '(1.10,2.20]', '[NaN,NaN]', '[-Infinity,Infinity]', 'empty', '(,)'), `numrange(0, (random() * 100)::numeric)`),
  one('c_tsrange', 'tsrange', all('tsrange', '["2026-01-01 00:00","2026-01-02 00:00")', '[-infinity,infinity]'), `tsrange(${MOMENT}, NULL)`),
  one('c_tstzrange', 'tstzrange', all('tstzrange', '["2026-01-01 00:00+00",)', '[-infinity,infinity)', '["4713-01-01 00:00+00 BC","294276-12-31 23:59:59.999999+00"]'), `tstzrange((${MOMENT}) AT TIME ZONE 'UTC', NULL)`),
  one('c_daterange', 'daterange', all('daterange', '[2026-01-01,2026-02-01)', '[-infinity,infinity]', '(,)', 'empty'), `daterange((${MOMENT})::date, NULL)`),
  one('c_range', 'spread', all('spread', '[0.1,0.2)', '[-Infinity,Infinity]', '[-0,NaN]'), `spread(random(), NULL)`),
  one('c_multirange', 'int4multirange', all('int4multirange', '{}', '{[1,3),[5,9)}'), `int4multirange(int4range(i, i + 2))`),
  one('c_tstzmultirange', 'tstzmultirange', all('tstzmultirange', '{["2026-01-01 00:00+00","2026-01-02 00:00+00")}'), `tstzmultirange(tstzrange((${MOMENT}) AT TIME ZONE 'UTC', NULL))`),
  one('c_nummultirange', 'nummultirange', all('nummultirange', '{}', '{(,1.10],(2.20,Infinity]}'), `nummultirange(numrange(i, i + 0.5))`),
  one('c_datemultirange', 'datemultirange', all('datemultirange', '{[-infinity,2026-01-01),[2026-02-01,infinity)}'), `datemultirange(daterange((${MOMENT})::date, NULL))`),
  one('c_inet', 'inet', all('inet', '10.0.0.1', '10.0.0.1/8', '::1', 'fe80::1/64'), `('10.0.0.' || i % 256)::inet`),
  one('c_cidr', 'cidr', all('cidr', '10.0.0.0/8', '::/0'), `('10.' || i % 256 || '.0.0/16')::cidr`),
  one('c_macaddr', 'macaddr', all('macaddr', '08:00:2b:01:02:03'), `substr(md5(random()::text), 1, 12)::macaddr`),
  one('c_macaddr8', 'macaddr8', all('macaddr8', '08:00:2b:01:02:03:04:05'), `substr(md5(random()::text), 1, 16)::macaddr8`),
  one('c_bit', 'bit(5)', all('bit(5)', '00000', '10101'), `(i % 32)::bit(5)`),
  one('c_varbit', 'bit varying', all('varbit', '', '1', repeatBits(100)), `i::bit(12)::varbit`),
  one('c_varbit_12', 'bit varying(12)', all('varbit(12)', '', '101010101010'), `i::bit(12)::varbit`),
  one('c_tsvector', 'tsvector', all('tsvector', '', `'it''s':1A 'two words':2`), `to_tsvector('simple', md5(random()::text))`),
  one('c_tsquery', 'tsquery', all('tsquery', `'a' & !'b' <-> 'c'`), `to_tsquery('simple', 'a' || i)`),
  one('c_point', 'point', all('point', '(1.5,-0)', '(NaN,Infinity)'), `point(random(), random())`),
  one('c_line', 'line', all('line', '{1,-1,0}'), `line(point(0, 0), point(1, 1 + random()))`),
  one('c_lseg', 'lseg', all('lseg', '[(0,0),(1,1)]'), `lseg(point(0, 0), point(1, random()))`),
  one('c_box', 'box', all('box', '(1,1),(0,0)'), `box(point(0, 0), point(1, random()))`),
  one('c_path', 'path', all('path', '[(0,0),(1,1)]', '((0,0),(1,1))'), `('[(0,0),(1,' || random() || ')]')::path`),
  one('c_polygon', 'polygon', all('polygon', '((0,0),(1,1),(1,0))'), `polygon(box(point(0, 0), point(1, random())))`),
  one('c_circle', 'circle', all('circle', '<(0,0),1.5>'), `circle(point(0, 0), random())`),
  one('c_pg_lsn', 'pg_lsn', all('pg_lsn', '0/0', 'FFFFFFFF/FFFFFFFF'), `('0/' || to_hex(i + 1))::pg_lsn`),
  one('c_xid8', 'xid8', all('xid8', '18446744073709551615'), `i::text::xid8`),
  one('c_regclass', 'regclass', all('regclass', 'pg_catalog.pg_class', '0'), `'pg_catalog.pg_type'::regclass`),
  one('c_int2vector', 'int2vector', all('int2vector', '', '1 2 -3'), `(i || ' 7')::int2vector`),
  one('c_hstore', 'hstore', all('hstore', '', 'a=>1, "b c"=>NULL, d=>"\\"q\\""'), `hstore('k' || i, ${TEXT})`, 'hstore'),
  one('c_citext', 'citext', all('citext', '', 'MiXed'), TEXT, 'citext'),
  one('c_geometry', 'geometry', all('geometry', '\\x0101000020e6100000000000000000f03f0000000000000040', '\\x'), `('\\x0101000000' || md5(random()::text))::geometry`),
  one('a_int4', 'integer[]', all('int4[]', '{}', '{1,NULL,-2147483648}', '[0:1]={7,8}', '{{1,2},{3,4}}'), `ARRAY[i, NULL, -i]`),
  one('a_int8_2', 'bigint[][]', all('int8[]', '{}', '{{9223372036854775807,NULL},{1,2}}', '{1,2}', '{{{1}}}'), `ARRAY[[i::int8, 2], [NULL, i * 3]]`),
  one('a_float8', 'double precision[]', all('float8[]', '{NaN,Infinity,-Infinity,0.1}', '{-0,1}'), `ARRAY[random(), NULL, random() * 1e-300]`),
  one('a_numeric_20_8', 'numeric(20,8)[]', all('numeric(20,8)[]', '{999999999999.99999999,-0.00000001,NULL}', '{NaN}'), `ARRAY[(random() * 1e6)::numeric(20,8), NULL]`),
  one('a_numeric_20_8_2', 'numeric(20,8)[][]', all('numeric(20,8)[]', '{{105.1,2},{104.9,3}}', '{}'), `ARRAY[ARRAY[random()::numeric(20,8), 1], ARRAY[random()::numeric(20,8), 2]]`),
  one('a_numeric', 'numeric[]', all('numeric[]', '{NaN,1e50,1.10}'), `ARRAY[${NUMBER}]`),
  one('a_bool', 'boolean[]', all('bool[]', '{t,f,NULL}'), `ARRAY[random() < 0.5, NULL]`),
  one('a_bit', 'bit(5)[]', all('bit(5)[]', '{00000,10101,NULL}'), `ARRAY[(i % 32)::bit(5)]`),
  one('a_money', 'money[]', all('money[]', '{$1.10,-$92233720368547758.08}'), `ARRAY[(random() * 1e9)::numeric::money]`),
  one('a_float4', 'real[]', all('float4[]', '{NaN,-Infinity,1e-45}', '{-0}'), `ARRAY[random()]`),
  one('a_text', 'text[]', [...all('text[]', '{}', '{""," ","a b","NULL",null,"null","\\\\","\\"","{}",",",é😀}', '{{a,b},{c,d}}'), `ARRAY[E'\\t', E'\\n', E'\\r\\n', E'\\v', E'\\001', U&'\\00a0', U&'\\2028']`], `ARRAY[${TEXT}, NULL, ${TEXT}]`),
  one('a_varchar', 'character varying(40)[]', all('varchar(40)[]', '{"a b",c}'), `ARRAY[left(${TEXT}, 40)]`),
  one('a_char', 'character(6)[]', all('char(6)[]', '{ab,"",NULL,sixsix}'), `ARRAY[left(md5(random()::text), 4)]`),
  one('a_bytea', 'bytea[]', all('bytea[]', '{"\\\\x00ff","\\\\x",NULL}'), `ARRAY[decode(md5(random()::text), 'hex')]`),
  one('a_uuid', 'uuid[]', all('uuid[]', '{00000000-0000-0000-0000-000000000000}'), `ARRAY[gen_random_uuid()]`),
  one('a_date', 'date[]', all('date[]', '{2026-01-12,NULL}', '{infinity}', '{"0044-03-15 BC"}'), `ARRAY[(${MOMENT})::date]`),
  one('a_time', 'time[]', all('time[]', '{12:00:00.5}', '{24:00:00}'), `ARRAY[(${MOMENT})::time]`),
  one('a_timestamp', 'timestamp[]', all('timestamp[]', '{"2026-01-12 10:11:12.000001",NULL}', '{infinity}'), `ARRAY[${MOMENT}]`),
  one('a_timestamptz', 'timestamptz[]', all('timestamptz[]', '{"2026-01-12 10:11:12+00",NULL}', '{-infinity}'), `ARRAY[(${MOMENT}) AT TIME ZONE 'UTC']`),
  one('a_jsonb', 'jsonb[]', all('jsonb[]', '{"{\\"a\\": [1, null]}",NULL}'), `ARRAY[jsonb_build_object('i', i)]`),
  one('a_json', 'json[]', all('json[]', '{"{\\"a\\":  1}","null",NULL}'), `ARRAY[json_build_object('i', i)]`),
  one('a_hstore', 'hstore[]', all('hstore[]', '{"a=>1, b=>NULL",""}'), `ARRAY[hstore('k' || i, 'v')]`, 'hstore'),
  one('a_enum', 'mood[]', all('mood[]', '{calm,"so so",NULL}'), `ARRAY['wild'::mood]`),
  one('a_domain', 'cents[]', all('cents[]', '{1.5,NULL}'), `ARRAY[(random() * 100)::numeric::cents]`),
  one('a_domain_composite', 'place[]', [`ARRAY[ROW(1, 2, 'a "b"')::point3::place, NULL]`], `ARRAY[ROW(i, 1, ${TEXT})::point3::place]`),
  one('a_composite', 'point3[]', [`ARRAY[ROW(1, 2, 'a "b"')::point3, NULL]`], `ARRAY[ROW(random(), 1, ${TEXT})::point3]`),
  one('a_range', 'int4range[]', all('int4range[]', '{"[1,5)",empty}'), `ARRAY[int4range(i, i + 1)]`),
  one('a_multirange', 'int4multirange[]', all('int4multirange[]', '{"{[1,3),[5,9)}","{}"}'), `ARRAY[int4multirange(int4range(i, i + 2))]`),
  one('a_inet', 'inet[]', all('inet[]', '{10.0.0.1,::1}'), `ARRAY['10.0.0.1'::inet]`),
  one('a_interval', 'interval[]', all('interval[]', '{"1 day","-00:00:01"}'), `ARRAY[random() * interval '10 days']`),
  one('a_box', 'box[]', all('box[]', '{(1,1),(0,0);(2,2),(1,1)}'), `ARRAY[box(point(0, 0), point(1, random()))]`),
  one('a_geometry', 'geometry[]', all('geometry[]', '{"\\\\x0101":"\\\\x"}'), `ARRAY['\\x0102'::geometry]`),
]; // biome-ignore format: a table

function repeatBits(length: number): string {
  return '10'.repeat(length / 2);
}

/** Rows of edge values: as many as the longest list; beyond a column's own the column is NULL. */
export const EDGE_ROWS = Math.max(...TYPES.map(({ values }) => values.length));
