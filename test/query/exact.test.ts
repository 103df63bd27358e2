/** Each row exactly once, at any moment: also while rows are pruned, segments merged and days sealed, whichever of Postgres and the archive knows more (law 1 seen from a reader). */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import pg from 'pg';
import pino from 'pino';
import { recopyRequester, sealRequester } from '../../services/pruner/requesters.js';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import { ReceiptWriter } from '../../src/archive/receipts.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import { Query, type QueryFacts } from '../../src/query/query.js';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { connectStream, type StreamConnection } from '../../src/stream/topology.js';
import { Random } from '../campaign/chance.js';
import { readRows } from '../pipeline/archive-view.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { change, differenceSql, MIRRORED, MIRRORED_SCHEMA, MIRRORED_TABLES, type Mirrored } from './mirrored.js';

const seed = Number(process.env['SEED'] ?? Date.now() % 100_000);
const random = new Random(seed);
const quiet = pino({ level: 'silent' });
const MEMORY = 256 * 1024 * 1024;

let pipeline: Pipeline;
let config: Config;
let stream: StreamConnection;
let archiver: Service;
let query: Query;

before(async () => {
  pipeline = await Pipeline.start({
    schema: `${MIRRORED_SCHEMA} CREATE TABLE kept (id int PRIMARY KEY, at timestamptz); CREATE PUBLICATION tidemark_test FOR TABLE beat, quotes, quotes_mirror, legs, legs_mirror, kept;`,
    tables: `${MIRRORED_TABLES}\n  kept: { timestamp: at, deletes: keep }`,
    flushEvery: '150ms',
  });
  config = loadConfig(pipeline.configFile);
  archiver = pipeline.service('archiver');
  pipeline.service('capture');
  stream = await connectStream(config, 'test');
  query = new Query(config, { sides: 'both', memory: MEMORY, temporary: tmpdir() });
  await pipeline.archived();
});
after(async () => {
  await stream?.connection.close();
  await pipeline?.[Symbol.asyncDispose]();
});

async function prune(): Promise<PruneResult> {
  const signal = new AbortController().signal;
  return await runPrune({
    config,
    log: quiet,
    signal,
    follower: new ArchiveFollower(pipeline.archiveDir),
    trigger: 'command',
    dryRun: false,
    seal: sealRequester(stream.connection, config, signal),
    recopy: recopyRequester(stream.connection, config, quiet),
  });
}
const deleted = (result: PruneResult): number => result.tables.reduce((sum, table) => sum + table.deleted, 0);

async function rows(sql: string, by = query): Promise<{ rows: (string | null)[][]; facts: QueryFacts }> {
  const found: (string | null)[][] = [];
  let facts: QueryFacts | undefined;
  await by.run(sql, new AbortController().signal, async (result) => {
    facts = result.facts;
    for await (const piece of result.kept((column) => `CAST(${column} AS VARCHAR)`)) found.push(...piece);
  });
  return { rows: found, facts: facts as QueryFacts };
}

async function requireEqual(name: Mirrored, where?: string, by = query): Promise<QueryFacts> {
  const found = await rows(differenceSql(name, where), by);
  assert.deepEqual(found.rows.slice(0, 8), [], `${name} ${where ?? ''}: ${found.rows.length} differences (SEED=${seed})`);
  return found.facts;
}

/** Rows of a table that were changed for the last time before now. */
async function some(changes: number): Promise<void> {
  for (let i = 0; i < changes; i += 1) await change(pipeline.sql, random.pick(MIRRORED), random);
}

/** A follower that lets something happen before it looks for the `nth` time. */
function following(nth: number, happens: () => Promise<void>): Pick<ArchiveFollower, 'refresh'> {
  const follower = new ArchiveFollower(pipeline.archiveDir);
  let looked = 0;
  return {
    async refresh(): Promise<ArchiveState | undefined> {
      looked += 1;
      if (looked === nth) await happens();
      return await follower.refresh();
    },
  };
}

test('each row exactly once while rows come, change, go, are pruned, merged and sealed', async (context) => {
  const writers = await Promise.all(
    MIRRORED.map(async (name) => {
      const sql = new pg.Client({ connectionString: pipeline.databaseUrl });
      await sql.connect();
      return { name, sql, random: new Random(seed + name.length) };
    }),
  );
  let going = true;
  let pruned = 0;
  const writing = writers.map(async (writer) => {
    for (let n = 1; going; n += 1) {
      await change(writer.sql, writer.name, writer.random);
      if (n % 8 === 0) await pipeline.archived(); // else there would be ever less to prune
    }
  });
  const pruning = (async () => {
    while (going) pruned += deleted(await prune());
  })();
  let asked = 0;
  const sealed = (state: ArchiveState | undefined): number => [...(state?.files.values() ?? [])].filter(({ kind }) => kind === 'daily').length;
  try {
    while (asked < 12 || pruned < 500 || sealed(await pipeline.state()) < 1) {
      assert.ok(asked < 200, `${asked} queries, but ${pruned} pruned rows and ${sealed(await pipeline.state())} daily files`);
      const name = random.pick(MIRRORED);
      const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
      const where = random.pick([undefined, `"at" >= '${day(2)}'`, `"at" < '${day(1)}'`, `"at" >= '${day(3)}' AND "at" < '${day(2)}'`, `id % 3 = 1`]);
      await requireEqual(name, where);
      asked += 1;
    }
  } finally {
    going = false;
    await Promise.all([...writing, pruning]);
    for (const { sql } of writers) await sql.end();
  }
  context.diagnostic(JSON.stringify({ seed, asked, pruned, daily: sealed(await pipeline.state()) }));
});

test('a prune that came after the snapshot does not count, though the archive knows of it', async () => {
  await pipeline.query('DELETE FROM kept');
  await some(12);
  await pipeline.query(`INSERT INTO kept SELECT i, now() - interval '60 hours' FROM generate_series(1, 200) i`);
  await pipeline.archived();
  let gone = 0;
  const late = new Query(
    config,
    { sides: 'both', memory: MEMORY, temporary: tmpdir() },
    following(2, async () => {
      const result = await runPrune({
        config,
        log: quiet,
        signal: new AbortController().signal,
        follower: new ArchiveFollower(pipeline.archiveDir),
        trigger: 'command',
        dryRun: false,
      });
      gone = deleted(result);
      await pipeline.archived();
    }),
  );
  const { rows: found, facts } = await rows('SELECT count(*), count(DISTINCT id) FROM kept', late);
  assert.ok(gone >= 200, `${gone} rows were pruned behind the snapshot`);
  assert.deepEqual(found, [['200', '200']]);
  assert.equal(facts.hotRows, 200);
  assert.deepEqual((await rows('SELECT count(*) FROM kept')).rows, [['200']]);
});

test('a day that is sealed behind the snapshot has the snapshot taken again', async () => {
  await pipeline.query(`INSERT INTO kept SELECT i, now() - interval '200 hours' FROM generate_series(1001, 1100) i`);
  await pipeline.archived();
  const again = new Query(
    config,
    { sides: 'both', memory: MEMORY, temporary: tmpdir() },
    following(2, async () => {
      await prune();
    }),
  );
  const { rows: found, facts } = await rows('SELECT count(*), count(DISTINCT id) FROM kept', again);
  assert.deepEqual(found, [['300', '300']]);
  assert.equal(facts.hotRows, 0, 'they were hot in the first snapshot');
});

test('a prune that the archive does not know of yet counts, and what is put in again beside it', async () => {
  await pipeline.query(`INSERT INTO kept SELECT i, now() - interval '70 hours' FROM generate_series(2001, 2100) i`);
  await pipeline.archived();
  await archiver.stop();
  const result = await runPrune({
    config,
    log: quiet,
    signal: new AbortController().signal,
    follower: new ArchiveFollower(pipeline.archiveDir),
    trigger: 'command',
    dryRun: false,
  });
  assert.ok(deleted(result) >= 100);
  const where = 'WHERE id BETWEEN 2001 AND 2100';
  const { rows: found, facts } = await rows(`SELECT count(*) FROM kept ${where}`);
  assert.deepEqual(found, [['100']]);
  assert.equal(facts.hotRows, 0);
  await pipeline.query(`INSERT INTO kept SELECT i, now() - interval '70 hours' FROM generate_series(2001, 2010) i`);
  assert.deepEqual((await rows(`SELECT count(*) FROM kept ${where}`)).rows, [['110']]);
  archiver = pipeline.service('archiver');
  await pipeline.archived();
  assert.deepEqual((await rows(`SELECT count(*) FROM kept ${where}`)).rows, [['110']]);
});

test('an intent whose transaction was rolled back counts for nothing', async () => {
  await pipeline.query(`INSERT INTO kept SELECT i, now() FROM generate_series(3001, 3010) i`);
  await pipeline.archived();
  const { oid } = (await pipeline.query<{ oid: string }>(`SELECT 'kept'::regclass::oid AS oid`))[0] as { oid: string };
  const state = await pipeline.state();
  const segments = [...(state?.files.values() ?? [])].filter(
    ({ kind, table, maxTimestamp }) => kind === 'segment' && table === 'kept' && maxTimestamp !== null,
  );
  const versions = (await Promise.all(segments.map((file) => readRows(pipeline, file)))).flat().filter(({ id }) => Number(id) > 3000);
  assert.equal(versions.length, 10);
  const digests = versions.map(({ _digest }) => String(_digest));
  await pipeline.query('BEGIN');
  const { xid } = (await pipeline.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid'))[0] as { xid: string };
  await pipeline.query('ROLLBACK');
  await new ReceiptWriter(pipeline.archiveDir).append({
    type: 'intent', run: 'r', batch: 'b', xid, oid: Number(oid), schema: 'public', table: 'kept', rows: 10, keys: [], digests, at: new Date().toISOString(),
  }); // biome-ignore format: a receipt
  assert.deepEqual((await rows('SELECT count(*) FROM kept WHERE id > 3000')).rows, [['10']]);
});

test('rows that somebody else deleted count where they are kept, and only there', async () => {
  await pipeline.query('DELETE FROM kept WHERE id > 3000; DELETE FROM quotes');
  await pipeline.query('TRUNCATE quotes_mirror');
  await pipeline.archived();
  assert.deepEqual((await rows('SELECT count(*) FROM kept WHERE id > 3000')).rows, [['10']]);
  await until('the pruned ones alone', async () => Number((await rows('SELECT count(*) FROM quotes')).rows[0]?.[0]) > 0);
});

test('a restored row counts once, and once more when it is changed', async () => {
  const before = (await rows('SELECT count(*), count(DISTINCT id) FROM quotes')).rows;
  const { code, stdout, stderr } = await pipeline.cli(['restore', 'quotes', '--on-conflict', 'skip', '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  const hot = Number((await pipeline.query<{ n: string }>('SELECT count(*) AS n FROM quotes'))[0]?.n);
  assert.ok(hot > 0, stdout);
  assert.deepEqual((await rows('SELECT count(*), count(DISTINCT id) FROM quotes')).rows, before, 'before the archive knows of it');
  await pipeline.archived();
  assert.deepEqual((await rows('SELECT count(*), count(DISTINCT id) FROM quotes')).rows, before);
  const changed = (await pipeline.query(`UPDATE quotes SET v = 'new' WHERE id % 2 = 0 RETURNING id`)).length;
  assert.deepEqual((await rows(`SELECT count(*), count(*) FILTER (v = 'new') FROM quotes`)).rows, [
    [String(Number(before[0]?.[0]) + changed), String(changed)],
  ]);
});
