/** A day of millions of trades, all pruned, sealed by the archiver: what it takes, and above all what memory it needs. */
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startNats } from '../../services/demo/engines/nats.js';
import { parquet } from '../../src/archive/view.js';
import { alternate, type Benchmark, type Measured, megabytes } from './frame.js';
import { makeOpenDay } from './open-day.js';
import { DAY, dayOfRows, Reference } from './reference.js';
import { sealByArchiver } from './sealing.js';

const TABLE = 'sol_stablecoin_trades';
const TIMESTAMP = 'trade_timestamp';
const COPY = fileURLToPath(new URL('./duckdb-copy.js', import.meta.url));

const sealDay = (name: string, rows: number, target: string): Benchmark => ({
  name,
  about: `a day of ${rows} trades, pruned, a fiftieth of them updated before: sealed by the archiver`,
  run: async (scratch, say) => {
    await using nats = await startNats();
    const { made, columns } = await makeDay(scratch, nats.url, rows);
    const bytes = (await Promise.all(made.files.map((file) => stat(file)))).reduce((sum, file) => sum + file.size, 0);
    say(`  ${made.files.length} segments, ${megabytes(bytes)}`);
    const baseline = async (): Promise<Measured> => {
      const file = path.join(scratch, 'duckdb.parquet');
      const select = `SELECT ${columns.join(', ')} FROM ${parquet(made.files)} ORDER BY ${TIMESTAMP}, id`;
      const { stdout } = await promisify(execFile)(process.execPath, [COPY, JSON.stringify({ select, file, temporary: path.join(scratch, 'spill') })]);
      return { rows: made.rows, bytes: (await stat(file)).size, ...(JSON.parse(stdout) as Pick<Measured, 'seconds' | 'peakMemory' | 'cpu'>) };
    };
    const tidemark = async (): Promise<Measured> => {
      const { file: _file, ...measured } = await sealByArchiver(made, { table: TABLE, day: DAY });
      return measured;
    };
    const runs = await alternate(1, { name: 'DuckDB', run: baseline }, { name: 'archiver', run: tidemark }, say);
    return [{ what: `sealing ${rows} trades`, of: 'seconds', target, baseline: 'DuckDB COPY (SELECT … ORDER BY …)', runs, notes: [] }];
  },
});

export const seals: readonly Benchmark[] = [sealDay('seal-5m', 5_000_000, 'at most 1.5'), sealDay('seal-20m', 20_000_000, 'at most 1500 MB of memory')];

/** The rows never rest in Postgres: a day of this size would take longer to insert than to seal. */
async function makeDay(dir: string, natsUrl: string, count: number) {
  await using reference = await Reference.start();
  const demo = await reference.table(TABLE, TIMESTAMP);
  const rows = dayOfRows(demo, count);
  const options = { client: reference.client, rows, table: TABLE, timestamp: TIMESTAMP, day: DAY, segmentRows: 1_000_000, updateEvery: 50 };
  return { made: await makeOpenDay({ dir, natsUrl }, options), columns: demo.columns.map(({ name }) => `"${name}"`) };
}
