import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { ArchiverContext } from '../../../services/archiver/context.js';
import { mergeLots } from '../../../services/archiver/merge.js';
import { ArchiverMetrics } from '../../../services/archiver/metrics.js';
import { archivedBelow, pressedBelow, purge } from '../../../services/archiver/purge.js';
import { isEmptyFile } from '../../../src/archive/layout.js';
import { ManifestWriter } from '../../../src/archive/manifest.js';
import { spentKeys } from '../../../src/archive/seal.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { formatLsn, lsn, parseLsn } from '../../../src/position/lsn.js';
import { formatPosition } from '../../../src/position/position.js';
import { Halt } from '../../../src/runtime/errors.js';
import { ensureStream } from '../../../src/stream/topology.js';
import { fileEntry } from '../../archive/folder.js';
import { defineTable, insertMessage, updateMessage } from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const insert = (id: number): Buffer => insertMessage(OID, [String(id), '2026-01-12 10:00:00+00', `n${id}`]);

test('F8, F6: a second archiver takes over; the first is superseded and what it was about to name is swept', async () => {
  await using bench = await ArchiverBench.start();
  const first = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const a = wal.transaction([prices], [insert(1)]);
  await bench.publish(...a);
  await bench.archived(a[0]);
  // A segment that was linked while its archiver was stopped before the manifest.
  const orphan = path.join(bench.dir, '_tidemark/open/prices/prices_2026-01-12_000000001-000999.parquet');
  await mkdir(path.dirname(orphan), { recursive: true });
  await writeFile(orphan, 'PAR1');
  const second = bench.run();
  await until('the second swept', async () => !(await bench.filesBelow('open')).some((file) => file.includes('000999')));
  const b = wal.transaction([prices], [insert(2)]);
  await bench.publish(...b);
  const error = await first.ended;
  assert.ok(error instanceof Halt && error.halt === 'SUPERSEDED', String(error));
  const state = await bench.archived(b[0]);
  assert.equal((await bench.versions(state)).length, 2);
  await second.stop();
});

test('F6, F8: an archiver that is stopped between its claim and its sweep does not sweep what its successor has archived', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const earlier = bench.spawn('A8:stop:1');
  await until('it is stopped', async () => (await readFile(`/proc/${earlier.process.pid}/stat`, 'utf8')).includes(') T '));
  const successor = bench.run();
  const chunk = wal.transaction([prices], [insert(1)]);
  await bench.publish(...chunk);
  await bench.archived(chunk[0]);
  earlier.process.kill('SIGCONT');
  assert.equal((await earlier.ended).code, 3, 'superseded');
  assert.deepEqual((await verifyArchive(bench.dir)).damages, []);
  await successor.stop();
});

test('what a dead archiver left is swept, what the manifest names stays', async () => {
  await using bench = await ArchiverBench.start();
  const first = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const a = wal.transaction([prices], [insert(1)]);
  await bench.publish(...a);
  await bench.archived(a[0]);
  await first.stop();
  const left = ['tmp/spool-1-x.csv', 'tmp/segment-1-9.parquet', 'open/prices/prices_2026-01-12_000000001-000998.parquet', 'history/prices/old.parquet'];
  for (const file of left) {
    await mkdir(path.dirname(path.join(bench.dir, '_tidemark', file)), { recursive: true });
    await writeFile(path.join(bench.dir, '_tidemark', file), 'x');
  }
  const daily = path.join(bench.dir, 'prices', 'prices_2026-01-10.parquet');
  const theirs = path.join(bench.dir, 'prices', 'theirs.parquet');
  await mkdir(path.dirname(daily), { recursive: true });
  await writeFile(daily, 'x');
  await writeFile(theirs, 'x');
  await writeFile(path.join(bench.dir, '_tidemark/tmp/seal-1-7.json'), JSON.stringify({ files: ['prices/prices_2026-01-10.parquet'] }));
  const again = bench.run();
  const b = wal.transaction([prices], [insert(2)]);
  await bench.publish(...b);
  const state = await bench.archived(b[0]);
  await again.stop(); // a manifest can be seen a moment before its temporary name is gone
  assert.deepEqual(await bench.filesBelow('tmp'), []);
  assert.deepEqual((await bench.filesBelow('open')).sort(), [...state.files.keys()].sort());
  assert.deepEqual(await bench.filesBelow('history'), []);
  assert.deepEqual([existsSync(daily), existsSync(theirs)], [false, true]);
});

test('law 5: many small segments become one with the same rows; keys likewise', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 1ms }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [['1', '2026-01-12 09:00:00+00', 'x']] }]));
  const expected = ['copy fff:1 1|2026-01-12 09:00:00+00|x'];
  for (let i = 0; i < 40; i += 1) {
    const at = wal.next.toString(16);
    const chunk = wal.transaction([prices], [updateMessage(OID, ['1', '2026-01-12 10:00:00+00', `u${i}`])]);
    await bench.publish(...chunk);
    await bench.archived(chunk[0]);
    expected.push(`update ${at}:1 1|2026-01-12 10:00:00+00|u${i}`);
  }
  const state = await until('segments and keys were merged', async () => {
    const found = await bench.state();
    return found !== undefined && found.files.size < 34 ? found : undefined;
  });
  assert.deepEqual(await bench.versions(state), expected);
  assert.equal((await bench.keys(state)).length, 40);
  assert.equal(bench.logged.filter((line) => line['event'] === 'merge-failed').length, 0);
  await running.stop();
});

test('F40: a segment whose bytes are not those that were written is not merged: what is made of it would pass for whole', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 1ms }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const one = wal.transaction([prices], [insert(1)]);
  await bench.publish(...one);
  const [damaged] = [...(await bench.archived(one[0])).files.keys()] as [string];
  const bytes = await readFile(path.join(bench.dir, damaged));
  bytes.write('d', bytes.indexOf('DuckDB')); // who wrote it, in the footer
  await writeFile(path.join(bench.dir, damaged), bytes);
  for (let i = 2; i <= 34; i += 1) {
    const chunk = wal.transaction([prices], [insert(i)]);
    await bench.publish(...chunk);
    await bench.archived(chunk[0]);
  }
  const failed = await until('the merge is refused', async () => bench.logged.find((line) => String(line['event']).startsWith('merge')));
  assert.deepEqual([failed['event'], failed['first']], ['merge-failed', damaged]);
  assert.match(String(failed['reason']), new RegExp(`${path.basename(damaged)} is not what was written`));
  assert.ok((await bench.state())?.files.has(damaged));
  await running.stop();
});

async function segmentsIn(dir: string): Promise<string[]> {
  const names = await readdir(path.join(dir, '_tidemark/open/prices')).catch(() => []);
  return names.filter((name) => !isEmptyFile(name));
}

test('what a long transaction wrote ahead goes when the archiver stops before its end, and comes again', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ rows: 100, every: 50ms }' });
  const wal = bench.wal();
  const first = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const chunks = wal.transaction(
    [prices],
    Array.from({ length: 250 }, (_, i) => insert(i)),
    { cuts: [220] },
  );
  await bench.publish(chunks[0] as (typeof chunks)[number]);
  await until('two segments are written ahead', async () => (await segmentsIn(bench.dir)).length === 2);
  await first.stop();
  assert.deepEqual(await segmentsIn(bench.dir), []);
  const again = bench.run();
  await bench.publish(chunks[1] as (typeof chunks)[number]);
  assert.equal((await bench.versions(await bench.archived(chunks[1]))).length, 250);
  await again.stop();
});

test('a transaction larger than a segment becomes several in one manifest', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ rows: 100, every: 50ms }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const rows = Array.from({ length: 350 }, (_, i) => insert(i));
  const chunks = wal.transaction([prices], rows, { cuts: [120, 240] });
  const end = chunks.pop() as (typeof chunks)[number];
  await bench.publish(...chunks);
  await until('the first segments are written before the transaction ends', async () => (await segmentsIn(bench.dir)).length === 2);
  assert.deepEqual([...((await bench.state())?.files.values() ?? [])], [], 'and no manifest names them');
  chunks.push(end);
  await bench.publish(end);
  const state = await bench.archived(chunks.at(-1));
  assert.deepEqual(
    [...state.files.values()].map((entry) => entry.rows).sort((a, b) => a - b),
    [50, 100, 100, 100],
  );
  assert.equal((await bench.versions(state)).length, 350);
  await running.stop();
});

test('what is archived and beyond the replay window goes out of the stream, and nothing else', async () => {
  await using bench = await ArchiverBench.start({ yaml: 'stream: { url: "NATS_URL", replay: { age: 1ms, bytes: 256MB } }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const a = [1, 2, 3].flatMap((id) => wal.transaction([prices], [insert(id)]));
  await bench.publish(...a);
  await bench.archived(a.at(-1));
  const torn = wal.transaction([prices], [insert(4), insert(5)], { cuts: [1] });
  await bench.publish(torn[0] as (typeof torn)[number]);
  await until('the stream was purged', async () => bench.logged.some((line) => line['event'] === 'purge'));
  const info = await bench.stream.manager.streams.info(bench.stream.name);
  const hint = (await bench.state())?.streamHint;
  assert.equal(info.state.first_seq, hint?.sequence);
  assert.equal(info.state.last_seq, 6);
  await running.stop();
  await bench.publish(torn[1] as (typeof torn)[number]);
  const again = bench.run();
  const state = await bench.archived(torn[1]);
  assert.equal((await bench.versions(state)).length, 5);
  await again.stop();
});

test('an older copy of the stream put in its place has its numbers again: what is not archived is not purged by them', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  const chunks = [1, 2, 3].flatMap((id) => wal.transaction([prices], [insert(id)]));
  await bench.publish(...chunks);
  const { created } = await ensureStream(bench.stream.manager, bench.config);
  const first = async (): Promise<number> => (await ensureStream(bench.stream.manager, bench.config)).state.first_seq;
  const context = (below: number, archived: number): ArchiverContext => {
    const position = formatPosition((chunks[archived - 1] as (typeof chunks)[number]).header.end);
    const state = { streamHint: { created, sequence: below }, epoch: bench.epoch, copy: null, position };
    return { config: bench.config, log: bench.log, state, metrics: new ArchiverMetrics(bench.config) } as unknown as ArchiverContext;
  };
  const later = Date.now() + 2 * bench.config.stream.replay.age;
  await purge(context(3, 1), bench.stream, later);
  assert.equal(await first(), 1);
  await purge(context(3, 2), bench.stream, later);
  assert.equal(await first(), 3);
});

test('purging: nothing that is not archived, nothing of another stream, more only when the stream is nearly full', () => {
  const fill = { created: 'a', first: 11, messages: 100, bytes: 1000 };
  assert.equal(archivedBelow({ streamHint: { created: 'a', sequence: 50 } }, fill), 50);
  assert.equal(archivedBelow({ streamHint: { created: 'b', sequence: 50 } }, fill), 0);
  assert.equal(archivedBelow({ streamHint: null }, fill), 0);
  assert.equal(pressedBelow(fill, 2000), 0);
  assert.equal(pressedBelow(fill, 1250), 0);
  assert.equal(pressedBelow(fill, 1000), 11 + 30);
});

test('merging: neighbours of equal columns, small ones only, never of an unfinished copy', () => {
  const files = Array.from({ length: 40 }, (_, i) => fileEntry(`f${i}`, { minLsn: `0/${(i + 1).toString(16)}`, rows: 10, signature: i < 20 ? 'a' : 'b' }));
  const lots = mergeLots(files, { rows: 1000, bytes: 1e9 });
  assert.deepEqual(
    lots.map((lot) => lot.map((entry) => entry.signature).join('')),
    ['a'.repeat(20), 'b'.repeat(20)],
  );
  assert.deepEqual(mergeLots(files.slice(0, 32), { rows: 1000, bytes: 1e9 }), []);
  assert.deepEqual(
    mergeLots(
      files.map((entry) => ({ ...entry, pendingCopy: 'g' })),
      { rows: 1000, bytes: 1e9 },
    ),
    [],
  );
  assert.ok(mergeLots(files, { rows: 100, bytes: 1e9 }).every((lot) => lot.length <= 10));
});

test('a day of any size has at most 100 files, and its rows are not rewritten again and again', () => {
  for (const sizes of [[250_000], [250_000, 130_000, 3], [1, 2, 249_999], [126_000], [40]]) {
    const limits = { rows: 250_000, bytes: 64e6 };
    let files: ReturnType<typeof fileEntry>[] = [];
    let [rewritten, total, most] = [0, 0, 0];
    for (let flush = 0; flush < 1500; flush += 1) {
      const rows = sizes[flush % sizes.length] as number;
      files.push(fileEntry(`f${flush}`, { rows, bytes: rows * (flush % 7 === 0 ? 500 : 60), minLsn: formatLsn(lsn(BigInt(flush + 1))), signature: 'a' }));
      total += rows;
      for (const lot of mergeLots(files, limits)) {
        const [first] = lot as [ReturnType<typeof fileEntry>];
        const sum = (size: 'rows' | 'bytes'): number => lot.reduce((before, entry) => before + entry[size], 0);
        files = [...files.filter((entry) => !lot.includes(entry)), { ...first, file: `m${flush} ${first.file}`, rows: sum('rows'), bytes: sum('bytes') }];
        rewritten += sum('rows');
      }
      most = Math.max(most, files.length);
    }
    assert.ok(most <= 100, `${most} files of sizes ${sizes.join()}`);
    assert.ok(rewritten <= total * 12, `${(rewritten / total).toFixed(1)} times rewritten, sizes ${sizes.join()}`);
  }
});

test('keys go when every open segment is younger than them', () => {
  const keys = [fileEntry('k1', { kind: 'keys', maxLsn: '0/20' }), fileEntry('k2', { kind: 'keys', maxLsn: '0/40' })];
  const names = (open: Parameters<typeof spentKeys>[0]): string[] => spentKeys(open, keys, parseLsn).map((entry) => entry.file);
  assert.deepEqual(names([]), ['k1', 'k2']);
  assert.deepEqual(names([fileEntry('s', { minLsn: '0/30' })]), ['k1']);
  assert.deepEqual(names([fileEntry('s', { minLsn: '0/20' })]), []);
});

test('an archive claimed by nobody else is claimed again after each start', async () => {
  await using bench = await ArchiverBench.start();
  const one = bench.run();
  await until('the first claim', async () => (await bench.state())?.number === 1);
  await one.stop();
  const two = bench.run();
  await until('the second claim', async () => (await bench.state())?.number === 2);
  await two.stop();
  assert.equal((await ManifestWriter.claim(bench.dir, 'test')).claim, 3);
});
