import assert from 'node:assert/strict';
import { mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { rebuildArchive } from '../../../services/archiver/rebuild.js';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { ensureStream } from '../../../src/stream/topology.js';
import { defineTable, deleteMessage, insertMessage, updateMessage, type WalWriter, type WrittenChunk } from '../../change/pgoutput-writer.js';
import { ArchiverBench, type Running, until } from './harness.js';
import { Views } from './views.js';

const prices = defineTable();
const OID = prices.relation.oid;
const DAY = '2026-01-12';
const row = (id: number, note: string, time = '10:00:00', day = DAY): string[] => [String(id), `${day} ${time}+00`, note];
const insert = (id: number, note: string, time?: string, day?: string): Buffer => insertMessage(OID, row(id, note, time, day));
const update = (id: number, note: string, day?: string): Buffer => updateMessage(OID, row(id, note, '10:00:00', day));
const remove = (id: number): Buffer => deleteMessage(OID, [String(id), null, null]);

/** A pruner's transaction that deletes `ids`, with its intent. */
async function prune(bench: ArchiverBench, wal: WalWriter, batch: string, ids: readonly number[]): Promise<WrittenChunk[]> {
  await new ReceiptWriter(bench.dir).append({
    type: 'intent', run: 'r', batch, xid: String(wal.xid + 1), oid: OID, schema: 'public', table: 'prices', rows: ids.length, keys: [], digests: [], at: '',
  }); // biome-ignore format: one receipt
  return wal.transaction([prices], ids.map(remove), { first: wal.pruneMark('r', batch) });
}

/** `only`: the archiver that takes it, stopped then. */
async function archivedCopy(bench: ArchiverBench, rows: readonly (readonly string[])[] = [], only?: Running): Promise<void> {
  await bench.publish(...bench.copy([{ definition: prices, rows }]));
  await until('the copy is complete', async () => (await bench.state())?.position);
  await only?.stop();
}

test('law 1, P10: a sealed day keeps every pruned version, a later life of the same key included, and the last version of each', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench, [row(1, 'v1', '09:00:00')]);
  const chunks = [
    ...wal.transaction([prices], [update(1, 'v2'), insert(2, 'deleted by the user'), insert(3, 'stays until pruned')]),
    ...(await prune(bench, wal, 'first', [1])),
    ...wal.transaction([prices], [insert(1, 'second life'), remove(2)]),
    ...wal.transaction([prices], [insert(4, 'moves to another day'), update(4, 'moved', '2026-01-13')]),
    ...(await prune(bench, wal, 'second', [1, 3])),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  const reply = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual(reply, { ok: true, file: `prices/prices_${DAY}.parquet`, rows: 3, history: 1 });
  assert.deepEqual(await bench.daily(reply.file as string), [
    '1|2026-01-12 10:00:00+00|v2',
    '1|2026-01-12 10:00:00+00|second life',
    '3|2026-01-12 10:00:00+00|stays until pruned',
  ]);
  const state = await bench.state();
  const history = [...(state?.files.values() ?? [])].find((entry) => entry.kind === 'history');
  assert.deepEqual(await bench.daily(history?.file as string), ['2|2026-01-12 10:00:00+00|deleted by the user']);
  assert.deepEqual(await bench.versions(state), ['update 1090:2 4|2026-01-13 10:00:00+00|moved']);
  assert.ok((await verifyArchive(bench.dir)).ok);
  await running.stop();
});

test('deletes: keep leaves what the user deleted in the daily file', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at, deletes: keep }' });
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const chunks = [...wal.transaction([prices], [insert(1, 'gone'), insert(2, 'old'), update(2, 'new')]), ...wal.transaction([prices], [remove(1), remove(2)])];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  const reply = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual(reply, { ok: true, file: `prices/prices_${DAY}.parquet`, rows: 2, history: 0 });
  assert.deepEqual((await bench.daily(reply.file as string)).sort(), ['1|2026-01-12 10:00:00+00|gone', '2|2026-01-12 10:00:00+00|new']);
  await running.stop();
});

test('rows without a day get files of their own', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at, deletes: keep }' });
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const put = (id: number, at: string | null): Buffer => insertMessage(OID, [String(id), at, 'x']);
  await using views = await (async () => {
    const first = wal.transaction([prices], [put(1, 'infinity'), put(2, null), put(3, `${DAY} 10:00:00+00`), update(3, 'dated')]);
    await bench.publish(...first);
    await bench.archived(first[0]);
    return await Views.of(bench);
  })();
  const seen = ['1|∅', '2|∅', '3|2026-01-12 10:00:00+00'];
  assert.deepEqual(await views.rows('SELECT id, "at" FROM prices ORDER BY id'), seen);
  const removed = wal.transaction([prices], [remove(1), remove(2)]);
  await bench.publish(...removed);
  await bench.archived(removed[0]);
  assert.deepEqual(await bench.seal({ day: 'undated', asOf: wal.next }), { ok: true, file: 'prices/prices_undated_001.parquet', rows: 2, history: 0 });
  assert.deepEqual((await bench.daily('prices/prices_undated_001.parquet')).sort(), ['1|infinity|x', '2|∅|x']);
  assert.deepEqual(await views.rows('SELECT id, "at" FROM prices ORDER BY id'), seen);
  const late = wal.transaction([prices], [put(4, '0044-03-15 00:00:00+00 BC'), remove(4)]);
  await bench.publish(...late);
  await bench.archived(late[0]);
  assert.equal((await bench.seal({ day: 'undated', asOf: wal.next })).file, 'prices/prices_undated_002.parquet');
  assert.ok((await verifyArchive(bench.dir)).ok);
  await running.stop();
});

test('history: true keeps every version of a sealed day, with its change and its end', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at, history: true }' });
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench, [row(1, 'v1', '09:00:00')]);
  const chunks = [...wal.transaction([prices], [update(1, 'v2'), insert(2, 'x'), remove(2)]), ...(await prune(bench, wal, 'a', [1]))];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  assert.equal((await bench.seal({ day: DAY, asOf: wal.next })).rows, 1);
  const file = `_tidemark/history/prices/prices_${DAY}_changes.parquet`;
  const rows = (await parquetReadObjects({ file: await asyncBufferFromFile(path.join(bench.dir, file)), compressors })) as Record<string, unknown>[];
  assert.deepEqual(
    rows.map((one) => [one['note'], one['_op'], one['_ended_by'], one['_ended_at'] instanceof Date]),
    [
      ['v1', 'copy', 'update', true],
      ['v2', 'update', 'prune', true],
      ['x', 'insert', 'delete', true],
    ],
  );
  assert.ok((await verifyArchive(bench.dir)).ok);
  const again = await rebuildArchive(bench.config, {
    log: bench.log,
    signal: new AbortController().signal,
    check: true,
    into: path.join(bench.scratch, 'again'),
  });
  assert.deepEqual([again.equal, again.differences, again.skipped], [true, [], []]);
  await running.stop();
});

test('rows that come after a seal go into _p2; a sealed file is never touched', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const early = [...wal.transaction([prices], [insert(1, 'early')]), ...(await prune(bench, wal, 'a', [1]))];
  await bench.publish(...early);
  await bench.archived(early.at(-1));
  const first = await bench.seal({ day: DAY, asOf: wal.next });
  const before = await stat(path.join(bench.dir, first.file as string), { bigint: true });
  const late = [...wal.transaction([prices], [insert(2, 'late')]), ...(await prune(bench, wal, 'b', [2]))];
  await bench.publish(...late);
  await bench.archived(late.at(-1));
  const second = await bench.seal({ day: DAY, asOf: wal.next });
  assert.equal(second.file, `prices/prices_${DAY}_p2.parquet`);
  assert.deepEqual(await bench.daily(second.file as string), ['2|2026-01-12 10:00:00+00|late']);
  const after = await stat(path.join(bench.dir, first.file as string), { bigint: true });
  assert.deepEqual([after.ino, after.mtimeNs], [before.ino, before.mtimeNs]);
  await running.stop();
});

test('a day with rows that still live, or that came since, or that the archive has not reached, is not sealed', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const lives = wal.transaction([prices], [insert(1, 'lives')]);
  await bench.publish(...lives);
  await bench.archived(lives[0]);
  assert.match((await bench.seal({ day: DAY, asOf: wal.next })).reason ?? '', /1 rows of that day have no end/);
  const asOf = wal.next;
  const chunks = [...wal.transaction([prices], [remove(1)]), ...wal.transaction([prices], [insert(2, 'since')])];
  await bench.publish(...chunks);
  const { position } = await bench.archived(chunks.at(-1));
  await until('the archiver has seen its own manifest', async () => bench.logged.some((line) => line['event'] === 'flush' && line['position'] === position));
  assert.match((await bench.seal({ day: DAY, asOf })).reason ?? '', /written after it was found empty/);
  assert.match((await bench.seal({ day: '2026-01-01', asOf })).reason ?? '', /no open segment/);
  assert.match((await bench.seal({ day: DAY, asOf, table: 'nothing' })).reason ?? '', /not archived/);
  assert.match((await bench.seal({ day: 'Tuesday', asOf })).reason ?? '', /not a day/);
  assert.equal([...((await bench.state())?.files.values() ?? [])].filter((entry) => entry.kind === 'daily').length, 0);
  await running.stop();
});

test('keys of every type find their row again: text with quotes, numeric, timestamp, bytea, values beyond the typed column', async () => {
  const odd = defineTable({
    columns: [
      ['name', 25],
      ['amount', 1700],
      ['at', 1184],
      ['raw', 17],
      ['note', 25],
    ],
    key: ['name', 'amount', 'at', 'raw'],
  });
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: odd, rows: [] }]));
  const keys = [
    ['a "b"\tc', '1.50', '2026-01-12 10:00:00.123456+00', '\\x00ff'],
    ['ünï', 'NaN', '2026-01-12 10:00:00+00', '\\x'],
    ["it's", '-0.000000000000000000001', '2026-01-12 23:59:59.999999+00', '\\xdeadbeef'],
  ];
  const inserts = wal.transaction(
    [odd],
    keys.map((key) => insertMessage(OID, [...key, 'x'])),
  );
  const deletes = wal.transaction(
    [odd],
    keys.map((key) => deleteMessage(OID, [...key, null])),
  );
  await bench.publish(...inserts, ...deletes);
  await bench.archived(deletes[0]);
  const reply = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual(reply, { ok: true, file: null, rows: 0, history: 3 });
  const history = [...((await bench.state())?.files.values() ?? [])].find((entry) => entry.kind === 'history');
  assert.deepEqual((await bench.daily(history?.file as string)).sort(), keys.map((key) => `${key.join('|')}|x`).sort());
  await running.stop();
});

test('two versions of the columns on one day become two parts, each with the columns its rows had', async () => {
  const wider = defineTable({ columns: [['id', 20], ['at', 1184], ['note', 25], ['extra', 23]] }); // biome-ignore format: one line
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const chunks = [
    ...wal.transaction([prices], [insert(1, 'narrow'), insert(2, 'superseded')]),
    ...wal.transaction([wider], [insertMessage(OID, [...row(3, 'wide'), '7']), updateMessage(OID, [...row(2, 'widened'), '8'])]),
    ...(await prune(bench, wal, 'all', [1, 2, 3])),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  const reply = await bench.seal({ day: DAY, asOf: wal.next });
  assert.equal(reply.rows, 3);
  assert.deepEqual(await bench.daily(`prices/prices_${DAY}.parquet`), ['1|2026-01-12 10:00:00+00|narrow']);
  assert.deepEqual(await bench.daily(`prices/prices_${DAY}_p2.parquet`), ['2|2026-01-12 10:00:00+00|widened|8', '3|2026-01-12 10:00:00+00|wide|7']);
  await running.stop();
});

test('a file of somebody else under the name of a daily file is neither written over nor removed', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const chunks = [...wal.transaction([prices], [insert(1, 'x')]), ...(await prune(bench, wal, 'a', [1]))];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  await mkdir(path.join(bench.dir, 'prices'));
  const file = path.join(bench.dir, 'prices', `prices_${DAY}.parquet`);
  await writeFile(file, 'mine');
  assert.match((await bench.seal({ day: DAY, asOf: wal.next })).reason ?? '', /is there already/);
  assert.equal((await stat(file)).size, 4);
  await rm(file);
  assert.ok((await bench.seal({ day: DAY, asOf: wal.next })).ok);
  await running.stop();
});

test('law 9: the stream replayed into an empty folder is logically equal, merged and sealed days included; a lost row is found', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench, [row(1, 'copied'), row(2, 'copied', '10:00:00', '2026-01-13')]);
  for (let i = 10; i < 50; i += 1) {
    const chunk = wal.transaction([prices], [insert(i, 'some', '11:00:00', '2026-01-13'), update(i, 'newer', '2026-01-13')]);
    await bench.publish(...chunk);
    await bench.archived(chunk[0]);
  }
  const pruned = await prune(bench, wal, 'all', [1]);
  await bench.publish(...pruned);
  await bench.archived(pruned[0]);
  assert.ok((await bench.seal({ day: DAY, asOf: wal.next })).ok);
  await until('small segments were merged', async () => bench.logged.some((line) => line['event'] === 'merge'));
  const options = { check: true, log: bench.log, signal: new AbortController().signal };
  const result = await rebuildArchive(bench.config, { ...options, into: path.join(bench.scratch, 'rebuilt') });
  assert.deepEqual(
    { equal: result.equal, differences: result.differences, skipped: result.skipped, from: result.from },
    { equal: true, differences: [], skipped: [], from: null },
  );
  assert.equal(result.compared, 2);
  await running.stop();
  const more = wal.transaction([prices], [insert(99, 'more', '12:00:00', '2026-01-13')]);
  await bench.publish(...more);
  const ahead = await rebuildArchive(bench.config, { ...options, into: path.join(bench.scratch, 'rebuilt-2') });
  assert.equal(ahead.equal, true, 'what the archive has not reached yet is not compared');
});

test('law 9: a row that differs between stream and archive is found, with its table and day', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  await archivedCopy(bench);
  const archived = bench.wal().transaction([prices], [insert(1, 'as archived'), insert(2, 'same', '10:00:00', '2026-01-13')]);
  await bench.publish(...archived);
  await bench.archived(archived[0]);
  await running.stop();
  await bench.stream.manager.streams.delete(bench.stream.name);
  await ensureStream(bench.stream.manager, bench.config);
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  await bench.publish(...bench.wal().transaction([prices], [insert(1, 'another text'), insert(2, 'same', '10:00:00', '2026-01-13')]));
  const into = path.join(bench.scratch, 'rebuilt');
  const result = await rebuildArchive(bench.config, { check: true, log: bench.log, signal: new AbortController().signal, into });
  assert.equal(result.equal, false);
  assert.deepEqual(result.differences, [{ schema: 'public', table: 'prices', day: DAY, seen: '1 rows in both, with other contents' }]);
  await assert.rejects(rebuildArchive(bench.config, { check: true, log: bench.log, signal: new AbortController().signal, into }), /is not empty/);
});

test('a large value that the archiver found and a replay of a shorter stream cannot is no difference', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const a = wal.transaction([prices], [insert(1, 'x'.repeat(3000)), insert(2, 'y')]);
  const b = wal.transaction([prices], [updateMessage(OID, ['1', `${DAY} 10:00:00+00`, undefined]), insert(3, 'z')]);
  await bench.publish(...a, ...b);
  await bench.archived(b[0]);
  await running.stop();
  assert.doesNotMatch((await bench.versions()).join(), /unresolved/);
  await bench.stream.manager.streams.purge(bench.stream.name, { keep: 1 });
  const result = await rebuildArchive(bench.config, {
    check: true,
    log: bench.log,
    signal: new AbortController().signal,
    into: path.join(bench.scratch, 'rebuilt'),
  });
  assert.deepEqual([result.equal, result.rows, result.differences], [true, 2, []]);
});

test('a large value that a replay finds and the archiver had not is no difference either, in a day that is sealed', async () => {
  await using bench = await ArchiverBench.start();
  const options = { check: true, log: bench.log, signal: new AbortController().signal };
  const running = bench.run();
  const late = [insert(2, 'as archived'), remove(2)];
  await archivedCopy(bench);
  const wal = bench.wal();
  const lacking = wal.transaction([prices], [updateMessage(OID, ['1', `${DAY} 10:00:00+00`, undefined]), remove(1), ...late]);
  await bench.publish(...lacking);
  await bench.archived(lacking[0]);
  assert.deepEqual(await bench.seal({ day: DAY, asOf: wal.next }), { ok: true, file: null, rows: 0, history: 2 });
  await running.stop();
  const replayed = async (name: string, ...changes: Buffer[]): Promise<Awaited<ReturnType<typeof rebuildArchive>>> => {
    await bench.stream.manager.streams.delete(bench.stream.name);
    await ensureStream(bench.stream.manager, bench.config);
    await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
    await bench.publish(...bench.wal().transaction([prices], changes));
    return await rebuildArchive(bench.config, { ...options, into: path.join(bench.scratch, name) });
  };
  const found = await replayed('found', insert(1, 'x'.repeat(3000)), remove(1), ...late);
  assert.deepEqual([found.equal, found.compared, found.differences], [true, 1, []]);
  const other = await replayed('other', insert(1, 'x'.repeat(3000)), remove(1), insert(2, 'another text'), remove(2));
  assert.deepEqual(other.differences, [{ schema: 'public', table: 'prices', day: DAY, seen: '2 rows in both, with other contents' }]);
});

test('a deleted row with a value that was never in the stream keeps no day open: the history names what it lacks', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const chunks = wal.transaction([prices], [insert(2, 'whole'), remove(2), updateMessage(OID, ['1', `${DAY} 10:00:00+00`, undefined]), remove(1)]);
  await bench.publish(...chunks);
  await bench.archived(chunks[0]);
  assert.deepEqual(await bench.seal({ day: DAY, asOf: wal.next }), { ok: true, file: null, rows: 0, history: 2 });
  const file = await asyncBufferFromFile(path.join(bench.dir, `_tidemark/history/prices/prices_${DAY}.parquet`));
  const rows = (await parquetReadObjects({ file, compressors })) as Record<string, unknown>[];
  assert.deepEqual(
    rows.map((found) => [found['id'], found['note'], found['_unresolved']]),
    [
      [1n, null, 'note'],
      [2n, 'whole', null],
    ],
  );
  await running.stop();
  assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
});

test('a stream whose beginning is purged is replayed from there, and what is older is not compared', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench, [row(1, 'copied')]);
  const [a, b] = [wal.transaction([prices], [insert(2, 'a'), insert(3, 'a')], { cuts: [1] }), wal.transaction([prices], [update(1, 'b'), insert(4, 'b')])];
  await bench.publish(...a, ...b);
  await bench.archived(b[0]);
  await running.stop();
  await bench.stream.manager.streams.purge(bench.stream.name, { seq: 5 }); // in the middle of the first transaction
  const result = await rebuildArchive(bench.config, {
    check: true,
    log: bench.log,
    signal: new AbortController().signal,
    into: path.join(bench.scratch, 'rebuilt'),
  });
  assert.deepEqual([result.equal, result.from, result.rows, result.compared], [true, '0/1030', 2, 1]);
});

for (const [where, fault, order] of [
  ['before it named its daily file, and goes on when its successor has sealed the day', 'A5:stop:2', 'after'],
  ['before it named its daily file, and goes on when its successor is there', 'A5:stop:2', 'before'],
  ['before its commit, and goes on when its successor has sealed the day', 'K1:stop:1', 'after'],
] as const) {
  test(`F6, F8: an archiver is stopped ${where}: the day has its one daily file`, async () => {
    await using bench = await ArchiverBench.start();
    const wal = bench.wal();
    await archivedCopy(bench, [row(1, 'v1')], bench.run());
    const chunks = await prune(bench, wal, 'b', [1]);
    await bench.publish(...chunks);
    const earlier = bench.spawn(fault); // its first file is of the keys
    await bench.archived(chunks.at(-1));
    void bench.seal({ day: DAY, asOf: wal.next }).catch(() => undefined);
    await until('it is stopped', async () => (await readFile(`/proc/${earlier.process.pid}/stat`, 'utf8')).includes(') T '));
    const successor = bench.run();
    const more = wal.transaction([prices], [insert(2, 'later', '10:00:00', '2026-01-13')]);
    await bench.publish(...more);
    await bench.archived(more[0]);
    const goOn = async (): Promise<void> => {
      earlier.process.kill('SIGCONT');
      assert.equal((await earlier.ended).code, 3, 'superseded');
    };
    if (order === 'before') await goOn();
    const reply = await bench.seal({ day: DAY, asOf: wal.next });
    assert.deepEqual(reply, { ok: true, file: `prices/prices_${DAY}.parquet`, rows: 1, history: 0 });
    if (order === 'after') await goOn();
    assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
    await successor.stop();
  });
}

/** Changes one bit of the column `_lsn` of a segment so that it still decodes, to `wanted`: versions as bench.versions gives them. */
async function flipPlace(bench: ArchiverBench, name: string, wanted: (versions: readonly string[]) => boolean): Promise<void> {
  const file = path.join(bench.dir, name);
  const bytes = await readFile(file);
  const [column] = (await parquetMetadataAsync(await asyncBufferFromFile(file))).row_groups.flatMap(({ columns }) =>
    columns.flatMap(({ meta_data: of }) => (of?.path_in_schema[0] === '_lsn' ? [of] : [])),
  );
  assert.ok(column);
  const from = Number(column.dictionary_page_offset ?? column.data_page_offset);
  for (let bit = from * 8; bit < (from + Number(column.total_compressed_size)) * 8; bit += 1) {
    const whole = bytes[bit >> 3] as number;
    bytes[bit >> 3] = whole ^ (1 << (bit & 7));
    await writeFile(file, bytes);
    if (wanted(await bench.versions().catch(() => []))) return;
    bytes[bit >> 3] = whole;
  }
  throw new Error('no bit does that');
}

test('F40, laws 1 and 5: a segment whose bytes are not those that were written is not sealed: one bit in a place makes a pruned version look superseded', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench);
  const chunks = [...wal.transaction([prices], [insert(1, 'v1')]), ...wal.transaction([prices], [update(1, 'v2')]), ...(await prune(bench, wal, 'b', [1]))];
  await bench.publish(...chunks);
  const state = await bench.archived(chunks.at(-1));
  const segments = [...state.files.values()].filter((entry) => entry.kind === 'segment');
  const before = await bench.versions(state);
  const [first, second] = before.map((version) => BigInt(`0x${/ ([0-9a-f]+):/.exec(version)?.[1]}`)) as [bigint, bigint];
  await flipPlace(bench, segments.at(-1)?.file as string, (versions) => {
    const place = BigInt(`0x${/^update ([0-9a-f]+):1 1\|.*v2$/.exec(versions.at(-1) ?? '')?.[1] ?? '0'}`);
    return versions.length === 2 && versions[0] === before[0] && first < place && place < second;
  });
  const reply = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual([reply.ok, reply.file], [false, undefined]);
  assert.match(reply.reason ?? '', /prices_2026-01-12_.*SHA-256/);
  assert.deepEqual(
    [...((await bench.state())?.files.values() ?? [])].filter((entry) => entry.kind === 'segment'),
    segments,
    'they stay',
  );
  await running.stop();
});

test('F40: verify names each damaged file with its table, day, rows and LSN range', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await archivedCopy(bench, [row(1, 'one')]);
  const chunk = wal.transaction([prices], [insert(2, 'two', '10:00:00', '2026-01-14'), remove(1)]);
  await bench.publish(...chunk);
  const state = await bench.archived(chunk[0]);
  await running.stop();
  assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
  const files = [...state.files.values()];
  const [cut, gone] = [files.find((entry) => entry.day === '2026-01-14'), files.find((entry) => entry.kind === 'keys')];
  await truncate(path.join(bench.dir, cut?.file as string), 100);
  await rm(path.join(bench.dir, gone?.file as string));
  const result = await verifyArchive(bench.dir);
  assert.equal(result.ok, false);
  assert.deepEqual(
    result.damages.map(({ file, table, day, rows, minLsn, seen }) => ({ file, table, day, rows, minLsn, seen })),
    [
      { file: cut?.file, table: 'prices', day: '2026-01-14', rows: 1, minLsn: '0/1000', seen: `100 bytes, the manifest says ${cut?.bytes}` },
      { file: gone?.file, table: 'prices', day: null, rows: 1, minLsn: '0/1000', seen: 'it is missing' },
    ],
  );
});
