/** doctor, init, prune and run against a real Postgres that is not as it must be: one clear line for each mistake, the exit code of the design, and nothing changed. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { type NatsServer, startNats } from '../../../services/demo/engines/nats.js';
import { type PostgresServer, startPostgres } from '../../../services/demo/engines/postgres.js';
import { archivePaths } from '../../../src/archive/layout.js';
import { createArchive, ManifestWriter } from '../../../src/archive/manifest.js';
import type { Check } from '../../../src/runtime/check.js';
import { type Config, loadConfig, parseConfig } from '../../../src/runtime/config.js';
import { tidemark } from './command.js';

const REFERENCE = fileURLToPath(new URL('../../../../infra/examples/follow_the_goat.sql', import.meta.url));
/** The timestamp column of each archived table of the reference database. */
const REFERENCE_COLUMNS: Readonly<Record<string, string>> = {
  prices: 'timestamp',
  sol_stablecoin_trades: 'trade_timestamp',
  order_book_features: 'timestamp',
  whale_movements: 'timestamp',
  cycle_tracker: 'cycle_start_time',
  follow_the_goat_buyins: 'followed_at',
  follow_the_goat_buyins_price_checks: 'checked_at',
  price_points: 'created_at',
};

let dir = '';
let postgres: PostgresServer;
let nats: NatsServer;
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-cli-'));
  [postgres, nats] = await Promise.all([startPostgres(), startNats()]);
});
after(async () => {
  await Promise.all([postgres[Symbol.asyncDispose](), nats[Symbol.asyncDispose]()]);
  await rm(dir, { recursive: true, force: true });
});

let files = 0;
async function configuration(url: string, tables: string, more = ''): Promise<string> {
  files += 1;
  const file = path.join(dir, `${files}.yaml`);
  const archive = path.join(dir, `archive-${files}`);
  await mkdir(archive);
  await writeFile(
    file,
    `source: { url: "${url}", name: t${files} }\nstream: { url: "${nats.url}" }\narchive: { dir: "${archive}" }\n${more}\ntables:\n${tables}\n`,
  );
  return file;
}

async function database(sql: string, server: PostgresServer = postgres): Promise<{ url: string; run: (text: string) => Promise<unknown[]> }> {
  const url = await server.createDatabase();
  const run = async (text: string): Promise<unknown[]> => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const { rows } = await client.query(text);
    await client.end();
    return rows as unknown[];
  };
  await run(sql);
  return { url, run };
}

const PRICES = 'CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL); CREATE INDEX ON prices (at);';

async function checks(file: string): Promise<{ code: number | null; checks: Check[] }> {
  const { code, stdout } = await tidemark(['doctor', '--json', '-c', file]);
  return { code, checks: (JSON.parse(stdout) as { checks: Check[] }).checks };
}

test('doctor names what is missing with its remedy, --fix mends what is safe, and then all is well', async () => {
  const { url, run } = await database(PRICES);
  const file = await configuration(url, '  prices: { timestamp: at }');
  const first = await tidemark(['doctor', '-c', file]);
  assert.equal(first.code, 1);
  assert.match(first.stdout, /publication tidemark_t\d+ +does not exist/);
  assert.match(first.stdout, /CREATE PUBLICATION "tidemark_t\d+" FOR TABLE ONLY "public"\."prices"/);
  assert.ok(first.stdout.endsWith(` 1 failed\nNext: tidemark doctor --fix -c ${file}, as the owner of the tables: it mends 1 of these\n`), first.stdout);
  assert.equal((await run('SELECT FROM pg_publication')).length, 0, 'without --fix nothing is changed');
  const fixed = await tidemark(['doctor', '--fix', '-c', file]);
  assert.equal(fixed.code, 0, fixed.stdout + fixed.stderr);
  assert.equal((await run('SELECT FROM pg_publication')).length, 1);
  assert.equal((await tidemark(['doctor', '-c', file])).code, 0);
  assert.equal((await tidemark(['doctor', '--fix', '-c', file])).code, 0, 'again is harmless');
});

test('--fix adds a listed table to the publication and has it publish everything; it takes no table out of it', async () => {
  const { url, run } = await database(`${PRICES} CREATE TABLE trades (id bigserial PRIMARY KEY, at timestamptz); CREATE INDEX ON trades (at);
    CREATE TABLE stays (id int PRIMARY KEY); CREATE PUBLICATION other FOR TABLE stays;`);
  const file = await configuration(url, '  prices: { timestamp: at }\n  trades: { timestamp: at }');
  const name = `tidemark_t${files}`;
  const members = async (): Promise<string> => JSON.stringify(await run('SELECT pubname, tablename FROM pg_publication_tables ORDER BY 1, 2'));
  await run(`CREATE PUBLICATION ${name} FOR TABLE ONLY prices, ONLY stays WITH (publish = 'insert')`);
  const { code, stdout, stderr } = await tidemark(['doctor', '--fix', '-c', file]);
  assert.equal(stderr, '');
  assert.match(stdout, new RegExp(`^fix +ALTER PUBLICATION "${name}" SET \\(publish = 'insert, update, delete, truncate'\\)$`, 'm'));
  assert.match(stdout, new RegExp(`^fix +ALTER PUBLICATION "${name}" ADD TABLE ONLY "public"\\."trades"$`, 'm'));
  assert.equal(code, 1, 'the table that is not listed is left to a person');
  assert.doesNotMatch(`${stdout}${(await tidemark(['doctor', '-c', file])).stdout}`, /^Next: /m, 'what is left --fix does not mend');
  assert.match(stdout, /1 failed/);
  const expected = ['other', name, name, name].map((pubname, i) => ({ pubname, tablename: ['stays', 'prices', 'stays', 'trades'][i] }));
  assert.equal(await members(), JSON.stringify(expected));
  await run(`ALTER PUBLICATION ${name} DROP TABLE stays`);
  assert.equal((await tidemark(['doctor', '-c', file])).code, 0);

  await run(`DROP PUBLICATION ${name}; CREATE PUBLICATION ${name} FOR TABLES IN SCHEMA public`);
  const foreign = await tidemark(['doctor', '--fix', '-c', file]);
  assert.equal(foreign.code, 1);
  assert.doesNotMatch(foreign.stdout, /^fix /m, 'one of another kind is not altered');
});

test('--fix by a role that does not own the publication changes nothing, and says the SQL for its owner', async () => {
  const { url, run } = await database(
    `${PRICES} DROP ROLE IF EXISTS weaker; CREATE ROLE weaker LOGIN REPLICATION PASSWORD 'weak'; GRANT SELECT ON prices TO weaker;`,
  );
  const weak = new URL(url);
  [weak.username, weak.password] = ['weaker', 'weak'];
  const file = await configuration(weak.toString(), '  prices: { timestamp: at }');
  await run(`CREATE PUBLICATION tidemark_t${files}`);
  const { code, stdout, stderr } = await tidemark(['doctor', '--fix', '-c', file]);
  assert.equal(code, 1);
  assert.match(stderr, /^not fixed: must be owner of publication .*ADD TABLE ONLY "public"\."prices"\n$/);
  assert.match(stdout, /lacks prices\n +→ as the owner of the tables: ALTER PUBLICATION/);
  assert.deepEqual(await run('SELECT FROM pg_publication_rel'), []);
  await run('DROP OWNED BY weaker; DROP ROLE weaker');
});

test('no colour in a pipe, also under CI', async () => {
  const { url } = await database(PRICES);
  const { stdout } = await tidemark(['doctor', '-c', await configuration(url, '  prices: { timestamp: at }')], { CI: '1' });
  assert.doesNotMatch(stdout, new RegExp(String.fromCharCode(27)));
});

test('a fix that is refused is one clear line, and the checks are still shown', async () => {
  const { url, run } = await database(
    `${PRICES} DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN REPLICATION PASSWORD 'weak'; GRANT SELECT ON prices TO weak;`,
  );
  const weak = new URL(url);
  weak.username = 'weak';
  weak.password = 'weak';
  const { code, stdout, stderr } = await tidemark(['doctor', '--fix', '-c', await configuration(weak.toString(), '  prices: { timestamp: at }')]);
  assert.equal(code, 1);
  assert.match(stdout + stderr, /permission denied/);
  assert.match(stdout, /publication tidemark_t\d+ +does not exist/);
  await run('DROP OWNED BY weak; DROP ROLE weak');
});

test('missing table and missing timestamp column', async () => {
  const { url } = await database(`${PRICES} CREATE TABLE trades (id bigserial PRIMARY KEY, traded_at timestamptz NOT NULL);`);
  const file = await configuration(url, '  price: { timestamp: at }\n  trades: { timestamp: at }');
  const { code, stdout } = await tidemark(['doctor', '-c', file]);
  assert.equal(code, 1);
  assert.match(stdout, /there is no table public\.price\b/);
  assert.match(stdout, /there is no column "at"\n.*set tables\.trades\.timestamp to one of: traded_at/);
  const capture = await tidemark(['run', 'capture', '-c', file]);
  assert.equal(capture.code, 2);
  assert.match(capture.stderr, /there is no table public\.price\b.*there is no column/s);
});

test('wrong password: one line, for every command that asks the database', async () => {
  const { url } = await database(PRICES);
  const wrong = new URL(url);
  wrong.password = 'not-the-password';
  const file = await configuration(wrong.toString(), '  prices: { timestamp: at }');
  const doctor = await tidemark(['doctor', '-c', file]);
  assert.equal(doctor.code, 1);
  assert.match(doctor.stdout, /the server refuses this login/);
  // Without an archive there is nothing to prune, and nobody asks the database.
  const { archive, source } = loadConfig(file, {}, {});
  await createArchive(archive.dir, source.name);
  const writer = await ManifestWriter.claim(archive.dir, source.name);
  await writer.commit({ reason: 'copy-begin', epoch: { systemId: '1', timeline: 1, generation: randomUUID() } });
  for (const args of [
    ['run', 'capture'],
    ['prune', '--dry-run'],
    ['teardown', '--yes', `t${files}`],
  ]) {
    const { code, stderr } = await tidemark([...args, '-c', file]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /the server refuses this login/);
    assert.doesNotMatch(stderr, /not-the-password/);
  }
});

test("the pruner's own address is named when it is the wrong one", async () => {
  const { url } = await database(PRICES);
  const wrong = new URL(url);
  wrong.password = 'not-the-password';
  const file = await configuration(url, '  prices: { timestamp: at }');
  const { code, stdout } = await tidemark(['doctor', '-c', file], { TIDEMARK_SOURCE_PRUNER_URL: wrong.toString() });
  assert.equal(code, 1);
  assert.match(stdout, /Postgres, pruner +source\.prunerUrl: the server refuses this login .*\n +→ correct user and password in source\.prunerUrl/);
  const pruner = await tidemark(['run', 'pruner', '-c', file], { TIDEMARK_SOURCE_PRUNER_URL: wrong.toString() });
  assert.equal(pruner.code, 2);
  assert.match(pruner.stderr, /source\.prunerUrl: the server refuses this login/);
});

test('wal_level=replica: doctor and capture say so', async () => {
  await using replica = await startPostgres({ settings: { wal_level: 'replica' } });
  const { url } = await database(PRICES, replica);
  const file = await configuration(url, '  prices: { timestamp: at }');
  const seen = await checks(file);
  assert.equal(seen.code, 1);
  const check = seen.checks.find(({ name }) => name === 'wal_level');
  assert.deepEqual([check?.status, check?.seen], ['failed', 'replica']);
  assert.match(check?.remedy ?? '', /ALTER SYSTEM SET wal_level = 'logical'/);
  const capture = await tidemark(['run', 'capture', '-c', file]);
  assert.equal(capture.code, 2);
  assert.match(capture.stderr, /wal_level: replica/);
});

test('an archive folder with foreign Parquet files, and one that is not there', async () => {
  const { url } = await database(PRICES);
  const file = await configuration(url, '  prices: { timestamp: at }');
  const archive = loadConfig(file, {}, {}).archive.dir;
  await mkdir(path.join(archive, 'prices'));
  await writeFile(path.join(archive, 'prices', 'prices_2026-01-01.parquet'), 'PAR1');
  const foreign = await checks(file);
  assert.ok(foreign.checks.some(({ status, seen }) => status === 'failed' && /prices_2026-01-01\.parquet/.test(seen)));
  await rm(archive, { recursive: true });
  const missing = await checks(file);
  assert.ok(missing.checks.some(({ status, remedy }) => status === 'failed' && /mkdir -p/.test(remedy ?? '')));
  const archiver = await tidemark(['run', 'archiver', '-c', file]);
  assert.equal(archiver.code, 2, 'doctor and the archiver agree');
});

test('an archive.dir that is a file, or missing, is said as that: by doctor, by status and by what opens the archive', async () => {
  const { url } = await database(PRICES);
  const file = await configuration(url, '  prices: { timestamp: at }');
  const archive = loadConfig(file, {}, {}).archive.dir;
  await rm(archive, { recursive: true });
  const status = async (): Promise<string> => /^archive .*$/m.exec((await tidemark(['status', '-c', file])).stdout)?.[0] ?? '';
  assert.equal(await status(), `archive    archive.dir: there is no folder ${archive} → mkdir -p ${archive}, or mount the volume it lies on`);
  const none = `archive.dir: there is no folder ${archive} → mkdir -p ${archive}, or mount the volume it lies on`;
  for (const command of ['views', 'seal', 'pause', 'prune']) {
    const { code, stdout, stderr } = await tidemark([command, '-c', file]);
    assert.ok(code !== 0 && `${stdout}${stderr}`.includes(none), `${command}: ${stdout}${stderr}`);
  }
  await writeFile(archive, '');
  const seen = (await checks(file)).checks.filter(({ status: how, name }) => how === 'failed' && !name.startsWith('publication'));
  assert.deepEqual(seen, [{ name: 'archive folder', status: 'failed', seen: `${archive} is not a folder`, remedy: 'set archive.dir to a folder' }]);
  const line = `archive.dir: ${archive} is not a folder → set archive.dir to a folder`;
  assert.equal(await status(), `archive    ${line}`);
  for (const command of ['verify', 'views', 'seal', 'pause', 'resume']) {
    const { code, stderr } = await tidemark([command, '-c', file]);
    assert.deepEqual([code, stderr], [2, `${line}\n`], command);
  }
});

test('a brake that could not be pulled says that pruning goes on', async () => {
  const { url } = await database(PRICES);
  const file = await configuration(url, '  prices: { timestamp: at }');
  const archive = loadConfig(file, {}, {}).archive.dir;
  await createArchive(archive, 'test');
  const { temporary } = archivePaths(archive);
  await rm(temporary, { recursive: true });
  await writeFile(temporary, ''); // the volume takes no file
  const { code, stderr } = await tidemark(['pause', '-c', file]);
  assert.equal(code, 1);
  assert.match(stderr, /^PRUNING IS NOT PAUSED: .* → to stop it now, stop the pruner/);
});

test('init names the next command as it was started itself', async () => {
  const { url } = await database(PRICES);
  const next = async (env: Record<string, string>): Promise<string | undefined> =>
    /&& (.*) doctor -c /.exec((await tidemark(['init', '--url', url, '--force', '--out', path.join(dir, 'next.yaml')], env)).stdout)?.[1];
  assert.equal(await next({ npm_lifecycle_event: 'test' }), 'tidemark');
  assert.equal(await next({ npm_lifecycle_event: 'tidemark', npm_package_json: path.join(process.cwd(), 'package.json') }), 'npm run -s tidemark --');
  assert.equal(await next({ npm_lifecycle_event: 'tidemark', npm_package_json: '/opt/clone/package.json' }), 'npm --prefix /opt/clone run -s tidemark --');
});

test('TLS is told of each address once; settings are compared with nothing before rows were pruned', async () => {
  const { url } = await database(PRICES);
  const seen = (await checks(await configuration(url, '  prices: { timestamp: at }'))).checks;
  assert.deepEqual(
    seen.flatMap(({ name }) => (name.startsWith('TLS of source') ? [name] : [])),
    ['TLS of source.url'],
  );
  assert.match(seen.find(({ name }) => name === 'settings')?.seen ?? '', /no rows were pruned yet/);
  const two = await configuration(url, '  prices: { timestamp: at }');
  const { stdout } = await tidemark(['doctor', '-c', two], { TIDEMARK_SOURCE_PRUNER_URL: url });
  assert.deepEqual(stdout.match(/TLS of source\.\w+/g), ['TLS of source.url', 'TLS of source.prunerUrl']);
});

test('init says where it cannot write', async () => {
  const { url } = await database(PRICES);
  for (const [out, expected] of [
    [path.join(dir, 'nowhere', 'y.yaml'), `--out: there is no folder ${path.join(dir, 'nowhere')} → make it, or give --out a file in another`],
    [dir, `${dir} exists already → use --force to replace it, or --out FILE`],
    ['/proc/version', '/proc/version exists already → use --force to replace it, or --out FILE'],
  ] as const) {
    const { code, stderr } = await tidemark(['init', '--url', url, '--out', out]);
    assert.deepEqual([code, stderr], [2, `${expected}\n`]);
  }
  const folder = await tidemark(['init', '--url', url, '--force', '--out', dir]);
  assert.deepEqual([folder.code, folder.stderr], [2, `--out: ${dir} is a folder → give the file in it that is to be written\n`]);
});

test('init writes a configuration of the reference database that doctor accepts, with pruning off', async () => {
  const { url } = await database(await readFile(REFERENCE, 'utf8'));
  const out = path.join(dir, 'reference.yaml');
  const { code, stdout, stderr } = await tidemark(['init', '--out', out], { DATABASE_URL: url });
  assert.equal(code, 0, stdout + stderr);
  const text = await readFile(out, 'utf8');
  const config: Config = parseConfig(text, { file: out, env: { DATABASE_URL: url } });
  assert.equal(config.prune.enabled, false);
  assert.deepEqual([config.console?.host, config.console?.port], ['127.0.0.1', 9470]);
  assert.equal(config.source.url.reveal(), url);
  assert.ok(!text.includes(url), 'the password stays in the environment');
  for (const [table, column] of Object.entries(REFERENCE_COLUMNS)) assert.equal(config.tables.find(({ key }) => key === table)?.timestamp, column, table);
  await mkdir(config.archive.dir);
  const doctor = await tidemark(['doctor', '--fix', '-c', out], { DATABASE_URL: url, TIDEMARK_STREAM_URL: nats.url });
  assert.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
  const again = await tidemark(['init', '--out', out], { DATABASE_URL: url });
  assert.equal(again.code, 2);
  assert.match(again.stderr, /exists already/);
});

test('init says of each awkward table why it is left, or not pruned, and doctor passes', async () => {
  const { url } = await database(`
    CREATE SCHEMA other;
    CREATE TABLE plain (id int PRIMARY KEY, updated_at timestamptz, created_at timestamptz NOT NULL);
    CREATE TABLE other.plain (id int PRIMARY KEY, happened timestamp NOT NULL);
    CREATE TABLE "We ird" (id int PRIMARY KEY, "Time" timestamptz NOT NULL);
    CREATE SCHEMA "dot.ted";
    CREATE TABLE "dot.ted".plain (id int PRIMARY KEY, at timestamptz NOT NULL);
    CREATE TABLE keyless (at timestamptz);
    CREATE TABLE whole (at timestamptz NOT NULL); ALTER TABLE whole REPLICA IDENTITY FULL; CREATE TABLE other.whole (id int);
    CREATE TABLE timeless (id int PRIMARY KEY);
    CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, at timestamptz);
    CREATE TABLE parted (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE referred (id int PRIMARY KEY, at timestamptz);
    CREATE TABLE referring (id int PRIMARY KEY REFERENCES referred, at timestamptz);
    CREATE TABLE guarded (id int PRIMARY KEY, at timestamptz);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
    CREATE TRIGGER guard BEFORE DELETE ON guarded FOR EACH ROW EXECUTE FUNCTION refuse();
    CREATE TABLE hidden (id int PRIMARY KEY, at timestamptz);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
    CREATE TABLE computed (id int PRIMARY KEY, at timestamp, day date GENERATED ALWAYS AS (at::date) STORED);
    CREATE INDEX ON computed (day);`);
  const out = path.join(dir, 'awkward.yaml');
  const { code, stdout, stderr } = await tidemark(['init', '--url', url, '--out', out]);
  assert.equal(code, 0, stdout + stderr);
  const text = await readFile(out, 'utf8');
  const config = parseConfig(text, { file: out });
  const chosen = new Map(config.tables.map((table) => [table.key, table]));
  assert.deepEqual([...chosen.keys()].sort(), ['We ird', 'computed', 'guarded', 'hidden', 'other.plain', 'plain', 'referred', 'referring', 'whole']);
  assert.deepEqual(
    [chosen.get('plain')?.group, chosen.get('whole')?.group],
    ['public_plain', 'whole'],
    'other.whole is not archived: nothing to be kept apart from',
  );
  assert.equal(chosen.get('plain')?.timestamp, 'created_at');
  assert.equal(chosen.get('computed')?.timestamp, 'at');
  assert.equal(chosen.get('referred')?.prune, true);
  for (const key of ['guarded', 'hidden', 'whole']) assert.equal(chosen.get(key)?.prune, false, key);
  for (const line of [/# +dot\.ted\.plain: .*dot/, /# +keyless: .*key/, /# +timeless: .*timestamp/, /# +unlogged: .*unlogged/, /# +parted: .*partitioned/])
    assert.match(text, line);
  assert.match(text, /rows that others refer to stay \(referring\.referring_id_fkey\)/);
  assert.match(text, /trigger/);
  await mkdir(config.archive.dir, { recursive: true });
  const doctor = await tidemark(['doctor', '--fix', '-c', out], { TIDEMARK_STREAM_URL: nats.url });
  assert.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
});
