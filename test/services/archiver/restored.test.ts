/** Restored rows as the archiver takes them: apart from all others when mark and receipt say so, ordinary ones otherwise. No Postgres: the stream is made by hand. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';
import { rebuildArchive } from '../../../services/archiver/rebuild.js';
import { groupFiles, tableFiles } from '../../../src/archive/groups.js';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { hasDigest, RestoreWriter } from '../../../src/archive/restores.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { formatLsn, lsn } from '../../../src/position/lsn.js';
import { digestOfTexts } from '../../../src/segment/digest.js';
import { SegmentReader } from '../../../src/segment/reader.js';
import { tupleDigests } from '../../../src/segment/tuple-digest.js';
import {
  defineTable,
  deleteMessage,
  descriptionMessage,
  framed,
  insertMessage,
  relationMessage,
  updateMessage,
  type WalWriter,
  type WrittenChunk,
} from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const DAY = '2026-01-12';
const row = (id: number): string[] => [String(id), `${DAY} 10:00:00+00`, `n${id}`];
const insert = (id: number): Buffer => insertMessage(OID, row(id));
const remove = (id: number): Buffer => deleteMessage(OID, [String(id), null, null]);

async function prune(bench: ArchiverBench, wal: WalWriter, batch: string, ids: readonly number[]): Promise<WrittenChunk[]> {
  await new ReceiptWriter(bench.dir).append({
    type: 'intent', run: 'r', batch, xid: String(wal.xid + 1), oid: OID, schema: 'public', table: 'prices', rows: ids.length, keys: [], digests: [], at: '',
  }); // biome-ignore format: one receipt
  return wal.transaction([prices], ids.map(remove), { first: wal.pruneMark('r', batch) });
}

/** The receipt of a restore of `ids` in the next transaction. */
async function receipt(
  bench: ArchiverBench,
  wal: WalWriter,
  batch: string,
  ids: readonly number[],
  change: { xid?: number; known?: boolean } = {},
): Promise<void> {
  await new RestoreWriter(bench.dir).append({
    type: 'restore', run: 'x', batch, xid: String(change.xid ?? wal.xid + 1), systemId: bench.epoch.systemId, oid: OID, schema: 'public', table: 'prices', rows: ids.length,
    keys: ids.map((id) => [String(id)]), digests: ids.map((id) => String(digestOfTexts(row(id)))), known: change.known ?? true, safeUntil: '', at: '',
  }); // biome-ignore format: one receipt
}

/** Rows of the files of restored rows, in order. */
async function restored(bench: ArchiverBench): Promise<string[]> {
  const state = await bench.state();
  assert.ok(state);
  const found: string[] = [];
  for (const { files } of await groupFiles(bench.dir, tableFiles(state, OID, 'restored'))) {
    for (const file of files) {
      const reader = await SegmentReader.open(file);
      const rows = await reader.readRowGroup(0);
      for (let i = 0; i < rows.rowCount; i += 1) found.push(`${rows.op(i)} ${rows.text('id', i)}`);
      await reader.close();
    }
  }
  return found.sort();
}
const shown = async (bench: ArchiverBench): Promise<string[]> =>
  (await bench.versions()).map((version) => version.replace(/ [0-9a-f]+:/, ' ').replace(/\|.*/, ''));

test('a restore counts as one only with its mark, its receipt, its transaction and the very rows', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [1, 2, 3, 4, 5, 6, 7, 8].map(row) }]));
  const chunks = await prune(bench, wal, 'p', [1, 2, 3, 4, 5, 6, 7, 8]);
  const take = async (
    ids: readonly number[],
    batch: string,
    options: { mark?: Buffer; receipt?: Parameters<typeof receipt>[4]; cuts?: readonly number[] },
  ): Promise<void> => {
    await receipt(bench, wal, batch, ids, options.receipt);
    const first = options.mark ?? wal.restoreMark('x', batch);
    chunks.push(...wal.transaction([prices], ids.map(insert), { first, ...(options.cuts === undefined ? {} : { cuts: options.cuts }) }));
  };
  await take([1, 2], 'true', { cuts: [1] }); // over two chunks
  await take([3], 'other transaction', { receipt: { xid: 99_999 } });
  await take([4], 'forged', { mark: wal.restoreMark('x', 'forged', randomBytes(32)) });
  await take([5], 'new version', { receipt: { known: false } });
  chunks.push(...wal.transaction([prices], [insert(6)], { first: wal.restoreMark('x', 'no receipt') }));
  await receipt(bench, wal, 'changed', [7]);
  chunks.push(
    ...wal.transaction([prices], [insertMessage(OID, ['7', `${DAY} 10:00:00+00`, 'by a trigger']), insert(8)], { first: wal.restoreMark('x', 'changed') }),
  );
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  assert.deepEqual(await restored(bench), ['restore 1', 'restore 2']);
  const inserted = (await shown(bench)).filter((version) => version.startsWith('insert'));
  assert.deepEqual(inserted, ['insert 1 3', 'insert 1 4', 'insert 1 5', 'insert 1 6', 'insert 1 7', 'insert 2 8']);
  assert.equal(bench.logged.filter(({ event }) => event === 'mark-without-receipt').length, 4, 'other transaction, forged, new version, no receipt');
  await running.stop();
});

test('restored rows through merge, rebuild and seal: nobody sees them twice; a day of theirs alone is sealed into nothing', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 1ms }' });
  const running = bench.run();
  const wal = bench.wal();
  const ids = Array.from({ length: 36 }, (_, i) => i + 1);
  await bench.publish(...bench.copy([{ definition: prices, rows: ids.map(row) }]));
  const pruned = await prune(bench, wal, 'p', ids);
  await bench.publish(...pruned);
  await bench.archived(pruned.at(-1));
  const sealed = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual([sealed.ok, sealed.rows], [true, 36]);
  for (const id of ids) {
    await receipt(bench, wal, `b${id}`, [id]);
    const chunk = wal.transaction([prices], [insert(id)], { first: wal.restoreMark('x', `b${id}`) });
    await bench.publish(...chunk);
    await bench.archived(chunk.at(-1)); // a file each
  }
  await until('small files are merged', async () => [...((await bench.state())?.files.values() ?? [])].filter(({ kind }) => kind === 'restored').length < 33);
  assert.equal((await restored(bench)).length, 36);
  assert.deepEqual(await bench.versions(), []);
  const early = await bench.seal({ day: DAY, asOf: wal.next });
  assert.match(String(early.reason), /no open segment/, 'they are in Postgres still');
  const changes = [
    ...wal.transaction([prices], [updateMessage(OID, ['1', `${DAY} 10:00:00+00`, 'edited']), remove(2)]),
    ...(await prune(
      bench,
      wal,
      'q',
      ids.filter((id) => id !== 2),
    )),
  ];
  await bench.publish(...changes);
  await bench.archived(changes.at(-1));
  const verified = await verifyArchive(bench.dir);
  assert.deepEqual([verified.ok, verified.rows], [true, 37]);
  const again = await rebuildArchive(bench.config, {
    log: bench.log,
    signal: new AbortController().signal,
    check: true,
    into: path.join(bench.scratch, 'again'),
  });
  assert.deepEqual([again.equal, again.differences, again.skipped], [true, [], []]);
  const second = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual([second.ok, second.rows, second.history], [true, 1, 0]);
  assert.deepEqual(await bench.daily(second.file as string), [`1|${DAY} 10:00:00+00|edited`]);
  assert.deepEqual(await restored(bench), []);
  await receipt(bench, wal, 'alone', [3]);
  const alone = [...wal.transaction([prices], [insert(3)], { first: wal.restoreMark('x', 'alone') }), ...(await prune(bench, wal, 's', [3]))];
  await bench.publish(...alone);
  await bench.archived(alone.at(-1));
  const third = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual([third.ok, third.file, third.rows], [true, null, 0]);
  const kinds = [...((await bench.state())?.files.values() ?? [])].map(({ kind }) => kind);
  assert.deepEqual(
    kinds.filter((kind) => kind !== 'keys'),
    ['daily', 'daily'],
  );
  await running.stop();
});

test('a restored row that is copied again is not there a second time; what its receipt cannot know is an ordinary copy', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await receipt(bench, wal, 'first', [4], { xid: 600 });
  await bench.publish(...bench.copy([{ definition: prices, rows: [1, 2, 3, 4].map(row) }]));
  await receipt(bench, wal, 'a', [1], { xid: 705 });
  await receipt(bench, wal, 'b', [2], { xid: 720 });
  const start = await prune(bench, wal, 'p', [1, 2, 3]);
  await bench.publish(...start);
  await bench.archived(start.at(-1));
  const at = wal.next + 0x100n;
  const id = randomUUID();
  const rows = framed([descriptionMessage(prices.description), relationMessage(prices.relation), ...[1, 2, 3].map(insert)]);
  const form = framed([descriptionMessage(prices.description), relationMessage(prices.relation)]).toString('base64');
  const span = { prev: wal.end, end: wal.end, epoch: wal.epoch, fragment: { n: 1, of: 1 } };
  const named = { id, oid: OID, schema: 'public', table: 'prices', whole: true, published: 'p', archive: bench.archive };
  await bench.publish(
    {
      header: { kind: 'recopy-begin', ...span, recopy: { id, at: lsn(at), prev: 0, end: 0 } },
      payload: Buffer.from(JSON.stringify({ ...named, at: formatLsn(lsn(at)), snapshot: '710:710:' })),
    },
    { header: { kind: 'recopy', ...span, recopy: { id, at: lsn(at), prev: 0, end: 3 } }, payload: rows },
    { header: { kind: 'recopy-end', ...span, recopy: { id, at: lsn(at), prev: 3, end: 3 } }, payload: Buffer.from(JSON.stringify({ rows: 3, form })) },
  );
  await until('it is complete', async () => (await bench.state())?.recopy?.state === 'complete');
  assert.deepEqual(await restored(bench), ['restore 1', 'restore 4'], 'row 2 was restored after the snapshot, row 4 before the first copy');
  const copied = (await bench.versions()).filter((version) => version.startsWith(`copy ${(at - 1n).toString(16)}:`));
  assert.deepEqual(
    copied.map((version) => version.split(':')[1]?.split('|')[0]),
    ['2 2', '3 3'],
  );
  await running.stop();
});

test('digests of tuples: the whole row, and as it was before columns were added behind', () => {
  const message = insertMessage(OID, ['1', 'x', null, null]);
  const digests = tupleDigests(message, 6);
  const expected = [
    ['1', 'x'],
    ['1', 'x', null],
    ['1', 'x', null, null],
  ].map(digestOfTexts);
  assert.deepEqual(digests, expected);
  const sorted = BigInt64Array.from(expected).sort();
  assert.deepEqual([hasDigest(sorted, digests), hasDigest(sorted, [digestOfTexts(['2'])]), hasDigest(new BigInt64Array(), digests)], [true, false, false]);
});
