/** How long a committed row waits until it is durable and covered, under a steady load over all reference tables: from the commit, as its client sees it, to the manifest whose fence covers it. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { type DemoTable, insertSql, NOW_UTC, readDemoTables } from '../../services/demo/rows.js';
import { readManifest } from '../../src/archive/chain.js';
import { archivePaths } from '../../src/archive/layout.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { DurableFile, hashFile } from '../../src/segment/durable-file.js';
import { Pipeline, until } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { type Benchmark, medianOf, only, quantileOf } from './frame.js';
import { ARCHIVED, SCHEMA } from './reference.js';

const RATE = 5000;
const SECONDS = 30;
const WARM_SECONDS = 10;
const TICK_MS = 100;
const FLUSH_SECONDS = 1;
/** How often the archive is looked at: what is seen is late by so much at most. */
const LOOK_MS = 10;

/** Rows at a steady pace: of every table some in each tick, a transaction a table. */
class SteadyLoad {
  readonly #sql: pg.Client;
  readonly #tables: readonly DemoTable[];
  readonly #next = new Map<string, number>();
  rows = 0;
  /** Not covered yet, in the order of their ids. `at`: by performance.now(). */
  readonly pending: { readonly xid: bigint; readonly at: number }[] = [];

  constructor(sql: pg.Client, tables: readonly DemoTable[]) {
    this.#sql = sql;
    this.#tables = tables;
  }

  /** Seconds that it was late at its worst. */
  async run(seconds: number): Promise<number> {
    const weights = this.#tables.reduce((sum, { weight }) => sum + weight, 0);
    const began = performance.now();
    let late = 0;
    for (let tick = 1; tick * TICK_MS <= seconds * 1000; tick += 1) {
      for (const table of this.#tables) await this.#insert(table, (RATE * TICK_MS * table.weight) / weights / 1000);
      const left = began + tick * TICK_MS - performance.now();
      late = Math.max(late, -left / 1000);
      if (left > 0) await pause(left);
    }
    return late;
  }

  /** `share`: rows, and parts of one that are kept for later ticks. */
  async #insert(table: DemoTable, share: number): Promise<void> {
    const from = this.#next.get(table.name) ?? 1;
    const next = from + share;
    this.#next.set(table.name, next);
    const [first, last] = [Math.floor(from), Math.floor(next) - 1];
    if (last < first) return;
    const text = `BEGIN; ${insertSql(table, first, last, NOW_UTC)}; SELECT pg_current_xact_id()::text AS xid; COMMIT`;
    const results = (await this.#sql.query(text)) as unknown as pg.QueryResult<{ xid: string }>[];
    this.pending.push({ xid: BigInt(results[2]?.rows[0]?.xid ?? 0), at: performance.now() });
    this.rows += last - first + 1;
  }
}

/** Follows the archive and takes the waits of what a fence has covered. */
class CoverageWatch {
  /** Seconds. */
  readonly waits: number[] = [];
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(archiveDir: string, load: SteadyLoad) {
    this.#done = this.#run(new ArchiveFollower(archiveDir), load);
  }

  async #run(follower: ArchiveFollower, { pending }: SteadyLoad): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const horizon = BigInt((await follower.refresh())?.fences.at(-1)?.horizon ?? 0);
      const now = performance.now();
      while (pending[0] !== undefined && pending[0].xid < horizon) this.waits.push((now - (pending.shift()?.at ?? now)) / 1000);
      await pause(LOOK_MS);
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}

export const latency: Benchmark = {
  name: 'latency',
  about: `from commit to durable and covered, at ${RATE} rows a second over ${Object.keys(ARCHIVED).length} tables, flushed every ${FLUSH_SECONDS} s`,
  run: async (_scratch, say) => {
    const lines = Object.entries(ARCHIVED).map(([name, of]) => `  ${name}: ${JSON.stringify(of)}`);
    const schema = `${SCHEMA}; CREATE PUBLICATION tidemark_test FOR TABLE beat, ${Object.keys(ARCHIVED).join(', ')}`;
    await using pipeline = await Pipeline.start({ schema, tables: lines.join('\n'), flushEvery: `${FLUSH_SECONDS}s` });
    const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
    await pipeline.archived();
    const tables = Object.entries(ARCHIVED).map(([table, { timestamp }]) => ({ table, group: table, timestamp }));
    const load = new SteadyLoad(pipeline.sql, await readDemoTables(pipeline.sql, tables));
    const coverage = new CoverageWatch(pipeline.archiveDir, load);
    await load.run(WARM_SECONDS);
    coverage.waits.length = 0;
    const before = { rows: load.rows, manifest: (await pipeline.state())?.number ?? 0 };
    const watch = new CpuWatch(async () => Object.fromEntries([...services.map(({ name, process: { pid } }) => [name, pid]), ['nats', pipeline.nats.pid]]));
    const late = await load.run(SECONDS);
    const rows = load.rows - before.rows;
    await until('all is covered', async () => load.pending.length === 0);
    await coverage.end();
    const { cpu, memory } = await watch.end();
    for (const service of services) await service.stop();
    const flush = await flushesSince(pipeline.archiveDir, before.manifest);
    const fsyncs = await fsyncsOf(path.join(pipeline.dir, 'fsyncs'), flush);
    const bound = FLUSH_SECONDS + 0.5 + fsyncs;
    const [half, most] = [quantileOf(coverage.waits, 0.5), quantileOf(coverage.waits, 0.99)];
    const notes = [
      `p50 ${half.toFixed(2)} s, p99 ${most.toFixed(2)} s, at most ${Math.max(...coverage.waits).toFixed(2)} s, of ${coverage.waits.length} transactions`,
      `fsyncs of one flush (${flush.files} files of ${Math.round(flush.bytes / 1000)} kB, published without decoding): ${fsyncs.toFixed(3)} s; so the bound is ${bound.toFixed(2)} s`,
      `the load was late by ${late.toFixed(2)} s at most`,
    ];
    say(`  ${notes[0]}`);
    const tidemark = only({ seconds: most, rows, peakMemory: Math.max(...Object.values(memory)), cpu });
    const runs = [{ baseline: only({ seconds: bound, rows }), tidemark }];
    const baseline = 'flush interval + 0.5 s + the fsyncs of one flush';
    return [{ what: 'p99 from commit to covered', of: 'seconds', target: 'at most 1', baseline, runs, notes }];
  },
};

/** Files and bytes of one, of a flush in the middle. */
async function flushesSince(archiveDir: string, from: number): Promise<{ readonly files: number; readonly bytes: number }> {
  const { manifests } = archivePaths(archiveDir);
  const flushes: number[][] = [];
  for (let number = from + 1; ; number += 1) {
    const found = await readManifest(manifests, number);
    if (found === undefined) break;
    if (found.manifest.reason === 'flush' && found.manifest.add.length > 0) flushes.push(found.manifest.add.map(({ bytes }) => bytes));
  }
  const sizes = flushes.flat();
  return { files: Math.round(medianOf(flushes.map(({ length }) => length))), bytes: Math.round(sizes.reduce((sum, bytes) => sum + bytes, 0) / sizes.length) };
}

/** Seconds to publish so many files one after the other and what the manifest adds, as the archiver does, but that nothing is decoded: the median of five. */
async function fsyncsOf(dir: string, { files, bytes }: { readonly files: number; readonly bytes: number }): Promise<number> {
  const taken: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    await mkdir(path.join(dir, `${round}`), { recursive: true });
    const began = performance.now();
    for (let number = 0; number <= files; number += 1) {
      const output = await DurableFile.create(path.join(dir, `temporary-${round}-${number}`));
      await writeFile(output.temporary, Buffer.alloc(bytes, `${round} ${number}`));
      await output.publish(path.join(dir, `${round}`, `${number}`), hashFile);
    }
    taken.push((performance.now() - began) / 1000);
  }
  return medianOf(taken);
}
