/** An archiver that has forgotten, after a restart above all, finds unchanged large values in the archive: in the newest version of the row, whatever it came as. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { SegmentReader } from '../../../src/segment/reader.js';
import { defineTable, deleteMessage, insertMessage, updateMessage } from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const AT = '2026-01-12 10:00:00+00';
const big = (letter: string): string => letter.repeat(3000);
const row = (id: number, note: string): [string, string, string] => [String(id), AT, note];
const insert = (id: number, note: string): Buffer => insertMessage(OID, row(id, note));
const update = (id: number, note: string | undefined, old?: number): Buffer =>
  updateMessage(OID, [String(id), AT, note], old === undefined ? undefined : { kind: 'K', values: [String(old), null, null] });
const short = (text: string): string => text.replace(/^(\w+) (\w+:\d+) (\d+)\|[^|]*\|(.).*?( unresolved)?$/s, '$1 $2 $3 $4$5');

test('P11: after a restart values come from the copy, an insert or an update, the newest of the row, also under its former key and when later rows are not archived yet', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 300ms }' });
  const wal = bench.wal();
  const first = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, big('a')), row(2, big('b')), row(3, big('c'))] }]));
  const before = wal.transaction([prices], [update(2, big('B')), insert(4, big('d')), insert(5, 'short')]);
  await bench.publish(...before);
  await bench.archived(before[0]);
  await first.stop();

  const second = bench.run();
  const a = wal.transaction([prices], [update(5, 'tiny')]);
  const b = wal.transaction([prices], [update(1, undefined), update(2, undefined), update(30, undefined, 3), update(4, undefined), update(1, undefined)]);
  const c = wal.transaction([prices], [deleteMessage(OID, ['4', null, null]), insert(4, big('D'))]);
  const d = wal.transaction([prices], [update(4, undefined), update(30, undefined)]);
  await bench.publish(...a, ...b, ...c, ...d);
  const state = await bench.archived(d.at(-1));
  const lsns = [a, b, c, d].map(([chunk]) => (chunk?.header.prev.lsn ?? 0n).toString(16));
  assert.deepEqual((await bench.versions(state)).slice(-9).map(short), [
    `update ${lsns[0]}:1 5 t`,
    `update ${lsns[1]}:1 1 a`,
    `update ${lsns[1]}:2 2 B`,
    `update ${lsns[1]}:3 30 c`,
    `update ${lsns[1]}:4 4 d`,
    `update ${lsns[1]}:5 1 a`,
    `insert ${lsns[2]}:2 4 D`,
    `update ${lsns[3]}:1 4 D`,
    `update ${lsns[3]}:2 30 c`,
  ]);
  await second.stop();
});

test('F40: a value of a version that does not decode to its own digest is not taken over: the row stays unresolved', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  const first = bench.run();
  const value = randomBytes(3000).toString('base64');
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, value), row(2, big('b'))] }]));
  const before = wal.transaction([prices], [insert(3, 'short')]);
  await bench.publish(...before);
  const [copied] = [...(await bench.archived(before[0])).files.values()].filter((entry) => entry.maxLsn === '0/FFF');
  await first.stop();
  const file = path.join(bench.dir, copied?.file as string);
  const bytes = await readFile(file);
  const at = bytes.indexOf(value.slice(1000, 1100));
  assert.ok(at > 0);
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(file, bytes);
  const second = bench.run();
  const a = wal.transaction([prices], [update(1, undefined), update(2, undefined)]);
  await bench.publish(...a);
  const found = (await bench.versions(await bench.archived(a[0]))).slice(-2);
  assert.deepEqual(found.map((text) => [short(text).slice(-14).includes('unresolved'), text.includes(big('b'))]), [[true, false], [false, true]]); // biome-ignore format: two rows
  await second.stop();
});

test('one that is stopped while it looks values up in many files ends at once, takes no chunk without them, and the next one finds them', async (t) => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 100ms }' });
  const wal = bench.wal();
  const first = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, big('a'))] }]));
  for (let id = 2; id < 10; id += 1) {
    const one = wal.transaction([prices], [insert(id, 'short')]);
    await bench.publish(...one);
    await bench.archived(one[0]);
  }
  await first.stop();

  const second = bench.run();
  let stopped: Promise<unknown> | undefined;
  const { readRowGroup } = SegmentReader.prototype;
  const read = t.mock.method(SegmentReader.prototype, 'readRowGroup', function (this: SegmentReader, ...args: Parameters<typeof readRowGroup>) {
    stopped ??= second.stop();
    return readRowGroup.apply(this, args);
  });
  const b = wal.transaction([prices], [update(1, undefined)]);
  await bench.publish(...b);
  await until('the archive is searched', async () => stopped !== undefined);
  await stopped;
  assert.equal(read.mock.callCount(), 1, 'of nine files');
  read.mock.restore();

  const third = bench.run();
  const state = await bench.archived(b[0]);
  assert.match((await bench.versions(state)).map(short).at(-1) ?? '', /^update \w+:1 1 a$/);
  await third.stop();
});

test('a value that no archived version has stays unresolved, and is looked up once', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  const first = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, 'short')] }]));
  const a = wal.transaction([prices], [update(1, undefined), update(9, undefined)]);
  const b = wal.transaction([prices], [update(9, undefined)]);
  await bench.publish(...a, ...b);
  const state = await bench.archived(b[0]);
  assert.equal((await bench.versions(state)).filter((text) => text.endsWith(' unresolved')).length, 3);
  assert.equal(bench.logged.filter((line) => line['event'] === 'recalled').length, 1);
  await first.stop();
});

test('under REPLICA IDENTITY FULL the old row brings them', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  const full = defineTable({ identity: 'f' });
  const running = bench.run();
  await bench.publish(...bench.copy([{ definition: full, rows: [] }]));
  const chunks = wal.transaction([full], [updateMessage(OID, ['1', AT, undefined], { kind: 'O', values: ['1', AT, big('z')] })]);
  await bench.publish(...chunks);
  assert.deepEqual(
    (await bench.versions(await bench.archived(chunks[0]))).map((text) => short(text).slice(-3)),
    ['1 z'],
  );
  await running.stop();
});
