/**
 * The way back: restored rows equal the archived ones, type by type; they are in Postgres and in the archive, and a reader of the archive sees each once, through flush, merge, seal and rebuild; the
 * pruner leaves them for their time and then prunes them like any others. One pipeline on real engines.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Pipeline, until } from '../pipeline/pipeline.js';
import type { Finished } from '../services/cli/command.js';
import { Views } from '../services/archiver/views.js';
import { TypesTable } from '../types/types-table.js';

const TABLES = `  typed: { timestamp: at }
  ticks: { timestamp: at }
  lines: { timestamp: at, prune: false, deletes: keep }`;

let pipeline: Pipeline;
let typed: TypesTable;

before(async () => {
  pipeline = await Pipeline.start({ schema: '', tables: TABLES, flushEvery: '200ms', yaml: 'protected: [plays]' });
  typed = await TypesTable.create(pipeline);
  await pipeline.query(`CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text, code text UNIQUE);
    CREATE TABLE lines (at timestamptz, v text); ALTER TABLE lines REPLICA IDENTITY FULL; CREATE TABLE plays (id bigint PRIMARY KEY, at timestamptz);
    ALTER PUBLICATION tidemark_test ADD TABLE ticks, lines`);
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

const DAY = '2026-01-12';
const cli = (...args: string[]): Promise<Finished> => pipeline.cli([...args, '-c', pipeline.configFile]);
const done = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await cli(...args);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};
const prune = async (...args: string[]): Promise<{ deleted: number; left: Record<string, number>; run: string }> => {
  await pipeline.archived();
  const result = JSON.parse(await done('prune', 'ticks', '--json', ...args));
  return { ...result.tables[0], run: result.run };
};
const ids = async (): Promise<number[]> => (await pipeline.query<{ id: string }>('SELECT id FROM ticks ORDER BY id')).map(({ id }) => Number(id));
const insert = (from: number, to: number, day = DAY): Promise<unknown> =>
  pipeline.query(`INSERT INTO ticks SELECT i, '${day} 10:00+00'::timestamptz + i * interval '1 second', 'v' || i FROM generate_series(${from}, ${to}) i`);
const view = async (sql: string): Promise<string[]> => {
  await using views = await Views.of({ config: { file: pipeline.configFile } });
  return await views.rows(sql);
};
const kinds = async (table: string): Promise<string[]> =>
  [
    ...new Set([...((await pipeline.state())?.files.values() ?? [])].filter((file) => file.table === table && file.kind !== 'keys').map(({ kind, day }) => `${kind} ${day}`)),
  ].sort();
const upTo = (n: number, from = 1): number[] => Array.from({ length: n - from + 1 }, (_, i) => from + i);

test('law 9: every value of every type comes back as it was', async () => {
  await typed.insertRandom(20);
  await pipeline.archived();
  const expected = await typed.texts();
  await done('prune', 'typed');
  assert.equal((await typed.texts()).size, 0);
  await until('the day is sealed', async () => (await kinds('typed')).every((kind) => kind.startsWith('daily')));
  const result = JSON.parse(await done('restore', 'typed', '--json'));
  assert.deepEqual([result.tables[0].restored, result.changed, result.tables[0].left], [expected.size, 0, {}]);
  assert.deepEqual(await typed.texts(), expected);
  await pipeline.query('CREATE SCHEMA again');
  await done('restore', 'typed', '--into', 'again.typed');
  const columns = `SELECT attname::text AS name, pg_catalog.format_type(atttypid, atttypmod) AS type, attnotnull::text AS required FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid =`;
  assert.deepEqual(await pipeline.query(`${columns} 'again.typed'::regclass ORDER BY attnum`), await pipeline.query(`${columns} 'typed'::regclass ORDER BY attnum`));
  assert.deepEqual(await pipeline.query('SELECT t::text FROM again.typed t ORDER BY id'), await pipeline.query('SELECT t::text FROM typed t ORDER BY id'));
  const key = `SELECT pg_catalog.pg_get_constraintdef(oid) AS key FROM pg_catalog.pg_constraint WHERE contype = 'p' AND conrelid =`;
  assert.deepEqual(await pipeline.query(`${key} 'again.typed'::regclass`), await pipeline.query(`${key} 'typed'::regclass`));
});

test('restored rows are in the archive once, and safe from the pruner for their time; then they are pruned again, and the day is sealed without them', async () => {
  await insert(1, 40);
  assert.equal((await prune()).deleted, 40);
  await until('the day is sealed', async () => (await kinds('ticks')).join() === `daily ${DAY}`);
  const shown = await view('SELECT id, v FROM ticks ORDER BY id');
  assert.equal(shown.length, 40);

  const dry = JSON.parse(await done('restore', 'ticks', '--day', DAY, '--dry-run', '--json'));
  assert.deepEqual([dry.tables[0].restored, await ids()], [40, []]);
  assert.match(await done('restore', 'ticks', '--from', `${DAY} 10:00:11`, '--to', `${DAY}T10:00:21Z`), /ticks: 10 rows restored in 1 batch\n {2}the pruner leaves them for 24h/);
  assert.deepEqual(await ids(), upTo(20, 11));
  assert.match(await done('restore', 'ticks', '--day', DAY, '--where', "id <= 30 AND v <> 'v3'", '--keep', '0s'), /19 rows restored.*\n {2}10 left: there already/);
  await pipeline.archived();
  assert.deepEqual(await kinds('ticks'), [`daily ${DAY}`, `restored ${DAY}`]);
  assert.deepEqual(await view('SELECT id, v FROM ticks ORDER BY id'), shown);

  const { deleted, left } = await prune();
  assert.deepEqual([deleted, left], [19, { restored: 10 }]);
  assert.deepEqual(await ids(), upTo(20, 11));
  assert.match(await done('explain', 'ticks', '12'), /it was restored: the pruner leaves it until/);
  await pipeline.query(`UPDATE ticks SET v = 'edited' WHERE id = 11; DELETE FROM ticks WHERE id = 12`);
  const after = await prune();
  assert.deepEqual([after.deleted, after.left], [1, { restored: 8 }], 'a changed row is an ordinary one again');
  assert.deepEqual(await view('SELECT id, v FROM ticks ORDER BY id, v'), [...shown, '11|edited'].sort((a, b) => Number.parseInt(a) - Number.parseInt(b)));
  await pipeline.archived();
  const deep = JSON.parse(await done('verify', '--deep', '--json'));
  assert.equal(deep.deep.stream.equal, true);
  assert.equal(deep.deep.postgres.find((one: { table: string }) => one.table === 'ticks').equal, 8);
});
