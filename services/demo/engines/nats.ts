/** A real nats-server with JetStream of one's own, in a temporary folder, on a free port. */
import type { ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { natsServer } from './install.js';
import { endProcess, freePort, spawnServer } from './process.js';

export type NatsServer = AsyncDisposable & {
  readonly url: string;
  readonly port: number;
  readonly storeDir: string;
  readonly version: string;
  readonly pid: number;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts again on the same port and store. */
  start(): Promise<void>;
};

/** `conf`: further lines of the server's configuration. Throws with one line when nats-server cannot be had or does not come up. */
export async function startNats(options: { dir?: string; conf?: string } = {}): Promise<NatsServer> {
  const { file, version } = await natsServer();
  const home = options.dir ?? (await mkdtemp(path.join(tmpdir(), 'tidemark-nats-')));
  await mkdir(home, { recursive: true });
  const server = new Server({ file, version, home, owned: options.dir === undefined, conf: options.conf ?? '' });
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

class Server implements NatsServer {
  readonly version: string;
  readonly storeDir: string;
  readonly #parts: { file: string; home: string; owned: boolean; conf: string };
  #port = 0;
  #process: ChildProcess | undefined;
  #words = '';

  constructor(parts: { file: string; version: string; home: string; owned: boolean; conf: string }) {
    this.version = parts.version;
    this.storeDir = path.join(parts.home, 'jetstream');
    this.#parts = parts;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  async start(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      if (this.#port === 0 || attempt > 0) this.#port = await freePort();
      if (await this.#tryStart()) return;
      if (!/address already in use/i.test(this.#words) || attempt === 5)
        throw new Error(`nats-server did not start: ${this.#words.trim().split('\n').slice(-3).join(' | ')}`);
    }
  }

  async #tryStart(): Promise<boolean> {
    const conf = path.join(this.#parts.home, 'nats.conf');
    await writeFile(conf, `listen: "127.0.0.1:${this.#port}"\njetstream { store_dir: "${this.storeDir}" }\n${this.#parts.conf}\n`);
    this.#words = '';
    const child = spawnServer(this.#parts.file, ['-c', conf], { deathSignal: 'KILL', cwd: this.#parts.home });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#words = (this.#words + bytes.toString()).slice(-20_000);
      });
    }
    this.#process = child;
    const deadline = Date.now() + 30_000;
    while (child.exitCode === null && child.signalCode === null && Date.now() < deadline) {
      if (/Server is ready/.test(this.#words) && (await answers(this.#port))) return true;
      await pause(20);
    }
    await endProcess(child, 'SIGKILL');
    return false;
  }

  async stop(): Promise<void> {
    if (this.#process) await endProcess(this.#process, 'SIGTERM');
  }

  async kill(): Promise<void> {
    if (this.#process) await endProcess(this.#process, 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.#parts.owned ? this.#parts.home : this.storeDir, { recursive: true, force: true });
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host: '127.0.0.1', port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
