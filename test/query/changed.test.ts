/** Tables that have changed since their older rows were pruned: another timestamp column, another key, other types and names of columns. What was archived before is found, as it was. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { pruneOnce } from '../../services/pruner/loop.js';
import { Query } from '../../src/query/query.js';
import { loadConfig } from '../../src/runtime/config.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { Views } from '../services/archiver/views.js';

let pipeline: Pipeline;
let services: Service[];
const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

before(async () => {
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE trades (id int PRIMARY KEY, seen timestamptz, made timestamptz); CREATE TABLE forms (id int NOT NULL, at timestamptz, tags int[] PRIMARY KEY);
      CREATE TABLE amounts (id int PRIMARY KEY, at timestamptz, n numeric(38)); CREATE TABLE words (id int PRIMARY KEY, at timestamptz, "Word" text);
      CREATE TABLE first (id int PRIMARY KEY, at timestamptz); CREATE PUBLICATION tidemark_test FOR TABLE beat, trades, forms, amounts, words, first`,
    tables: ['trades: { timestamp: seen }', ...['forms', 'amounts', 'words', 'first'].map((name) => `${name}: { timestamp: at }`)]
      .map((line) => `  ${line}`)
      .join('\n'),
    flushEvery: '200ms',
  });
  services = [pipeline.service('archiver'), pipeline.service('capture')];
  await pipeline.archived();
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

async function rows(sql: string, sides: 'both' | 'cold' = 'both'): Promise<(string | null)[][]> {
  const found: (string | null)[][] = [];
  const query = new Query(loadConfig(pipeline.configFile), { sides, memory: 256 * 1024 * 1024, temporary: tmpdir() });
  await query.run(sql, new AbortController().signal, async ({ kept }) => {
    for await (const piece of kept((column) => `CAST(${column} AS VARCHAR)`)) found.push(...piece);
  });
  return found;
}
const count = async (where: string, sides: 'both' | 'cold' = 'both'): Promise<number> =>
  Number((await rows(`SELECT count(*) FROM trades WHERE ${where}`, sides))[0]?.[0]);
const dailies = async (name: string): Promise<number> =>
  [...((await pipeline.state())?.files.values() ?? [])].filter(({ kind, table }) => kind === 'daily' && table === name).length;

async function prune(): Promise<number> {
  await pipeline.archived();
  const { result } = await pruneOnce(loadConfig(pipeline.configFile), pino({ level: 'silent' }), {}, new AbortController().signal);
  return result.tables.reduce((sum, { deleted }) => sum + deleted, 0);
}

test('rows that were archived by the day of another column are found by the one that counts now', async () => {
  // Made on day 8 and before, seen on day 3; of the last of them the archive has an open day only.
  await pipeline.query(`INSERT INTO trades SELECT i, '${day(3)}', '${day(8)}'::timestamptz + i * interval '1 hour' FROM generate_series(1, 10) i`);
  assert.equal(await prune(), 10);
  await until('the day is sealed', async () =>
    [...((await pipeline.state())?.files.values() ?? [])].some(({ kind, table }) => kind === 'daily' && table === 'trades'),
  );
  await pipeline.query(`INSERT INTO trades VALUES (11, '${day(4)}', '${day(8)}'), (12, '${day(4)}', '${day(8)}')`);
  await pipeline.archived();
  const made = `made >= '${day(8)}' AND made < '${day(7)}'`;
  assert.deepEqual([await count(made), await count(made, 'cold')], [12, 12], 'as it was divided');

  for (const service of services) await service.stop();
  await writeFile(pipeline.configFile, (await readFile(pipeline.configFile, 'utf8')).replace('timestamp: seen', 'timestamp: made'));
  assert.equal((await pipeline.cli(['doctor', '--accept', '-c', pipeline.configFile])).code, 0);
  assert.deepEqual([await count(made), await count(made, 'cold')], [12, 12], 'before a service knows');
  services = [pipeline.service('archiver'), pipeline.service('capture')];
  await pipeline.archived();
  assert.deepEqual([await count(made), await count(made, 'cold')], [12, 12], 'when the archiver knows');
  await until('all are pruned', async () => (await prune()) >= 0 && (await pipeline.query('SELECT FROM trades')).length === 0);
  await pipeline.archived();
  assert.deepEqual([await count(made), await count(made, 'cold')], [12, 12], 'pruned by it');
  assert.equal(await count(`seen >= '${day(3)}'`), 10);
});

test('an array that was part of the key, and numbers that need more digits together than there are, are text; names may change their case', async () => {
  const insert = (from: number, ago: number, n: string): Promise<unknown> =>
    pipeline.query(`INSERT INTO forms SELECT i, '${day(ago)}', ARRAY[i, i] FROM generate_series(${from}, ${from + 1}) i; INSERT INTO amounts SELECT i, '${day(ago)}', ${n} FROM generate_series(${from}, ${from + 1}) i;
      INSERT INTO words SELECT i, '${day(ago)}', 'w' || i FROM generate_series(${from}, ${from + 1}) i`);
  await insert(1, 6, '9'.repeat(38));
  assert.equal(await prune(), 6);
  await until('the days are sealed', async () => (await dailies('forms')) + (await dailies('amounts')) + (await dailies('words')) === 3);
  await pipeline.query(
    `ALTER TABLE forms DROP CONSTRAINT forms_pkey, ADD PRIMARY KEY (id); ALTER TABLE amounts ALTER n TYPE numeric(38,12); ALTER TABLE words RENAME "Word" TO word`,
  );
  await insert(3, 5, '1.5');
  const expected = (list: readonly string[]): unknown => [
    [['{1,1}'], ['{2,2}'], [list[0]], [list[1]]],
    [['9'.repeat(38)], ['9'.repeat(38)], ['1.500000000000'], ['1.500000000000']],
    [['w1'], ['w2'], ['w3'], ['w4']],
  ];
  const all = async (sides: 'both' | 'cold'): Promise<unknown> => [
    await rows('SELECT tags FROM forms ORDER BY id', sides),
    await rows('SELECT n FROM amounts ORDER BY id', sides),
    await rows('SELECT word FROM words ORDER BY id', sides),
  ];
  await pipeline.archived();
  assert.deepEqual(await all('cold'), expected(['[3, 3]', '[4, 4]']), 'of open days');
  assert.equal(await prune(), 6);
  await until('the days are sealed', async () => (await dailies('forms')) + (await dailies('amounts')) + (await dailies('words')) === 6);
  for (const sides of ['both', 'cold'] as const) assert.deepEqual(await all(sides), expected(['[3, 3]', '[4, 4]']), sides);
  const { stdout } = await pipeline.cli(['views', '-c', pipeline.configFile]);
  assert.match(stdout, /^-- public\.forms: column tags has had types .* it has no view/m);
  assert.match(stdout, /^-- public\.amounts: column n has had types .* it has no view/m);
  await using views = await Views.of({ config: { file: pipeline.configFile } });
  assert.deepEqual(await views.rows('SELECT word FROM words ORDER BY id'), ['w1', 'w2', 'w3', 'w4']);
});

test('a table that was renamed keeps what was pruned and restored under its name of before, and a new one of that name has none of it', async () => {
  const insert = (table: string, from: number, to: number, at: string): Promise<unknown> =>
    pipeline.query(`INSERT INTO ${table} SELECT i, ${at} FROM generate_series(${from}, ${to}) i`);
  await insert('first', 1, 10, `'${day(3)}'`);
  await insert('first', 11, 15, 'now()');
  await pipeline.archived();
  const pruned = await pipeline.cli(['prune', 'first', '-c', pipeline.configFile]);
  const run = /run (\S+)/.exec(pruned.stdout)?.[1]?.replace(',', '') as string;
  await until('the day is sealed', async () => (await dailies('first')) === 1);
  assert.equal((await pipeline.cli(['restore', 'first', '--where', 'id <= 4', '-c', pipeline.configFile])).code, 0);
  await pipeline.archived();

  for (const service of services) await service.stop();
  await pipeline.query(
    'ALTER TABLE first RENAME TO second; CREATE TABLE first (id int PRIMARY KEY, at timestamptz); ALTER PUBLICATION tidemark_test ADD TABLE first',
  );
  await writeFile(pipeline.configFile, (await readFile(pipeline.configFile, 'utf8')).replace('  first: {', '  second: { timestamp: at }\n  first: {'));
  const ids = async (table: string, sides: 'both' | 'cold' = 'both'): Promise<number> =>
    Number((await rows(`SELECT count(DISTINCT id) FROM ${table}`, sides))[0]?.[0]);
  const all = async (table: string, sides: 'both' | 'cold' = 'both'): Promise<number> => Number((await rows(`SELECT count(*) FROM ${table}`, sides))[0]?.[0]);
  assert.deepEqual([await all('second'), await ids('second')], [15, 15], 'before a service knows');
  services = [pipeline.service('archiver'), pipeline.service('capture')];
  await insert('second', 16, 20, 'now()');
  await insert('first', 1, 3, 'now()');
  await until(
    'first is copied',
    async () => (await pipeline.state())?.tables.some(({ table, coverage }) => table === 'first' && coverage.state === 'open') || undefined,
  );
  await pipeline.archived();
  for (const sides of ['both', 'cold'] as const)
    assert.deepEqual([await all('second', sides), await ids('second', sides), await all('first', sides)], [20, 20, 3], sides);
  await using views = await Views.of({ config: { file: pipeline.configFile } });
  assert.deepEqual(await views.rows('SELECT count(*), count(DISTINCT id) FROM second'), ['20|20']);
  assert.deepEqual(await views.rows('SELECT count(*) FROM first'), ['3']);
  assert.match((await pipeline.cli(['restore', 'second', '--dry-run', '-c', pipeline.configFile])).stdout, /second: 6 rows would be restored/);
  const { tables } = JSON.parse((await pipeline.cli(['status', '--json', '-c', pipeline.configFile])).stdout) as {
    tables: { table: string; archivedRows: number }[];
  };
  const archived = (name: string): number => tables.find(({ table }) => table === name)?.archivedRows ?? 0;
  assert.ok(archived('second') >= 20 && archived('first') < 10, `versions in files: ${archived('second')}, ${archived('first')}`);
  const undone = await pipeline.cli(['undo-prune', run, '--yes', 'test', '-c', pipeline.configFile]);
  assert.match(undone.stdout, /second: 6 rows back\n {2}4 left: there already/);
  assert.deepEqual(await pipeline.query('SELECT count(*) AS n FROM second'), [{ n: '20' }]);
});
