/** A verified prune of a million rows, against the same deletes in batches with RETURNING, sent by psql, which looks at nothing. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { runPrune } from '../../src/prune/run.js';
import { loadConfig } from '../../src/runtime/config.js';
import { findClientTool } from '../pipeline/client-tools.js';
import type { Pipeline } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, type Measured } from './frame.js';
import { walsenderOf } from './recvlogical.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 1_000_000;
const BATCH = 5000;
const ROUNDS = 3;
const PATIENCE_MS = 600_000;

/** Process that serves the pruner's connection. */
async function backendOf(pipeline: Pipeline): Promise<number | undefined> {
  const [found] = await pipeline.query<{ pid: string }>(`SELECT pid::text FROM pg_stat_activity WHERE application_name LIKE 'tidemark_%pruner'`);
  return found === undefined ? undefined : Number(found.pid);
}

export const prune: Benchmark = {
  name: 'prune',
  about: `${ROWS} archived trades deleted in batches of ${BATCH}`,
  run: async (scratch, say) => {
    await using made = await MadeRows.start({ ...TRADES, rows: ROWS, age: '1 hour' });
    const { pipeline } = made;
    const psql = await findClientTool('psql', pipeline);
    if (psql === undefined) return { skipped: 'there is no psql on this machine' };
    const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
    await pipeline.archived(PATIENCE_MS);
    await pipeline.query(`CREATE TABLE bare (LIKE ${TRADES.table} INCLUDING ALL)`);
    await made.age();
    const batches = path.join(scratch, 'batches.sql');
    const next = `DELETE FROM bare WHERE ctid = ANY (ARRAY(SELECT ctid FROM bare WHERE ${TRADES.timestamp} < now() AT TIME ZONE 'UTC' - interval '24 hours' ORDER BY ${TRADES.timestamp} LIMIT ${BATCH})) RETURNING *;\n`;
    await writeFile(batches, next.repeat(ROWS / BATCH));
    const measured = (began: number, cpu: Measured['cpu']): Measured => ({
      seconds: (performance.now() - began) / 1000,
      rows: ROWS,
      bytes: Number.NaN,
      peakMemory: cpu === undefined ? Number.NaN : process.memoryUsage().rss, // psql's is not looked at
      ...(cpu === undefined ? {} : { cpu }),
    });
    const baseline = async (): Promise<Measured> => {
      await pipeline.query(made.insert(1, ROWS, 'bare'));
      await pipeline.query('VACUUM ANALYZE bare');
      const began = performance.now();
      await promisify(execFile)(psql, ['-X', '-q', '-At', '-o', '/dev/null', '-f', batches, pipeline.databaseUrl]);
      const result = measured(began, undefined);
      await requireNone('bare');
      return result;
    };
    const config = loadConfig(pipeline.configFile);
    const through = { ...config, prune: { ...config.prune, batch: BATCH, maxRowsPerSecond: 10_000_000 } };
    const requireNone = async (table: string): Promise<void> => {
      const [left] = await pipeline.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`);
      if (left?.n !== '0') throw new Error(`${left?.n} rows of ${table} are left`);
    };
    const tidemark = async (): Promise<Measured> => {
      await pipeline.query(made.insert(1, ROWS));
      await pipeline.query(`VACUUM ANALYZE ${TRADES.table}`);
      await pipeline.archived(PATIENCE_MS);
      const fixed = { ...Object.fromEntries(services.map(({ name, process: { pid } }) => [name, pid])), nats: pipeline.nats.pid, pruner: process.pid };
      const watch = new CpuWatch(async () => ({ ...fixed, walsender: await walsenderOf(pipeline, 'tidemark_test'), 'its backend': await backendOf(pipeline) }));
      const began = performance.now();
      const signal = new AbortController().signal;
      await runPrune({
        config: through,
        log: pino({ level: 'silent' }),
        signal,
        follower: new ArchiveFollower(pipeline.archiveDir),
        trigger: 'command',
        dryRun: false,
      });
      const { cpu } = await watch.end();
      const result = measured(began, cpu);
      await requireNone(TRADES.table);
      await pipeline.archived(PATIENCE_MS);
      return result;
    };
    const runs = await alternate(ROUNDS, { name: 'psql', run: baseline }, { name: 'Tidemark', run: tidemark }, say);
    return [
      {
        what: `pruning ${ROWS} rows`,
        of: 'seconds',
        target: 'at most 2, and 50,000 rows a second',
        baseline: 'DELETE … RETURNING in batches by psql',
        runs,
        notes: [],
      },
    ];
  },
};
