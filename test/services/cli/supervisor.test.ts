/** The supervisor on real engines: what dies starts again, what halts is left alone, a mistake in the configuration stops all, and nothing outlives it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import { cleanEnvironment, MAIN } from './command.js';

type Event = { event?: string; child?: string; childPid?: number; code?: number | null; signal?: string | null; restartInMs?: number; halt?: string };

const SCHEMA = 'CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); CREATE INDEX ON prices (at);';
const TABLES = '  prices: { timestamp: at }';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

class Supervised implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly ended: Promise<number | null>;
  #text = '';

  constructor(configFile: string) {
    this.process = spawn(process.execPath, [MAIN, 'run', '-c', configFile], { env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#text += bytes.toString();
      });
    }
    this.ended = once(this.process, 'exit').then(([code]) => code as number | null);
  }

  get text(): string {
    return this.#text;
  }

  /** Log lines of the supervisor and its services. */
  events(name: string, service?: string): Event[] {
    const lines = this.#text.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}'));
    return lines.map((line) => JSON.parse(line) as Event).filter((line) => line.event === name && (service === undefined || line.child === service));
  }

  async pids(): Promise<number[]> {
    return await until('three services', async () => {
      const pids = ['capture', 'archiver', 'pruner'].map((service) => this.events('service-started', service).at(-1)?.childPid);
      return pids.every((pid) => pid !== undefined) ? (pids as number[]) : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pids = this.events('service-started').flatMap(({ childPid }) => childPid ?? []);
    if (this.process.exitCode === null) this.process.kill('SIGKILL');
    await this.ended;
    for (const pid of pids) if (alive(pid)) process.kill(pid, 'SIGKILL');
  }
}

async function gone(pids: readonly number[]): Promise<void> {
  await until('every service is gone', async () => pids.every((pid) => !alive(pid)), 30_000);
}

test('a killed service starts again and goes on; SIGTERM stops all, exit 0', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  await using supervised = new Supervised(pipeline.configFile);
  await supervised.pids();
  await pipeline.archived();
  for (const service of ['capture', 'archiver', 'pruner']) {
    const before = supervised.events('service-started', service).at(-1)?.childPid as number;
    process.kill(before, 'SIGKILL');
    const exited = await until('its end is told', async () => supervised.events('service-exited', service)[0]);
    assert.equal(exited.signal, 'SIGKILL');
    assert.ok((exited.restartInMs ?? -1) >= 0);
    await until('it runs again', async () => supervised.events('service-started', service).length === 2);
  }
  await pipeline.query('INSERT INTO prices DEFAULT VALUES');
  await pipeline.archived();
  const pids = await supervised.pids();
  supervised.process.kill('SIGTERM');
  assert.equal(await supervised.ended, 0, supervised.text);
  await gone(pids);
  await using loading = new Supervised(pipeline.configFile);
  const young = await loading.pids();
  loading.process.kill('SIGTERM');
  assert.equal(await loading.ended, 0, `asked while its services were loading\n${loading.text}`);
  await gone(young);
});

test('services die with their supervisor, also when it is killed', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  await using supervised = new Supervised(pipeline.configFile);
  const pids = await supervised.pids();
  await pipeline.archived();
  supervised.process.kill('SIGKILL');
  await gone(pids);
});

test('Ctrl-C, which the terminal sends to the whole process group, is a graceful stop: no service is asked twice', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  // A group of its own stands for the terminal's foreground group.
  const child = spawn(process.execPath, [MAIN, 'run', '-c', pipeline.configFile], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let text = '';
  child.stderr.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  const ended = once(child, 'exit');
  await pipeline.archived();
  process.kill(-(child.pid as number), 'SIGINT');
  const [code] = (await ended) as [number | null];
  assert.equal(code, 0, text);
  assert.equal(text.match(/"event":"stopped"/g)?.length, 3, text);
});

test('a halted service is left alone, named, and the others go on; the exit code tells of it', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  const yaml = await readFile(pipeline.configFile, 'utf8');
  await writeFile(pipeline.configFile, yaml.replace('prune: {', 'prune: { enabled: false,')); // it does not look at the archive then
  const own = path.join(pipeline.archiveDir, '_tidemark');
  await mkdir(own, { recursive: true });
  await writeFile(path.join(own, 'archive.json'), JSON.stringify({ formatVersion: 99, archive: 'x', source: 'test', createdAt: '' }));
  await using supervised = new Supervised(pipeline.configFile);
  const pids = await supervised.pids();
  for (const service of ['capture', 'archiver']) {
    const exited = await until(`${service} halted`, async () => supervised.events('service-exited', service)[0]);
    assert.equal(exited.code, 3);
    assert.equal(exited.restartInMs, undefined);
  }
  assert.match(supervised.text, /MANIFEST/);
  assert.ok(alive(pids[2] as number), 'the pruner goes on');
  assert.equal(supervised.events('service-started').length, 3, 'nothing was started again');
  supervised.process.kill('SIGTERM');
  assert.equal(await supervised.ended, 3);
  await gone(pids);
});

test('a precondition that fails stops everything with 2', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await using supervised = new Supervised(pipeline.configFile); // without the publication
  const pids = await supervised.pids();
  assert.equal(await supervised.ended, 2, supervised.text);
  assert.match(supervised.text, /CREATE PUBLICATION/);
  await gone(pids);
});

test('a console that cannot listen says so in one line and takes nobody with it', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES, yaml: `console: { port: ${port} }` });
  await pipeline.doctorFix();
  await using supervised = new Supervised(pipeline.configFile);
  const exited = await until('its end is told', async () => supervised.events('service-exited', 'console')[0]);
  assert.deepEqual([exited.code, exited.restartInMs], [2, undefined]);
  assert.match(supervised.text, /console\.port: port \d+ of 127\.0\.0\.1 is taken by another process/);
  await pipeline.archived();
  const pids = await supervised.pids();
  supervised.process.kill('SIGTERM');
  other.close(); // before what may fail: it would keep this process
  assert.equal(await supervised.ended, 2, 'the exit code tells of it');
  await gone(pids);
});
