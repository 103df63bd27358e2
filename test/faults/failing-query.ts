/** Each query of a prune run is broken, one after the other, in each way in which a query can: nothing is lost, and receipts say what went. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { runPrune } from '../../src/prune/run.js';
import { loadConfig } from '../../src/runtime/config.js';
import { type Break, QueryBreaker } from '../prune/query-breaker.js';
import { World } from './world.js';

const BATCH = 4;
/** Two batches, and a third that is not full. */
const ROWS = 10;
const MOST_QUERIES = 1000;

/** Breaks the Nth query for N = 1, 2, … until a run has no Nth. */
export async function failingQuery(how: Break, major?: number): Promise<string> {
  await using world = await World.start({ ...(major === undefined ? {} : { major }), rows: 0 });
  const { pipeline, ticks } = world;
  await world.services.pruner.stop();
  await world.archived();
  await using breaker = await QueryBreaker.before(pipeline.databaseUrl);
  const config = loadConfig(pipeline.configFile, {}, { ...process.env, TIDEMARK_SOURCE_URL: breaker.url });
  const through = { ...config, prune: { ...config.prune, batch: BATCH } };
  const log = pino({ level: 'silent' });
  let failed = 0;
  const prune = async (): Promise<void> => {
    const follower = new ArchiveFollower(pipeline.archiveDir);
    const run = runPrune({ config: through, log, signal: new AbortController().signal, follower, trigger: 'command', dryRun: false });
    const result = await run.catch((error: unknown) => String(error));
    if (typeof result === 'string' || result.problem !== null || result.tables.some(({ problem }) => problem !== null)) failed += 1;
  };
  let n = 0;
  do {
    n += 1;
    assert.ok(n < MOST_QUERIES, 'the queries never end');
    await ticks.insert(ROWS, 48);
    await world.archived();
    breaker.arm(n, how);
    await prune();
    if (n % 10 === 0) await ticks.audit();
  } while (breaker.broken > 0);
  await prune(); // settles what was left open
  await world.archived();
  const { pruned } = await ticks.audit();
  const receipts = await readReceipts(pipeline.archiveDir);
  assert.equal(pruned, n * ROWS, 'every row that was old enough has gone');
  assert.equal(receipts.committed, pruned, 'law 7: receipts say what went');
  assert.equal(receipts.open, 0, 'every intent has its outcome');
  return `each of ${n - 1} queries ${how} (${failed} runs said so); ${await world.settle()}`;
}

/** Rows of batches that were committed, and batches without an outcome. */
async function readReceipts(archiveDir: string): Promise<{ committed: number; open: number }> {
  const intents = new Map<string, number>();
  let committed = 0;
  const folder = path.join(archiveDir, '_tidemark', 'receipts');
  for (const name of await readdir(folder)) {
    for (const line of (await readFile(path.join(folder, name), 'utf8')).split('\n').filter(Boolean)) {
      const receipt = JSON.parse(line) as { type: string; batch: string; rows: number; result: string };
      if (receipt.type === 'intent') intents.set(receipt.batch, receipt.rows);
      if (receipt.type !== 'outcome') continue;
      if (receipt.result === 'committed') committed += intents.get(receipt.batch) ?? Number.NaN;
      intents.delete(receipt.batch);
    }
  }
  return { committed, open: intents.size };
}
