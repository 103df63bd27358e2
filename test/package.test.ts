/** What `npm pack` makes installs into an empty folder and runs there; and what a clone runs without being installed. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../services/demo/engines/process.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };

const CONFIGURATION = `source: { url: 'postgresql://nobody@127.0.0.1:1/none', name: none, timezone: UTC }
stream: { url: 'nats://127.0.0.1:1' }
archive: { dir: ./archived_data }
tables: { prices: { timestamp: at } }
`;

let dir = '';
let clone = '';
let installed = '';

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${error ?? ''}${stdout}${stderr}`);
  return stdout;
}

/** From a copy of the sources, so that packing builds, and nothing in the clone changes under the tests that run in it. */
before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'tidemark-package-'));
  clone = path.join(dir, 'clone');
  mkdirSync(clone);
  const { files } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  const shipped = files.filter((name) => !name.startsWith('dist/'));
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'src', 'services', 'test', ...shipped])
    cpSync(path.join(ROOT, name), path.join(clone, name), { recursive: true });
  // As `npm ci` leaves it: without the stamp of our own set-up.
  mkdirSync(path.join(clone, 'node_modules'));
  for (const name of readdirSync(path.join(ROOT, 'node_modules')))
    if (name !== '.tidemark-lock') symlinkSync(path.join(ROOT, 'node_modules', name), path.join(clone, 'node_modules', name));
  const tarball = run('npm', ['pack', '--silent'], clone).trim().split('\n').at(-1) as string;
  installed = path.join(dir, 'empty');
  mkdirSync(installed);
  writeFileSync(path.join(installed, 'package.json'), '{ "private": true }\n');
  run('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', path.join(clone, tarball)], installed);
});
after(() => rmSync(dir, { recursive: true, force: true }));

test('the command runs from an empty folder', () => {
  const tidemark = (...args: string[]): string => run('npx', ['--no-install', 'tidemark', ...args], installed);
  assert.equal(tidemark('--version').trim(), version);
  assert.match(tidemark('--help'), /Commands:[\s\S]*\binit\b[\s\S]*\bteardown\b/);
  assert.match(tidemark('init', '--help'), /Example/);
});

test('in a clone that npm ci was run in, the command is built, nothing is installed again, and its output alone goes into a pipe', () => {
  rmSync(path.join(clone, 'dist'), { recursive: true });
  const { status, stdout, stderr } = spawnSync('npm', ['run', '-s', 'tidemark', '--', '--version'], { cwd: clone, encoding: 'utf8' });
  assert.deepEqual([status, stdout, stderr], [0, `${version}\n`, 'building (tsc) …\n']);
});

test('a SIGTERM to npm stops what it runs', async () => {
  writeFileSync(path.join(clone, 'tidemark.yaml'), CONFIGURATION);
  const npm = spawn('npm', ['run', '-s', 'tidemark', '--', 'console', '--port', String(await freePort())], { cwd: clone, stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = (await once(npm.stdout, 'data')) as [Buffer];
  const address = line.toString().trim();
  assert.equal((await fetch(address)).status, 200);
  npm.kill('SIGTERM');
  await once(npm, 'exit');
  await assert.rejects(fetch(address), TypeError);
});

test('what it depends on is pinned exactly, and nothing of it runs when it is installed', () => {
  const lists = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Record<string, Record<string, string> | undefined>;
  for (const list of ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'])
    for (const [name, wanted] of Object.entries(lists[list] ?? {})) assert.match(wanted, /^\d+\.\d+\.\d+(-[\w.]+)?$/, `${name} ${wanted}`);
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(lists['scripts']?.[script], undefined, script);
  type Locked = { version?: string; resolved?: string; integrity?: string; hasInstallScript?: boolean; dev?: boolean };
  const { packages } = JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> };
  const locked = Object.entries(packages).filter(([where]) => where !== '');
  for (const [where, { hasInstallScript, integrity, resolved }] of locked) {
    assert.ok(!hasInstallScript, `${where} has an install script`);
    assert.match(integrity ?? '', /^sha512-/, where);
    assert.match(resolved ?? 'https://registry.npmjs.org/', /^https:\/\/registry\.npmjs\.org\//, where);
  }
  assert.ok(locked.filter(([, { dev }]) => dev !== true).length < 140, 'few: look at what a new one brings along');
});

test('the package carries its licence and deployment files, and no test', () => {
  const root = path.join(installed, 'node_modules', 'tidemark');
  for (const name of [
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
    'docker-compose.yml',
    'services/console/page/index.html',
    'infra/Dockerfile',
    'infra/postgres/roles.sql',
    'infra/nats/nats.conf',
    'infra/examples/follow_the_goat.yaml',
  ]) {
    assert.ok(existsSync(path.join(root, name)), name);
  }
  assert.deepEqual(readdirSync(path.join(root, 'dist')).sort(), ['services', 'src']);
  assert.match(readFileSync(path.join(root, 'LICENSE'), 'utf8'), /Apache License\s+Version 2\.0/);
  assert.match(readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8'), new RegExp(`^## ${version.replaceAll('.', '\\.')}`, 'm'));
});
