/** The pruner against a real archive of a real database, under everything that may happen between proof and delete (laws 1, 7, 8, 10, 14). */
import assert from 'node:assert/strict';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { ReceiptIndex, ReceiptWriter } from '../../src/archive/receipts.js';
import { prunePreflight } from '../../src/prune/preflight.js';
import { type PruneOptions, type PruneResult, runPrune } from '../../src/prune/run.js';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { connectClient } from '../../src/wal/session.js';
import { Pipeline, until } from '../pipeline/pipeline.js';

const SCHEMA = `
  CREATE TABLE a (id bigint PRIMARY KEY, at timestamptz, v text);
  CREATE TABLE b (id bigint PRIMARY KEY, at timestamptz, v text);
  CREATE TABLE "odd ""name" ("the key" int, minute smallint, "when" timestamp, v numeric(20,8), PRIMARY KEY ("the key", minute));
  CREATE PUBLICATION tidemark_test FOR TABLE beat, a, b, "odd ""name";`;
const TABLES = `  a: { timestamp: at }
  b: { timestamp: at }
  'odd "name': { timestamp: when, group: odd }`;

let pipeline: Pipeline;
let config: Config;
const log = pino({ level: 'silent' });

before(async () => {
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES, flushEvery: '200ms' });
  config = loadConfig(pipeline.configFile);
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

const prune = (change: Partial<PruneOptions> = {}): Promise<PruneResult> =>
  runPrune({
    config,
    log,
    signal: new AbortController().signal,
    follower: new ArchiveFollower(pipeline.archiveDir),
    trigger: 'command',
    dryRun: false,
    ...change,
  });
const table = (result: PruneResult, name: string): PruneResult['tables'][number] => {
  const found = result.tables.find((entry) => entry.table === name);
  assert.ok(found, JSON.stringify(result));
  return found;
};
const count = async (name: string): Promise<number> => Number((await pipeline.query<{ n: string }>(`SELECT count(*) AS n FROM ${name}`))[0]?.n);
let next = 1;
/** `count` rows two days old. */
const fill = async (name: 'a' | 'b', rows: number): Promise<void> => {
  await pipeline.query(`INSERT INTO ${name} SELECT i, now() - interval '48 hours', 'v' || i FROM generate_series(${next}, ${next + rows - 1}) i`);
  next += rows;
};

test('a dry run proves and compares, and deletes nothing', async () => {
  await fill('a', 20);
  await pipeline.archived();
  const dry = await prune({ dryRun: true });
  assert.equal(table(dry, 'a').deleted, 20);
  assert.equal(await count('a'), 20);
  assert.equal(table(await prune(), 'a').deleted, 20);
  assert.equal(await count('a'), 0);
});

test('pages of a table go on where the last one ended: in the order of the columns, not of their texts', async () => {
  await fill('a', 25);
  await pipeline.archived();
  const small = { ...config, prune: { ...config.prune, batch: 4 } };
  const dry = table(await prune({ dryRun: true, config: small }), 'a');
  assert.deepEqual([dry.nominated, dry.deleted], [25, 25]);
  assert.equal(table(await prune({ config: small }), 'a').deleted, 25);
});

test('names that need quotes, keys of two columns, numerics and timestamps without a zone', async () => {
  await pipeline.query(`INSERT INTO "odd ""name" SELECT i / 3, i % 3, now() - interval '30 hours', i / 7.0 FROM generate_series(1, 30) i`);
  await pipeline.archived();
  const result = await prune();
  assert.deepEqual([table(result, 'odd "name').deleted, table(result, 'odd "name').problem], [30, null]);
});

test('rows without a usable day are never pruned', async () => {
  await pipeline.query(`INSERT INTO a VALUES (-1, NULL, 'x'), (-2, 'infinity', 'x'), (-3, '-infinity', 'x'), (-4, now() + interval '1 hour', 'x')`);
  await pipeline.archived();
  assert.equal(table(await prune(), 'a').deleted, 0);
  assert.equal(await count('a'), 4);
  await pipeline.query('DELETE FROM a');
});

test('a row that somebody holds is skipped without waiting, the others go', async () => {
  await fill('a', 10);
  await pipeline.archived();
  const other = new pg.Client({ connectionString: pipeline.databaseUrl });
  await other.connect();
  await other.query('BEGIN');
  await other.query('SELECT FROM a ORDER BY id LIMIT 3 FOR UPDATE');
  const result = table(await prune(), 'a');
  assert.deepEqual([result.deleted, result.left], [7, { 'locked or changed meanwhile': 3 }]);
  await other.query('COMMIT');
  await other.end();
  assert.equal(table(await prune(), 'a').deleted, 3);
});

for (const [what, make, undo, reason] of [
  [
    'a delete trigger',
    `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER g BEFORE DELETE ON a FOR EACH ROW EXECUTE FUNCTION f()`,
    'DROP FUNCTION f CASCADE',
    /DELETE triggers/,
  ],
  ['a delete rule', 'CREATE RULE r AS ON DELETE TO a DO INSTEAD NOTHING', 'DROP RULE r ON a', /DELETE rules/],
  ['row level security', 'ALTER TABLE a ENABLE ROW LEVEL SECURITY', 'ALTER TABLE a DISABLE ROW LEVEL SECURITY', /row level security/],
  ['an inheriting table', 'CREATE TABLE heir () INHERITS (a)', 'DROP TABLE heir', /inheritance/],
  [
    'a row filter',
    'ALTER PUBLICATION tidemark_test SET TABLE beat, a WHERE (id > 0), b, "odd ""name"',
    'ALTER PUBLICATION tidemark_test SET TABLE beat, a, b, "odd ""name"',
    /filters/,
  ],
] as const) {
  test(`${what} refuses the table with its reason, the others go on`, async () => {
    await fill('a', 5);
    await fill('b', 5);
    await pipeline.archived();
    await pipeline.query(make);
    const result = await prune();
    assert.match(table(result, 'a').problem ?? '', reason);
    assert.equal(table(result, 'a').deleted, 0);
    assert.equal(table(result, 'b').deleted, 5);
    await pipeline.query(undo);
    // A publication that was altered may have left something out: the table is copied again before it is pruned.
    await until('it is pruned again', async () => table(await prune(), 'a').deleted === 5);
  });
}

test('a column added with a default: the rows differ under another schema version, are left and counted, and nothing halts', async () => {
  await fill('b', 5);
  await pipeline.archived();
  await pipeline.query('ALTER TABLE b ADD COLUMN extra int DEFAULT 7');
  const result = table(await prune(), 'b');
  assert.deepEqual([result.deleted, result.left['archived before a column was added or renamed'], result.problem], [0, 5, null]);
  await pipeline.query('ALTER TABLE b DROP COLUMN extra');
  assert.equal(table(await prune(), 'b').deleted, 5);
});

test('a second pruner stays idle', async () => {
  const other = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
  await other.query(`SELECT pg_advisory_lock(hashtextextended('tidemark:test:pruner', 0))`);
  const result = await prune();
  assert.match(result.problem ?? '', /another pruner/);
  assert.deepEqual(result.tables, []);
  await other.end();
});

test('an intent whose outcome is not known is settled by what Postgres says', async () => {
  const receipts = new ReceiptWriter(pipeline.archiveDir);
  const xids: string[] = [];
  for (const end of ['COMMIT', 'ROLLBACK']) {
    await pipeline.query('BEGIN');
    xids.push((await pipeline.query<{ x: string }>('SELECT pg_current_xact_id()::text AS x'))[0]?.x as string);
    await pipeline.query(end);
  }
  const intent = (batch: string, xid: string) => ({
    type: 'intent' as const,
    run: 'r',
    batch,
    xid,
    oid: 1,
    schema: 'public',
    table: 'a',
    rows: 0,
    keys: [],
    digests: [],
    at: new Date().toISOString(),
  });
  await receipts.append(intent('committed-one', xids[0] as string));
  await receipts.append(intent('aborted-one', xids[1] as string));
  await prune();
  const batches = await new ReceiptIndex(pipeline.archiveDir).batches();
  const outcome = (batch: string) => batches.find((entry) => entry.intent.batch === batch)?.outcome;
  assert.deepEqual([outcome('committed-one'), outcome('aborted-one')], ['committed', 'rolled-back']);
});

test('law 7: rows in committed intents are the rows that went', async () => {
  await fill('b', 12);
  await pipeline.archived();
  const result = await prune();
  const batches = await new ReceiptIndex(pipeline.archiveDir).batches();
  const rows = batches.filter(({ intent, outcome }) => intent.run === result.run && outcome === 'committed').reduce((sum, { intent }) => sum + intent.rows, 0);
  assert.equal(rows, 12);
});

test('preflight names what is missing', async () => {
  const client = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
  const checks = await prunePreflight(client, {
    ...config,
    protected: [{ key: 'b', schema: 'public', table: 'b' }],
    tables: [{ ...(config.tables[1] as Config['tables'][number]), keepWhile: 'no such column' }],
  });
  assert.equal(checks.find((check) => check.name === 'keepWhile a')?.status, 'failed');
  assert.match(checks.find((check) => check.name === 'protected b')?.seen ?? '', /could delete/);
  await client.query('CREATE ROLE app LOGIN; GRANT SELECT, DELETE ON public.b TO app; SET ROLE app');
  const remedy = async (): Promise<string | undefined> =>
    (await prunePreflight(client, { ...config, tables: [], protected: [{ key: 'b', schema: 'public', table: 'b' }] })).find(
      ({ name }) => name === 'protected b',
    )?.remedy;
  const own = 'let the pruner connect as a role of its own: infra/postgres/roles.sql, source.prunerUrl';
  assert.equal(await remedy(), `REVOKE DELETE, TRUNCATE, UPDATE ON "public"."b" FROM "app", or ${own}`);
  await client.query('RESET ROLE; ALTER TABLE public.b OWNER TO app; SET ROLE app');
  assert.equal(await remedy(), `${own} (app owns the table: a REVOKE would stop the application's own writes)`);
  await client.query('RESET ROLE; ALTER TABLE public.b OWNER TO CURRENT_USER; DROP OWNED BY app; DROP ROLE app');
  await client.end();
});

// The last one: it damages the archive.
test('a segment that says something else halts its table by name and deletes nothing; the others go on', async () => {
  await fill('a', 8);
  await fill('b', 8);
  const state = await pipeline.archived();
  const entry = [...state.files.values()].filter((file) => file.table === 'a' && file.kind === 'segment').at(-1);
  assert.ok(entry);
  const file = path.join(pipeline.archiveDir, entry.file);
  const bytes = await readFile(file);
  const marker = Buffer.from(`v${next - 16}`);
  const at = bytes.indexOf(marker);
  assert.ok(at > 0, 'the value stands in the file as it is');
  bytes.write('w', at);
  await writeFile(file, bytes);
  const result = await prune();
  assert.deepEqual(result.halts, ['DIGEST']);
  assert.match(table(result, 'a').problem ?? '', /DIGEST/);
  assert.equal(table(result, 'a').deleted, 0);
  assert.equal(table(result, 'b').deleted, 8);
  await truncate(file, 100);
  const cut = await prune();
  assert.deepEqual(cut.halts, ['DIGEST'], 'a file that does not decode is one too');
  assert.match(table(cut, 'a').problem ?? '', /cannot be read back/);
  assert.equal(await count('a'), 8);
});
