/**
 * What `npm run demo`, `npm test` and the others start with on a fresh clone: checks Node, installs the dependencies when they are not those of the lock file, builds when a source is newer, then runs.
 * Plain JavaScript without dependencies, because nothing is installed yet. Safe when several run in one clone at the same time.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const CACHE = path.join(ROOT, '.cache');
const DIST = path.join(ROOT, 'dist');
const LEAST_NODE = [20, 19];

const [task, ...args] = process.argv.slice(2);

const TASKS = {
  demo: () => ['dist/services/cli/main.js', 'demo', ...args],
  tidemark: () => ['dist/services/cli/main.js', ...args],
  test: () => ['--test', '--test-concurrency=3', ...testFiles()],
  'test:faults': () => ['dist/test/faults/main.js', ...args],
  'test:interop': () => ['dist/test/interop/main.js', ...args],
  bench: () => ['dist/test/bench/main.js', ...args],
  campaign: () => ['dist/test/campaign/main.js', ...args],
};

if (task !== 'check' && TASKS[task] === undefined) fail(`no task is named ${JSON.stringify(task)}; known: ${Object.keys(TASKS).join(', ')}, check`, 2);
requireNode();
await exclusively(async () => {
  install();
  if (task !== 'check') build();
});
process.exit(task === 'check' ? check() : await run(process.execPath, TASKS[task]()));

function fail(message, code = 1) {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < LEAST_NODE[0] || (major === LEAST_NODE[0] && minor < LEAST_NODE[1])) {
    fail(`Node ${process.versions.node} is too old; install Node ${LEAST_NODE.join('.')} or newer`, 2);
  }
}

/** One at a time in this clone. A lock whose holder is gone is taken over. */
async function exclusively(body) {
  mkdirSync(CACHE, { recursive: true });
  const lock = path.join(CACHE, 'setup.lock');
  for (let waited = 0; ; waited += 1) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      if (holderIsGone(lock)) rmSync(lock, { recursive: true, force: true });
      else {
        if (waited === 10) process.stderr.write(`waiting for another run that installs or builds in this clone (process ${holder(lock)}, ${lock})\n`);
        await pause(200);
      }
    }
  }
  const release = () => rmSync(lock, { recursive: true, force: true });
  process.once('exit', release); // fail() leaves at once
  try {
    writeFileSync(path.join(lock, 'pid'), String(process.pid));
    await body();
  } finally {
    process.off('exit', release);
    release();
  }
}

function holder(lock) {
  try {
    return readFileSync(path.join(lock, 'pid'), 'utf8');
  } catch {
    return 'unknown';
  }
}

function holderIsGone(lock) {
  try {
    const pid = Number(readFileSync(path.join(lock, 'pid'), 'utf8'));
    process.kill(pid, 0);
    return false;
  } catch (error) {
    if (error.code === 'EPERM') return false;
    // no pid yet: the holder has just made the folder, or died at once
    return error.code === 'ESRCH' || Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > 10_000;
  }
}

/** `npm ci` when node_modules is not what the lock file says: neither by our stamp nor by npm's own record, which is there after an `npm ci` by hand. */
function install() {
  const lock = readFileSync(path.join(ROOT, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).digest('hex');
  const stamp = path.join(ROOT, 'node_modules', '.tidemark-lock');
  if ((existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) || recordedByNpm(JSON.parse(lock).packages)) return;
  process.stderr.write('installing the dependencies (npm ci) …\n');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  });
  if (npm.error) fail(`npm could not be started (${npm.error.message}); install npm`);
  if (npm.status !== 0) fail('npm ci failed; its output is above');
  writeFileSync(stamp, wanted);
}

/** Whether npm has put these packages into node_modules, and no others; optional ones may be for other systems. */
function recordedByNpm(wanted) {
  try {
    const { packages: there } = JSON.parse(readFileSync(path.join(ROOT, 'node_modules', '.package-lock.json'), 'utf8'));
    const needed = Object.keys(wanted).filter((where) => where !== '' && !(wanted[where].optional && there[where] === undefined));
    return needed.length === Object.keys(there).length && needed.every((where) => there[where]?.integrity === wanted[where].integrity);
  } catch {
    return false; // npm writes it last
  }
}

/** tsc when a source is newer than the last build. Output of sources that are gone goes too. */
function build() {
  const stamp = path.join(DIST, '.built');
  const sources = ['src', 'services', 'test'].flatMap((top) => files(path.join(ROOT, top))).filter((file) => file.endsWith('.ts'));
  const newest = Math.max(...[...sources, path.join(ROOT, 'tsconfig.json'), path.join(ROOT, 'package-lock.json')].map((file) => statSync(file).mtimeMs));
  const list = sources
    .map((file) => path.relative(ROOT, file))
    .sort()
    .join('\n');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === list && statSync(stamp).mtimeMs >= newest) return;
  process.stderr.write('building (tsc) …\n');
  const kept = new Set(sources.map((file) => path.relative(ROOT, file).replace(/\.ts$/, '')));
  for (const top of ['src', 'services', 'test']) {
    for (const file of files(path.join(DIST, top))) if (!kept.has(path.relative(DIST, file).replace(/\.js(\.map)?$/, ''))) rmSync(file);
  }
  const tsc = spawnSync(process.execPath, [path.join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json'], { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (tsc.status !== 0) fail('the build failed; its output is above');
  writeFileSync(stamp, list);
  const built = new Date(Math.ceil(newest)); // a Date has whole milliseconds
  utimesSync(stamp, built, built); // a source that changes while tsc runs is newer than this
}

function files(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

/** All tests, or those whose path contains one of the arguments. */
function testFiles() {
  const found = files(path.join(DIST, 'test'))
    .map((file) => path.relative(ROOT, file))
    .filter((file) => file.endsWith('.test.js') && (args.length === 0 || args.some((part) => file.includes(part))))
    .sort();
  if (found.length === 0) fail(`no test file matches ${args.join(' ')}`, 2);
  return found;
}

function check() {
  const steps = [
    ['types', [path.join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json', '--noEmit', '--incremental', 'false']],
    ['lint and format', [path.join('node_modules', '@biomejs', 'biome', 'bin', 'biome'), 'ci', '--error-on-warnings', '.']],
  ];
  for (const [name, command] of steps) {
    const { status } = spawnSync(process.execPath, command, { cwd: ROOT, stdio: 'inherit' });
    if (status !== 0) {
      process.stderr.write(`check failed: ${name}\n`);
      return 1;
    }
  }
  process.stdout.write('check passed: types, lint, format\n');
  return 0;
}

/** Runs in the clone's folder for tests, in the caller's for commands; hands signals on; resolves with the exit code. */
function run(file, command) {
  const own = task === 'tidemark' || task === 'demo' ? (process.env.INIT_CWD ?? process.cwd()) : ROOT;
  const script = command[0].startsWith('dist/') ? [path.join(ROOT, command[0]), ...command.slice(1)] : command;
  return new Promise((resolve) => {
    const child = spawn(file, script, { cwd: own, stdio: 'inherit' });
    const last = new Map();
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.on(name, () => {
        // npm hands on what the terminal has sent to all of us already: one wish, one signal.
        const again = Date.now() - (last.get(name) ?? 0) < 1000;
        last.set(name, Date.now());
        if (!again && !(name === 'SIGINT' && onTerminal())) child.kill(name);
      });
    }
    child.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
  });
}

/** A Ctrl-C reaches the child from the terminal itself. */
function onTerminal() {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
