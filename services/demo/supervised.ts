/** The services under test: `tidemark run` as a process of its own, as a user runs it. Knows which process is which, can kill one, and keeps their log. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { spawnServer } from './engines/process.js';

const MAIN = fileURLToPath(new URL('../cli/main.js', import.meta.url));
const STOP_MS = 60_000;

export class Supervised {
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #pids = new Map<string, number>();
  readonly #ended: Promise<number | null>;
  /** Said when a service halts or ends for good. */
  readonly troubles: string[] = [];
  kills = 0;

  constructor(configFile: string, logFile: string) {
    this.#log = createWriteStream(logFile);
    this.#child = spawnServer(process.execPath, [MAIN, 'run', '-c', configFile], { deathSignal: 'TERM', cwd: process.cwd() });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.#take(line));
    }
    this.#ended = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  #take(line: string): void {
    this.#log.write(`${line}\n`);
    let event: { event?: string; service?: string; child?: string; childPid?: number; reason?: string; level?: number; msg?: string };
    try {
      event = JSON.parse(line) as typeof event;
    } catch {
      this.troubles.push(line);
      return;
    }
    if (event.event === 'service-started' && event.child && event.childPid) this.#pids.set(event.child, event.childPid);
    if (event.level !== undefined && event.level >= 50) this.troubles.push(`${event.service}: ${event.reason ?? event.msg ?? event.event}`);
  }

  /** kill -9 of one service. The supervisor starts it again. */
  kill(random: () => number): string | undefined {
    const names = [...this.#pids.keys()];
    const name = names[Math.floor(random() * names.length)];
    if (name === undefined) return undefined;
    try {
      process.kill(this.#pids.get(name) as number, 'SIGKILL');
    } catch {
      return undefined; // between two lives
    }
    this.#pids.delete(name);
    this.kills += 1;
    return name;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGTERM, then waits. */
  async stop(): Promise<number | null> {
    if (this.running) this.#child.kill('SIGTERM');
    const hard = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    const code = await this.#ended;
    clearTimeout(hard);
    this.#log.end();
    return code;
  }
}

/** Runs a command of the CLI to its end. */
export async function runCli(args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawnServer(process.execPath, [MAIN, ...args], { deathSignal: 'KILL', cwd: process.cwd() });
  const parts = { stdout: '', stderr: '' };
  child.stdout?.on('data', (bytes: Buffer) => {
    parts.stdout += bytes.toString();
  });
  child.stderr?.on('data', (bytes: Buffer) => {
    parts.stderr += bytes.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...parts };
}
