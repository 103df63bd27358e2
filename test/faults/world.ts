/**
 * A pipeline at work, for faults: a journalled workload, three services that are started again when a fault ends them, and at the end the audit that every fault has in
 * common: everything archived, pruned, sealed where it can be, nothing lost, double or unexpected, law 3 sampled all the while, the archive verified.
 */
import assert from 'node:assert/strict';
import { sampleLaw3 } from '../pipeline/law3.js';
import { Pipeline, type PipelineOptions, type Service, type ServiceName, type ServiceOptions, until } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

const HALT = 3;
const PATIENCE_MS = 60_000;
export const NAMES = ['archiver', 'capture', 'pruner'] as const satisfies readonly ServiceName[];

export type WorldOptions = Partial<PipelineOptions> & {
  /** TIDEMARK_FAULT of the first process of each service. */
  faults?: Partial<Record<ServiceName, string>>;
  /** How each process of a service is started. */
  services?: (pipeline: Pipeline) => Partial<Record<ServiceName, ServiceOptions>>;
  /** Rows that are there before capture begins. */
  rows?: number;
};

export class World implements AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly ticks: Ticks;
  readonly services: Record<ServiceName, Service>;
  readonly #options: Partial<Record<ServiceName, ServiceOptions>>;
  readonly #law3: ReturnType<typeof sampleLaw3>;
  #round = 0;

  private constructor(pipeline: Pipeline, ticks: Ticks, options: WorldOptions) {
    this.pipeline = pipeline;
    this.ticks = ticks;
    this.#options = options.services?.(pipeline) ?? {};
    this.#law3 = sampleLaw3(pipeline);
    const start = (name: ServiceName): Service => pipeline.service(name, options.faults?.[name], this.#options[name]);
    this.services = { archiver: start('archiver'), capture: start('capture'), pruner: start('pruner') };
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, flushEvery: '200ms', ...options });
    try {
      const ticks = new Ticks(pipeline);
      await ticks.insert(options.rows ?? 500, 48);
      await pipeline.doctorFix();
      return new World(pipeline, ticks, options);
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** One round of the workload: rows of today, and old ones of a day of their own, updates, deletes, rollbacks. */
  async work(): Promise<void> {
    this.#round += 1;
    await this.ticks.insert(50, 1);
    await this.ticks.insert(50, 48 + 24 * (this.#round % 20));
    await this.ticks.update(11);
    if (this.#round % 3 === 0) await this.ticks.remove(97);
    await this.ticks.rollBack();
  }

  /** Starts `name` again, as `options` say or as at first, without a fault. */
  start(name: ServiceName, options = this.#options[name]): Service {
    this.services[name] = this.pipeline.service(name, undefined, options);
    return this.services[name];
  }

  /** What a supervisor does: starts again what ended, but not what halted. */
  revive(): void {
    for (const name of NAMES) {
      const service = this.services[name];
      if (!service.running && service.process.exitCode !== HALT) this.start(name);
    }
  }

  /** Waits until everything committed is archived, reviving meanwhile. Throws when archiver or capture halt, and starts nothing any more then. */
  async archived(timeoutMs = PATIENCE_MS): Promise<void> {
    const reviving = setInterval(() => this.revive(), 200);
    try {
      await this.pipeline.archived(timeoutMs, () => this.#halt());
    } finally {
      clearInterval(reviving);
    }
  }

  #halt(): Error | undefined {
    const halted = [this.services.archiver, this.services.capture].find((service) => service.process.exitCode === HALT);
    return halted === undefined ? undefined : new Error(`${halted.name} halted: ${halted.log.slice(-2000)}`);
  }

  /** Prunes what can be pruned and seals what can be sealed, by the commands. */
  async pruneAndSeal(patienceMs = PATIENCE_MS): Promise<void> {
    const pruned = await this.pipeline.cli(['prune', '--json', '-c', this.pipeline.configFile]);
    assert.equal(pruned.code, 0, pruned.stderr + pruned.stdout);
    await this.archived(patienceMs);
    await this.pipeline.cli(['seal', 'ticks', '-c', this.pipeline.configFile]);
  }

  /** Waits until a service has ended with a halt of this name. */
  async halted(name: ServiceName, halt: string, timeoutMs = 60_000): Promise<void> {
    const ending = await until(`${name} halts`, async () => (this.services[name].running ? undefined : await this.services[name].ended), timeoutMs);
    assert.equal(ending.code, HALT, ending.log.slice(-2000));
    assert.match(ending.log, new RegExp(`\\b${halt}\\b`));
  }

  /** After the fault: works on, comes to rest, and audits everything. `patienceMs`: for each step of it, with many rows. Throws when a law is broken. */
  async settle(patienceMs = PATIENCE_MS): Promise<string> {
    this.revive();
    await this.work();
    await this.archived(Math.max(patienceMs, 120_000));
    await this.pruneAndSeal(patienceMs);
    await this.archived(patienceMs);
    await until(
      'old rows are pruned',
      async () => {
        const [left] = await this.pipeline.query<{ n: string }>(`SELECT count(*) AS n FROM ticks WHERE at < now() - interval '25 hours'`);
        if (left?.n === '0') return true;
        await this.pruneAndSeal(patienceMs);
        throw new Error(`${left?.n} rows left`);
      },
      patienceMs,
    );
    await this.archived(patienceMs);
    const sampled = await this.#law3.stop();
    assert.deepEqual(sampled.violations, []);
    const counted = await this.ticks.audit();
    assert.ok(counted.pruned > 0, 'the pruner deleted something');
    for (const name of NAMES) await this.services[name].stop();
    const verified = await this.pipeline.cli(['verify', '-c', this.pipeline.configFile]);
    assert.equal(verified.code, 0, verified.stdout + verified.stderr);
    return `${counted.hot} hot, ${counted.pruned} pruned, law 3 sampled ${sampled.samples} times`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#law3.stop().catch(() => undefined);
    await this.pipeline[Symbol.asyncDispose]();
  }
}
