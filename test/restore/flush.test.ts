/** Commands that wait for the archive have it flushed: with a flush an hour they take seconds. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { reach } from '../../src/archive/reach.js';
import { parseLsn } from '../../src/position/lsn.js';
import { loadConfig } from '../../src/runtime/config.js';
import { FlushAsker } from '../../src/stream/flush-request.js';
import { Pipeline, until } from '../pipeline/pipeline.js';

const DAY = '2026-01-12';
let pipeline: Pipeline;
before(async () => {
  const schema = 'CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL); CREATE PUBLICATION tidemark_test FOR TABLE beat, ticks';
  pipeline = await Pipeline.start({ schema, tables: '  ticks: { timestamp: at }', flushEvery: '1h' });
  for (const name of ['archiver', 'capture', 'pruner'] as const) pipeline.service(name);
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

/** stdout, of a command that waits for nobody. */
const done = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await pipeline.cli([...args, '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  assert.doesNotMatch(stderr, /no archiver was reached|taken for living/);
  return stdout;
};
/** Waits until everything written is covered; nothing is asked for any more then. The message is one that capture passes on: of others the archive learns nothing. */
const covered = async (): Promise<void> => {
  const config = loadConfig(pipeline.configFile);
  await using asker = new FlushAsker(config);
  const follower = new ArchiveFollower(config.archive.dir);
  let waits = true;
  const archived = pipeline.archived().finally(() => {
    waits = false;
  });
  while (waits) {
    const [{ lsn }] = (await pipeline.query<{ lsn: string }>(`SELECT pg_logical_emit_message(true, 'tidemark.seal', '')::text AS lsn`)) as [{ lsn: string }];
    await reach({ follower, upTo: parseLsn(lsn), flushEveryMs: 60_000, signal: new AbortController().signal, flush: asker.ask });
  }
  await archived;
};

test('a day is sealed behind its prune, restored right after, and sealed again', { timeout: 120_000 }, async () => {
  await pipeline.query(`INSERT INTO ticks SELECT i, '${DAY} 10:00+00' FROM generate_series(1, 100) i`);
  await covered();
  assert.match(await done('prune', 'ticks'), /ticks +100 +100/);
  const sealed = (): Promise<true> =>
    until('sealed', async () => [...((await pipeline.state())?.files.values() ?? [])].some(({ kind }) => kind === 'daily') || undefined);
  await sealed();
  await pipeline.query(`INSERT INTO ticks SELECT i, '2026-01-13 10:00+00' FROM generate_series(201, 300) i`);
  await covered();
  await pipeline.query('DELETE FROM ticks WHERE id > 250');
  assert.match(await done('restore', 'ticks'), /ticks: 100 rows restored/);
  await pipeline.query('DELETE FROM ticks');
  assert.match(await done('seal', 'ticks'), /sealed ticks 2026-01-13: no daily file, for none of its rows was left; 100 deleted ones are in its history/);
});
