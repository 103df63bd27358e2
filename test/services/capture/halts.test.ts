/** Named stops of capture: what is not proved safe ends in a halt that says what was seen, and confirms nothing (laws 10, 11). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { createArchive, ManifestWriter } from '../../../src/archive/manifest.js';
import { parseLsn } from '../../../src/position/lsn.js';
import { parsePosition } from '../../../src/position/position.js';
import { until } from '../../pipeline/pipeline.js';

import { caughtUp, endOfWal, type Queries, reconnected, slotAt, world } from './world.js';

test('named halts: slot dropped, slot advanced, slot of another history', async (t) => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  await until('a fence', async () => ledger.fences.length > 1);
  const state = await ledger.archive();
  await until('the slot stands at the archived fence', async () => (await slotAt(pipeline)) === state.fences.at(-1)?.lsn);
  await capture.stop();
  await t.test('an empty archive in place of the one the slot belongs to: IDENTITY, and the slot stays', async () => {
    const { dir } = ledger.config.archive;
    renameSync(dir, `${dir}.away`);
    mkdirSync(dir);
    await createArchive(dir, 'test');
    await ManifestWriter.claim(dir, 'test');
    await ledger.stream.manager.streams.purge(ledger.stream.name);
    const before = await slotAt(pipeline);
    const ending = await pipeline.service('capture').ended;
    assert.equal(ending.code, 3, ending.log);
    assert.match(ending.log, /"halt":"IDENTITY"/);
    assert.equal(await slotAt(pipeline), before);
    rmSync(dir, { recursive: true });
    renameSync(`${dir}.away`, dir);
  });
  await t.test('advanced by someone: SLOT_AHEAD', async () => {
    await pipeline.query("INSERT INTO item (v) VALUES ('skipped')");
    await pipeline.query("SELECT pg_replication_slot_advance('tidemark_test', pg_current_wal_lsn())");
    const ending = await pipeline.service('capture').ended;
    assert.equal(ending.code, 3, ending.log);
    assert.match(ending.log, /"halt":"SLOT_AHEAD"/);
  });
  await t.test('dropped: SLOT_MISSING, and it is not made again', async () => {
    await pipeline.query("SELECT pg_drop_replication_slot('tidemark_test')");
    const ending = await pipeline.service('capture').ended;
    assert.equal(ending.code, 3, ending.log);
    assert.match(ending.log, /"halt":"SLOT_MISSING"/);
    assert.equal((await pipeline.query('SELECT 1 FROM pg_replication_slots')).length, 0);
  });
});

test('a server restored from a cold copy, on the same timeline and already beyond W, is a named halt and confirms nothing', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const archived = async (database: Queries): Promise<string> => {
    await caughtUp(database, ledger);
    const row = ledger.changes.at(-1);
    await until('a fence behind the row', async () => (row && ledger.fences.some((fence) => parseLsn(fence.lsn) > row.at.lsn)) === true);
    const fence = (await ledger.archive()).fences.at(-1)?.lsn as string;
    await until('confirmed', async () => (await slotAt(database)) === fence);
    return fence;
  };
  const capture = pipeline.service('capture');
  const copied = await archived(pipeline);
  const { dataDir } = pipeline.postgres;
  await pipeline.postgres.stop('fast');
  const saved = `${dataDir}.saved`;
  execFileSync('cp', ['-a', dataDir, saved]);
  await pipeline.postgres.start();
  {
    await using original = await reconnected(pipeline);
    await archived(original);
  }
  assert.equal((await capture.stop()).code, 0);
  const w = parsePosition((await ledger.archive()).position as string).lsn;
  // The copy takes its place and lives on beyond W.
  await pipeline.postgres.stop('fast');
  execFileSync('sh', ['-c', 'rm -rf "$1" && mv "$2" "$1"', 'sh', dataDir, saved]);
  await pipeline.postgres.start();
  await using restored = await reconnected(pipeline);
  for (let n = 0; parseLsn(await endOfWal(restored)) < w + 100_000n; n += 1) {
    await restored.query(`INSERT INTO item (v) SELECT 'another history ${n}' FROM generate_series(1, 100)`);
  }
  // Before 17 a server may forget the last confirmations when it restarts: the slot stands there or further back.
  const before = await slotAt(restored);
  assert.ok(parseLsn(before) <= parseLsn(copied));
  const ending = await pipeline.service('capture').ended;
  assert.equal(ending.code, 3, ending.log);
  assert.match(ending.log, /"halt":"IDENTITY"/);
  assert.equal(await slotAt(restored), before);
  assert.ok(!ledger.changes.some((change) => change.values[2]?.startsWith('another history')));
});

test('a server in recovery is waited for; promoted, it carries the epoch on only when its fences come again', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  await until('a fence', async () => ledger.fences.length > 1);
  const state = await ledger.archive();
  await until('the slot stands at the archived fence', async () => (await slotAt(pipeline)) === state.fences.at(-1)?.lsn);
  assert.equal((await capture.stop()).code, 0);
  await pipeline.postgres.stop('fast');
  // A server that is promoted starts a new timeline: here it is made its own standby for a moment.
  writeFileSync(`${pipeline.postgres.dataDir}/standby.signal`, '');
  await pipeline.postgres.start();
  const again = pipeline.service('capture');
  await until('it says what it waits for', async () => again.log.includes('the server is a standby in recovery'));
  await using sql = await reconnected(pipeline);
  await sql.query('SELECT pg_promote(true)');
  await until('a new epoch', async () => again.log.includes('"event":"fork"') && again.running);
  assert.match(again.log, /timeline 2 left timeline 1 at/);
  assert.equal((await again.stop()).code, 0, again.log);
});

test('a missing table is one clear line and the exit code of the configuration', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  await pipeline.query('DROP TABLE wide');
  const ending = await pipeline.service('capture').ended;
  assert.equal(ending.code, 2);
  assert.match(ending.log, /table wide: there is no table public\.wide/);
});
