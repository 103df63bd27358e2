/** Rows that cannot be told apart by what names them: keys that two rows have at once within a statement, and rows copied again whose changes nobody saw. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import { loadConfig } from '../../src/runtime/config.js';
import { Views } from '../campaign/audit.js';
import { Pipeline, until } from './pipeline.js';

const SCHEMA = `CREATE TABLE e_later (id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, at timestamptz NOT NULL, v text); ALTER TABLE e_later REPLICA IDENTITY FULL;
  CREATE TABLE e_none (at timestamptz, v text); ALTER TABLE e_none REPLICA IDENTITY FULL;
  CREATE TABLE e_missed (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text);
  CREATE PUBLICATION tidemark_test FOR TABLE beat, e_later, e_none, e_missed`;
const TABLES = `  e_later: { timestamp: at }
  e_none: { timestamp: at, prune: false }
  e_missed: { timestamp: at }`;

let pipeline: Pipeline;

const prune = async (table: string): Promise<PruneResult['tables'][number]> => {
  const config = loadConfig(pipeline.configFile);
  const log = pino({ level: 'silent' });
  const follower = new ArchiveFollower(pipeline.archiveDir);
  const result = await runPrune({ config, log, signal: new AbortController().signal, follower, trigger: 'command', dryRun: false, table });
  return result.tables[0] as PruneResult['tables'][number];
};
const view = async (table: string): Promise<string[]> => {
  const views = await Views.of(pipeline);
  try {
    return (await views.rows(`SELECT * EXCLUDE ("at", _text, _unresolved) FROM ${table} ORDER BY ALL`)).map((row) => row.join('|'));
  } finally {
    views.close();
  }
};
/** Takes a table out of the publication, does `missed`, puts it back and waits until it is copied. */
const republished = async (table: string, missed = 'SELECT 1'): Promise<void> => {
  const entry = async (): Promise<string | undefined> => (await pipeline.state())?.tables.find((one) => one.table === table)?.copied?.published;
  const before = await entry();
  await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE ${table}`);
  await pipeline.query(missed);
  await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE ${table}`);
  await until('it is copied again', async () => (await entry()) !== before);
  await pipeline.archived();
};

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    before(async () => {
      pipeline = await Pipeline.start({ major, schema: SCHEMA, tables: TABLES, flushEvery: '100ms' });
      pipeline.service('archiver');
      pipeline.service('capture');
      await pipeline.archived();
    });
    after(() => pipeline?.[Symbol.asyncDispose]());

    test('a key that is checked at commit names no row: it may stand at two rows meanwhile', async () => {
      await pipeline.query(`INSERT INTO e_later SELECT i, now() - interval '48 hours', 'row ' || i FROM generate_series(1, 3) i`);
      await pipeline.query('UPDATE e_later SET id = id + 1');
      await pipeline.archived();
      assert.match((await prune('e_later')).problem ?? '', /no primary key/);
      assert.deepEqual(await view('e_later'), ['2|row 1', '3|row 2', '4|row 3']);
    });

    test('a table without a key that is copied again has every row once', async () => {
      await pipeline.query(`INSERT INTO e_none VALUES ('2026-01-12', 'twin'), ('2026-01-12', 'twin'), ('2026-01-12', 'one'), ('2026-01-12', 'gone')`);
      await pipeline.archived();
      await republished('e_none', `DELETE FROM e_none WHERE v = 'gone'; INSERT INTO e_none VALUES ('2026-01-12', 'missed')`);
      assert.deepEqual(await view('e_none'), ['missed', 'one', 'twin', 'twin']);
      await pipeline.query('DELETE FROM e_none');
      await pipeline.archived();
      const { stdout } = await pipeline.cli(['seal', 'e_none', '-c', pipeline.configFile]);
      assert.match(stdout, /sealed e_none 2026-01-12/);
    });

    test('rows deleted and moved while nobody looked do not keep their day open', async () => {
      await pipeline.query(`INSERT INTO e_missed VALUES (1, '2026-01-12', 'stays'), (2, '2026-01-12', 'deleted'), (3, '2026-01-12', 'moves')`);
      await pipeline.archived();
      await republished('e_missed', `DELETE FROM e_missed WHERE id = 2; UPDATE e_missed SET at = '2026-01-13', v = 'moved' WHERE id = 3`);
      assert.deepEqual(await view('e_missed'), ['1|stays', '3|moved']);
      await prune('e_missed');
      assert.deepEqual(await pipeline.query('SELECT FROM e_missed'), []);
      await pipeline.archived();
      const { stdout, stderr } = await pipeline.cli(['seal', 'e_missed', '-c', pipeline.configFile]);
      assert.match(stdout, /sealed e_missed 2026-01-12: 1 rows/, stderr);
      assert.match(stdout, /sealed e_missed 2026-01-13: 1 rows/);
      assert.deepEqual(await view('e_missed'), ['1|stays', '3|moved']);
    });
  });
}
