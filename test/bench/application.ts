/** What an application feels of the pruner: pgbench at 30 % of what the machine gives, its p99 with and without a prune at the default settings beside it. */
import { execFile } from 'node:child_process';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { findClientTool } from '../pipeline/client-tools.js';
import { type Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, duration, type Measured, only, quantileOf } from './frame.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 1_000_000;
const SECONDS = 30;
const ROUNDS = 3;
const PART = 0.3;
const CLIENTS = 4;
const SCALE = 10;
const PATIENCE_MS = 600_000;
/** A pruner is there by then. */
const STARTS_IN_MS = 6000;
/** A run by schedule lasts most of an hour: it is looked at when it has deleted so many rows, and its code is compiled. */
const UNDER_WAY_ROWS = 15_000;

/** pgbench on the pipeline's database. */
class Application {
  readonly #tool: string;
  readonly #pipeline: Pipeline;
  readonly #logs: string;
  #rate = 0;

  constructor(tool: string, pipeline: Pipeline, logs: string) {
    this.#tool = tool;
    this.#pipeline = pipeline;
    this.#logs = logs;
  }

  async #run(...args: readonly string[]): Promise<string> {
    return (await promisify(execFile)(this.#tool, [...args, this.#pipeline.databaseUrl], { cwd: this.#logs })).stdout;
  }

  /** Makes its tables and measures what the machine gives. Transactions a second that `load` is going to run at. */
  async prepare(): Promise<number> {
    await this.#run('-i', '-q', '-s', `${SCALE}`);
    const said = await this.#run('-n', '-c', `${CLIENTS}`, '-T', '15');
    this.#rate = Number(/^tps = ([\d.]+)/m.exec(said)?.[1]) * PART;
    if (!(this.#rate > 0)) throw new Error(`pgbench says no rate: ${said}`);
    await this.#pipeline.query('CHECKPOINT'); // what was written so far is not the rounds', nor a checkpoint within one of them
    await this.load(); // nor the first writes of each page behind it
    return this.#rate;
  }

  /** Seconds that transactions took, each from the time when it was due. */
  async load(): Promise<number[]> {
    await this.#run('-n', '-c', `${CLIENTS}`, '-T', `${SECONDS}`, '-R', this.#rate.toFixed(1), '-l', '--log-prefix=taken');
    const taken: number[] = [];
    for (const name of await readdir(this.#logs)) {
      const file = path.join(this.#logs, name);
      for (const line of (await readFile(file, 'utf8')).split('\n')) if (line !== '') taken.push(Number(line.split(' ')[2]) / 1e6);
      await rm(file);
    }
    return taken;
  }
}

export const application: Benchmark = {
  name: 'application',
  about: `p99 of pgbench at ${PART * 100} % load, with a prune by schedule beside it, one on request, and without`,
  run: async (scratch, say) => {
    await using made = await MadeRows.start(
      { ...TRADES, rows: ROWS, age: '1 hour' },
      { postgres: { checkpoint_timeout: '1h', max_wal_size: '8GB', shared_buffers: '512MB' } },
    );
    const { pipeline } = made;
    const tool = await findClientTool('pgbench', pipeline);
    if (tool === undefined) return { skipped: 'there is no pgbench on this machine' };
    const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
    await pipeline.archived(PATIENCE_MS);
    await made.age();
    await pipeline.query(made.insert(1, ROWS));
    await pipeline.query(`VACUUM ANALYZE ${TRADES.table}`);
    await pipeline.archived(PATIENCE_MS);
    const pgbench = new Application(tool, pipeline, scratch);
    const rate = await pgbench.prepare();
    const notes = [`pgbench at ${rate.toFixed(0)} transactions a second, ${CLIENTS} clients, scale ${SCALE}`];
    say(`  ${notes[0]}`);
    const measure = async (side: string, ...more: readonly Service[]): Promise<Measured> => {
      const watched = [...services, ...more];
      const watch = new CpuWatch(async () => Object.fromEntries(watched.map(({ name, process: { pid } }) => [name, pid])));
      await watch.look();
      const deleted = await deletedRows(pipeline);
      const taken = await pgbench.load();
      const rate = ((await deletedRows(pipeline)) - deleted) / SECONDS;
      const { cpu, memory } = await watch.end();
      const cores = Object.entries(cpu).map(([name, used]) => `${name} ${(used / SECONDS).toFixed(2)}`);
      notes.push(
        `${side}: p50 ${duration(quantileOf(taken, 0.5))}, p99 ${duration(quantileOf(taken, 0.99))}, at most ${duration(Math.max(...taken))}; ${rate.toFixed(0)} rows a second deleted; of a core: ${cores.join(', ')}`,
      );
      say(`  ${notes.at(-1)}`);
      return only({ seconds: quantileOf(taken, 0.99), rows: taken.length, peakMemory: Math.max(...Object.values(memory)), cpu });
    };
    const baseline = (): Promise<Measured> => measure('alone');
    /** A pruner whose hour begins in a moment. */
    const bySchedule = async (): Promise<Measured> => {
      const pruner = await startPruner(pipeline, new Date(Date.now() + STARTS_IN_MS));
      const before = await deletedRows(pipeline);
      await until('the run is under way', async () => (await deletedRows(pipeline)) > before + UNDER_WAY_ROWS, PATIENCE_MS);
      const measured = await measure('beside a run by schedule', pruner);
      await pruner.stop();
      return measured;
    };
    const onRequest = async (): Promise<Measured> => {
      const pruner = await startPruner(pipeline, new Date(Date.now() - STARTS_IN_MS));
      const before = await deletedRows(pipeline);
      const pruned = pipeline.cli(['prune', TRADES.table, '-c', pipeline.configFile]);
      await until('the pruner deletes', async () => (await deletedRows(pipeline)) > before);
      const measured = await measure('beside a run on request', pruner);
      const { code, stdout, stderr } = await pruned;
      if (code !== 0) throw new Error(`prune ended with ${code}\n${stdout}${stderr}`);
      return measured;
    };
    const sides = [
      { name: 'pgbench', run: baseline },
      { name: 'beside a prune', run: bySchedule },
    ] as const;
    const runs = await alternate(ROUNDS, ...sides, () => undefined);
    const request = { baseline: (runs.at(-1) as (typeof runs)[number]).baseline, tidemark: await onRequest() };
    const shared = { of: 'seconds', baseline: 'the same without' } as const;
    return [
      { ...shared, what: 'p99 of pgbench while the pruner prunes by schedule', target: 'at most 1.5', runs, notes },
      { ...shared, what: 'p99 of pgbench while the pruner prunes on request', target: 'none: a person waits', runs: [request], notes: [] },
    ];
  },
};

/** A pruner at the default settings, whose run of each hour begins at the second of `at`. */
async function startPruner(pipeline: Pipeline, at: Date): Promise<Service> {
  const text = await readFile(pipeline.configFile, 'utf8');
  await writeFile(pipeline.configFile, text.replace(/schedule: "[^"]*"/, `schedule: "${at.getUTCSeconds()} ${at.getUTCMinutes()} * * * *"`));
  const pruner = pipeline.service('pruner');
  await until('the pruner waits for its hour', async () => pruner.log.includes('"event":"pruner-started"'));
  return pruner;
}

/** Rows of the table that were deleted ever. */
async function deletedRows(pipeline: Pipeline): Promise<number> {
  const [found] = await pipeline.query<{ n: string }>(`SELECT n_tup_del AS n FROM pg_stat_user_tables WHERE relname = '${TRADES.table}'`);
  return Number(found?.n);
}
