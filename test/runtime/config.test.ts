/** tidemark.yaml: every mistake at once with its path, the environment over the file, and secrets that do not print. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { type Config, configJsonSchema, loadConfig, parseConfig } from '../../src/runtime/config.js';
import type { Environment } from '../../src/runtime/environment.js';
import { TidemarkError } from '../../src/runtime/errors.js';

const URL_TEXT = 'postgresql://me:secret-word@localhost/goat';
const LEAST = `source: { url: "${URL_TEXT}", name: goat }\ntables:\n  prices: { timestamp: at }\n`;

const config = (text: string, env: Environment = {}): Config => parseConfig(text, { file: '/etc/tidemark/tidemark.yaml', env });

/** The problems of a configuration, one a line. */
function problems(text: string, env: Environment = {}): string {
  try {
    config(text, env);
  } catch (error) {
    assert.ok(error instanceof TidemarkError, String(error));
    assert.equal(error.exitCode, 2);
    return error.message;
  }
  return assert.fail('it was accepted');
}

test('the least configuration has the defaults of the design', () => {
  const parsed = config(LEAST);
  assert.equal(parsed.stream.url.reveal(), 'nats://localhost:4222');
  assert.deepEqual(parsed.stream.replay, { age: 7 * 86_400_000, bytes: 20 * 1024 ** 3 });
  assert.equal(parsed.archive.dir, '/etc/tidemark/archived_data', 'taken from the folder of the file');
  assert.deepEqual(parsed.archive.flush, { rows: 250_000, bytes: 64 * 1024 ** 2, every: 60_000 });
  assert.equal(parsed.archive.compression, 'zstd');
  assert.equal(parsed.prune.enabled, true);
  assert.equal(parsed.prune.retention, 86_400_000);
  assert.equal(parsed.prune.schedule, '0 * * * *');
  assert.equal(parsed.prune.batch, 5000);
  assert.equal(parsed.prune.spread, 0.9);
  const { key: _, ...table } = parsed.tables[0] as Config['tables'][number];
  assert.deepEqual(table, {
    schema: 'public',
    table: 'prices',
    timestamp: 'at',
    group: 'prices',
    retentionMs: 86_400_000,
    prune: true,
    keepWhile: undefined,
    deletes: 'history',
    history: false,
  });
  assert.ok(Object.isFrozen(parsed));
});

test('every mistake is named at once, with its path and what was found', () => {
  const text = problems(`
source: { url: "${URL_TEXT}", name: "Not A Name", timezone: Middle/Earth, colour: blue }
stream: { replay: { age: 7 days, bytes: lots } }
archive: { compression: lzma, flush: { rows: -1 } }
prune: { enabled: perhaps, schedule: "now and then", batch: 6000, spread: 1.5, retention: 24 }
tables:
  prices: { timstamp: at }
  trades: { timestamp: at, deletes: never, group: ../outside }
`);
  const expected = ['source.name', 'source.timezone', 'source: unknown "colour"', 'stream.replay.age', 'stream.replay.bytes', 'archive.compression', 'archive.flush.rows', 'prune.enabled', 'prune.schedule', 'prune.batch', 'prune.spread', 'prune.retention', 'tables.prices.timestamp', 'tables.prices: unknown "timstamp"', 'tables.trades.deletes', 'tables.trades.group']; // biome-ignore format: a list of paths
  for (const field of expected) assert.ok(text.includes(`  - ${field}`), `${field} is missing in\n${text}`);
  assert.match(text, new RegExp(`${expected.length} problems`));
  assert.match(text, /prune\.schedule: found "now and then"/);
  assert.doesNotMatch(text, /secret-word/);
});

test('rules over two fields', () => {
  const cases: [tables: string, problem: RegExp][] = [
    ['prices: { timestamp: at }\nprotected: [prices]', /tables\.prices: this table is also listed under protected/],
    ['prices: { timestamp: at }\nprotected: [public.prices]', /tables\.prices: this table is also listed under protected/],
    ['prices: { timestamp: at }\n  public.prices: { timestamp: at }', /is the same table as prices/],
    ['prices: { timestamp: at }\n  other.prices: { timestamp: at }', /would share the files prices\/prices_\*\.parquet/],
    ['prices: { timestamp: at }\n  PRICES: { timestamp: at }', /tables\.PRICES: would share the files PRICES\/PRICES_\*\.parquet with prices/],
    ['"\\u00e9": { timestamp: at }\n  "e\\u0301": { timestamp: at }', /would share the files/],
    ['a: { timestamp: at }\n  a_keys: { timestamp: at, group: A }', /tables\.a_keys: its files would look like those of a;/],
    ['a_2026-01-12: { timestamp: at, group: a }\n  a: { timestamp: at }', /tables\.a: its files would look like those of a_2026-01-12;/],
    ['prices: { timestamp: at, group: _TideMark }', /tables\.prices\.group: _tidemark is Tidemark's own folder/],
    ['a: { timestamp: at }\n  __proto__: { timestamp: at }', /tables\.__proto__: a table of this name cannot be archived/],
    ['"..": { timestamp: at }', /the name cannot be a file name/],
    ['"a\\0b": { timestamp: at }', /the name cannot be a file name/],
    ['prices: { timestamp: at, retention: 0s }', /tables\.prices\.retention: shorter than a second/],
    ['prices: { timestamp: at, group: _tidemark }', /tables\.prices\.group: _tidemark is Tidemark's own folder/],
    ['"a/b": { timestamp: at }', /the name cannot be a file name/],
  ];
  for (const [tables, problem] of cases) {
    assert.match(problems(`source: { url: "${URL_TEXT}", name: goat }\ntables:\n  ${tables}\n`), problem, tables);
  }
  assert.match(problems(`source: { url: "${URL_TEXT}", name: goat }\ntables: {}\n`), /name at least one table/);
  assert.match(
    problems(`${LEAST}  trades: { timestamp: at }\nprune: { retention: 0h }\n`),
    /: 1 problem\n {2}- prune\.retention: shorter than a second; the least is 1s$/,
  );
});

test('a mistake says what to write: true or false, a number, a section; an address of NATS is one', () => {
  assert.match(problems(`${LEAST}prune: { enabled: maybe }`), /prune\.enabled: found "maybe"; write true or false$/m);
  assert.match(problems(`${LEAST}prune: { batch: many }`), /prune\.batch: found "many"; write a number$/m);
  assert.match(problems(`${LEAST}archive: { keep: banana }`), /archive\.keep: found "banana"; write for instance 90d, 10y or forever$/m);
  assert.match(problems(`${LEAST}archive: here`), /archive: found "here"; write a section,/);
  for (const url of ['http://localhost:4222', 'nats://a:4222,http://b:4222'])
    assert.match(problems(`${LEAST}stream: { url: "${url}" }`), /stream\.url: not usable; http:\/\/ is not NATS: write for instance nats:/, url);
  assert.match(problems(LEAST, { TIDEMARK_STREAM_URL: 'nats://me:hush word@:x' }), /stream\.url \(from TIDEMARK_STREAM_URL\): not usable; not an address/);
  assert.doesNotMatch(problems(LEAST, { TIDEMARK_STREAM_URL: 'nats://me:hush word@:x' }), /hush/);
  for (const url of ['localhost', '10.0.0.1:4222', 'tls://me:p%40ss@host, nats://[::1]:4222']) assert.ok(config(`${LEAST}stream: { url: "${url}" }`), url);
});

test('of a file that is no YAML the first mistake is said, with its place', () => {
  const text = `source: { url: "x", name: goat }\ntables: [\nprune: { enabled: true }\nstream: { url: y }\narchive: { dir: z }\n`;
  assert.match(problems(text), /^configuration \S+: it is not YAML: [^;\n]* at line \d+, column \d+$/);
});

test('metrics are off until they are named; a port is one service’s', () => {
  assert.equal(config(LEAST).metrics, undefined);
  assert.deepEqual(config(`${LEAST}metrics: {}`).metrics, { host: '127.0.0.1', capture: 9471, archiver: 9472, pruner: 9473 });
  assert.deepEqual(config(LEAST, { TIDEMARK_METRICS_HOST: '0.0.0.0', TIDEMARK_METRICS_PRUNER: '9000' }).metrics, {
    host: '0.0.0.0',
    capture: 9471,
    archiver: 9472,
    pruner: 9000,
  });
  assert.match(problems(`${LEAST}metrics: { capture: 9473 }`), /metrics\.pruner: 9473 is the port of capture already; give each service its own/);
  assert.match(problems(`${LEAST}metrics: { capture: 0 }`), /metrics\.capture: found 0; a port is a number from 1 to 65535/);
});

test('a source name is a word: it becomes a subject, a slot and a stream', () => {
  for (const name of ['a.>', '*', '>', 'a b', 'Goat', '../x', 'a"b', "a'; DROP", 'a\\0b', 'x'.repeat(41), '🦖', '-x'])
    assert.match(
      problems(`source: { url: "${URL_TEXT}", name: ${JSON.stringify(name).replace('\\\\0', '\\0')} }\ntables:\n  prices: { timestamp: at }\n`),
      /source\.name: /,
      name,
    );
  for (const group of ['../x', 'a/b', '.', '..', '-x', '', 'a\\0b', 'é', 'a b'])
    assert.match(
      problems(`source: { url: "${URL_TEXT}", name: goat }\ntables:\n  prices: { timestamp: at, group: ${JSON.stringify(group).replace('\\\\0', '\\0')} }\n`),
      /tables\.prices\.group: /,
      group,
    );
});

test('what is no mapping is refused in one clear line', () => {
  for (const text of ['', 'just words', '- a\n- list', '42', 'a: [', 'a: 1\na: 2']) {
    for (const env of [{}, { TIDEMARK_SOURCE_NAME: 'goat' }]) assert.match(problems(text, env), /^configuration \/etc\/tidemark\/tidemark\.yaml: /, text);
  }
});

test('variables, fallbacks and files of secrets', (context) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'tidemark-config-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const secret = path.join(dir, 'secret');
  writeFileSync(secret, `${URL_TEXT}\n`);
  const text = 'source: { url: "${DATABASE_URL}", name: "${NAME:-goat}" }\ntables:\n  prices: { timestamp: at }\n';
  assert.equal(config(text, { DATABASE_URL: URL_TEXT }).source.url.reveal(), URL_TEXT);
  assert.equal(config(text, { DATABASE_URL: URL_TEXT }).source.name, 'goat');
  assert.equal(config(text, { DATABASE_URL: URL_TEXT, NAME: 'other' }).source.name, 'other');
  assert.equal(config(text, { DATABASE_URL_FILE: secret }).source.url.reveal(), URL_TEXT);
  assert.equal(config(text, { TIDEMARK_SOURCE_URL_FILE: secret }).source.url.reveal(), URL_TEXT);
  assert.match(problems(text), /\$\{DATABASE_URL\}: the variable is not set/);
  assert.throws(() => config(text, { DATABASE_URL_FILE: path.join(dir, 'gone') }), /DATABASE_URL_FILE: .*gone cannot be read/);
});

test('the environment wins over the file, flags over both', () => {
  const env = {
    TIDEMARK_SOURCE_URL: 'postgresql://other/db',
    TIDEMARK_SOURCE_NAME: 'other',
    TIDEMARK_STREAM_URL: 'nats://elsewhere:4222',
    TIDEMARK_ARCHIVE_DIR: '/archive',
    TIDEMARK_PRUNE_ENABLED: 'false',
    TIDEMARK_PRUNE_RETENTION: '48h',
    TIDEMARK_PRUNE_BATCH: '100',
    TIDEMARK_LOG_LEVEL: 'debug',
  };
  const parsed = config(LEAST, env);
  assert.equal(parsed.source.url.reveal(), 'postgresql://other/db');
  assert.equal(parsed.source.name, 'other');
  assert.equal(parsed.stream.url.reveal(), 'nats://elsewhere:4222');
  assert.equal(parsed.archive.dir, '/archive');
  assert.equal(parsed.prune.enabled, false);
  assert.equal(parsed.prune.retention, 48 * 3_600_000);
  assert.equal(parsed.tables[0]?.retentionMs, 48 * 3_600_000);
  assert.equal(parsed.prune.batch, 100);
  assert.equal(parsed.log.level, 'debug');
  assert.equal(parseConfig(LEAST, { file: 'x.yaml', env, overrides: { archiveDir: '/flag' } }).archive.dir, '/flag');
  assert.match(problems(LEAST, { TIDEMARK_PRUNE_ENABLED: 'perhaps' }), /prune\.enabled \(from TIDEMARK_PRUNE_ENABLED\): found "perhaps"/);
  assert.match(problems(LEAST, { TIDEMARK_PRUNE_BATCH: 'many' }), /prune\.batch \(from TIDEMARK_PRUNE_BATCH\): found "many"/);
});

test('the names of the old script keep working, each said once', () => {
  const parsed = config(LEAST, { ARCHIVE_DRY_RUN: '1', DATA_ARCHIVAL_ENABLED: '0', ARCHIVE_BASE_DIR: '/old', RETENTION_HOURS: '12' });
  assert.equal(parsed.prune.dryRun, true);
  assert.equal(parsed.prune.enabled, false);
  assert.equal(parsed.archive.dir, '/old');
  assert.equal(parsed.prune.retention, 12 * 3_600_000);
  for (const name of ['ARCHIVE_DRY_RUN', 'DATA_ARCHIVAL_ENABLED', 'ARCHIVE_BASE_DIR', 'RETENTION_HOURS']) {
    assert.equal(parsed.notices.filter((notice) => notice.includes(name)).length, 1, name);
  }
  const off = `${LEAST}prune: { enabled: false }\n`;
  assert.equal(config(off, { DATA_ARCHIVAL_ENABLED: '1' }).prune.enabled, false, 'it never switches on what the file has off');
  assert.equal(config(LEAST, { ARCHIVE_BASE_DIR: '/old', TIDEMARK_ARCHIVE_DIR: '/new' }).archive.dir, '/new', 'our own name is the newer one');
  assert.deepEqual(config(LEAST).notices, []);
});

test('a mistake in an old name is told by that name, for the file does not hold it', () => {
  const seen = problems(LEAST, { ARCHIVE_DRY_RUN: 'perhaps', DATA_ARCHIVAL_ENABLED: '2', ARCHIVE_BASE_DIR: '', RETENTION_HOURS: 'a day' });
  assert.match(seen, /prune\.dryRun \(from ARCHIVE_DRY_RUN\): found "perhaps"/);
  assert.match(seen, /prune\.enabled \(from DATA_ARCHIVAL_ENABLED\): found "2"/);
  assert.match(seen, /archive\.dir \(from ARCHIVE_BASE_DIR\): empty/);
  assert.match(seen, /prune\.retention \(from RETENTION_HOURS\): found "a dayh"/);
});

test('a variable that is not set is one problem, not two', () => {
  assert.match(
    problems('source: { url: "${NO_SUCH}", name: goat }\ntables:\n  prices: { timestamp: at }\n'),
    /: 1 problem\n {2}- \$\{NO_SUCH\}: the variable is not set$/,
  );
});

test('a secret does not print', () => {
  const parsed = config(LEAST);
  for (const shown of [inspect(parsed, { depth: 9 }), JSON.stringify(parsed), `${parsed.source.url}`]) assert.ok(!shown.includes('secret-word'), shown);
});

test('a missing file says how to make one', () => {
  assert.throws(() => loadConfig('/nowhere/tidemark.yaml', {}, {}), /there is no such file/);
});

test('the JSON Schema for editors accepts what is accepted and refuses unknown names', () => {
  const validate = new Ajv2020({ strict: false }).compile(configJsonSchema() as object);
  assert.ok(validate(parse(LEAST)), JSON.stringify(validate.errors));
  assert.ok(!validate(parse(LEAST.replace('timestamp', 'timstamp'))));
});

test('the console is reached from this machine only, or has a token that cannot be guessed and is not printed', () => {
  assert.equal(config(LEAST).console, undefined, 'no section, no port');
  assert.deepEqual(config(`${LEAST}console: {}`).console, { host: '127.0.0.1', port: 9470, names: [] });
  for (const host of ['localhost', '::1', '127.0.0.2']) assert.equal(config(`${LEAST}console: { host: "${host}" }`).console?.host, host);
  for (const host of ['0.0.0.0', '::', '10.0.0.7', 'console.internal', 'localhost.evil.example'])
    assert.match(problems(`${LEAST}console: { host: "${host}" }`), /console\.token: missing; .* give a token, or listen on 127\.0\.0\.1/, host);
  const token = 'secret-word-of-24-letters';
  const open = config(`${LEAST}console: { host: 0.0.0.0, token: ${token}, names: [console.internal] }`);
  assert.equal(open.console?.token?.reveal(), token);
  assert.ok(!inspect(open, { depth: 9 }).includes(token));
  const short = problems(`${LEAST}console: { token: secret-word }`);
  assert.match(short, /console\.token: not usable; a token has at least 16 characters/);
  assert.doesNotMatch(short, /secret-word/);
  assert.match(
    problems(`${LEAST}console: { port: 70000, names: ["http://x"] }`),
    /console\.port: found 70000; a port[\s\S]*console\.names\.0: found "http:\/\/x"; a host name/,
  );
  const env = config(LEAST, { TIDEMARK_CONSOLE_HOST: '0.0.0.0', TIDEMARK_CONSOLE_PORT: '9480', TIDEMARK_CONSOLE_TOKEN: token });
  assert.deepEqual([env.console?.host, env.console?.port, env.console?.token?.reveal()], ['0.0.0.0', 9480, token]);
});
