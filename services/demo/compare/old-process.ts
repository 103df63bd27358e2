/** The old script as the demo runs it: a process that is started again when it was killed, as the services are. Keeps what it says. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { endProcess, spawnServer } from '../engines/process.js';
import type { OldRun } from './old-script.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const STOP_MS = 60_000;

export class OldProcess {
  readonly #config: string;
  #child: ChildProcess;
  #stopping = false;
  readonly runs: OldRun[] = [];
  /** What it said beside its runs. */
  readonly troubles: string[] = [];
  kills = 0;

  constructor(config: string) {
    this.#config = config;
    this.#child = this.#start();
  }

  #start(...more: string[]): ChildProcess {
    const child = spawnServer(process.execPath, [MAIN, this.#config, ...more], { deathSignal: 'KILL', cwd: process.cwd() });
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.runs.push(JSON.parse(line) as OldRun));
    if (child.stderr) createInterface({ input: child.stderr }).on('line', (line) => this.troubles.push(line));
    return child;
  }

  /** kill -9; starts it again. */
  kill(): void {
    if (this.#stopping) return;
    this.#child.kill('SIGKILL');
    this.kills += 1;
    this.#child = this.#start();
  }

  /** Lets the run at hand end, then runs once more: what is old is archived at the end, as ours is. */
  async finish(): Promise<void> {
    await this.stop();
    const [code] = (await once(this.#start('once'), 'close')) as [number | null];
    if (code !== 0) this.troubles.push(`the last run of the old script ended with ${code ?? 'a signal'}`);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await endProcess(this.#child, 'SIGTERM', STOP_MS);
  }
}
