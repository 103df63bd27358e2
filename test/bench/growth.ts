/** What becomes of the time for a row, and of a start, as everything grows: archived rows, tables, days, manifests. */
import { Pipeline } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, duration, type Measured, only } from './frame.js';
import { startUp } from './start-up.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 1_000_000;
const MILLIONS = 4;
const TABLES = 100;
const DAYS = 400;
/** Rows of a transaction, all in one table and day; the next is of the next table and day. */
const TRANSACTION = 100;
const FLUSH = '2s';
const PATIENCE_MS = 900_000;
const TARGET = 'at most 1.2';

/** From the start of the services until all that waits in the slot is archived. They have ended afterwards. */
async function drain(pipeline: Pipeline, rows: number): Promise<Measured> {
  const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
  const watch = new CpuWatch(async () => Object.fromEntries([...services.map(({ name, process: { pid } }) => [name, pid]), ['nats', pipeline.nats.pid]]));
  const began = performance.now();
  await pipeline.archived(PATIENCE_MS);
  const seconds = (performance.now() - began) / 1000;
  const { cpu, memory } = await watch.end();
  for (const service of services) await service.stop();
  return only({ seconds, rows, peakMemory: Math.max(memory['archiver'] ?? 0, memory['capture'] ?? 0), cpu });
}

const moreRows: Benchmark = {
  name: 'growth-rows',
  about: `a backlog of ${ROWS} trades, ${MILLIONS} times: the last against the first`,
  run: async (_scratch, say) => {
    await using made = await MadeRows.start({ ...TRADES, rows: ROWS, age: '20 hours' }, { flushEvery: FLUSH });
    await drain(made.pipeline, 1);
    const drained: Measured[] = [];
    for (let million = 1; million <= MILLIONS; million += 1) {
      await made.pipeline.query(made.insert(1, ROWS));
      const measured = await drain(made.pipeline, ROWS);
      drained.push(measured);
      say(`  backlog ${million}: ${duration(measured.seconds)}, archiver ${(((measured.cpu?.['archiver'] ?? 0) / ROWS) * 1e6).toFixed(2)} µs of CPU a row`);
    }
    const runs = [{ baseline: drained[0] as Measured, tidemark: drained.at(-1) as Measured }];
    const notes = [`one after the other: ${drained.map(({ seconds }) => duration(seconds)).join(', ')}`];
    return [{ what: `backlog ${MILLIONS} of ${ROWS} rows each`, of: 'seconds a row', target: TARGET, baseline: 'backlog 1', runs, notes }];
  },
};

type Spread = { readonly tables: number; readonly days: number };

/** A backlog of rows that come in turn for every table and every day, drained. */
async function spread({ tables, days }: Spread): Promise<Measured> {
  const names = Array.from({ length: tables }, (_, table) => `spread_${table}`);
  const columns = 'id bigint PRIMARY KEY, at timestamptz NOT NULL, name text NOT NULL, price float8 NOT NULL, amount numeric(20,8) NOT NULL';
  await using pipeline = await Pipeline.start({
    schema: `${names.map((name) => `CREATE TABLE ${name} (${columns})`).join('; ')}; CREATE PUBLICATION tidemark_test FOR TABLE beat, ${names.join(', ')}`,
    tables: names.map((name) => `  ${name}: { timestamp: at }`).join('\n'),
    flushEvery: FLUSH,
    postgres: { max_wal_size: '8GB', shared_buffers: '512MB' },
  });
  await drain(pipeline, 1);
  const rows = `SELECT i, timestamptz '2026-01-12' - interval '1 day' * ($1 % ${days}), md5(i::text), random(), random() FROM generate_series($1 * ${TRANSACTION} + 1, ($1 + 1) * ${TRANSACTION}) i`;
  await pipeline.query('SET synchronous_commit = off'); // by itself: two statements in one message are one transaction
  await pipeline.query(
    `DO $$ BEGIN FOR i IN 0..${ROWS / TRANSACTION - 1} LOOP
       EXECUTE 'INSERT INTO spread_' || i % ${tables} || ' ${rows.replaceAll("'", "''")}' USING i; COMMIT;
     END LOOP; END $$`,
  );
  await pipeline.query('RESET synchronous_commit');
  return await drain(pipeline, ROWS);
}

const spreadOver = (name: string, what: string, of: Spread): Benchmark => ({
  name,
  about: `a backlog of ${ROWS} rows over ${what}, in turn, against one table and day`,
  run: async (_scratch, say) => {
    const one = { name: 'one table and day', run: () => spread({ tables: 1, days: 1 }) };
    const runs = await alternate(1, one, { name: what, run: () => spread(of) }, say);
    return [{ what: `${ROWS} rows over ${what}`, of: 'seconds a row', target: TARGET, baseline: 'one table and day', runs, notes: [] }];
  },
});

export const growth: readonly Benchmark[] = [
  moreRows,
  spreadOver('growth-tables', `${TABLES} tables`, { tables: TABLES, days: 1 }),
  spreadOver('growth-days', `${DAYS} days`, { tables: 1, days: DAYS }),
  startUp,
];
