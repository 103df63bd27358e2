/** A table that goes by another timestamp than its files were divided by: no day of an older file says anything of it. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { pruneOnce } from '../../services/pruner/loop.js';
import { Query } from '../../src/query/query.js';
import { loadConfig } from '../../src/runtime/config.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';

let pipeline: Pipeline;
let services: Service[];
const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

before(async () => {
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE trades (id int PRIMARY KEY, seen timestamptz, made timestamptz); CREATE PUBLICATION tidemark_test FOR TABLE beat, trades`,
    tables: '  trades: { timestamp: seen }',
    flushEvery: '200ms',
  });
  services = [pipeline.service('archiver'), pipeline.service('capture')];
  await pipeline.archived();
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

async function count(where: string, sides: 'both' | 'cold' = 'both'): Promise<number> {
  let found = -1;
  const query = new Query(loadConfig(pipeline.configFile), { sides, memory: 256 * 1024 * 1024, temporary: tmpdir() });
  await query.run(`SELECT count(*) FROM trades WHERE ${where}`, new AbortController().signal, async ({ kept }) => {
    for await (const [[n] = []] of kept((column) => `CAST(${column} AS VARCHAR)`)) found = Number(n);
  });
  return found;
}

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
