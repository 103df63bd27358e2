/** The initial copy: every row of a table from Postgres to segments that a manifest names, against COPY of the same rows to a file by psql. */
import { execFile } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { findClientTool } from '../pipeline/client-tools.js';
import { until } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, type Measured } from './frame.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 4_000_000;
const PATIENCE_MS = 900_000;

export const initialCopy: Benchmark = {
  name: 'copy',
  about: `the first copy of ${ROWS} trades`,
  run: async (scratch, say) => {
    await using made = await MadeRows.start({ ...TRADES, rows: ROWS, age: '20 hours' });
    const { pipeline } = made;
    const psql = await findClientTool('psql', pipeline);
    if (psql === undefined) return { skipped: 'there is no psql on this machine' };
    await pipeline.query(made.insert(1, ROWS));
    await pipeline.query('DROP TABLE made');
    const baseline = async (): Promise<Measured> => {
      const file = path.join(scratch, 'copied');
      const began = performance.now();
      await promisify(execFile)(psql, ['-X', '-q', '-c', `\\copy ${TRADES.table} to '${file}'`, pipeline.databaseUrl]);
      const seconds = (performance.now() - began) / 1000;
      const bytes = (await stat(file)).size;
      await rm(file);
      return { seconds, rows: ROWS, bytes, peakMemory: Number.NaN };
    };
    const tidemark = async (): Promise<Measured> => {
      const services = { archiver: pipeline.service('archiver'), capture: pipeline.service('capture') };
      const watch = new CpuWatch(async () => ({ archiver: services.archiver.process.pid, capture: services.capture.process.pid, nats: pipeline.nats.pid }));
      const began = performance.now();
      const follower = new ArchiveFollower(pipeline.archiveDir);
      const state = await until(
        'the copy is archived',
        async () => {
          const found = await follower.refresh();
          return found?.copy?.state === 'complete' ? found : undefined;
        },
        PATIENCE_MS,
      );
      const seconds = (performance.now() - began) / 1000;
      const { cpu, memory } = await watch.end();
      for (const service of Object.values(services)) await service.stop();
      const bytes = [...state.files.values()].reduce((sum, entry) => sum + entry.bytes, 0);
      return { seconds, rows: ROWS, bytes, peakMemory: Math.max(memory['archiver'] ?? 0, memory['capture'] ?? 0), cpu };
    };
    // A copy is made once in the life of an archive: one round.
    const runs = await alternate(1, { name: 'psql', run: baseline }, { name: 'Tidemark', run: tidemark }, say);
    return [{ what: `copying ${ROWS} rows`, of: 'seconds', target: 'at most 3', baseline: 'psql \\copy to a file', runs, notes: [] }];
  },
};
