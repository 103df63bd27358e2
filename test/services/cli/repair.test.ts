/** The brake on pruning, a table copied again after DIGEST, a stream removed after POISON. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { loadConfig } from '../../../src/runtime/config.js';
import { connectStream } from '../../../src/stream/topology.js';
import { Pipeline, type Service, until } from '../../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../../pipeline/ticks.js';

let pipeline: Pipeline;
let ticks: Ticks;
let archiver: Service;
let capture: Service;
before(async () => {
  pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, flushEvery: '200ms' });
  ticks = new Ticks(pipeline);
  await pipeline.doctorFix();
  archiver = pipeline.service('archiver');
  capture = pipeline.service('capture');
  await pipeline.archived();
});
after(() => pipeline[Symbol.asyncDispose]());

const cli = (...args: string[]): ReturnType<Pipeline['cli']> => pipeline.cli([...args, '-c', pipeline.configFile]);
const hot = async (): Promise<number> => Number((await pipeline.query<{ n: string }>('SELECT count(*)::text AS n FROM ticks'))[0]?.n);

test('pause: nothing is deleted through a restart of the pruner, it is said everywhere, and resume lets it go on', async () => {
  await ticks.insert(20, 48);
  await pipeline.archived();
  const paused = await cli('pause', '--reason', 'month-end close');
  assert.equal(paused.code, 0, paused.stderr);
  assert.match((await cli('pause')).stdout, /paused since .* \(month-end close\) already/);
  for (let start = 1; start <= 2; start += 1) {
    const pruner = pipeline.service('pruner');
    await until('the pruner is there', async () => pruner.log.includes('"event":"pruner-started"'));
    const { stdout } = await cli('prune', '--json');
    const [table] = JSON.parse(stdout).tables.filter((one: { table: string }) => one.table === 'ticks');
    assert.match(table.problem, /paused since .* \(month-end close\) → tidemark resume/);
    assert.equal((await pruner.stop()).code, 0);
  }
  assert.equal(await hot(), 20);
  assert.match((await cli('status')).stdout, /ticks.*no: paused since .* \(month-end close\)/);
  assert.match((await cli('explain', 'ticks')).stdout, /pruning is paused since/);
  assert.equal((await cli('prune', '--dry-run')).code, 0, 'a dry run deletes nothing and goes on');
  assert.match((await cli('status')).stdout, /\(dry\): 20 rows would go$/m);
  await cli('prune');
  assert.match((await cli('status')).stdout, /^ {2}ticks: paused since .*→ tidemark resume$/m, 'by the last run too');
  assert.match((await cli('resume')).stdout, /it goes on with the next run/);
  const resumed = (await cli('status')).stdout;
  assert.match(resumed, /^ {2}pruning was paused then and is not now: the next run goes on$/m);
  assert.doesNotMatch(resumed, /paused since/);
  assert.match((await cli('resume')).stdout, /not paused/);
  assert.equal((await cli('prune')).code, 0);
  assert.equal(await hot(), 0);
  const records = (await readFile(path.join(pipeline.archiveDir, '_tidemark/operations.jsonl'), 'utf8')).trim().split('\n');
  assert.deepEqual(records.map((line) => JSON.parse(line).type), ['pause', 'resume']);
}); // biome-ignore format: one call a line

test('DIGEST: the table is copied again, and its rows can go', async () => {
  await pipeline.query(`INSERT INTO ticks SELECT i, now() - interval '48 hours', 'v', 1 FROM generate_series(1001, 1020) i`);
  await pipeline.archived();
  await pipeline.query(`ALTER TABLE ticks DROP COLUMN n; ALTER TABLE ticks ADD COLUMN n numeric(20,8) DEFAULT 5`);
  const refused = await cli('prune');
  assert.equal(refused.code, 3, refused.stdout + refused.stderr);
  assert.match(refused.stdout + refused.stderr, /DIGEST.*tidemark repair ticks/s);
  assert.equal(await hot(), 20);
  assert.match((await cli('status')).stdout, /^ticks .* no: its last prune halted: DIGEST$/m);
  const repaired = await cli('repair', 'ticks');
  assert.equal(repaired.code, 0, repaired.stderr);
  await until('the copy is complete', async () => (await pipeline.state())?.recopy?.state === 'complete');
  await pipeline.archived();
  const pruned = await cli('prune');
  assert.equal(pruned.code, 0, pruned.stdout + pruned.stderr);
  assert.equal(await hot(), 0);
  assert.match((await cli('status')).stdout, /^ticks .* yes$/m);
});

test('repair of a table needs a capture, and a name; of a stream, capture stopped and a slot that holds what is not archived', async () => {
  assert.equal((await cli('repair')).code, 2);
  assert.equal((await cli('repair', 'ticks', '--stream')).code, 2);
  assert.match((await cli('repair', 'nosuch')).stderr, /"nosuch" is not in the configuration/);
  assert.match((await cli('repair', '--stream', '--yes', 'test')).stderr, /capture is running/);
  assert.equal((await capture.stop()).code, 0);
  const alone = await cli('repair', 'ticks');
  assert.equal(alone.code, 1);
  assert.match(alone.stderr, /no capture is running/);
});

test('POISON: the stream is removed after a word, and filled again from the slot', async () => {
  await capture.stop();
  const stream = await connectStream(loadConfig(pipeline.configFile), 'test');
  try {
    await pipeline.query(`INSERT INTO ticks SELECT i, now() - interval '48 hours', 'v', 1 FROM generate_series(2001, 2020) i`);
    await stream.jetstream.publish(stream.subject, Buffer.from('garbage'));
  } finally {
    await stream.connection.close();
  }
  const ending = await archiver.ended;
  assert.equal(ending.code, 3, ending.log);
  assert.match(ending.log, /"halt":"POISON".*tidemark repair --stream/s);
  const status = await cli('status');
  assert.equal(status.code, 1);
  const seen = 'message \\d+ of stream TIDEMARK_test is not a chunk \\(.*\\)\\.';
  assert.match(status.stdout, new RegExp(`^stream {5}${seen}$`, 'm'));
  assert.match(status.stdout, new RegExp(`^HALT {7}POISON \\(stream\\): ${seen} .* → let only capture publish .*tidemark repair --stream`, 'm'));
  assert.deepEqual(
    JSON.parse((await cli('status', '--json')).stdout).halts.map(({ halt }: { halt: string }) => halt),
    ['POISON'],
  );
  assert.equal((await cli('repair', '--stream')).code, 2);
  const repaired = await cli('repair', '--stream', '--yes', 'test');
  assert.equal(repaired.code, 0, repaired.stdout + repaired.stderr);
  archiver = pipeline.service('archiver');
  capture = pipeline.service('capture');
  await pipeline.archived();
  assert.equal((await cli('prune')).code, 0);
  assert.equal(await hot(), 0);
  await Promise.all([capture.stop(), archiver.stop()]);
  await pipeline.query("SELECT pg_drop_replication_slot('tidemark_test')");
  const refused = await cli('repair', '--stream', '--yes', 'test');
  assert.equal(refused.code, 1, refused.stdout);
  assert.match(refused.stderr, /the slot does not hold what the archive lacks \(there is none\).*tidemark resync/);
});
