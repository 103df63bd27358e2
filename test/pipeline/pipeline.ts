/**
 * The whole way on real engines, for tests: a database, a stream, an archive folder and the three services as processes that can be started with a
 * fault armed, killed and started again. Owns all of them and leaves nothing behind.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { type NatsServer, startNats } from '../../services/demo/engines/nats.js';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { mortal } from '../../services/demo/engines/process.js';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';

export type ServiceName = 'capture' | 'archiver' | 'pruner';
export type AnyService = ServiceName | 'console';

/** How a service process ended. */
export type Ending = { code: number | null; signal: NodeJS.Signals | null; log: string };

export type PipelineOptions = {
  major?: number;
  /** Tables to make before anything else runs. */
  schema: string;
  /** Lines below `tables:`, indented by two spaces. */
  tables: string;
  /** Further top-level lines of tidemark.yaml. */
  yaml?: string;
  flushEvery?: string;
  retention?: string;
  /** Further lines of nats-server's configuration. */
  natsConf?: string;
  /** Archive folder; default: inside the temporary folder. */
  archiveDir?: string;
  /** Folder in which both servers keep their data; default: temporary ones. */
  serversDir?: string;
  /** Lines added to postgresql.conf, variables to the server's environment. */
  postgres?: Record<string, string>;
  postgresEnv?: Record<string, string>;
  /** When the pruner runs by itself; default: hardly ever. */
  schedule?: string;
  /** Compiled services; default: those beside this file. */
  servicesDir?: string;
  /** What stands between the services and the engines; default: nothing. */
  between?: (urls: { database: string; stream: string }) => { database: string; stream: string };
};

/** How a service is started otherwise than plainly. */
export type ServiceOptions = {
  env?: Record<string, string>;
  /** Arguments for Node. */
  node?: readonly string[];
  /** A program that gets Node and its arguments as its own; it must exec them. */
  wrapper?: string;
};

const SERVICES_DIR = fileURLToPath(new URL('../../services/', import.meta.url));

/** Polls `condition` every 25 ms until it gives something true. Throws with `what` and the last reason after `timeoutMs`. */
export async function until<T>(what: string, condition: () => Promise<T | undefined | false>, timeoutMs = 60_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let reason: unknown;
  while (Date.now() < deadline) {
    try {
      const result = await condition();
      if (result) return result;
    } catch (error) {
      reason = error;
    }
    await pause(25);
  }
  throw new Error(`waited ${timeoutMs} ms for: ${what}${reason ? ` (${String(reason)})` : ''}`);
}

export class Service {
  readonly name: AnyService;
  readonly process: ChildProcess;
  readonly ended: Promise<Ending>;
  #log = '';

  constructor(name: AnyService, services: string, configFile: string, { env = {}, node = [], wrapper }: ServiceOptions) {
    this.name = name;
    const args = [...node, path.join(services, name, 'main.js'), '-c', configFile];
    const [program, rest] = wrapper === undefined ? mortal(process.execPath, args) : [wrapper, [process.execPath, ...args]]; // also when a test is killed
    this.process = spawn(program, rest, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#log += bytes.toString();
      });
    }
    this.ended = once(this.process, 'exit').then(([code, signal]) => ({ code, signal, log: this.#log }) as Ending);
  }

  /** Everything it has printed. */
  get log(): string {
    return this.#log;
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  signal(name: NodeJS.Signals): void {
    this.process.kill(name);
  }

  /** SIGTERM, then waits; SIGKILL after 20 s. */
  async stop(): Promise<Ending> {
    if (this.running) this.process.kill('SIGTERM');
    const hard = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
    const ending = await this.ended;
    clearTimeout(hard);
    return ending;
  }
}

async function superuser(connectionString: string): Promise<pg.Client> {
  const sql = new pg.Client({ connectionString, types: { getTypeParser: () => (text: string) => text } as never });
  sql.on('error', () => undefined); // servers are stopped under us on purpose
  await sql.connect();
  return sql;
}

export class Pipeline implements AsyncDisposable {
  static readonly #open = new Set<Pipeline>();
  static #over = false;

  readonly postgres: PostgresServer;
  readonly nats: NatsServer;
  readonly dir: string;
  readonly archiveDir: string;
  readonly configFile: string;
  readonly databaseUrl: string;
  /** Superuser connection to the test's database; results as text. */
  sql: pg.Client;
  readonly #services: Service[] = [];
  readonly #servicesDir: string;
  readonly #commands = new Set<ChildProcess>();

  private constructor(parts: {
    postgres: PostgresServer;
    nats: NatsServer;
    dir: string;
    archiveDir: string;
    databaseUrl: string;
    sql: pg.Client;
    services: string;
  }) {
    this.postgres = parts.postgres;
    this.nats = parts.nats;
    this.dir = parts.dir;
    this.archiveDir = parts.archiveDir;
    this.configFile = path.join(parts.dir, 'tidemark.yaml');
    this.databaseUrl = parts.databaseUrl;
    this.sql = parts.sql;
    this.#servicesDir = parts.services;
  }

  /** Somebody stops the whole run: every pipeline is ended, and none begins a service again. */
  static async endAll(): Promise<void> {
    Pipeline.#over = true;
    for (const pipeline of Pipeline.#open) await pipeline[Symbol.asyncDispose]();
  }

  static async start(options: PipelineOptions): Promise<Pipeline> {
    const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-test-'));
    const within = (name: string): { dir?: string } => (options.serversDir === undefined ? {} : { dir: path.join(options.serversDir, name) });
    const major = options.major === undefined ? {} : { major: options.major };
    const [postgres, nats] = await Promise.all([
      startPostgres({ ...within('postgres'), ...major, settings: options.postgres ?? {}, env: options.postgresEnv ?? {} }),
      startNats({ ...within('nats'), ...(options.natsConf === undefined ? {} : { conf: options.natsConf }) }),
    ]);
    const databaseUrl = await postgres.createDatabase();
    const sql = await superuser(databaseUrl);
    await sql.query(`CREATE TABLE beat (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); ${options.schema}`);
    const archiveDir = options.archiveDir ?? path.join(dir, 'archived_data');
    await mkdir(archiveDir, { recursive: true });
    // initdb left its files unsynced, which a server of some age has not; and the folder of the archive is not of this moment either.
    if (options.serversDir !== undefined) await promisify(execFile)('sync', ['-f', options.serversDir]);
    const pipeline = new Pipeline({ postgres, nats, dir, archiveDir, databaseUrl, sql, services: options.servicesDir ?? SERVICES_DIR });
    Pipeline.#open.add(pipeline);
    const urls = options.between?.({ database: databaseUrl, stream: nats.url }) ?? { database: databaseUrl, stream: nats.url };
    await writeFile(
      pipeline.configFile,
      [
        `source: { url: "${urls.database}", name: test }`,
        `stream: { url: "${urls.stream}"${options.serversDir === undefined ? '' : ', replay: { bytes: 100MB }'} }`,
        `archive: { dir: "${archiveDir}", flush: { every: ${options.flushEvery ?? '500ms'} } }`,
        `prune: { retention: ${options.retention ?? '24h'}, schedule: "${options.schedule ?? '0 0 1 1 *'}" }`,
        'tables:',
        '  beat: { timestamp: at, prune: false }',
        options.tables,
        options.yaml ?? '',
      ].join('\n'),
    );
    return pipeline;
  }

  /** Connects again after a restart of the server. */
  async reconnect(): Promise<void> {
    await this.sql.end().catch(() => undefined);
    this.sql = await superuser(this.databaseUrl);
  }

  /** Starts a service process; `fault` arms TIDEMARK_FAULT. */
  service(name: AnyService, fault?: string, options: ServiceOptions = {}): Service {
    if (Pipeline.#over) throw new Error('the run is over');
    const service = new Service(
      name,
      this.#servicesDir,
      this.configFile,
      fault === undefined ? options : { ...options, env: { ...options.env, TIDEMARK_FAULT: fault } },
    );
    this.#services.push(service);
    return service;
  }

  /** Runs the CLI to its end. */
  async cli(args: readonly string[], env: Record<string, string> = {}): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [path.join(this.#servicesDir, 'cli', 'main.js'), ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (bytes: Buffer) => {
      stdout += bytes.toString();
    });
    child.stderr.on('data', (bytes: Buffer) => {
      stderr += bytes.toString();
    });
    this.#commands.add(child);
    const [code] = (await once(child, 'close')) as [number | null];
    this.#commands.delete(child);
    return { code, stdout, stderr };
  }

  async doctorFix(): Promise<void> {
    const { code, stdout, stderr } = await this.cli(['doctor', '--fix', '-c', this.configFile]);
    if (code !== 0) throw new Error(`doctor --fix ended with ${code}\n${stdout}${stderr}`);
  }

  /** The archive as its newest manifest says, undefined before the first. */
  async state(): Promise<ArchiveState | undefined> {
    return new ArchiveFollower(this.archiveDir).refresh();
  }

  /** Waits until everything committed so far is archived and covered by a fence: a row of `beat` written now is. Throws at once what `hopeless` gives. */
  async archived(timeoutMs = 60_000, hopeless: () => Error | undefined = () => undefined): Promise<ArchiveState> {
    const { xid } = (await this.query<{ xid: string }>('INSERT INTO beat DEFAULT VALUES RETURNING xmin::text AS xid'))[0] as { xid: string };
    const covered = async (): Promise<ArchiveState | Error | undefined> => {
      const state = await this.state();
      const fence = state?.fences.at(-1);
      return hopeless() ?? (state?.position && fence && BigInt(fence.horizon) > BigInt(xid) ? state : undefined);
    };
    const end = await until('everything committed is archived and covered', covered, timeoutMs).catch(async (error: unknown) => {
      throw new Error(`${(error as Error).message}\ntransaction ${xid}; ${await this.scene()}`);
    });
    if (end instanceof Error) throw end;
    return end;
  }

  /** Where everything stands, for the message of a wait that was in vain. */
  async scene(): Promise<string> {
    const state = await this.state().catch(() => undefined);
    const database = await this.query<{ line: string }>(
      `SELECT to_jsonb(a)::text AS line FROM (SELECT pid, application_name, state, wait_event, backend_xid, backend_xmin, now() - state_change AS since, left(query, 100) AS query
         FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender')) a
       UNION ALL SELECT to_jsonb(s)::text FROM (SELECT slot_name, active_pid, restart_lsn, confirmed_flush_lsn, pg_current_wal_insert_lsn() AS insert FROM pg_replication_slots) s`,
    ).catch((error: unknown) => [{ line: String(error) }]);
    return [
      `archived ${state?.position ?? 'nothing'}, last fence ${JSON.stringify(state?.fences.at(-1))}`,
      ...database.map(({ line }) => line),
      ...this.#services.slice(-6).map(({ name, process: { pid, exitCode }, log }) => `${name} ${pid}, ended with ${exitCode}: ${log.slice(-1500)}`),
    ].join('\n');
  }

  async query<T extends Record<string, string | null>>(text: string): Promise<T[]> {
    return (await this.sql.query(text)).rows as T[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const service of this.#services) if (service.running) service.signal('SIGKILL');
    for (const command of this.#commands) command.kill('SIGKILL');
    await Promise.all(this.#services.map((service) => service.ended));
    await this.sql.end().catch(() => undefined);
    await Promise.all([this.postgres[Symbol.asyncDispose](), this.nats[Symbol.asyncDispose]()]);
    await rm(this.dir, { recursive: true, force: true });
    Pipeline.#open.delete(this);
  }
}
