/** Between choosing and deleting, and at COMMIT: what changes there, or is lost there (laws 1, 7, 12). On a real database with its archive. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import pg from 'pg';
import pino from 'pino';
import { ArchiveFollower, readKey } from '../../src/archive/manifest.js';
import { ReceiptIndex, ReceiptWriter } from '../../src/archive/receipts.js';
import { putSettings, settingsOf } from '../../src/archive/settings.js';
import type { Epoch } from '../../src/position/epoch.js';
import { type BatchContext, type BatchInput, type BatchResult, pruneBatch } from '../../src/prune/batch.js';
import { readCutoff } from '../../src/prune/eligible.js';
import { nominate } from '../../src/prune/nominate.js';
import { ArchiveLookup } from '../../src/prune/proof.js';
import { type PruneOptions, type PruneResult, runPrune } from '../../src/prune/run.js';
import { readTarget } from '../../src/prune/target.js';
import { type Config, loadConfig, type TableConfig } from '../../src/runtime/config.js';
import { Secret } from '../../src/runtime/config-values.js';
import { connectClient } from '../../src/wal/session.js';
import { archiveView } from '../pipeline/archive-view.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { QueryBreaker } from './query-breaker.js';

let pipeline: Pipeline;
let capture: Service;
let config: Config;
let client: pg.Client;
let ticks: TableConfig;
const log = pino({ level: 'silent' });

before(async () => {
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text, state text);
      CREATE TABLE wide (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text); ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
      CREATE TABLE codes (code char(6), live boolean, addr inet, at timestamptz NOT NULL, PRIMARY KEY (code, live, addr));
      CREATE PUBLICATION tidemark_test FOR TABLE beat, ticks, wide, codes;`,
    tables: '  ticks: { timestamp: at }\n  wide: { timestamp: at }\n  codes: { timestamp: at }',
    flushEvery: '200ms',
  });
  config = loadConfig(pipeline.configFile);
  ticks = config.tables.find((table) => table.key === 'ticks') as TableConfig;
  pipeline.service('archiver');
  capture = pipeline.service('capture');
  await pipeline.archived();
  client = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
});
after(async () => {
  await client?.end();
  await pipeline?.[Symbol.asyncDispose]();
});

let next = 1;
const fill = async (rows: number, age = '48 hours'): Promise<void> => {
  await pipeline.query(`INSERT INTO ticks SELECT i, now() - interval '${age}', 'v' || i FROM generate_series(${next}, ${next + rows - 1}) i`);
  next += rows;
};
const ids = async (): Promise<number[]> => (await pipeline.query<{ id: string }>('SELECT id FROM ticks ORDER BY id')).map(({ id }) => Number(id));
const prune = (change: Partial<PruneOptions> = {}): Promise<PruneResult> =>
  runPrune({
    config,
    log,
    signal: new AbortController().signal,
    follower: new ArchiveFollower(pipeline.archiveDir),
    trigger: 'command',
    table: 'ticks',
    dryRun: false,
    ...change,
  });
const only = (result: PruneResult): PruneResult['tables'][number] => {
  assert.ok(result.tables[0], JSON.stringify(result));
  return result.tables[0];
};

/** A batch, chosen and read from the archive; what happens before it is deleted is the caller's. */
async function chosen(table = ticks): Promise<{ remove: (dryRun?: boolean) => Promise<BatchResult>; rows: number }> {
  const state = await pipeline.archived();
  const target = await readTarget(client, 'test', table);
  const fence = state.fences.at(-1);
  assert.ok(target && fence);
  const cutoff = await readCutoff(client, ticks.retentionMs, 'UTC');
  const { rows } = await nominate(client, table, target, { cutoff, horizon: fence.horizon, rows: 1000, after: undefined });
  const archived = await new ArchiveLookup(pipeline.archiveDir).find(state, target, rows);
  const context: BatchContext = {
    client,
    source: 'test',
    archive: state.archive,
    key: await readKey(pipeline.archiveDir),
    epoch: state.epoch as Epoch,
    run: randomUUID(),
    receipts: new ReceiptWriter(pipeline.archiveDir),
  };
  const input: BatchInput = { batch: randomUUID(), config: table, target, cutoff, horizon: fence.horizon, copiedBefore: '0', rows, archived };
  return { remove: (dryRun = false) => pruneBatch(context, input, dryRun), rows: rows.length };
}

test('a row updated in the gap is not deleted in its old version’s name, wherever the new version lies; late rows stay', async () => {
  await fill(10);
  const batch = await chosen();
  await pipeline.query("UPDATE ticks SET v = 'newer' WHERE id = 1"); // same page, HOT
  await pipeline.query("UPDATE ticks SET at = at - interval '1 hour' WHERE id = 2"); // older still, new index entry
  await pipeline.query('DELETE FROM ticks WHERE id = 3');
  await pipeline.query("INSERT INTO ticks VALUES (3, now() - interval '50 hours', 'again')");
  await fill(5, '72 hours');
  assert.deepEqual(await batch.remove(), { result: 'committed', deleted: 7, skipped: 3 });
  assert.deepEqual(await ids(), [1, 2, 3, 11, 12, 13, 14, 15]);
  await pipeline.archived();
  assert.equal(only(await prune()).deleted, 8, 'once archived they go too');
});

test('rows moved by VACUUM FULL in the gap are not found, nothing else goes in their place', async () => {
  await fill(20);
  await pipeline.query(`DELETE FROM ticks WHERE id < ${next - 10}`);
  const batch = await chosen();
  await pipeline.query('VACUUM FULL ticks');
  const result = await batch.remove();
  assert.equal(result.result, 'committed');
  await pipeline.archived();
  await prune();
  assert.deepEqual(await ids(), []);
});

test('rows put elsewhere by CLUSTER while the batch waits for its lock: others lie in their places, and all go in the end', async () => {
  await fill(30);
  await pipeline.archived();
  await pipeline.query('CREATE INDEX backwards ON ticks (id DESC)');
  const other = new pg.Client({ connectionString: pipeline.databaseUrl });
  await other.connect();
  await other.query('BEGIN; LOCK TABLE ticks IN SHARE MODE');
  const stop = new AbortController();
  const running = prune({ config: { ...config, prune: { ...config.prune, batch: 10 } }, signal: stop.signal });
  await until('the first batch waits', async () => (await pipeline.query("SELECT FROM pg_locks WHERE mode = 'RowExclusiveLock' AND NOT granted")).length > 0);
  await other.query('CLUSTER ticks USING backwards; COMMIT');
  await other.end();
  const receipt = only(await running);
  // This page and the one behind it were chosen before.
  assert.deepEqual([receipt.deleted, receipt.left, receipt.problem], [10, { 'locked or changed meanwhile': 20 }, null]);
  await pipeline.query('DROP INDEX backwards');
  assert.equal(only(await prune()).deleted, 20);
  assert.deepEqual(await ids(), []);
});

test('keys whose text by a cast is another than the one they are printed with: char(n), boolean, inet', async () => {
  await pipeline.query(
    `INSERT INTO codes VALUES ('ab', true, '10.0.0.1', now() - interval '48 hours'), ('cd', false, '10.0.0.0/8', now() - interval '48 hours')`,
  );
  await pipeline.archived();
  const { deleted, left } = only(await prune({ table: 'codes' }));
  assert.deepEqual([deleted, left], [2, {}]);
});

for (const [what, make, undo, reason] of [
  ['a column', 'ALTER TABLE ticks ADD COLUMN extra int', 'ALTER TABLE ticks DROP COLUMN extra', /columns or key changed/],
  ['row level security', 'ALTER TABLE ticks ENABLE ROW LEVEL SECURITY', 'ALTER TABLE ticks DISABLE ROW LEVEL SECURITY', /row level security/],
] as const) {
  test(`${what} added in the gap refuses the batch`, async () => {
    await fill(3);
    const batch = await chosen();
    await pipeline.query(make);
    const result = await batch.remove();
    assert.equal(result.result, 'refused');
    assert.match(result.result === 'refused' ? result.reason : '', reason);
    await pipeline.query(undo);
    assert.equal((await ids()).length, 3);
    await pipeline.archived();
    assert.equal(only(await prune()).deleted, 3);
  });
}

test('a cascading foreign key added in the gap: the rows that it needs by now stay', async () => {
  await fill(3);
  const batch = await chosen();
  await pipeline.query(`CREATE TABLE child (t bigint REFERENCES ticks ON DELETE CASCADE); INSERT INTO child VALUES (${next - 1})`);
  assert.deepEqual(await batch.remove(), { result: 'committed', deleted: 2, skipped: 1 });
  assert.deepEqual(await ids(), [next - 1]);
  await pipeline.query('DROP TABLE child');
  assert.equal(only(await prune()).deleted, 1);
});

for (const [what, begin, end, deleted] of [
  ['is not committed yet', 'BEGIN', 'COMMIT', 2],
  ['was rolled back', 'BEGIN', 'ROLLBACK', 2],
] as const) {
  test(`a row that refers to one of the batch and ${what}: the one is skipped without waiting`, async () => {
    await pipeline.query('CREATE TABLE child (t bigint REFERENCES ticks ON DELETE CASCADE)');
    await fill(3);
    const batch = await chosen();
    const other = new pg.Client({ connectionString: pipeline.databaseUrl });
    await other.connect();
    await other.query(begin);
    await other.query(`INSERT INTO child VALUES (${next - 1})`);
    assert.deepEqual(await batch.remove(), { result: 'committed', deleted, skipped: 1 });
    await other.query(end);
    await other.end();
    assert.equal(only(await prune()).deleted, end === 'COMMIT' ? 0 : 1);
    await pipeline.query('DROP TABLE child; DELETE FROM ticks');
  });
}

test('a row that refers to one of the batch and commits while the batch is about to lock it: nothing cascades', async () => {
  await pipeline.query('CREATE TABLE child (t bigint REFERENCES ticks ON DELETE CASCADE)');
  // keepWhile waits in the midst of the statement, its snapshot taken, until the lock is given back.
  await pipeline.query(
    `CREATE FUNCTION wait() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); RETURN false; END'`,
  );
  await fill(3);
  const batch = await chosen({ ...ticks, keepWhile: 'public.wait()' });
  await pipeline.query('SELECT pg_advisory_lock(7)');
  const removed = batch.remove();
  await until('the batch waits', async () => (await pipeline.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).length > 0);
  await pipeline.query(`INSERT INTO child VALUES (${next - 1})`);
  await pipeline.query('SELECT pg_advisory_unlock(7)');
  assert.deepEqual(await removed, { result: 'committed', deleted: 2, skipped: 1 });
  assert.deepEqual([(await pipeline.query('SELECT FROM child')).length, await ids()], [1, [next - 1]]);
  await pipeline.query('DROP TABLE child; DROP FUNCTION wait; DELETE FROM ticks');
});

test('a table that somebody locks is left after a second, and the connection goes on being used', async () => {
  await fill(3);
  await pipeline.archived();
  const other = new pg.Client({ connectionString: pipeline.databaseUrl });
  await other.connect();
  await other.query('BEGIN; LOCK TABLE ticks IN SHARE MODE');
  const result = only(await prune());
  assert.deepEqual([result.deleted, /lock timeout/.test(result.problem ?? '')], [0, true], result.problem ?? '');
  await other.query('COMMIT');
  await other.end();
  assert.equal(only(await prune()).deleted, 3);
});

test('a dry run can do no harm: its transaction is READ ONLY and takes no lock that writers meet', async () => {
  await fill(3);
  const batch = await chosen();
  const other = new pg.Client({ connectionString: pipeline.databaseUrl });
  await other.connect();
  await other.query('BEGIN; LOCK TABLE ticks IN EXCLUSIVE MODE');
  assert.deepEqual(await batch.remove(true), { result: 'committed', deleted: 3, skipped: 0 });
  await other.query('COMMIT');
  await other.end();
  assert.equal(only(await prune()).deleted, 3);
});

for (const [cut, result] of [
  ['cut before the answer gets back', 'committed'],
  ['cut before the server gets it', 'rolled-back'],
] as const) {
  test(`law 7: COMMIT is ${cut}: its outcome is found out, and the run goes on`, async () => {
    await using breaker = await QueryBreaker.before(pipeline.databaseUrl);
    await fill(9);
    await pipeline.archived();
    breaker.arm('COMMIT\0', cut);
    const through = { ...config, source: { ...config.source, url: new Secret(breaker.url) }, prune: { ...config.prune, batch: 6 } };
    const run = await prune({ config: through });
    assert.equal(breaker.broken, 1);
    assert.deepEqual([only(run).deleted, only(run).problem, await ids()], [9, null, []]);
    const batches = (await new ReceiptIndex(pipeline.archiveDir).batches()).filter(({ intent }) => intent.run === run.run);
    assert.equal(batches[0]?.outcome, result, 'the cut one');
    const gone = batches.filter(({ outcome }) => outcome === 'committed').reduce((sum, { intent }) => sum + intent.rows, 0);
    assert.equal(gone, 9, 'rows in committed intents are the rows that went');
  });
}

test('a nomination ahead that fails holds nothing up: the page before goes, and the next one is nominated when its turn comes', async () => {
  await fill(25);
  await pipeline.archived();
  await using breaker = await QueryBreaker.before(pipeline.databaseUrl);
  const through = { ...config, source: { ...config.source, url: new Secret(breaker.url) }, prune: { ...config.prune, batch: 10 } };
  breaker.arm('> ($1', 'refused'); // a page behind another one
  const receipt = only(await prune({ config: through }));
  assert.equal(breaker.broken, 1);
  assert.deepEqual([receipt.deleted, receipt.batches, receipt.left, receipt.problem], [25, 3, {}, null]);
});

test('rows written while the table was out of the publication are covered by number: they stay until they are copied', async () => {
  await pipeline.query('ALTER PUBLICATION tidemark_test DROP TABLE ticks');
  const missed = next;
  await fill(4);
  await pipeline.archived();
  const out = only(await prune());
  assert.match(out.problem ?? '', /not in the publication/);
  assert.equal((await ids()).length, 4);
  await pipeline.query('ALTER PUBLICATION tidemark_test ADD TABLE ticks');
  await fill(2);
  const lost: number[] = [];
  await until('all six went', async () => {
    await pipeline.archived();
    await prune();
    const here = new Set(await ids());
    const view = await archiveView(pipeline, 'ticks');
    for (let id = missed; id < next; id += 1) if (!here.has(id) && view.get(String(id))?.length !== 1) lost.push(id);
    return here.size === 0;
  });
  assert.deepEqual(lost, [], 'every row that went was archived');
});

test('law 1: no row is pruned between the position of a copy and its snapshot: inserted again under its key, it would pass for the pruned version', async () => {
  await fill(3);
  await pipeline.archived();
  const writer = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
  try {
    await writer.query(`BEGIN; INSERT INTO public.ticks VALUES (${next}, now(), 'open')`); // the copy waits for it
    next += 1;
    const { code, stderr } = await pipeline.cli(['repair', 'ticks', '-c', pipeline.configFile]);
    assert.equal(code, 0, stderr);
    await until('the copy has its position', async () => /recopy-waiting.*public\.ticks/.test(capture.log));
    const held = only(await prune());
    assert.match(held.problem ?? '', /being copied again/);
    assert.equal(held.deleted, 0);
    await writer.query('COMMIT');
  } finally {
    await writer.end();
  }
  await until('they went', async () => only(await prune()).deleted === 3);
  await pipeline.query('DELETE FROM ticks');
});

/** What a person says to a changed configuration. */
const accept = (tables: Config['tables']): Promise<void> => putSettings(pipeline.archiveDir, undefined, settingsOf({ ...config, tables }));

test('keepWhile that is no condition, or would widen the one it stands in, refuses the table', async () => {
  await fill(2);
  await pipeline.archived();
  for (const keepWhile of [
    'no_such_column',
    'true) OR (true',
    "v = 'x'; DELETE FROM public.ticks",
    'count(*) > 1',
    'v = 1 THEN true END) IS NOT TRUE OR (CASE WHEN true',
  ]) {
    const tables = [{ ...ticks, keepWhile }];
    await accept(tables);
    assert.match(only(await prune({ config: { ...config, tables } })).problem ?? '', /keepWhile/, keepWhile);
  }
  assert.equal((await ids()).length, 2);
  await pipeline.query(`UPDATE ticks SET state = 'open' WHERE id = ${next - 1}`);
  await pipeline.archived();
  const tables = [{ ...ticks, keepWhile: "state = 'open' -- the last ones" }];
  await accept(tables);
  assert.equal(only(await prune({ config: { ...config, tables } })).deleted, 1, 'unknown (NULL) does not hold a row back');
  assert.deepEqual(await ids(), [next - 1]);
  await pipeline.query('DELETE FROM ticks');
  await accept(config.tables);
});

test('law 12: a newest commit that lies in the future of the database refuses every table', async () => {
  await fill(2);
  const state = await pipeline.archived();
  const ahead = { refresh: async () => ({ ...state, committedAt: new Date(Date.now() + 3_600_000).toISOString() }) } as unknown as ArchiveFollower;
  const refused = await prune({ follower: ahead });
  assert.match(only(refused).problem ?? '', /set back/);
  assert.equal((await ids()).length, 2);
  assert.equal(only(await prune()).deleted, 2);
});

test('a batch is bounded by bytes: twenty rows of a megabyte and a half go in more than one', async () => {
  await pipeline.query(`INSERT INTO wide SELECT i, now() - interval '48 hours', repeat(md5(i::text), 49152) FROM generate_series(1, 20) i`);
  await pipeline.archived();
  const result = only(await prune({ table: 'wide' }));
  assert.deepEqual([result.deleted, result.batches], [20, 2], JSON.stringify(result));
});
