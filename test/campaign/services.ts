/** The three services as processes that are started again whenever they end, unless they halt: what a supervisor does, and what the faults are done to. */
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { Pipeline, Service, ServiceName } from '../pipeline/pipeline.js';

export const SERVICES: readonly ServiceName[] = ['archiver', 'capture', 'pruner'];
const HALTED = 3;
const REFUSED = 2;

export class Services {
  readonly #pipeline: Pipeline;
  readonly #running = new Map<ServiceName, Service>();
  readonly #armed = new Map<ServiceName, string>();
  /** Not started again: their ends are wanted. */
  readonly #held = new Set<ServiceName>();
  readonly #waiting = new Set<Promise<void>>();
  #over = false;
  /** What stops at a fault point is left there. */
  #usurping = false;
  /** Halts and refusals, each with its last words: none is expected. */
  readonly halts: string[] = [];
  /** How often they ended otherwise than by a signal. */
  ends = 0;
  /** Last lines of all logs, for a failure's report. */
  readonly logs: string[] = [];

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
  }

  startAll(): void {
    for (const name of SERVICES) this.#start(name);
  }

  /** Tables whose pruning stopped by a halt, which does not end the pruner. */
  lookForHalts(): void {
    const pruner = this.#running.get('pruner');
    if (pruner !== undefined) this.#tableHalts(pruner.log);
  }

  #tableHalts(log: string): void {
    const line = /^.*"event":"halt","table":.*$/m.exec(log)?.[0];
    if (line !== undefined && this.halts.length === 0) this.halts.push(`pruner: ${line.slice(0, 700)}`);
  }

  get(name: ServiceName): Service {
    return this.#running.get(name) as Service;
  }

  #start(name: ServiceName): void {
    const fault = this.#armed.get(name);
    this.#armed.delete(name);
    const service = this.#pipeline.service(name, fault);
    this.#running.set(name, service);
    if (fault?.includes(':stop:') === true && !this.#usurping) void this.#wake(service);
    void service.ended.then((ending) => {
      this.#keep(name, ending.log);
      if (name === 'pruner') this.#tableHalts(ending.log);
      if (ending.signal === null) this.ends += 1;
      if (this.#over || this.#running.get(name) !== service) return;
      if (ending.code === HALTED || ending.code === REFUSED) this.halts.push(`${name}: ${lastWords(ending.log)}`);
      else if (!this.#held.has(name)) this.#later(name, ending.signal === null ? 500 : 100);
    });
  }

  #keep(name: ServiceName, log: string): void {
    this.logs.push(`--- ${name}`, ...log.trim().split('\n').slice(-400));
    if (this.logs.length > 6000) this.logs.splice(0, this.logs.length - 6000);
  }

  #later(name: ServiceName, ms: number): void {
    const wait = pause(ms).then(() => {
      this.#waiting.delete(wait);
      if (!this.#over && !this.#held.has(name) && !this.get(name).running) this.#start(name);
    });
    this.#waiting.add(wait);
  }

  /** Goes on after 2 to 5 seconds in a stop that a fault point made. */
  async #wake(service: Service): Promise<void> {
    while (service.running && !this.#over) {
      if (await isStopped(service)) {
        await pause(2000 + Math.random() * 3000);
        service.signal('SIGCONT');
        return;
      }
      await pause(300);
    }
  }

  /** Its next process has the fault armed, which begins at once. */
  async arm(name: ServiceName, fault: string): Promise<void> {
    this.#armed.set(name, fault);
    await this.kill(name);
  }

  async kill(name: ServiceName): Promise<void> {
    const service = this.get(name);
    if (service.running) service.signal('SIGKILL');
    await service.ended;
  }

  async freeze(name: ServiceName, ms: number): Promise<void> {
    const service = this.get(name);
    service.signal('SIGSTOP');
    await pause(ms);
    service.signal('SIGCONT');
  }

  /** A second one is started while the first is stopped (`at` this fault point, or anywhere), which then goes on and must give way. Says what it did instead. */
  async usurp(name: ServiceName, ms: number, at: string | undefined): Promise<string | undefined> {
    if (at !== undefined) {
      this.#usurping = true;
      await this.arm(name, `${at}:stop:1`);
      for (let waited = 0; waited < 15_000; waited += 100) {
        const service = this.get(name);
        if (service.running && (await isStopped(service))) break;
        await pause(100);
      }
      this.#usurping = false;
    }
    const old = this.get(name);
    // One that has not claimed the archive yet is not replaced by another: it takes over when it goes on.
    for (let waited = 0; waited < 15_000 && old.running && !old.log.includes('"event":"archiving"'); waited += 100) await pause(100);
    if (!old.running || !old.log.includes('"event":"archiving"')) return undefined;
    old.signal('SIGSTOP');
    this.#start(name);
    await pause(ms);
    old.signal('SIGCONT');
    const ending = await Promise.race([old.ended, pause(20_000)]);
    if (ending !== undefined && (ending.code !== 0 || ending.signal !== null)) return undefined;
    old.signal('SIGKILL');
    return `the ${name} that another one had replaced ${ending === undefined ? 'went on' : 'ended with 0'}`;
  }

  /** All three are down while `body` runs, then start again, unarmed. */
  async down(body: () => Promise<void>, names: readonly ServiceName[] = SERVICES): Promise<void> {
    for (const name of names) this.#held.add(name);
    await Promise.all([...this.#waiting]);
    for (const name of names) await this.kill(name);
    await body();
    for (const name of names) {
      this.#held.delete(name);
      this.#armed.delete(name);
      if (!this.halts.some((halt) => halt.startsWith(`${name}:`))) this.#start(name);
    }
  }

  /** SIGTERM to all; how they ended when it was not well. */
  async stop(): Promise<string[]> {
    this.#over = true;
    await Promise.all([...this.#waiting]);
    const endings = await Promise.all(['pruner', 'capture', 'archiver'].map(async (name) => [name, await this.get(name as ServiceName).stop()] as const));
    // A signal that comes before a process listens ends it too.
    return endings
      .filter(([, { code, signal }]) => code !== 0 && signal !== 'SIGTERM')
      .map(([name, { code, signal, log }]) => `${name} stopped with ${code ?? signal}: ${lastWords(log)}`);
  }
}

async function isStopped(service: Service): Promise<boolean> {
  const stat = await readFile(`/proc/${service.process.pid}/stat`, 'utf8').catch(() => '');
  return /\) T /.test(stat);
}

function lastWords(log: string): string {
  const lines = log.trim().split('\n');
  return (lines.findLast((line) => /"level":[56]0/.test(line)) ?? lines.at(-1) ?? '').slice(0, 700);
}
