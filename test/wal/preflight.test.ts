/** capture's preconditions on a real server: each bad case is said in one line with a remedy that mends it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import type { Check } from '../../src/runtime/check.js';
import { type Config, parseConfig } from '../../src/runtime/config.js';
import { capturePreflight, namesUs, requireNotSynchronous } from '../../src/wal/preflight.js';
import { connectClient } from '../../src/wal/session.js';

let server: PostgresServer;
before(async () => {
  server = await startPostgres({ settings: { max_prepared_transactions: '5' } });
});
after(() => server[Symbol.asyncDispose]());

function configOf(url: string, tables: string, more = ''): Config {
  return parseConfig(`source: { url: "${url}", name: x }\ntables:\n${tables}\n${more}`, { file: 't.yaml' });
}

async function database(schema: string): Promise<{ url: string; sql: pg.Client } & AsyncDisposable> {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query(schema);
  return { url, sql, [Symbol.asyncDispose]: () => sql.end() };
}

const failed = (checks: readonly Check[]): string[] => checks.filter((check) => check.status === 'failed').map((check) => `${check.name}: ${check.seen}`);

const GOOD = 'CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz); CREATE INDEX ON public.t (at); CREATE TABLE public.secret (id int PRIMARY KEY)';

test('row level security that hides rows from our role is said before a copy is begun, with what mends it', async () => {
  await using d = await database(`${GOOD}; ALTER TABLE public.t ENABLE ROW LEVEL SECURITY; CREATE PUBLICATION tidemark_x FOR TABLE public.t`);
  await d.sql.query("CREATE ROLE hidden LOGIN REPLICATION PASSWORD 'p'; GRANT SELECT ON public.t TO hidden");
  const url = new URL(d.url);
  [url.username, url.password] = ['hidden', 'p'];
  const config = configOf(url.toString(), '  t: { timestamp: at }');
  const client = await connectClient(url.toString(), { applicationName: 'test' });
  const found = (await capturePreflight(client, config)).find((check) => check.status === 'failed');
  assert.match(found?.seen ?? '', /hides rows from role hidden/);
  await d.sql.query(found?.remedy ?? '');
  assert.deepEqual(failed(await capturePreflight(client, config)), []);
  await client.end();
});

test('a sound database passes; a missing publication is the fix that doctor may run', async () => {
  await using d = await database(GOOD);
  const config = configOf(d.url, '  t: { timestamp: at }');
  const before_ = await capturePreflight(d.sql, config);
  assert.deepEqual(failed(before_), ['publication tidemark_x: does not exist']);
  const fix = before_.find((check) => check.fix !== undefined)?.fix as string;
  await d.sql.query(fix);
  const checks = await capturePreflight(d.sql, config);
  assert.deepEqual(failed(checks), []);
  assert.ok(
    checks.every((check) => check.status === 'ok' || check.remedy !== undefined),
    'every warning has a remedy',
  );
});

const TABLE_CASES: [what: string, schema: string, expected: RegExp, mend?: string][] = [
  ['missing', '', /there is no table public\.t/],
  ['in another schema', 'CREATE SCHEMA o; CREATE TABLE o.t (id int PRIMARY KEY, at timestamptz)', /there is no table public\.t/],
  ['a view', 'CREATE VIEW public.t AS SELECT 1 AS id, now() AS at', /is a view/],
  ['partitioned', 'CREATE TABLE public.t (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)', /partitioned/],
  ['unlogged', 'CREATE UNLOGGED TABLE public.t (id int PRIMARY KEY, at timestamptz)', /UNLOGGED/, 'ALTER TABLE "public"."t" SET LOGGED'],
  [
    'foreign',
    'CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE public.t (id int, at timestamptz) SERVER s',
    /foreign table/,
  ],
  ['without its timestamp column', 'CREATE TABLE public.t (id int PRIMARY KEY, created date)', /there is no column "at"/],
  ['with a timestamp of another type', 'CREATE TABLE public.t (id int PRIMARY KEY, at bigint)', /at is of type bigint/],
  [
    'without replica identity',
    'CREATE TABLE public.t (id int, at timestamptz)',
    /UPDATE and DELETE would fail/,
    'ALTER TABLE "public"."t" REPLICA IDENTITY FULL',
  ],
  [
    'with identity NOTHING',
    'CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz); ALTER TABLE public.t REPLICA IDENTITY NOTHING',
    /UPDATE and DELETE would fail/,
    'ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT',
  ],
  [
    'with names that differ in case only',
    'CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz, "AT" int)',
    /column "AT" differs from "at" in case at most/,
  ],
];

for (const [what, schema, expected, mend] of TABLE_CASES) {
  test(`a table ${what} is refused, and doctor does not publish it by itself`, async () => {
    await using d = await database(`SELECT 1; ${schema}`);
    const config = configOf(d.url, '  t: { timestamp: at }');
    const checks = await capturePreflight(d.sql, config);
    const bad = checks.filter((check) => check.status === 'failed' && check.table === 't');
    assert.equal(bad.length, 1, JSON.stringify(bad));
    assert.match(`${bad[0]?.name}: ${bad[0]?.seen}`, expected);
    assert.ok(bad[0]?.remedy);
    assert.ok(
      checks.every((check) => check.fix === undefined),
      'publishing it would break the application',
    );
    if (mend === undefined) return;
    assert.ok(bad[0]?.remedy?.startsWith(mend), bad[0]?.remedy);
    await d.sql.query(mend);
    assert.deepEqual(
      (await capturePreflight(d.sql, config)).filter((check) => check.status === 'failed' && check.table === 't'),
      [],
    );
  });
}

test('a table with a column named like one of ours is told how ours are named in its files', async () => {
  await using d = await database('SELECT 1; CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz, _lsn int)');
  const checks = await capturePreflight(d.sql, configOf(d.url, '  t: { timestamp: at }'));
  const found = checks.find((check) => check.table === 't' && check.name === 'column names t');
  assert.deepEqual([found?.status, found?.seen.slice(0, 46)], ['ok', "the archive's own columns are named __op, __ls"]);
});

const PUBLICATION_CASES: [what: string, sql: string, expected: RegExp][] = [
  ['publishes a protected table', 'CREATE PUBLICATION tidemark_x FOR TABLE public.t, public.secret', /protected table public\.secret/],
  [
    'publishes a table that is not listed',
    'CREATE TABLE public.more (id int PRIMARY KEY); CREATE PUBLICATION tidemark_x FOR TABLE public.t, public.more',
    /public\.more, which is not listed/,
  ],
  ['is for all tables', 'CREATE PUBLICATION tidemark_x FOR ALL TABLES', /FOR ALL TABLES/],
  ['leaves out deletes', "CREATE PUBLICATION tidemark_x FOR TABLE public.t WITH (publish = 'insert, update')", /every operation/],
  ['has a row filter', 'CREATE PUBLICATION tidemark_x FOR TABLE public.t WHERE (id > 0)', /row filter/],
  ['has a column list', 'CREATE PUBLICATION tidemark_x FOR TABLE public.t (id)', /column list/],
  ['lacks a listed table', 'CREATE PUBLICATION tidemark_x', /lacks t/],
];

for (const [what, sql, expected] of PUBLICATION_CASES) {
  test(`a publication that ${what} is refused`, async () => {
    await using d = await database(`${GOOD}; ${sql}`);
    const checks = await capturePreflight(d.sql, configOf(d.url, '  t: { timestamp: at }', 'protected: [secret]'));
    assert.match(failed(checks).join('\n'), expected);
    const remedy = checks.find((check) => check.status === 'failed')?.remedy ?? '';
    const runnable = /(ALTER PUBLICATION [^;]*)/.exec(remedy)?.[1];
    if (runnable === undefined || what.includes('for all')) return;
    for (const statement of remedy
      .replace(/^as the owner of the tables: /, '')
      .split('; ')
      .filter((text) => text.startsWith('ALTER PUBLICATION')))
      await d.sql.query(statement);
    assert.deepEqual(failed(await capturePreflight(d.sql, configOf(d.url, '  t: { timestamp: at }', 'protected: [secret]'))), [], 'the remedy mends it');
  });
}

test('warnings: no index on the timestamp, generated columns, rows of the future, prepared transactions', async () => {
  await using d = await database(
    "CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz, g int GENERATED ALWAYS AS (id) STORED); CREATE TABLE public.u (id int PRIMARY KEY, at date); CREATE INDEX ON public.u (at); INSERT INTO public.u VALUES (1, now() + interval '9 days'), (2, 'infinity')",
  );
  await d.sql.query("BEGIN; INSERT INTO public.u VALUES (3); PREPARE TRANSACTION 'forgotten'");
  const checks = await capturePreflight(d.sql, configOf(d.url, '  t: { timestamp: at }\n  u: { timestamp: at }'));
  const warnings = checks.filter((check) => check.status === 'warning').map((check) => check.name);
  for (const name of ['timestamp index t', 'generated columns t', 'newest row u', 'prepared transactions', 'max_slot_wal_keep_size'])
    assert.ok(warnings.includes(name), `${name} in ${warnings}`);
  await d.sql.query("ROLLBACK PREPARED 'forgotten'");
});

test('a role without rights is told which; a wrong password and a wrong database too, in one line', async () => {
  await using d = await database(GOOD);
  await d.sql.query(`${'DROP ROLE IF EXISTS poor; '}CREATE ROLE poor LOGIN PASSWORD 'p'`);
  const url = new URL(d.url);
  url.username = 'poor';
  url.password = 'p';
  const poor = await connectClient(url.toString(), { applicationName: 'poor' });
  const checks = await capturePreflight(poor, configOf(url.toString(), '  t: { timestamp: at }'));
  assert.match(failed(checks).join('\n'), /replication privilege: role poor may not replicate/);
  assert.equal(checks.find(({ name }) => name === 'statistics')?.remedy, 'GRANT pg_read_all_stats TO "poor"');
  assert.match(failed(checks).join('\n'), /table t: may not be read/);
  await poor.end();
  url.pathname = '/nowhere';
  await assert.rejects(connectClient(url.toString(), { applicationName: 'poor' }), { kind: 'config', message: /nowhere/ });
  await assert.rejects(connectClient('mysql://x@localhost/y', { applicationName: 'x' }), { kind: 'config' });
});

test('synchronous_standby_names that match us are refused, also while running', async () => {
  for (const [names, ours] of [
    ['*', true],
    ['ANY 1 (a, *)', true],
    ['FIRST 2 (tidemark_x_capture, b)', true],
    ['"TIDEMARK_X_CAPTURE"', true],
    ['standby1', false],
    ['2 (s1, s2)', false],
    ['"*ne"', false],
  ] as const) {
    assert.equal(namesUs(names, 'x'), ours, names);
  }
  await using d = await database(GOOD);
  await d.sql.query('SET synchronous_commit = local');
  await d.sql.query("ALTER SYSTEM SET synchronous_standby_names = '*'");
  await d.sql.query('SELECT pg_reload_conf()');
  try {
    await assert.rejects(
      async () => {
        for (;;) await requireNotSynchronous(d.sql, 'x');
      },
      { kind: 'config', message: /every commit of the application would wait/ },
    );
  } finally {
    await d.sql.query('ALTER SYSTEM RESET synchronous_standby_names');
    await d.sql.query('SELECT pg_reload_conf()');
  }
});

test('wal_level = replica is refused with the setting', async () => {
  await using plain = await startPostgres({ settings: { wal_level: 'replica' } });
  const url = await plain.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query(GOOD);
  const check = (await capturePreflight(sql, configOf(url, '  t: { timestamp: at }'))).find((one) => one.name === 'wal_level');
  assert.equal(check?.status, 'failed');
  assert.match(check?.remedy ?? '', /ALTER SYSTEM SET wal_level = 'logical'/);
  await sql.end();
});

test('a pooler that drops our start-up settings is recognised', async () => {
  const url = new URL(await server.createDatabase());
  // Takes the `options` out of the start-up packet, as poolers that are told to ignore it do.
  const pooler = createServer((client) => {
    const upstream = connect(server.port, server.host);
    client.once('data', (packet) => {
      const words = packet.subarray(8).toString('latin1').split('\0');
      const pairs = words.slice(0, -2);
      const kept = pairs.flatMap((word, i) => (i % 2 === 0 && word !== 'options' ? [word, pairs[i + 1] ?? ''] : []));
      const body = Buffer.from(`${kept.join('\0')}\0\0`, 'latin1');
      const head = Buffer.from(packet.subarray(0, 8));
      head.writeInt32BE(8 + body.length);
      upstream.write(Buffer.concat([head, body]));
      client.pipe(upstream).pipe(client);
    });
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
  });
  pooler.listen(0, '127.0.0.1');
  await once(pooler, 'listening');
  url.port = String((pooler.address() as { port: number }).port);
  await assert.rejects(connectClient(url.toString(), { applicationName: 'x' }), { kind: 'config', message: /pooler/ });
  pooler.close();
});
