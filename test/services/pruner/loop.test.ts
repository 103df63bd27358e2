/** The pruner as a service: asked over NATS, by its schedule, switched off, without NATS, twice, refused at its start. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { pruneOnce, runPruner } from '../../../services/pruner/loop.js';
import { ReceiptIndex } from '../../../src/archive/receipts.js';
import type { PruneReply } from '../../../src/prune/request.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { Secret } from '../../../src/runtime/config-values.js';
import type { TidemarkError } from '../../../src/runtime/errors.js';
import { requestReply } from '../../../src/stream/request.js';
import { connectStream, requestSubject } from '../../../src/stream/topology.js';
import { Pipeline, type Service, until } from '../../pipeline/pipeline.js';

let pipeline: Pipeline;
let config: Config;
let archiver: Service;
type Line = Readonly<Record<string, unknown>>;
const lines: Line[] = [];
const log = pino({ level: 'info' }, { write: (text: string) => void lines.push(JSON.parse(text) as Line) });
const never = new AbortController().signal;

before(async () => {
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE ticks (id bigserial PRIMARY KEY, at timestamptz NOT NULL, v text);
      CREATE TABLE secret (id int PRIMARY KEY);
      CREATE PUBLICATION tidemark_test FOR TABLE beat, ticks;`,
    tables: '  ticks: { timestamp: at }',
    flushEvery: '200ms',
  });
  config = loadConfig(pipeline.configFile);
  archiver = pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

const fill = async (rows: number): Promise<void> => {
  await pipeline.query(`INSERT INTO ticks (at) SELECT now() - interval '48 hours' FROM generate_series(1, ${rows})`);
  await pipeline.archived();
};
const count = async (): Promise<number> => Number((await pipeline.query<{ n: string }>('SELECT count(*) AS n FROM ticks'))[0]?.n);

/** A pruner in this process, ended with the scope. */
function service(change: Partial<Config['prune']> = {}, url = config.stream.url.reveal()): AsyncDisposable & { ended: Promise<void> } {
  const stop = new AbortController();
  const ended = runPruner({ ...config, stream: { ...config.stream, url: new Secret(url) }, prune: { ...config.prune, ...change } }, log, stop.signal);
  ended.catch(() => undefined);
  return {
    ended,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await ended;
    },
  };
}

/** What a plain NATS request is answered; undefined while nobody listens. */
async function ask(body: unknown): Promise<PruneReply | undefined> {
  const { connection } = await connectStream(config, 'test');
  try {
    return await requestReply<PruneReply>(connection, requestSubject('test', 'prune'), body);
  } finally {
    await connection.close();
  }
}
const listening = (): Promise<PruneReply> => until('the pruner answers', () => ask({ table: 'nothing of this name' }));

test('a request prunes at once, a dry one deletes nothing, a wrong one is told what is wrong', async () => {
  await using _ = service();
  const wrong = await listening();
  assert.deepEqual([wrong.ok, !wrong.ok && wrong.exitCode, !wrong.ok && /name one of: beat, ticks/.test(wrong.reason)], [false, 2, true]);
  for (const body of [[], { table: 7 }, { table: 'ticks', force: true }]) {
    const reply = await ask(body);
    assert.match(reply?.ok === false ? reply.reason : '', /not a request to prune/);
  }
  await fill(10);
  const dry = await ask({ dryRun: true });
  assert.deepEqual(
    [dry?.ok && dry.result.dryRun, dry?.ok && dry.result.tables.find((table) => table.table === 'ticks')?.deleted, await count()],
    [true, 10, 10],
  );
  const { result, by } = await pruneOnce(config, log, { table: 'ticks' }, never);
  assert.deepEqual([by, result.tables.length, result.tables[0]?.deleted, await count()], ['service', 1, 10, 0]);
});

test('a request by the configuration of another archive deletes nothing and says so', async () => {
  await using _ = service();
  await listening();
  await fill(2);
  const other = await mkdtemp(path.join(tmpdir(), 'tidemark-other-'));
  await assert.rejects(pruneOnce({ ...config, archive: { ...config.archive, dir: other } }, log, {}, never), (error: TidemarkError) => {
    assert.equal(error.kind, 'config');
    assert.match(error.message, /has the archive [0-9a-f-]{36}; the archive\.dir of the one who asks has no archive → use the configuration/);
    return true;
  });
  assert.equal(await count(), 2);
  await rm(other, { recursive: true });
  const { by } = await pruneOnce(config, log, {}, never);
  assert.deepEqual([by, await count()], ['service', 0]);
});

test('without a pruner the command does it itself; unknown tables are refused before anything is asked', async () => {
  await fill(3);
  const { result, by } = await pruneOnce(config, log, {}, never);
  assert.deepEqual([by, result.tables.find((table) => table.table === 'ticks')?.deleted], ['command', 3]);
  await assert.rejects(pruneOnce(config, log, { table: 'tocks' }, never), { kind: 'config' });
});

test('the schedule prunes without anybody asking, and goes on while NATS is not there', async () => {
  await fill(4);
  await using _ = service({ schedule: '* * * * * *' }, 'nats://127.0.0.1:1');
  await until('the rows are gone', async () => (await count()) === 0);
  // The receipt of a run follows its last delete.
  await until('its receipt is there', async () =>
    (await new ReceiptIndex(pipeline.archiveDir).runs()).some((run) => run.trigger === 'schedule' && run.tables.some((table) => table.deleted === 4)),
  );
});

/** The newest run of this trigger that deleted `rows`: its batches, and the milliseconds that it took. */
async function ranOver(trigger: string, rows: number): Promise<{ batches: number; ms: number }> {
  return await until(`a run by ${trigger} that deleted ${rows} rows`, async () => {
    const run = (await new ReceiptIndex(pipeline.archiveDir).runs()).findLast((one) => one.trigger === trigger);
    const ticks = run?.tables.find(({ table }) => table === 'ticks');
    return run && ticks?.deleted === rows && { batches: ticks.batches, ms: Date.parse(run.finishedAt) - Date.parse(run.at) };
  });
}

test('a run by schedule takes its time in small batches and says so; one on request does not, and hurries the one before it', async () => {
  const ROWS = 16_000;
  await fill(ROWS);
  await pipeline.query('ANALYZE ticks');
  const five = { schedule: '*/5 * * * * *', spread: 1 };
  {
    await using _ = service(five);
    const { batches, ms } = await ranOver('schedule', ROWS);
    assert.ok(batches >= 12 && ms > 2000, `${batches} batches in ${ms} ms`);
    const said = lines.findLast(({ event }) => event === 'prune-spread');
    assert.deepEqual([said?.['rows'], said?.['overSeconds']], [ROWS, 5]);
    assert.ok(Number(said?.['rowsPerSecond']) >= (ROWS * 1.1) / 5 && Number(said?.['rowsPerSecond']) < 5000, JSON.stringify(said));
  }
  await fill(ROWS + 1);
  {
    await using _ = service({ spread: 1 });
    await listening();
    assert.equal((await ask({ table: 'ticks' }))?.ok, true);
    assert.equal((await ranOver('request', ROWS + 1)).batches, 4);
  }
  await fill(ROWS + 2);
  await pipeline.query('ANALYZE ticks');
  {
    await using _ = service({ ...five, schedule: '*/20 * * * * *' });
    await listening();
    await until('the first batches are gone', async () => (await count()) < ROWS + 2);
    assert.equal((await ask({ table: 'ticks' }))?.ok, true);
    const { batches, ms } = await ranOver('schedule', ROWS + 2);
    assert.ok(batches < 12 && ms < 15_000, `${batches} batches in ${ms} ms`);
  }
});

test('switched off it neither prunes by schedule nor on request; dry runs are answered', async () => {
  await fill(2);
  await using _ = service({ enabled: false, schedule: '* * * * * *' });
  await listening();
  const refused = await ask({});
  assert.match(refused?.ok === false ? refused.reason : '', /pruning is off/);
  const dry = await ask({ dryRun: true });
  assert.equal(dry?.ok && dry.result.tables.find((table) => table.table === 'ticks')?.deleted, 2);
  await assert.rejects(pruneOnce({ ...config, prune: { ...config.prune, enabled: false } }, log, {}, never), { kind: 'config' });
  assert.equal(await count(), 2);
});

test('prune.dryRun makes every run a dry one', async () => {
  await using _ = service({ dryRun: true });
  await listening();
  const reply = await ask({});
  assert.deepEqual([reply?.ok && reply.result.dryRun, await count()], [true, 2]);
});

test('law 8: two services and many requests at once: each answered once, every row goes once', async () => {
  await fill(300);
  await using _ = service({ batch: 20 });
  await using __ = service({ batch: 20 });
  await listening();
  const replies = await Promise.all(Array.from({ length: 6 }, () => ask({ table: 'ticks' })));
  const deleted = replies.reduce((sum, reply) => sum + (reply?.ok ? (reply.result.tables[0]?.deleted ?? 0) : Number.NaN), 0);
  assert.deepEqual([deleted, await count()], [302, 0]);
});

test('law 14: a role that could delete from a protected table is refused at the start; a superuser is only warned', async () => {
  await pipeline.query(
    `CREATE ROLE careless LOGIN PASSWORD 'p'; GRANT SELECT, DELETE ON ticks, beat, secret TO careless; GRANT UPDATE (id) ON ticks, beat TO careless`,
  );
  const url = new URL(pipeline.databaseUrl);
  url.username = 'careless';
  url.password = 'p';
  const careless: Config = {
    ...config,
    source: { ...config.source, prunerUrl: new Secret(url.toString()) },
    protected: [{ key: 'secret', schema: 'public', table: 'secret' }],
  };
  await assert.rejects(
    runPruner(careless, log, never),
    (error: Error) => /protected secret.*REVOKE DELETE/s.test(error.message) && (error as { exitCode?: number }).exitCode === 2,
  );
  await pipeline.query('REVOKE DELETE ON secret FROM careless');
  const stop = new AbortController();
  const allowed = runPruner(careless, log, stop.signal);
  await listening();
  await fill(5);
  const reply = await ask({ table: 'ticks' });
  assert.deepEqual(
    [reply?.ok && reply.result.tables[0]?.deleted, reply?.ok && reply.result.tables[0]?.problem],
    [5, null],
    'UPDATE on one key column is enough',
  );
  stop.abort();
  await allowed;
});

// The last one: it damages the archive.
test('a halt of the archive is answered and ends the service', async () => {
  const pruner = service();
  await listening();
  await archiver.stop(); // it would commit the next manifest behind the hole
  const { rename, readdir } = await import('node:fs/promises');
  const { default: path } = await import('node:path');
  const manifests = path.join(pipeline.archiveDir, '_tidemark', 'manifest');
  await ask({ dryRun: true });
  const newest = (await readdir(manifests)).sort().at(-1) as string;
  await rename(path.join(manifests, newest), path.join(pipeline.archiveDir, '_tidemark', newest));
  const reply = await ask({});
  assert.deepEqual([reply?.ok, reply?.ok === false && reply.exitCode], [false, 3]);
  await assert.rejects(pruner.ended, { kind: 'halt', halt: 'MANIFEST' });
});
