/** `tidemark rebuild` of a stream with a million trades, against DuckDB alone, which writes the same rows from the TSV that COPY gives. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline as flow } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { to as copyTo } from 'pg-copy-streams';
import { readDemoTables } from '../../services/demo/rows.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import type { Pipeline } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, type Measured } from './frame.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 1_000_000;
const ROUNDS = 3;
const PATIENCE_MS = 600_000;
const CLI = fileURLToPath(new URL('../../services/cli/main.js', import.meta.url));
const COPY = fileURLToPath(new URL('./duckdb-copy.js', import.meta.url));

export const rebuild: Benchmark = {
  name: 'rebuild',
  about: `the archive of ${ROWS} trades made again from the stream`,
  run: async (scratch, say) => {
    await using made = await MadeRows.start({ ...TRADES, rows: ROWS, age: '20 hours' });
    const { pipeline } = made;
    await fillStream(made);
    const tsv = path.join(scratch, 'trades.tsv');
    await flow(pipeline.sql.query(copyTo(`COPY ${TRADES.table} TO STDOUT`)), createWriteStream(tsv));
    const select = await selectFrom(tsv, pipeline);
    const baseline = async (): Promise<Measured> => {
      const file = path.join(scratch, 'duckdb.parquet');
      const { stdout } = await promisify(execFile)(process.execPath, [COPY, JSON.stringify({ select, file, temporary: path.join(scratch, 'spill') })]);
      return { rows: ROWS, bytes: (await stat(file)).size, ...(JSON.parse(stdout) as Pick<Measured, 'seconds' | 'peakMemory' | 'cpu'>) };
    };
    const tidemark = async (): Promise<Measured> => {
      const into = path.join(scratch, 'again');
      const began = performance.now();
      const child = spawn(process.execPath, [CLI, 'rebuild', '--into', into, '-c', pipeline.configFile], { stdio: ['ignore', 'ignore', 'inherit'] });
      const watch = new CpuWatch(async () => ({ rebuild: child.pid, nats: pipeline.nats.pid }));
      const [code] = (await once(child, 'exit')) as [number | null];
      const seconds = (performance.now() - began) / 1000;
      const { cpu, memory } = await watch.end();
      if (code !== 0) throw new Error(`rebuild ended with ${code}`);
      const files = [...((await new ArchiveFollower(into).refresh())?.files.values() ?? [])].filter(({ table }) => table === TRADES.table);
      const rows = files.reduce((sum, entry) => sum + entry.rows, 0);
      if (rows !== ROWS) throw new Error(`${rows} rows were rebuilt`);
      await rm(into, { recursive: true });
      return { seconds, rows, bytes: files.reduce((sum, entry) => sum + entry.bytes, 0), peakMemory: memory['rebuild'] ?? Number.NaN, cpu };
    };
    const runs = await alternate(ROUNDS, { name: 'DuckDB', run: baseline }, { name: 'tidemark rebuild', run: tidemark }, say);
    return [{ what: `rebuilding ${ROWS} rows`, of: 'seconds', target: 'at most 2', baseline: 'DuckDB COPY (SELECT … FROM read_csv(…))', runs, notes: [] }];
  },
};

/** All rows in the stream and archived; no service runs afterwards. */
async function fillStream(made: MadeRows): Promise<void> {
  const { pipeline } = made;
  const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
  await pipeline.archived(PATIENCE_MS);
  await pipeline.query(made.insert(1, ROWS));
  await pipeline.archived(PATIENCE_MS);
  for (const service of services) await service.stop();
}

/** SELECT of a file of COPY's, in the table's types: DuckDB knows these by the names that Postgres has for them. */
async function selectFrom(tsv: string, { sql }: Pipeline): Promise<string> {
  const [table] = await readDemoTables(sql, [{ ...TRADES, group: TRADES.table }]);
  const columns = (table?.columns ?? []).map(({ name, type }) => `'${name}': '${type.replace(/^character varying.*/, 'VARCHAR')}'`);
  return `SELECT * FROM read_csv('${tsv}', delim = '\\t', header = false, quote = '', escape = '', nullstr = '\\N', columns = {${columns.join(', ')}})`;
}
