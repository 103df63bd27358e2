/** Clocks that jump: F44, F46. Postgres and the services read a clock that libfaketime takes from a file. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { CannotInject } from './volume.js';
import { NAMES, World } from './world.js';

const execute = promisify(execFile);

async function faketimeLibrary(): Promise<string> {
  const find = async (): Promise<string | undefined> => {
    for (const root of ['/usr/lib/x86_64-linux-gnu/faketime', '/usr/lib/aarch64-linux-gnu/faketime', '/usr/lib64/faketime', '/usr/lib/faketime']) {
      const name = (await readdir(root).catch(() => [])).find((entry) => entry === 'libfaketimeMT.so.1');
      if (name) return path.join(root, name);
    }
    return undefined;
  };
  const there = await find();
  if (there) return there;
  if (process.getuid?.() === 0) await execute('apt-get', ['install', '-y', 'libfaketime']).catch(() => undefined);
  const installed = await find();
  if (!installed) throw new CannotInject('libfaketime is not on this machine');
  return installed;
}

/** A clock that processes read from a file: `set` moves it for all of them. */
class Clock implements AsyncDisposable {
  readonly env: Record<string, string>;
  readonly #dir: string;
  private constructor(dir: string, library: string) {
    this.#dir = dir;
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DISABLE_SHM: '1',
    };
  }

  get #file(): string {
    return path.join(this.#dir, 'clock');
  }

  static async start(): Promise<Clock> {
    const library = await faketimeLibrary();
    const made = new Clock(await mkdtemp(path.join(tmpdir(), 'tidemark-clock-')), library);
    await chmod(made.#dir, 0o755); // the database server runs as somebody else
    await made.set(0);
    return made;
  }

  async set(hours: number): Promise<void> {
    await writeFile(this.#file, `${hours < 0 ? '-' : '+'}${Math.abs(hours)}h\n`, { mode: 0o644 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** Ids of the young rows: they were made less than a day ago by the clock of this process. */
const young = (world: World): string[] =>
  [...world.ticks.live].filter(([, text]) => Date.now() - Date.parse(JSON.parse(text)[1] as string) < 23 * 3_600_000).map(([id]) => id);

/** F44: the clock of the database, of the services, or of both, jumps by two days, forward and back, also while a prune runs. */
export async function jumped(whose: 'database' | 'services' | 'both', hours: number, major?: number): Promise<string> {
  await using database = await Clock.start();
  await using services = await Clock.start();
  const env = { env: services.env };
  await using world = await World.start({
    ...(major === undefined ? {} : { major }),
    postgresEnv: database.env,
    services: () => ({ archiver: env, capture: env, pruner: env }),
  });
  await world.work();
  await world.archived();
  await world.pruneAndSeal();
  await world.ticks.insert(50, 48);
  await world.archived();
  const before = young(world);
  assert.ok(before.length > 10, 'there are young rows');
  const set = async (by: number): Promise<void> => {
    if (whose !== 'services') await database.set(by);
    if (whose !== 'database') await services.set(by);
  };
  const pruning = world.pipeline.cli(['prune', '-c', world.pipeline.configFile]);
  await set(hours);
  await pruning;
  const jumped = await world.pipeline.cli(['prune', '-c', world.pipeline.configFile]);
  const left = new Set((await world.pipeline.query<{ id: string }>('SELECT id FROM ticks')).map(({ id }) => id));
  const gone = before.filter((id) => !left.has(id));
  assert.deepEqual(gone, [], `young rows went (prune ended with ${jumped.code}: ${jumped.stdout}${jumped.stderr})`);
  await set(0);
  return `prune meanwhile ended with ${jumped.code}; ${await world.settle()}`;
}

/** F46: the machine sleeps for 30 hours: all clocks go on, all processes stand still. */
export async function suspended(major?: number): Promise<string> {
  await using both = await Clock.start();
  const env = { env: both.env, node: ['--import', new URL('sleep-counted.js', import.meta.url).href] };
  await using world = await World.start({
    ...(major === undefined ? {} : { major }),
    postgresEnv: both.env,
    services: () => ({ archiver: env, capture: env, pruner: env }),
  });
  await world.work();
  await world.archived();
  await world.work();
  for (const name of NAMES) world.services[name].signal('SIGSTOP');
  await both.set(30);
  for (const name of NAMES) world.services[name].signal('SIGCONT');
  await world.work();
  await world.archived(120_000);
  return await world.settle();
}
