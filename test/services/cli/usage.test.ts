/** What the command line promises without any server: its commands, its exit codes for wrong use, and every mistake of a configuration at once. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../../services/demo/engines/process.js';
import { cleanEnvironment, MAIN, tidemark } from './command.js';

const COMMANDS = [
  'adopt',
  'console',
  'demo',
  'doctor',
  'expire',
  'explain',
  'import',
  'init',
  'pause',
  'prune',
  'query',
  'rebuild',
  'repair',
  'restore',
  'resume',
  'resync',
  'run',
  'seal',
  'status',
  'tail',
  'teardown',
  'undo-prune',
  'verify',
  'views',
];
const NO_STACK = /\n\s+at .*(\.js|node:)/;

let dir = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-cli-'));
});
after(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function configuration(text: string): Promise<string> {
  const file = path.join(dir, `${Math.random().toString(36).slice(2)}.yaml`);
  await writeFile(file, text);
  return file;
}

test('help lists exactly the commands that exist', async () => {
  const { code, stdout } = await tidemark(['--help']);
  assert.equal(code, 0);
  const listed = [...(stdout.split('Commands:')[1] ?? '').matchAll(/^ {2}([a-z]+(?:-[a-z]+)?)\b/gm)].map((match) => match[1] as string);
  assert.deepEqual(listed.filter((name) => name !== 'help').sort(), [...COMMANDS].sort());
});

for (const name of COMMANDS) {
  test(`${name} --help shows an example`, async () => {
    const { code, stdout } = await tidemark([name, '--help']);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`Examples?:\\n\\s+.*tidemark ${name}`));
  });
}

test('help of a command is its --help; of a name that is none, an error that says so', async () => {
  const [asked, flagged] = [await tidemark(['help', 'tail']), await tidemark(['tail', '--help'])];
  assert.deepEqual([asked.code, asked.stdout], [0, flagged.stdout]);
  assert.equal((await tidemark(['help'])).stdout, (await tidemark(['--help'])).stdout);
  const { code, stdout, stderr } = await tidemark(['help', 'nope']);
  assert.deepEqual([code, stdout], [2, '']);
  assert.match(stderr, /^error: unknown command 'nope'\n/);
});

test('--version is the version of the package', async () => {
  const { version } = JSON.parse(await readFile(fileURLToPath(new URL('../../../../package.json', import.meta.url)), 'utf8')) as { version: string };
  const { code, stdout } = await tidemark(['--version']);
  assert.equal(code, 0);
  assert.equal(stdout.trim(), version);
});

for (const args of [['frobnicate'], ['doctor', '--frobnicate'], ['rebuild'], ['verify', 'surplus'], ['explain'], ['demo', '--seconds', 'many']]) {
  test(`wrong use ends with 2: tidemark ${args.join(' ')}`, async () => {
    const { code, stderr } = await tidemark(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /error|usage|--seconds/i);
    assert.doesNotMatch(stderr, NO_STACK);
  });
}

test('an unknown service ends with 2 and names the services', async () => {
  const file = await configuration('source: { url: "postgres://localhost/x", name: goat }\ntables:\n  prices: { timestamp: at }\n');
  const { code, stderr } = await tidemark(['run', 'frobnicator', '-c', file]);
  assert.equal(code, 2);
  assert.match(stderr, /frobnicator.*capture, archiver, pruner/);
});

test('a day that no calendar has is refused, of seal as of restore', async () => {
  const file = await configuration('source: { url: "postgres://localhost/x", name: goat }\ntables:\n  prices: { timestamp: at }\n');
  for (const command of ['seal', 'restore'])
    for (const day of ['2026-99-01', '2026-02-30', 'yesterday']) {
      const { code, stderr } = await tidemark([command, 'prices', '--day', day, '-c', file]);
      assert.deepEqual([code, stderr], [2, `--day: "${day}" is not a day → write it as 2026-01-12, or undated\n`], `${command} ${day}`);
    }
});

test('rebuild --into where no folder can be made is refused in one line, and at once', async () => {
  const file = await configuration('source: { url: "postgres://localhost/x", name: goat }\ntables:\n  prices: { timestamp: at }\n');
  await writeFile(path.join(dir, 'a-file'), '');
  for (const [into, expected] of [
    [path.join(dir, 'a-file'), /a-file is a file, or lies in one →/],
    [path.join(dir, 'a-file', 'deep', 'er'), /er is a file, or lies in one →/],
    ['/proc/x', /\/proc\/x cannot be made or used \(E[A-Z]+\) →/],
    ['/proc/x/y/z', /cannot be made or used \(E[A-Z]+\) →/],
    [dir, /is not empty → give an empty folder/],
  ] as const) {
    const { code, stderr } = await tidemark(['rebuild', '--into', into, '-c', file]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^--into: .*\n$/);
    assert.match(stderr, expected);
  }
});

test('a configuration that cannot be read is told with what fits', async () => {
  const folder = await tidemark(['status', '-c', dir]);
  assert.deepEqual([folder.code, folder.stderr], [2, `configuration ${dir}: it is a folder → give the file in it with -c\n`]);
  if (process.getuid?.() === 0) return; // may read everything
  const file = await configuration('');
  await chmod(file, 0);
  const { code, stderr } = await tidemark(['status', '-c', file]);
  assert.equal(code, 2);
  assert.match(stderr, /: this user may not read it → let this user read it/);
});

test('a missing configuration is one line', async () => {
  const { code, stdout, stderr } = await tidemark(['status', '-c', path.join(dir, 'nowhere.yaml')]);
  assert.equal(code, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /^configuration .*nowhere\.yaml: there is no such file → .*\n$/);
});

for (const args of [
  ['doctor'],
  ['run'],
  ['run', 'capture'],
  ['run', 'archiver'],
  ['run', 'pruner'],
  ['prune'],
  ['status'],
  ['verify'],
  ['seal'],
  ['teardown'],
]) {
  test(`a wrong configuration names every problem at once: tidemark ${args.join(' ')}`, async () => {
    const file = await configuration(`
source: { url: "\${NO_SUCH_VARIABLE}", name: "Not A Name" }
archive: { flush: { every: soon } }
prune: { schedule: "now and then", retention: 24 }
tables:
  prices: { timestamp: at, colour: blue }
`);
    const { code, stderr } = await tidemark([...args, '-c', file]);
    assert.equal(code, 2);
    for (const problem of [/NO_SUCH_VARIABLE/, /source\.name/, /archive\.flush\.every/, /prune\.schedule/, /prune\.retention/, /tables\.prices.*colour/]) {
      assert.match(stderr, problem);
    }
    assert.doesNotMatch(stderr, NO_STACK);
  });
}

test('a report that cannot be written is told before the demonstration, not after it', async () => {
  const { code, stdout, stderr } = await tidemark(['demo', '--seconds', '1', '--report', path.join(dir, 'nowhere', 'report.json')]);
  assert.deepEqual([code, stdout], [2, '']);
  assert.match(stderr, /^--report: .*nowhere\/report\.json cannot be written .* → .*\n$/);
});

test('servers that are not there: a clear line for each, exit 1', async () => {
  const [postgres, nats] = [await freePort(), await freePort()];
  const file = await configuration(
    `source: { url: "postgres://me:secret-word@127.0.0.1:${postgres}/x", name: goat }\nstream: { url: "nats://127.0.0.1:${nats}" }\narchive: { dir: ${dir} }\ntables:\n  prices: { timestamp: at }\n`,
  );
  for (const args of [['doctor'], ['status'], ['prune', '--dry-run'], ['teardown', '--yes', 'goat'], ['explain', 'prices'], ['seal']]) {
    const { code, stdout, stderr } = await tidemark([...args, '-c', file]);
    assert.equal(code, 1, `${args.join(' ')}: ${stdout}${stderr}`);
    assert.doesNotMatch(stdout + stderr, NO_STACK);
    assert.doesNotMatch(stdout + stderr, /secret-word/);
    if (args[0] === 'status') assert.match(stdout, /slot {7}not known: the database cannot be asked/);
    if (args[0] === 'explain') assert.match(stderr, /^source\.url: Postgres does not answer \(connect ECONNREFUSED .*\) → start it, or correct .*\n$/);
  }
  const { stdout } = await tidemark(['doctor', '-c', file]);
  assert.match(stdout, new RegExp(`Postgres.*127\\.0\\.0\\.1:${postgres}`));
  assert.match(stdout, new RegExp(`NATS.*127\\.0\\.0\\.1:${nats}`));
});

test('a reader that has gone has had enough, whatever the command; what else cannot be written is said', async () => {
  const file = await configuration(
    `source: { url: "postgres://me@127.0.0.1:1/x", name: goat }\nstream: { url: "nats://127.0.0.1:1" }\narchive: { dir: ${dir} }\ntables:\n  prices: { timestamp: at }\n`,
  );
  const ended = async (args: string[], output: number | 'gone'): Promise<[code: number | null, said: string]> => {
    const child = spawn(process.execPath, [MAIN, ...args], { env: cleanEnvironment(), stdio: ['ignore', output === 'gone' ? 'pipe' : output, 'pipe'] });
    if (output === 'gone') child.stdout?.destroy();
    let said = '';
    child.stderr?.on('data', (bytes: Buffer) => (said += bytes.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return [code, said];
  };
  assert.deepEqual(await ended(['doctor', '-c', file], 'gone'), [1, '']);
  assert.deepEqual(await ended(['status', '-c', file], 'gone'), [1, '']);
  assert.deepEqual(await ended(['verify', '-c', file], 'gone'), [4, '']);
  assert.deepEqual(await ended(['--help'], 'gone'), [0, '']);
  const full = await open('/dev/full', 'w');
  assert.deepEqual(await ended(['--help'], full.fd), [1, 'standard output cannot be written (ENOSPC) → make room where it goes\n']);
  await full.close();
});

test('an address of NATS that is none is a mistake of the configuration: no service waits for it', async () => {
  const file = await configuration(
    `source: { url: "postgres://me@127.0.0.1:1/x", name: goat }\nstream: { url: "not an address" }\narchive: { dir: ${dir} }\ntables:\n  prices: { timestamp: at }\n`,
  );
  const { code, stderr } = await tidemark(['run', 'archiver', '-c', file]);
  assert.equal(code, 2);
  assert.match(stderr, /stream\.url: not usable; not an address/);
});
