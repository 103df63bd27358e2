/** The bytes of a daily file against those of the file that the old script's pandas writes of the same rows. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startNats } from '../../services/demo/engines/nats.js';
import { findPython, runPython } from '../interop/python.js';
import { columnBytes } from './column-bytes.js';
import { alternate, type Benchmark, type Comparison, type Measured } from './frame.js';
import { makeOpenDay } from './open-day.js';
import { DAY, dayOfRows, Reference } from './reference.js';
import { sealByArchiver } from './sealing.js';

const ROWS = 1_000_000;
const TABLES = [
  { table: 'prices', timestamp: 'timestamp' },
  { table: 'sol_stablecoin_trades', timestamp: 'trade_timestamp' },
] as const;
const FOLDER = fileURLToPath(new URL('../../../test/bench/', import.meta.url));

export const size: Benchmark = {
  name: 'size',
  about: `bytes of the daily file of ${ROWS} rows, against pandas to_parquet(compression='snappy') of the same rows`,
  run: async (scratch, say) => {
    const found = findPython(path.join(FOLDER, 'requirements.txt'));
    if ('reason' in found) return { skipped: found.reason };
    await using reference = await Reference.start();
    await using nats = await startNats();
    const comparisons: Comparison[] = [];
    for (const { table, timestamp } of TABLES) {
      const dir = path.join(scratch, table);
      await mkdir(dir);
      const demo = await reference.table(table, timestamp);
      await reference.client.query(`INSERT INTO ${table} ${dayOfRows(demo, ROWS)}`);
      const rows = `SELECT * FROM ${table}`;
      const made = await makeOpenDay(
        { dir, natsUrl: nats.url },
        { client: reference.client, rows, table, timestamp, day: DAY, segmentRows: 250_000, updateEvery: 0 },
      );
      const files = { pandas: path.join(dir, 'pandas.parquet'), daily: '' };
      const pandas = async (): Promise<Measured> =>
        JSON.parse(await runPython(found.python, [path.join(FOLDER, 'pandas_write.py'), reference.url, table, files.pandas])) as Measured;
      const tidemark = async (): Promise<Measured> => {
        const { file, ...measured } = await sealByArchiver(made, { table, day: DAY });
        files.daily = file;
        return measured;
      };
      const runs = await alternate(1, { name: 'pandas', run: pandas }, { name: 'daily file', run: tidemark }, say);
      const notes = await columnBytes(files.daily, files.pandas);
      comparisons.push({ what: `${table}, daily file`, of: 'bytes', target: 'at most 0.6', baseline: 'pandas to_parquet(snappy)', runs, notes });
    }
    return comparisons;
  },
};
