/** The retention of the archive on a running archiver: receipts before the manifest, the manifest before the files; killed between them; by itself only what was confirmed. */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { rebuildArchive } from '../../../services/archiver/rebuild.js';
import { type ExpireReply, readExpired } from '../../../src/archive/expire.js';
import { putPause, removePause } from '../../../src/archive/operations.js';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { requestReply } from '../../../src/stream/request.js';
import { requestSubject } from '../../../src/stream/topology.js';
import { defineTable, deleteMessage, insertMessage, type WalWriter } from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const fileOf = (day: string): string => `prices/prices_${day}.parquet`;
const there = (bench: ArchiverBench, file: string): Promise<boolean> => stat(path.join(bench.dir, file)).then(() => true, () => false); // biome-ignore format: one line

async function expire(bench: ArchiverBench, ...files: string[]): Promise<ExpireReply> {
  return (await bench.stream.connection.request(requestSubject('test', 'expire'), JSON.stringify({ files }), { timeout: 30_000 })).json();
}

/** A row of a day, pruned, and its day sealed. */
async function seal(bench: ArchiverBench, wal: WalWriter, id: number, day: string, file = fileOf(day)): Promise<void> {
  const inserted = wal.transaction([prices], [insertMessage(OID, [String(id), `${day} 10:00:00+00`, 'old'])]);
  await new ReceiptWriter(bench.dir).append({
    type: 'intent', run: 'r', batch: `${day} ${id}`, xid: String(wal.xid + 1), oid: OID, schema: 'public', table: 'prices', rows: 1, keys: [], digests: [], at: '',
  }); // biome-ignore format: one receipt
  const pruned = wal.transaction([prices], [deleteMessage(OID, [String(id), null, null])], { first: wal.pruneMark('r', `${day} ${id}`) });
  await bench.publish(...inserted, ...pruned);
  await bench.archived(pruned[0]);
  assert.deepEqual(await bench.seal({ day, asOf: wal.next }), { ok: true, file, rows: 1, history: 0 });
}

for (const point of ['K6', 'K7'] as const) {
  test(`killed at ${point}, a day that leaves the archive is in it or gone, with its receipt, never in between`, async () => {
    await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at, keep: 2d }' });
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    const dying = bench.spawn(`${point}:kill:1`);
    for (const [i, day] of ['2026-01-01', '2026-01-10', '2026-01-11'].entries()) await seal(bench, wal, i, day);
    const young = await expire(bench, fileOf('2026-01-11'));
    assert.match(young.ok ? '' : young.reason, /prices_2026-01-11\.parquet may not go/);
    const file = fileOf('2026-01-01');
    const foreign = await requestReply<ExpireReply>(bench.stream.connection, requestSubject('test', 'expire'), { files: [file] }, { archive: 'another' });
    assert.match(foreign?.ok === false ? foreign.reason : '', /the archive\.dir of the one who asks has the archive another/);
    void expire(bench, file).catch(() => undefined);
    assert.equal((await dying.ended).signal, 'SIGKILL');
    const next = bench.spawn();
    await until('the next archiver claimed', async () => ((await bench.state())?.writer.pid ?? 0) === next.process.pid);
    const state = (await bench.state()) as NonNullable<Awaited<ReturnType<typeof bench.state>>>;
    assert.deepEqual([state.files.has(file), await there(bench, file)], [point === 'K6', true]);
    const receipts = await readExpired(bench.dir, state);
    if (point === 'K6') {
      assert.deepEqual(receipts, []);
      assert.equal((await until('an answer', async () => await expire(bench, file).catch(() => undefined))).ok, true);
    } else assert.deepEqual(receipts.map(({ day, rows, by, bytes }) => [day, rows, by, bytes > 0]), [['2026-01-01', 1, 'command', true]]); // biome-ignore format: one line
    next.process.kill('SIGUSR2'); // the grace is over
    await until('the file is gone', async () => !(await there(bench, file)));
    const left = (await bench.state()) as typeof state;
    assert.deepEqual([left.files.has(file), left.files.has(fileOf('2026-01-10'))], [false, true]);
    next.process.kill('SIGTERM');
    await next.ended;
    const verified = await verifyArchive(bench.dir);
    assert.deepEqual([verified.damages, verified.expired], [[], 1]);
    const options = { check: true, log: bench.log, signal: new AbortController().signal, into: path.join(bench.scratch, 'again') };
    const { equal, skipped, compared } = await rebuildArchive(bench.config, options);
    assert.deepEqual([equal, compared, skipped.map(({ day }) => day)], [true, 2, ['2026-01-01']]);
  });
}

test('a file that was let go and is still there goes at the next start; one of another size under its name is somebody else’s', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at, keep: 2d }' });
  const receipt = (file: string, bytes: number): string =>
    `${JSON.stringify({ file, kind: 'daily', schema: 'public', table: 'prices', day: '2026-01-01', rows: 1, bytes, sha256: '', at: '', by: 'command', keepMs: 1 })}\n`;
  await writeFile(path.join(bench.dir, '_tidemark/expired.jsonl'), [receipt('prices/a.parquet', 3), receipt('prices/b.parquet', 3), '{"file": "torn'].join(''));
  await mkdir(path.join(bench.dir, 'prices'));
  await writeFile(path.join(bench.dir, 'prices/a.parquet'), 'own');
  await writeFile(path.join(bench.dir, 'prices/b.parquet'), 'another');
  const running = bench.run();
  await until('it is swept', async () => !(await there(bench, 'prices/a.parquet')));
  assert.ok(await there(bench, 'prices/b.parquet'));
  await running.stop();
});

test('archive.expire takes nothing before a person has confirmed, nothing while pruning is paused, and goes on by itself from then on', async () => {
  await using bench = await ArchiverBench.start({
    tables: '  prices: { timestamp: at, keep: 2d }\n  others: { timestamp: at, keep: 2d }',
    flush: '{ every: 100ms }, expire: true',
  });
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  let running = bench.run();
  await seal(bench, wal, 1, '2026-01-01');
  await running.stop();
  running = bench.run();
  await until('it says so', async () => bench.logged.some((line) => line['event'] === 'expire-unconfirmed'));
  await putPause(bench.dir, 'audit');
  assert.match(JSON.stringify(await expire(bench, fileOf('2026-01-01'))), /paused since .*\(audit\)/);
  await removePause(bench.dir);
  assert.ok((await bench.state())?.files.has(fileOf('2026-01-01')));
  const reply = await expire(bench, fileOf('2026-01-01'));
  assert.deepEqual(reply.ok && [reply.days, reply.files, reply.rows], [1, 1, 1]);
  assert.deepEqual(JSON.parse(await readFile(path.join(bench.dir, '_tidemark/keep.json'), 'utf8')), { 'public.prices': 2 * 86_400_000 }, 'and no other table');
  await seal(bench, wal, 2, '2026-01-02');
  await seal(bench, wal, 3, '2026-01-01', 'prices/prices_2026-01-01_p2.parquet'); // late: the name of what went is nobody's any more
  await running.stop();
  running = bench.run();
  await until('the others went by themselves', async () => ![...((await bench.state())?.files.values() ?? [])].some(({ kind }) => kind === 'daily'));
  const receipts = await readExpired(bench.dir, (await bench.state()) as never);
  assert.deepEqual(receipts.map(({ day, by }) => [day, by]), [['2026-01-01', 'command'], ['2026-01-01', 'schedule'], ['2026-01-02', 'schedule']]); // biome-ignore format: one line
  await running.stop();
});
