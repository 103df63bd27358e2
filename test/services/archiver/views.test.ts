import assert from 'node:assert/strict';
import { readdir, rename, truncate } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { isEmptyFile } from '../../../src/archive/layout.js';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { defineTable, deleteMessage, insertMessage, truncateMessage, updateMessage, type WalWriter, type WrittenChunk } from '../../change/pgoutput-writer.js';
import { tidemark } from '../cli/command.js';
import { ArchiverBench, until } from './harness.js';
import { Views } from './views.js';

const prices = defineTable();
const OID = prices.relation.oid;
const DAY = '2026-01-12';
const row = (id: number, note: string | undefined, day = DAY): (string | undefined)[] => [String(id), `${day} 10:00:00+00`, note];
const insert = (id: number, note: string, day?: string): Buffer => insertMessage(OID, row(id, note, day) as string[]);
const update = (id: number, note: string | undefined, day?: string): Buffer => updateMessage(OID, row(id, note, day));
const remove = (id: number): Buffer => deleteMessage(OID, [String(id), null, null]);

/** A pruner's transaction that deletes `ids`, with its intent. */
async function prune(bench: ArchiverBench, wal: WalWriter, batch: string, ids: readonly number[], table = prices): Promise<WrittenChunk[]> {
  await new ReceiptWriter(bench.dir).append({
    type: 'intent', run: 'r', batch, xid: String(wal.xid + 1), oid: OID, schema: 'public', table: 'prices', rows: ids.length, keys: [], digests: [], at: '',
  }); // biome-ignore format: one receipt
  const nulls = table.relation.columns.slice(1).map(() => null);
  return wal.transaction(
    [table],
    ids.map((id) => deleteMessage(OID, [String(id), ...nulls])),
    { first: wal.pruneMark('r', batch) },
  );
}

test('views: the last version of every life, whether its day is open or sealed; deletes taken out, columns added later united by name', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at }\n  empty: { timestamp: at }' });
  const running = bench.run();
  const wal = bench.wal();
  const empty = defineTable({ oid: 16500, table: 'empty' });
  await bench.publish(
    ...bench.copy([
      { definition: prices, rows: [row(1, 'copied') as string[], row(2, 'moves') as string[]] },
      { definition: empty, rows: [] },
    ]),
  );
  const chunks = [
    ...wal.transaction([prices], [insert(3, 'old'), update(3, 'new'), insert(4, 'gone'), insert(5, 'a'), remove(4)]),
    ...(await prune(bench, wal, 'a', [1])),
    ...wal.transaction([prices], [insert(1, 'second life'), update(2, 'moved', '2026-01-13')]),
    ...(await prune(bench, wal, 'b', [1])),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  const sql = `SELECT id, "at", note FROM prices ORDER BY id, note`;
  const expected = [
    '1|2026-01-12 10:00:00+00|copied',
    '1|2026-01-12 10:00:00+00|second life',
    '2|2026-01-13 10:00:00+00|moved',
    '3|2026-01-12 10:00:00+00|new',
    '5|2026-01-12 10:00:00+00|a',
  ];
  {
    await using views = await Views.of(bench);
    assert.deepEqual(await views.rows(sql), expected, 'only open segments');
    const more = [...wal.transaction([prices], [remove(5)]), ...(await prune(bench, wal, 'c', [3]))];
    await bench.publish(...more);
    await bench.archived(more.at(-1));
    assert.deepEqual(await views.rows(sql), expected.slice(0, 4), 'views follow the archive');
    const sealed = await bench.seal({ day: DAY, asOf: wal.next });
    assert.equal(sealed.rows, 3, sealed.reason);
    assert.deepEqual(await views.rows(sql), expected.slice(0, 4), 'a sealed and an open day');
    // The table is truncated: what is sealed stays, it was pruned.
    const truncated = wal.transaction([prices], [truncateMessage([OID])]);
    await bench.publish(...truncated);
    await bench.archived(truncated.at(-1));
    assert.deepEqual(await views.rows(sql), [expected[0], expected[1], expected[3]]);
  }
  const wider = defineTable({
    columns: [
      ['id', 20],
      ['at', 1184],
      ['note', 25],
      ['amount', 23],
    ],
  });
  const added = wal.transaction([wider], [insertMessage(OID, ['6', '2026-01-13 10:00:00+00', 'wider', '7'])]);
  await bench.publish(...added);
  await bench.archived(added.at(-1));
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows('SELECT id, note, amount, _text, _unresolved FROM prices ORDER BY id, note'), [
    '1|copied|∅|∅|∅',
    '1|second life|∅|∅|∅',
    '3|new|∅|∅|∅',
    '6|wider|7|∅|∅',
  ]);
  assert.match((await tidemark(['views', '-c', bench.config.file])).stdout, /^-- public\.empty has no archived row yet/m);
  await running.stop();
});

test('a power cut left of the files without rows their names alone: they are made again, and the view reads on', async () => {
  await using bench = await ArchiverBench.start();
  const wal = bench.wal();
  const first = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, 'copied') as string[]] }]));
  const before = wal.transaction([prices], [insert(2, 'before')]);
  await bench.publish(...before);
  await bench.archived(before[0]);
  await first.stop();
  const names = (await readdir(bench.dir, { recursive: true })).filter(isEmptyFile);
  assert.ok(names.length >= 5, names.join());
  for (const name of names) await truncate(path.join(bench.dir, name));
  const second = bench.run();
  const after = wal.transaction([prices], [insert(3, 'after')]);
  await bench.publish(...after);
  await bench.archived(after[0]);
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows('SELECT id FROM prices ORDER BY id'), ['1', '2', '3']);
  await second.stop();
});

test('a table whose columns are named like ours, or like parts of the view: archived, merged, sealed and seen all the same', async () => {
  const odd = defineTable({
    columns: [['_op', 20], ['at', 1184], ['_lsn', 25], ['kind', 25], ['path', 25], ['oid', 25], ['tm_pos', 25], ['say "x"', 25], ['_text', 701]],
    key: ['_op'],
  }); // biome-ignore format: a table
  const values = (id: number, note: string): string[] => [String(id), `${DAY} 10:00:00+00`, note, 'k', 'p', 'o', 't', 'q"', id === 1 ? '-0' : '1.5'];
  await using bench = await ArchiverBench.start({ flush: '{ every: 1ms }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: odd, rows: [values(1, 'copied')] }]));
  for (let i = 0; i < 40; i += 1) {
    const chunk = wal.transaction([odd], [insertMessage(OID, values(i + 2, 'a')), updateMessage(OID, values(i + 2, 'b'))]);
    await bench.publish(...chunk);
    await bench.archived(chunk[0]);
  }
  const merged = await until('segments were merged', async () => bench.logged.some((line) => line['event'] === 'merge' && line['kind'] === 'segment'));
  assert.ok(merged);
  await using views = await Views.of(bench);
  const sql =
    'SELECT count(*), count(DISTINCT _op), count(*) FILTER (_lsn = \'b\'), min(kind || path || oid || tm_pos || "say ""x"""), sum(_text), min(__text) FROM prices';
  assert.deepEqual(await views.rows(sql), ['41|41|40|kpotq"|60|{"_text":"-0"}']);
  const pruned = await prune(
    bench,
    wal,
    'a',
    [...Array(41).keys()].map((i) => i + 1),
    odd,
  );
  await bench.publish(...pruned);
  await bench.archived(pruned.at(-1));
  const sealed = await bench.seal({ day: DAY, asOf: wal.next });
  assert.equal(sealed.rows, 41, sealed.reason);
  assert.deepEqual(await views.rows(sql), ['41|41|40|kpotq"|60|{"_text":"-0"}']);
  assert.deepEqual((await bench.daily(sealed.file as string))[0], values(1, 'copied').join('|'));
  await running.stop();
});

test('views: no row is missing or double while segments are merged, rows pruned and the day sealed', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 1ms }' });
  const archiver = bench.spawn();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, '0') as string[]] }]));
  await until('a form of the table is there', async () => [...((await bench.state())?.files.keys() ?? [])].length > 0);
  await using views = await Views.of(bench);
  const seen = { queries: 0, open: 0, sealed: 0 };
  let last = 1;
  let watching = true;
  const watcher = (async () => {
    while (watching) {
      const [text] = await views.rows('SELECT count(*), count(DISTINCT id), max(id), sum(id) FROM prices');
      const [count, distinct, max, sum] = (text as string).split('|').map(Number) as [number, number, number, number];
      assert.deepEqual({ count, distinct, sum }, { count: max, distinct: max, sum: (max * (max + 1)) / 2 });
      assert.ok(count >= last, `${count} rows after ${last}`);
      last = count;
      seen.queries += 1;
      seen[[...((await bench.state())?.files.values() ?? [])].some((file) => file.kind === 'daily') ? 'sealed' : 'open'] += 1;
    }
  })();
  let id = 1;
  for (let round = 0; round < 4; round += 1) {
    const first = id + 1;
    for (let i = 0; i < 40; i += 1) {
      id += 2;
      const chunk = wal.transaction([prices], [insert(id - 1, 'a'), insert(id, 'b'), update(id, 'c')]);
      await bench.publish(...chunk);
      await bench.archived(chunk[0]);
    }
    const ids = Array.from({ length: id - first + 1 }, (_, i) => first + i);
    const pruned = await prune(bench, wal, `b${round}`, round === 0 ? [1, ...ids] : ids);
    await bench.publish(...pruned);
    await bench.archived(pruned.at(-1));
    const sealed = await bench.seal({ day: DAY, asOf: wal.next });
    assert.ok(sealed.ok, sealed.reason);
  }
  await until('the views have it all', async () => last === id);
  watching = false;
  await watcher;
  assert.ok(seen.open > 3 && seen.sealed > 3, JSON.stringify(seen));
  archiver.process.kill('SIGTERM');
  await archiver.ended;
});

test('views: manifests are looked up before the files that they may name', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, 'copied') as string[]] }]));
  const chunk = wal.transaction([prices], [insert(2, 'x'), update(2, 'y'), remove(1)]);
  await bench.publish(...chunk);
  await bench.archived(chunk[0]);
  await running.stop();
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows('SELECT id, note FROM prices'), ['2|y']);
  await rename(path.join(bench.dir, '_tidemark'), path.join(bench.dir, '_gone')); // nothing can be found: what is missed first was looked up first
  await assert.rejects(views.rows('SELECT id, note FROM prices'), /No files found that match the pattern ".*\/_tidemark\/manifest\/\*\.json"/);
});
