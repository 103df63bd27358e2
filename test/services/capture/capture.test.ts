/** capture alone, as a process on real engines: what it puts into the stream is whole and in order, whatever happens to it (laws 3, 4, 6, 8). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import pg from 'pg';
import { availablePostgresMajors } from '../../../services/demo/engines/postgres.js';
import { parseLsn } from '../../../src/position/lsn.js';
import { sleep } from '../../../src/runtime/service.js';
import { connectClient } from '../../../src/wal/session.js';
import { sampleLaw3 } from '../../pipeline/law3.js';
import { until } from '../../pipeline/pipeline.js';

import { assertEqualsTable, assertOrdered, caughtUp, endOfWal, reconnected, slotAt, world } from './world.js';

for (const major of await availablePostgresMajors()) {
  test(`Postgres ${major}: copy and stream arrive whole and in order; the slot follows the archive to the start of its fence; an idle server gets no fence`, async () => {
    const { pipeline, ledger } = await world({ major, rows: 20_000 });
    await using _p = pipeline;
    await using _l = ledger;
    const law3 = sampleLaw3(pipeline);
    const capture = pipeline.service('capture');
    await until('the copy is whole', async () => ledger.copyEnd);
    assert.equal(ledger.copied.filter((row) => row.table === 'item').length, 20_000);
    await pipeline.query(
      "BEGIN; INSERT INTO item (v) VALUES ('a'), (E'tab\\t, newline\\n, \\\\N'); SAVEPOINT s; INSERT INTO item (v) VALUES ('never'); ROLLBACK TO s; UPDATE item SET v = NULL WHERE id = 5; DELETE FROM item WHERE id = 6; COMMIT",
    );
    await pipeline.query("BEGIN; INSERT INTO item (v) VALUES ('rolled back'); ROLLBACK");
    await pipeline.query('ALTER TABLE item ADD COLUMN z int DEFAULT 7');
    await caughtUp(pipeline, ledger);
    assertOrdered(ledger.changes);
    await assertEqualsTable(pipeline, ledger);
    const lastRow = ledger.changes.at(-1);
    await until('a fence follows the last row', async () => (lastRow && ledger.fences.some((fence) => parseLsn(fence.lsn) > lastRow.at.lsn)) === true);
    const state = await ledger.archive();
    await until('the slot stands at the archived fence', async () => (await slotAt(pipeline)) === state.fences.at(-1)?.lsn);
    // Idle: neither fences nor WAL of ours. One more fence may be owed first, when a transaction of the server itself was running at the last one.
    let fences = -1;
    let wal = '';
    for (let quiet = 0; quiet < 2 && fences !== ledger.fences.length; quiet += 1) {
      fences = ledger.fences.length;
      wal = await endOfWal(pipeline);
      await new Promise((resolve) => setTimeout(resolve, 4500));
    }
    assert.equal(ledger.fences.length, fences);
    assert.ok(parseLsn(await endOfWal(pipeline)) - parseLsn(wal) < 4096n, 'nothing but the server itself writes');
    // pg_ctl stop -m fast is not held up by a slot that is held back.
    await pipeline.query("INSERT INTO item (v) VALUES ('unconfirmed')");
    const begun = Date.now();
    await pipeline.postgres.stop('fast');
    assert.ok(Date.now() - begun < 5000, `stop took ${Date.now() - begun} ms`);
    await pipeline.postgres.start();
    assert.deepEqual((await law3.stop()).violations, []);
    await until('streams again', async () => (capture.log.match(/"event":"streaming"/g) ?? []).length > 1);
    const ending = await capture.stop();
    assert.equal(ending.code, 0, ending.log);
    assert.match(ending.log, /"event":"slot-holds"/);
  });
}

test('rows whose transaction was still ending when they were read are covered without another write, by this capture or by the next', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  let capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  for (const restarted of [false, true]) {
    // The walsender sends what is on disk, and its transaction runs on: it waits for a standby that there is not.
    await pipeline.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    await pipeline.query('SELECT pg_reload_conf()');
    await using writer = await reconnected(pipeline);
    const mark = `restarted ${restarted}`;
    const written = writer.query<{ xid: string }>(`INSERT INTO item (v) VALUES ('${mark}') RETURNING xmin::text AS xid`);
    const row = await until('its row is in the stream', async () => ledger.changes.find((change) => change.values[2] === mark));
    const fence = await until('a fence behind it', async () => ledger.fences.find(({ lsn }) => parseLsn(lsn) > row.at.lsn));
    if (restarted) {
      await ledger.archive();
      await until('the slot stands at the fence', async () => parseLsn(await slotAt(pipeline)) >= parseLsn(fence.lsn));
      await capture.stop();
    }
    await pipeline.query('ALTER SYSTEM RESET synchronous_standby_names');
    await pipeline.query('SELECT pg_reload_conf()');
    const xid = BigInt((await written)[0]?.xid ?? 0);
    assert.ok(BigInt(fence.horizon) <= xid, `the fence ${fence.horizon} does not cover ${xid} yet`);
    if (restarted) capture = pipeline.service('capture');
    await until('a fence covers it', async () => ledger.fences.some(({ horizon }) => BigInt(horizon) > xid), 20_000);
  }
  assert.equal((await capture.stop()).code, 0);
});

test('a crash in the middle of the copy starts a new generation, and nothing is double', async () => {
  const { pipeline, ledger } = await world({ rows: 30_000 });
  await using _p = pipeline;
  await using _l = ledger;
  assert.equal((await pipeline.service('capture', 'C4:kill:5').ended).signal, 'SIGKILL');
  await pipeline.query("INSERT INTO item (v) VALUES ('between')");
  const capture = pipeline.service('capture');
  await until('the copy is whole', async () => ledger.copyEnd);
  assert.equal(ledger.generations, 2);
  assert.equal(ledger.copied.filter((row) => row.table === 'item').length, 30_001);
  await caughtUp(pipeline, ledger);
  await assertEqualsTable(pipeline, ledger);
  assert.equal((await capture.stop()).code, 0);
});

test('a crash at any point of streaming leaves neither a hole nor a position twice, and the slot is never beyond the archive', async (t) => {
  const { pipeline, ledger } = await world({ rows: 100 });
  await using _p = pipeline;
  await using _l = ledger;
  const law3 = sampleLaw3(pipeline);
  const going = new AbortController();
  const archiver = (async () => {
    while (!going.signal.aborted) {
      await ledger.archive();
      await sleep(150, going.signal);
    }
  })();
  archiver.catch((error: unknown) => going.abort(error));
  const load = new AbortController();
  t.after(() => {
    going.abort();
    load.abort();
  });
  const writer = new pg.Client({ connectionString: pipeline.databaseUrl });
  writer.on('error', () => undefined);
  await writer.connect();
  const loading = (async () => {
    for (let n = 0; !load.signal.aborted; n += 1) {
      await writer.query(
        `BEGIN; INSERT INTO item (v) SELECT 'load ${n} ' || i FROM generate_series(1, 300) i; UPDATE item SET v = v || '.' WHERE id % 97 = ${n % 97}; DELETE FROM item WHERE id % 501 = ${n % 501}; COMMIT`,
      );
      await sleep(20, load.signal);
    }
  })();
  loading.catch(() => undefined);
  for (const fault of ['C2:kill:2000', 'C3:kill:4', 'C4:kill:3', 'C5:kill:9', 'C6:kill:1', 'C7:kill:2', 'C2:kill:7777']) {
    const ending = await pipeline.service('capture', fault).ended;
    assert.equal(ending.signal, 'SIGKILL', `${fault}: ${ending.log}`);
  }
  const capture = pipeline.service('capture');
  await until('streams again', async () => /"event":"streaming"/.test(capture.log));
  load.abort();
  await loading;
  await writer.end();
  await caughtUp(pipeline, ledger, 60_000);
  assertOrdered(ledger.changes);
  await assertEqualsTable(pipeline, ledger);
  going.abort();
  await archiver;
  const sampled = await law3.stop();
  assert.ok(sampled.samples > 0);
  assert.deepEqual(sampled.violations, []);
  assert.equal((await capture.stop()).code, 0);
});

test('200,000 rows in one transaction and a value of 8 MB pass within bounded memory', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await until('streams', async () => /"event":"streaming"/.test(capture.log));
  await pipeline.query(`INSERT INTO item (v) SELECT repeat('x', 300) || i FROM generate_series(1, 200000) i`);
  await pipeline.query(`INSERT INTO wide (id, body) VALUES (1, repeat('0123456789abcdef', 524288))`);
  await caughtUp(pipeline, ledger, 90_000);
  assert.equal(ledger.changes.filter((change) => change.table === 'item').length, 200_001);
  assert.equal(ledger.changes.find((change) => change.table === 'wide')?.values[2]?.length, 8 * 1024 * 1024);
  assertOrdered(ledger.changes);
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${capture.process.pid}/status`, 'utf8'))?.[1]) / 1024;
  assert.ok(peak < 400, `peak of ${peak} MB`);
  assert.equal((await capture.stop()).code, 0);
});

test('while NATS is away the socket is paused, the walsender stays, and everything arrives afterwards', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await until('streams', async () => /"event":"streaming"/.test(capture.log));
  const sender = async (): Promise<string | undefined> =>
    (await pipeline.query<{ pid: string }>("SELECT pid::text FROM pg_stat_replication WHERE application_name = 'tidemark_test_capture'"))[0]?.pid;
  const before = await sender();
  await pipeline.nats.kill();
  await pipeline.query(`INSERT INTO item (v) SELECT repeat('y', 500) || i FROM generate_series(1, 120000) i`);
  const flushedAt = async (): Promise<string | undefined> =>
    (await pipeline.query<{ at: string }>("SELECT reply_time::text AS at FROM pg_stat_replication WHERE application_name = 'tidemark_test_capture'"))[0]?.at;
  const first = await flushedAt();
  await until('status packets go on while nothing can be published', async () => (await flushedAt()) !== first, 15_000);
  await new Promise((resolve) => setTimeout(resolve, 6000));
  assert.equal(await sender(), before, 'the same walsender session');
  await pipeline.nats.start();
  await caughtUp(pipeline, ledger, 60_000);
  assert.equal(await sender(), before);
  assertOrdered(ledger.changes);
  await assertEqualsTable(pipeline, ledger);
  assert.equal((await capture.stop()).code, 0);
});

test('a stream that was wiped is filled again from the slot, in front of what is archived', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  await until('a fence', async () => ledger.fences.length > 1);
  await ledger.archive();
  await pipeline.query("INSERT INTO item (v) VALUES ('in the stream, not archived')");
  await caughtUp(pipeline, ledger);
  await ledger.stream.manager.streams.delete(ledger.stream.name);
  await pipeline.query("INSERT INTO item (v) VALUES ('after the wipe')");
  await caughtUp(pipeline, ledger, 60_000);
  assertOrdered(ledger.changes);
  await assertEqualsTable(pipeline, ledger);
  assert.equal((await capture.stop()).code, 0);
});

test('a second capture stands by until the first has gone', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const first = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  const second = pipeline.service('capture');
  await until('the second stands by', async () => /standing by/.test(second.log));
  first.signal('SIGKILL');
  await until('the second takes over', async () => /"event":"streaming"/.test(second.log));
  await caughtUp(pipeline, ledger);
  assertOrdered(ledger.changes);
  assert.equal((await second.stop()).code, 0);
});

test('a fence is owed to rows that an older transaction kept uncovered, and comes when that has ended', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  const other = await connectClient(pipeline.databaseUrl, { applicationName: 'long' });
  await other.query('BEGIN; INSERT INTO public.secret VALUES (1)');
  const xid = BigInt((await pipeline.query<{ x: string }>("INSERT INTO item (v) VALUES ('kept') RETURNING xmin::text AS x"))[0]?.x as string);
  const before = ledger.fences.length;
  await until('a fence that does not cover it', async () => ledger.fences.length > before);
  assert.ok(BigInt(ledger.fences.at(-1)?.horizon as string) <= xid);
  await other.query('ROLLBACK');
  await until('one that does', async () => BigInt(ledger.fences.at(-1)?.horizon as string) > xid);
  const count = ledger.fences.length;
  await new Promise((resolve) => setTimeout(resolve, 5000));
  assert.equal(ledger.fences.length, count, 'and no further one');
  await other.end();
  assert.equal((await capture.stop()).code, 0);
});

test('a stop is never held up: not by a slot that waits for writers, nor by a stream that takes nothing; nor is the server’s own', async () => {
  const { pipeline, ledger } = await world({ rows: 10 });
  await using _p = pipeline;
  await using _l = ledger;
  const writer = await connectClient(pipeline.databaseUrl, { applicationName: 'writer' });
  await writer.query('BEGIN; INSERT INTO public.secret VALUES (1)');
  const waiting = pipeline.service('capture');
  await until('it says what it waits for', async () => /making the slot waits for running transactions/.test(waiting.log), 20_000);
  const asked = Date.now();
  assert.equal((await waiting.stop()).code, 0, waiting.log);
  assert.ok(Date.now() - asked < 4000);
  await writer.query('COMMIT');
  const capture = pipeline.service('capture');
  await caughtUp(pipeline, ledger);
  await pipeline.nats.kill();
  await pipeline.query(`INSERT INTO item (v) SELECT repeat('z', 500) || i FROM generate_series(1, 120000) i`);
  await until('publishing stands still', async () => /publish-retry/.test(capture.log), 20_000);
  const begun = Date.now();
  await pipeline.postgres.stop('fast');
  assert.ok(Date.now() - begun < 5000, `the server stopped after ${Date.now() - begun} ms`);
  await pipeline.postgres.start();
  const stopping = Date.now();
  assert.equal((await capture.stop()).code, 0);
  assert.ok(Date.now() - stopping < 6000);
  await writer.end().catch(() => undefined);
});
