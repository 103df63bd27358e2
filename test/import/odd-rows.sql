-- The rows that test/import/make_old_files.py wrote, as they were in Postgres.
CREATE TYPE public.mood AS ENUM ('calm', 'wild');
CREATE TABLE public.odd (
  id bigint PRIMARY KEY, at timestamptz NOT NULL, wall timestamp, price numeric(20,8), loose numeric, ratio float8, small real, qty integer, big bigint, ok boolean, doc jsonb, raw json,
  tags text[], levels integer[], ref uuid, mood public.mood, day date, clock time, note text, code varchar(10), payload bytea, span interval, addr inet
);
CREATE TABLE public.bare (at timestamptz, n integer);
ALTER TABLE public.bare REPLICA IDENTITY FULL;
CREATE SCHEMA was;
CREATE TABLE was.odd (LIKE public.odd);
INSERT INTO was.odd VALUES
  (1, '2026-01-11 23:59:59.999999+00', '2026-01-11 23:59:59.123456', 141.25, 12345678901234567890.123, 0.1, 0.1, 1, 9007199254740993, true, '{"b": 1, "aa": [1, 2.5]}', '{"b":  1}',
   ARRAY['a', 'b "c"', NULL], '{1,2}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'calm', '2026-01-01', '10:00:01.000005', 'plain', '007', '\x00ff', '1 day 02:03:04.5', '10.0.0.1'),
  (2, '2026-01-12 00:00:00+00', NULL, -0.00000001, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, '2026-01-12 10:30:00.5+00', NULL, NULL, NULL, NULL, NULL, 7, -9223372036854775808, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'changed since', NULL, NULL, NULL, NULL),
  (4, '2026-01-12 23:59:59.999999+00', NULL, 19.99, NULL, NULL, NULL, 1, 4, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'late', NULL, NULL, NULL, NULL),
  (5, '2026-01-13 00:00:00+00', NULL, 12345678.12345678, NULL, NULL, NULL, 2, 5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'doubled', NULL, NULL, NULL, NULL),
  (6, '2026-01-14 00:30:00+00', '2026-01-14 00:30:00', 100, 'NaN', 1e300, 0.3, -5, NULL, true, NULL, NULL, ARRAY['a', NULL, 'b c'], '{1,2}', NULL, NULL, '2026-01-14', '10:11:12', 'texts', NULL, '\xdead', NULL, NULL),
  (7, '2026-01-14 00:30:00.25+00', NULL, 0.1, 1.50, '-Infinity', NULL, NULL, NULL, false, NULL, NULL, ARRAY['x', NULL], '{}', NULL, NULL, NULL, NULL, 'texts', NULL, NULL, NULL, NULL);
