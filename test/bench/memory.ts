/** The most memory that each service holds: over one transaction of millions of rows, and over a row with one large value, each from the commit until the pruner has deleted it. */
import { Pipeline } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { type Benchmark, type Comparison, megabytes, only } from './frame.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 2_000_000;
const VALUE_BYTES = 64e6;
const BOUND = 300e6;
const SERVICES = ['archiver', 'capture', 'pruner'] as const;
const PATIENCE_MS = 900_000;

type Load = { readonly table: string; readonly insert: string; readonly rows: number; readonly what: string; readonly bound: number };

export const memory: Benchmark = {
  name: 'memory',
  about: `each service over a transaction of ${ROWS} trades, and over a row of ${megabytes(VALUE_BYTES)}`,
  run: async (_scratch, say) => {
    const found: Comparison[] = [];
    {
      await using made = await MadeRows.start({ ...TRADES, rows: ROWS, age: '20 hours' });
      await made.age();
      const load = { table: TRADES.table, insert: made.insert(1, ROWS), rows: ROWS, what: `a transaction of ${ROWS} rows`, bound: BOUND };
      found.push(...(await measure(made.pipeline, load, say)));
    }
    await using pipeline = await Pipeline.start({
      schema: 'CREATE TABLE large (id int PRIMARY KEY, at timestamptz NOT NULL, value text); CREATE PUBLICATION tidemark_test FOR TABLE beat, large',
      tables: '  large: { timestamp: at }',
      retention: '1s',
    });
    // Of random digits: TOAST, the stream and Parquet cannot make little of it.
    const value = `(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, ${VALUE_BYTES / 32}))`;
    const insert = `INSERT INTO large SELECT 1, now() - interval '1 hour', ${value}`;
    found.push(
      ...(await measure(pipeline, { table: 'large', insert, rows: 1, what: `a value of ${megabytes(VALUE_BYTES)}`, bound: BOUND + 4 * VALUE_BYTES }, say)),
    );
    return found;
  },
};

async function measure(pipeline: Pipeline, { table, insert, rows, what, bound }: Load, say: (line: string) => void): Promise<Comparison[]> {
  const services = SERVICES.map((name) => pipeline.service(name));
  await pipeline.archived(PATIENCE_MS);
  const watch = new CpuWatch(async () => Object.fromEntries([...services.map(({ name, process: { pid } }) => [name, pid]), ['nats', pipeline.nats.pid]]));
  await watch.look();
  const began = performance.now();
  await pipeline.query(insert);
  await pipeline.archived(PATIENCE_MS);
  const archived = (performance.now() - began) / 1000;
  const { code, stdout, stderr } = await pipeline.cli(['prune', table, '-c', pipeline.configFile]);
  if (code !== 0) throw new Error(`prune ended with ${code}\n${stdout}${stderr}`);
  const [left] = await pipeline.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`);
  if (left?.n !== '0') throw new Error(`${left?.n} rows of ${table} are left\n${stdout}`);
  const seconds = (performance.now() - began) / 1000;
  const { cpu, memory } = await watch.end();
  say(`  ${what}: archived after ${archived.toFixed(1)} s, pruned after ${seconds.toFixed(1)} s; nats-server ${megabytes(memory['nats'] ?? Number.NaN)}`);
  return SERVICES.map((name): Comparison => {
    const tidemark = only({ seconds, rows, peakMemory: memory[name] ?? Number.NaN, cpu });
    const runs = [{ baseline: only({ rows, peakMemory: bound }), tidemark }];
    return { what: `${name} over ${what}`, of: 'memory', target: 'at most 1', baseline: `the bound of ${megabytes(bound)}`, runs, notes: [] };
  });
}
