import assert from 'node:assert/strict';
import { test } from 'node:test';
import type pg from 'pg';
import { isNarrow, LargeValues } from '../../../services/archiver/large-values.js';
import { TableBook } from '../../../services/archiver/tables.js';
import { startPostgres } from '../../../services/demo/engines/postgres.js';
import { parseConfig } from '../../../src/runtime/config.js';
import { connectClient } from '../../../src/wal/session.js';
import { defineTable, insertMessage } from '../../change/pgoutput-writer.js';

const config = parseConfig('source: { url: "postgres://x@localhost/x", name: test }\ntables:\n  prices: { timestamp: at }', { file: '/tidemark.yaml' });
const prices = defineTable();
const book = new TableBook(config.tables, [], () => undefined);
book.describe(prices.description);
book.relate(prices.relation);
const table = book.route(prices.relation.oid) as NonNullable<ReturnType<TableBook['route']>>;

/** The message and the offset of its tuple. */
function tuple(id: number, note: string | undefined): [Buffer, number] {
  return [insertMessage(prices.relation.oid, [String(id), '2026-01-12 10:00:00+00', note]), 6];
}

function seen(values: LargeValues, id: number): string | undefined {
  const [buffer, at] = tuple(id, undefined);
  return values.version(table, buffer, at, at)?.get(2)?.toString();
}

function add(values: LargeValues, id: number, note: string): void {
  const [buffer, at] = tuple(id, note);
  values.version(table, buffer, at, at);
}

test('a value is found as long as the row keeps it, and its memory is bounded: the oldest go first', () => {
  const values = new LargeValues(10_000);
  for (let id = 0; id < 100; id += 1) add(values, id, `${id}`.padEnd(2000, 'x'));
  assert.equal(seen(values, 0), undefined);
  assert.equal(seen(values, 99)?.slice(0, 2), '99');
  assert.equal(seen(values, 99)?.slice(0, 2), '99', 'the version with the unchanged column has it too');
});

test('a row that went, or whose value was replaced, is not found', () => {
  const values = new LargeValues();
  add(values, 1, 'a'.repeat(2000));
  add(values, 2, 'b'.repeat(2000));
  add(values, 3, 'c'.repeat(2000));
  const [gone, at] = tuple(1, '');
  values.gone(table, gone, at);
  add(values, 2, 'short');
  assert.equal(seen(values, 1), undefined);
  assert.equal(seen(values, 2), undefined);
  values.truncated(table);
  assert.equal(seen(values, 3), undefined);
});

const MANY = 300;
/** Values of 300 columns of a type each: the row is wide. `moves`: Postgres moves some of them out of line. */
const WIDE: Readonly<Record<string, { typeOid: number; values: readonly string[]; moves: boolean }>> = {
  'float8': { typeOid: 701, values: ['-12.345678901234567', '0.1'], moves: false },
  'timestamptz': { typeOid: 1184, values: ['2026-01-12 10:00:00.123456+00'], moves: false },
  'numeric': {
    typeOid: 1700,
    values: ['1.0123456789', '12345.678901', '123456789012', '-99999.99999', '0.0000000012', '1.1', 'NaN', '-Infinity'],
    moves: false,
  },
  'numeric(60,30)': { typeOid: 1700, values: ['123456789012345678901.012345678901234567890123456789'], moves: true },
  'text': { typeOid: 25, values: ['of 17 characters.', ''], moves: false },
  'xml': { typeOid: 142, values: ['<?xml version="1.0" encoding="UTF-8"?><a/>'], moves: true },
  'varchar': { typeOid: 1043, values: ['of more than thirty two characters'], moves: true },
}; // biome-ignore format: a table

test('what Postgres moves out of line in a wide row is what we expect, type by type', async (t) => {
  await using server = await startPostgres();
  const client = await connectClient(await server.createDatabase(), { applicationName: 'test' });
  t.after(() => client.end());
  for (const [type, { typeOid, values, moves }] of Object.entries(WIDE)) {
    const columns = Array.from({ length: MANY }, (_, i) => `c${i}`);
    const texts = columns.map((_, i) => values[i % values.length] as string);
    await client.query('DROP TABLE IF EXISTS public.wide');
    await client.query(`CREATE TABLE public.wide (id int, ${columns.map((name) => `${name} ${type}`).join(', ')})`);
    const { rows } = await client.query<{ toast: string | null }>(
      `SELECT nullif(reltoastrelid, 0)::regclass::text AS toast FROM pg_class WHERE oid = 'public.wide'::regclass`,
    );
    const toast = rows[0]?.toast ?? null; // of columns of fixed length there is none
    if (toast !== null) await client.query(`ALTER TABLE public.wide ${columns.map((name) => `ALTER ${name} SET STORAGE EXTERNAL`).join(', ')}`);
    await client.query(`INSERT INTO public.wide VALUES (1, ${texts.map((text) => `'${text}'`).join(', ')})`);
    const moved = toast === null ? 0 : (await client.query(`SELECT FROM ${toast}`)).rowCount;
    assert.equal((moved as number) > 0, moves, `${type}: by Postgres`);
    const types = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;
    const printed = (await client.query<string[]>({ text: 'SELECT * FROM public.wide', rowMode: 'array', types })).rows[0] as string[];

    const wide = defineTable({ columns: [['id', 23], ...columns.map((name) => [name, typeOid] as const)] });
    const known = new TableBook(config.tables, [], () => undefined);
    known.describe(wide.description);
    known.relate(wide.relation);
    const route = known.route(wide.relation.oid);
    assert.ok(route !== undefined);
    assert.equal(isNarrow(route, insertMessage(wide.relation.oid, printed), 6), !moves, `${type}: by us`);
  }
});
