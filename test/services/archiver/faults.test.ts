import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { smallVolume } from '../../archive/small-volume.js';
import { defineTable, deleteMessage, insertMessage } from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const DAY = '2026-01-12';
const insert = (id: number, note = `n${id}`): Buffer => insertMessage(OID, [String(id), `${DAY} 10:00:00+00`, note]);

for (const point of ['A2', 'A3', 'A5', 'A6', 'A7', 'A8', 'A9'] as const) {
  test(`F2: killed at ${point}, the next archiver has every row once and no file that no manifest names`, async () => {
    await using bench = await ArchiverBench.start();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [['1', `${DAY} 09:00:00+00`, 'copied']] }]));
    // A8: the first passage is the claim, the second copy-begin.
    const killed = bench.spawn(`${point}:kill:${point === 'A8' ? 3 : 1}`);
    const chunks = wal.transaction([prices], [insert(2), insert(3)]);
    await bench.publish(...chunks);
    assert.equal((await killed.ended).signal, 'SIGKILL');
    const running = bench.run();
    const state = await bench.archived(chunks.at(-1));
    assert.deepEqual(
      (await bench.versions(state)).map((text) => text.split('|')[0]),
      ['copy fff:1 1', 'insert 1000:1 2', 'insert 1000:2 3'],
    );
    assert.deepEqual((await bench.filesBelow('open')).sort(), [...state.files.keys()].sort());
    await running.stop();
    assert.deepEqual(await bench.filesBelow('tmp'), []);
    assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
  });
}

test('F6: stopped at A7 with its segments linked, overtaken, swept, then continued: its manifest is refused and its rows are not lost', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [['1', `${DAY} 09:00:00+00`, 'copied']] }]));
  const stopped = bench.spawn('A7:stop:1');
  await until('a segment without a manifest', async () => (await bench.filesBelow('open')).length > 0);
  const [zombie] = await bench.filesBelow('open');
  const second = bench.run();
  const state = await until('the second archived the copy', async () => {
    const found = await bench.state();
    return found?.position ? found : undefined;
  });
  assert.ok(!state.files.has(zombie as string));
  stopped.process.kill('SIGCONT');
  assert.deepEqual(await stopped.ended, { code: 3, signal: null });
  const chunks = wal.transaction([prices], [insert(2)]);
  await bench.publish(...chunks);
  assert.equal((await bench.versions(await bench.archived(chunks[0]))).length, 2);
  await second.stop();
  assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
});

for (const point of ['K1', 'K2', 'K3'] as const) {
  test(`F3: killed at ${point} while sealing, either the day’s segments or its daily file count, never both or neither`, async () => {
    await using bench = await ArchiverBench.start();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    await new ReceiptWriter(bench.dir).append({
      type: 'intent', run: 'r', batch: 'b', xid: String(wal.xid + 2), oid: OID, schema: 'public', table: 'prices', rows: 2, keys: [], digests: [], at: '',
    }); // biome-ignore format: one receipt
    const chunks = [
      ...wal.transaction([prices], [insert(1), insert(2)]),
      ...wal.transaction([prices], [deleteMessage(OID, ['1', null, null]), deleteMessage(OID, ['2', null, null])], { first: wal.pruneMark('r', 'b') }),
    ];
    await bench.publish(...chunks);
    const sealing = bench.spawn(`${point}:kill:1`);
    await bench.archived(chunks.at(-1));
    void bench.seal({ day: DAY, asOf: wal.next }).catch(() => undefined);
    if (point === 'K3') {
      await until('the day is sealed', async () => [...((await bench.state())?.files.values() ?? [])].some((entry) => entry.kind === 'daily'));
      const replaced = (await bench.filesBelow('open')).length;
      sealing.process.kill('SIGUSR2'); // the grace is over
      await sealing.ended;
      const left = (await bench.filesBelow('open')).length;
      assert.ok(left > 0 && left < replaced, `${left} of ${replaced} files that the daily file replaced are left`);
    }
    assert.equal((await sealing.ended).signal, 'SIGKILL');
    const running = bench.run();
    await until('the next archiver claimed', async () => ((await bench.state())?.writer.pid ?? 0) === process.pid);
    const reply = await until('an answer', async () => await bench.seal({ day: DAY, asOf: wal.next }).catch(() => undefined));
    if (point === 'K1') assert.deepEqual(reply, { ok: true, file: `prices/prices_${DAY}.parquet`, rows: 2, history: 0 });
    else assert.match(reply.reason ?? '', /no open segment/);
    assert.equal((await bench.daily(`prices/prices_${DAY}.parquet`)).length, 2);
    await running.stop();
    assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
  });
}

test('F27: NATS killed and started again: archiving goes on by itself, without a second claim', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const a = wal.transaction([prices], [insert(1)]);
  await bench.publish(...a);
  const { writer } = await bench.archived(a[0]);
  await bench.nats.kill();
  await bench.nats.start();
  const b = wal.transaction([prices], [insert(2)]);
  await until('the stream takes chunks again', async () => bench.publish(...b).then(() => true, () => false)); // biome-ignore format: short
  const state = await bench.archived(b[0]);
  assert.equal(state.writer.claim, writer.claim);
  assert.equal((await bench.versions(state)).length, 2);
  await running.stop();
});

test('an archiver that starts before NATS waits for it and leaves the manifest alone meanwhile', async () => {
  await using bench = await ArchiverBench.start();
  await bench.nats.stop();
  const running = bench.run();
  await until('it tried', async () => bench.logged.filter((line) => line['event'] === 'retry').length >= 2);
  assert.equal(await bench.state(), undefined);
  await bench.nats.start();
  await until('it archives', async () => (await bench.state())?.reason === 'claim', 30_000);
  await running.stop();
});

test('F37: a full volume commits nothing, and archiving goes on by itself when there is room again', async (t) => {
  const volume = smallVolume(4 * 1024 * 1024);
  if (typeof volume === 'string') return t.skip(volume);
  try {
    await using bench = await ArchiverBench.start({ dir: volume.dir });
    const running = bench.run();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    await until('the copy is complete', async () => (await bench.state())?.position);
    const filler = path.join(volume.dir, 'filler');
    await writeFile(filler, Buffer.alloc(4 * 1024 * 1024)).catch(() => undefined);
    const chunks = wal.transaction(
      [prices],
      Array.from({ length: 500 }, (_, i) => insert(i, 'x'.repeat(200))),
    );
    await bench.publish(...chunks);
    await until('it said that the volume is full', async () =>
      bench.logged.some((line) => line['event'] === 'retry' && /full|No space/.test(String(line['reason']))),
    );
    assert.equal((await bench.state())?.position, '0/1000:0');
    await unlink(filler);
    const state = await bench.archived(chunks.at(-1));
    assert.equal((await bench.versions(state)).length, 500);
    await running.stop();
    assert.deepEqual((await verifyArchive(volume.dir)).damages, []);
  } finally {
    volume.unmount();
  }
});

test('a volume that takes claims but no segments is tried ever more seldom: each try claims', async (t) => {
  const volume = smallVolume(16 * 1024 * 1024);
  if (typeof volume === 'string') return t.skip(volume);
  const open = path.join(volume.dir, '_tidemark', 'open');
  try {
    await using bench = await ArchiverBench.start({ dir: volume.dir });
    const running = bench.run();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    await until('the copy is complete', async () => (await bench.state())?.position);
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', open]);
    mkdirSync(path.join(open, 'prices'));
    execFileSync('mount', ['-o', 'remount,ro', open]);
    try {
      await bench.publish(...wal.transaction([prices], [insert(1)]));
      await until('a fourth try in a row', async () => bench.logged.some((line) => line['event'] === 'retry' && Number(line['attempt']) >= 4));
    } finally {
      execFileSync('umount', ['-l', open]);
    }
    const chunks = wal.transaction([prices], [insert(2)]);
    await bench.publish(...chunks);
    assert.equal((await bench.versions(await bench.archived(chunks.at(-1)))).length, 2);
    await running.stop();
  } finally {
    volume.unmount();
  }
});

test('F39: a volume that turns read-only commits nothing, and archiving goes on when it is writable again', async (t) => {
  const volume = smallVolume(16 * 1024 * 1024);
  if (typeof volume === 'string') return t.skip(volume);
  try {
    await using bench = await ArchiverBench.start({ dir: volume.dir });
    const running = bench.run();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    await until('the copy is complete', async () => (await bench.state())?.position);
    execFileSync('mount', ['-o', 'remount,ro', volume.dir]);
    const chunks = wal.transaction([prices], [insert(1)]);
    await bench.publish(...chunks);
    await until('it said so', async () => bench.logged.some((line) => line['event'] === 'retry' && /read-only/i.test(String(line['reason']))));
    execFileSync('mount', ['-o', 'remount,rw', volume.dir]);
    await bench.archived(chunks.at(-1));
    await running.stop();
  } finally {
    volume.unmount();
  }
});
