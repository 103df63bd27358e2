/** Who waits for the archive to come up to a position has it flushed at once; asked often it is no flush more, and what it holds is covered no later than without. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AskedFlushes } from '../../../services/archiver/asked-flushes.js';
import { dueMs, patienceMs } from '../../../services/archiver/cuts.js';
import type { ReadyBatch } from '../../../services/archiver/flush.js';
import { openContext, openIntake } from '../../../services/archiver/loop.js';
import { type Lsn, lsn } from '../../../src/position/lsn.js';
import { requestFlush } from '../../../src/stream/flush-request.js';
import { defineTable, insertMessage, type WrittenChunk } from '../../change/pgoutput-writer.js';
import { ArchiverBench, taking, until } from './harness.js';

const prices = defineTable();
const insert = (id: number): Buffer => insertMessage(prices.relation.oid, [String(id), '2026-01-12 10:00:00+00', `n${id}`]);
const endOf = (chunks: readonly WrittenChunk[]): Lsn => (chunks.at(-1) as WrittenChunk).header.end.lsn;
const hourly = { flush: '{ every: 1h }' };

test('of several positions the lowest comes first, and those of a second are taken once', () => {
  const asked = new AskedFlushes();
  let heard = 0;
  asked.hear(() => {
    heard += 1;
  });
  assert.equal(asked.take(0), undefined, 'nothing was asked');
  asked.ask(lsn(20n));
  asked.ask(lsn(10n));
  asked.ask(lsn(30n));
  assert.deepEqual([asked.take(0), asked.take(5000), heard], [10n, undefined, 3]);
  asked.ask(lsn(40n));
  assert.deepEqual([asked.take(5000), asked.take(9000)], [40n, undefined]);
  asked.ask(lsn(50n));
  assert.deepEqual([asked.take(5999), asked.take(6000)], [undefined, 50n]);
});

test('a batch ends before a transaction that spans messages only when it is old enough for that', async () => {
  assert.deepEqual([dueMs(60_000, false), dueMs(60_000, true), dueMs(100, true)], [60_000, 64_000, 600]);
  assert.deepEqual([patienceMs(60_000, false), patienceMs(60_000, true), patienceMs(2000, false), patienceMs(2000, true)], [10_000, 64_000, 1500, 6000]);
  await using bench = await ArchiverBench.start(hourly);
  const context = await openContext(bench.config, bench.dir, bench.archive, bench.key, bench.log);
  const intake = openIntake(context, bench.dir);
  const take = taking(intake);
  const rowsOf = async (...chunks: readonly WrittenChunk[]): Promise<number[]> => {
    const ready = await take(...chunks);
    for (const { batch } of ready) batch.discard();
    return ready.map(({ batch }) => batch.rows);
  };
  const wal = bench.wal();
  await rowsOf(...bench.copy([{ definition: prices, rows: [] }]));
  /** A message that ends within a transaction, and one with its end. */
  const load = (id: number): WrittenChunk[] => {
    const [begun, ended] = wal.transaction([prices], [insert(id + 1), insert(id + 2)], { cuts: [1] }) as [WrittenChunk, WrittenChunk];
    return [begun, ended];
  };
  intake.cuts.patienceMs = 60_000;
  assert.deepEqual(await rowsOf(...load(10), ...load(20), ...load(30)), [], 'too young');
  intake.cuts.patienceMs = 0;
  assert.deepEqual(await rowsOf(...load(40)), [6], 'what came before does not wait');
  intake.discard();
  await context.close();
});

test('a batch is cut behind the transaction that reaches what was asked for, never inside one, and once', async () => {
  await using bench = await ArchiverBench.start(hourly);
  const context = await openContext(bench.config, bench.dir, bench.archive, bench.key, bench.log);
  const intake = openIntake(context, bench.dir);
  const take = taking(intake);
  const found: ReadyBatch[] = [];
  const rowsOf = (ready: readonly ReadyBatch[]): number[] => {
    found.push(...ready);
    return ready.map(({ batch }) => batch.rows);
  };
  const wal = bench.wal();
  const copied = bench.copy([{ definition: prices, rows: [] }]);
  rowsOf(await take(...copied));
  intake.cutAt(endOf(copied));
  const first = wal.transaction([prices], [insert(1)]);
  assert.deepEqual(rowsOf(await take(...first)), [], 'the copy is on its way: nothing is missing');
  intake.cutAt(endOf(first));
  assert.deepEqual([rowsOf(intake.takeReady()), intake.cuts.uncoveredSince], [[1], found[1]?.batch.startedAt], 'at once');
  const before = wal.transaction([prices], [insert(4)]);
  const [begun, ended] = wal.transaction([prices], [insert(2), insert(3)], { cuts: [1] }) as [WrittenChunk, WrittenChunk];
  await take(...before, begun);
  intake.cutAt(endOf(before));
  assert.deepEqual(rowsOf(intake.takeReady()), [], 'not inside');
  assert.deepEqual(rowsOf(await take(ended)), [3]);
  assert.equal(intake.cuts.uncoveredSince, found[1]?.batch.startedAt, 'since the first of them');
  assert.deepEqual(rowsOf(await take(...wal.transaction([prices], [insert(5)]))), [], 'once');
  const fence = wal.fence('a', '10');
  intake.cutAt(endOf(fence));
  assert.deepEqual([rowsOf(await take(...fence)), intake.cuts.uncoveredSince], [[1], undefined], 'all is covered');
  for (const { batch } of found) batch.discard();
  intake.discard();
  await context.close();
});

test('what is asked for is archived without waiting for its age, also when it comes later; what is archived costs nothing', async () => {
  await using bench = await ArchiverBench.start(hourly);
  const running = bench.run();
  const ask = (upTo: Lsn): Promise<boolean> => requestFlush(bench.stream.connection, 'test', upTo);
  const wal = bench.wal();
  assert.equal(await requestFlush(bench.stream.connection, 'other', lsn(1n)), false, 'nobody is there');
  const copied = bench.copy([{ definition: prices, rows: [] }]);
  await bench.publish(...copied);
  const { number } = await bench.archived(copied.at(-1));
  const [one, two] = [wal.transaction([prices], [insert(1)]), wal.transaction([prices], [insert(2)])];
  await bench.publish(...one);
  await until('it is taken', () => ask(endOf(one)));
  assert.equal((await bench.archived(one.at(-1))).number, number + 1);
  assert.deepEqual(await Promise.all(Array.from({ length: 50 }, () => ask(endOf(one)))), Array(50).fill(true));
  await ask(endOf(two));
  await bench.publish(...two);
  await bench.archived(two.at(-1));
  const three = Array.from({ length: 40 }, (_, i) => wal.transaction([prices], [insert(10 + i)]));
  for (const chunks of three) {
    await bench.publish(...chunks);
    await ask(endOf(chunks));
  }
  const last = three.at(-1) as WrittenChunk[];
  await until(
    'the last is archived',
    async () => (await ask(endOf(last))) && ((await bench.state())?.position ?? '').startsWith(`0/${endOf(last).toString(16).toUpperCase()}`),
  );
  const flushes = ((await bench.state())?.number ?? 0) - number - 2;
  assert.ok(flushes <= 3, `${flushes} flushes for 40 wishes of a moment`);
  await running.stop();
});

test('rows that were flushed on request are covered when they would have been without it', async () => {
  const everyMs = 4000;
  await using bench = await ArchiverBench.start({ flush: `{ every: ${everyMs}ms }` });
  const running = bench.run();
  const wal = bench.wal();
  const copied = bench.copy([{ definition: prices, rows: [] }]);
  await bench.publish(...copied);
  await bench.archived(copied.at(-1));
  const rows = wal.transaction([prices], [insert(1)]);
  await bench.publish(...rows);
  await new Promise((resolve) => setTimeout(resolve, everyMs / 2)); // they have this age when they are flushed
  await requestFlush(bench.stream.connection, 'test', endOf(rows));
  await bench.archived(rows.at(-1));
  const fence = wal.fence('a');
  const began = performance.now();
  await bench.publish(...fence);
  await bench.archived(fence.at(-1));
  const ms = performance.now() - began;
  assert.ok(ms < 0.9 * everyMs, `${Math.round(ms)} ms behind the flush of half their age`);
  await running.stop();
});
