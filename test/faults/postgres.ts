/** What happens to the database server: F9, F10, F24. */
import assert from 'node:assert/strict';
import pg from 'pg';
import { archiveView } from '../pipeline/archive-view.js';
import { until } from '../pipeline/pipeline.js';
import type { Tick } from '../pipeline/ticks.js';
import { watchMemory } from './memory.js';
import { Volume } from './volume.js';
import { World } from './world.js';

const options = (major?: number): { major?: number } => (major === undefined ? {} : { major });

/** F9: restarted, and its walsender ended, while work goes on. */
export async function restarted(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  const { pipeline } = world;
  for (let i = 0; i < 4; i += 1) {
    await world.work();
    if (i % 2 === 0) await pipeline.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active`);
    else {
      await pipeline.sql.end();
      await pipeline.postgres.stop('fast');
      await pipeline.postgres.start();
      await pipeline.reconnect();
    }
    await world.work();
    await world.archived(120_000);
  }
  return await world.settle();
}

/** F10: crashes while transactions commit asynchronously; what the server lost, the archive must not have. */
export async function crashed(major?: number): Promise<string> {
  await using world = await World.start({ ...options(major), postgres: { wal_writer_delay: '10s', wal_writer_flush_after: '1GB' } });
  const { pipeline, ticks } = world;
  let lost = 0;
  for (let i = 0; i < 4; i += 1) {
    await world.work();
    const before = new Set(ticks.live.keys());
    await pipeline.query('SET synchronous_commit = off');
    for (let k = 0; k < 20; k += 1) await ticks.insert(10, 1);
    const burst = [...ticks.live.keys()].filter((id) => !before.has(id));
    await pipeline.sql.end().catch(() => undefined);
    await pipeline.postgres.stop('immediate');
    await pipeline.postgres.start();
    await pipeline.reconnect();
    // Rows of today are not pruned: what Postgres does not have now was lost with its WAL, and the final audit finds it when the archive has it.
    const kept = new Set((await pipeline.query<{ id: string }>('SELECT id FROM ticks')).map(({ id }) => id));
    for (const id of burst) if (!kept.has(id)) lost += ticks.live.delete(id) ? 1 : 0;
    await world.archived(120_000);
  }
  assert.ok(lost > 0, 'no asynchronous commit was lost: the fault was not provoked');
  return `${lost} rows lost by the server; ${await world.settle()}`;
}

/** F15: NATS is away, the slot holds WAL until the disk of Postgres is full and the server stops; nothing was confirmed early, and with a larger disk and NATS all goes on. */
export async function fullDisk(major?: number): Promise<string> {
  await using volume = await Volume.create('ext4', 1600);
  await volume.fill(400 * 1024 * 1024);
  await using world = await World.start({
    ...options(major),
    serversDir: volume.dir,
    postgres: { min_wal_size: '32MB', max_wal_size: '64MB', wal_keep_size: '0' },
  });
  const { pipeline, ticks } = world;
  await world.work();
  await world.archived();
  await pipeline.nats.kill();
  await pipeline.query('CREATE TABLE noise (v text)');
  let written = 0;
  const full = await until('the disk of Postgres is full', async () => {
    try {
      await ticks.insert(500, 1);
      await pipeline.query(`INSERT INTO noise SELECT repeat(md5(i::text), 60) FROM generate_series(1, 5000) i; TRUNCATE noise`);
      written += 1;
      return undefined;
    } catch (error) {
      return String((error as Error).message);
    }
  });
  await pipeline.sql.end().catch(() => undefined);
  await pipeline.postgres.stop('immediate');
  await volume.free();
  await pipeline.postgres.start();
  await pipeline.nats.start();
  await pipeline.reconnect();
  // An insert that failed may have been journalled as well as not: what Postgres has counts, its rows are of today.
  const there = new Map((await pipeline.query<Tick>('SELECT id, at, v, n FROM ticks')).map((row) => [row.id, row]));
  ticks.keep(there.values());
  return `${written} rounds, then: ${full.slice(0, 80)}; ${await world.settle()}`;
}

const RSS_LIMIT_MB = 400;

/** F24: prepared transactions, 20,000 subtransactions, a transaction of 300,000 rows, spilled to disk by the server. */
export async function largeTransactions(major?: number): Promise<string> {
  await using world = await World.start({
    ...options(major),
    schema: `CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text, n numeric(20,8)); CREATE TABLE big (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text);`,
    tables: '  ticks: { timestamp: at }\n  big: { timestamp: at, prune: false }',
    postgres: { logical_decoding_work_mem: '64kB', max_prepared_transactions: '10', wal_sender_timeout: '5s' },
  });
  const { pipeline } = world;
  await world.archived();
  const memory = watchMemory(world);
  const other = new pg.Client({ connectionString: pipeline.databaseUrl });
  await other.connect();
  try {
    await other.query(`BEGIN; INSERT INTO big SELECT i, now(), 'prepared' FROM generate_series(1, 1000) i; PREPARE TRANSACTION 'kept'`);
    await other.query(`BEGIN; INSERT INTO big SELECT i, now(), 'gone' FROM generate_series(2001, 3000) i; PREPARE TRANSACTION 'gone'`);
    await world.work();
    await other.query(`DO $$ BEGIN FOR i IN 10001..30000 LOOP
        BEGIN INSERT INTO big VALUES (i, now(), 'sub'); IF i % 10 = 0 THEN RAISE EXCEPTION 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END;
      END LOOP; END $$`);
    await other.query(`COMMIT PREPARED 'kept'`);
    await other.query(`ROLLBACK PREPARED 'gone'`);
    await other.query(`INSERT INTO big SELECT i, now(), repeat('x', 40) FROM generate_series(1000001, 1300000) i`);
    await world.archived(300_000);
  } finally {
    memory.stop();
    await other.end();
  }
  const view = await archiveView(pipeline, 'big');
  const expected = new Set((await pipeline.query<{ id: string }>('SELECT id FROM big')).map(({ id }) => id));
  assert.equal(expected.size, 1000 + 18_000 + 300_000);
  assert.equal(view.size, expected.size);
  for (const [id, rows] of view) assert.ok(rows.length === 1 && expected.has(id), `row ${id}`);
  return `319,000 rows; at most ${memory.requireBelow(RSS_LIMIT_MB)}; ${await world.settle()}`;
}

/** F25: a transaction that stays open while everything around it is archived and pruned, and commits late. */
export async function lateCommit(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  const { pipeline } = world;
  await world.archived();
  const late = new pg.Client({ connectionString: pipeline.databaseUrl });
  await late.connect();
  try {
    await late.query(`BEGIN; INSERT INTO ticks SELECT i, date_trunc('second', now()) - interval '60 hours', 'late', i FROM generate_series(900001, 900100) i`);
    for (let i = 0; i < 3; i += 1) await world.work();
    // Its XID holds fences back: nothing younger is covered, and nothing may go meanwhile that is not archived.
    const pruned = await pipeline.cli(['prune', '--json', '-c', pipeline.configFile]);
    assert.equal(pruned.code, 0, pruned.stderr + pruned.stdout);
    await late.query('COMMIT');
    world.ticks.keep(await pipeline.query<Tick>(`SELECT id, at, v, n FROM ticks WHERE id > 900000`));
    assert.equal([...world.ticks.live.keys()].filter((id) => Number(id) > 900_000).length, 100, 'none of the late rows went before it was archived');
    await pipeline.archived();
  } finally {
    await late.end();
  }
  return await world.settle();
}
