/** Which rows are the same row: tables without a key, and tables whose key changes. Sealed and seen through the views. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineTable, deleteMessage, insertMessage, truncateMessage, updateMessage } from '../../change/pgoutput-writer.js';
import { ArchiverBench, until } from './harness.js';
import { Views } from './views.js';

const DAY = '2026-01-12';
const AT = `${DAY} 10:00:00+00`;
const keyless = defineTable({ key: [], identity: 'f' });
const OID = keyless.relation.oid;
const row = (id: number, note: string): string[] => [String(id), AT, note];
const insert = (id: number, note: string): Buffer => insertMessage(OID, row(id, note));
const update = (id: number, from: string, to: string): Buffer => updateMessage(OID, row(id, to), { kind: 'O', values: row(id, from) });
const remove = (id: number, note: string): Buffer => deleteMessage(OID, row(id, note), 'O');

test('rows without a key: an update ends one of the rows that are equal to the old one, a delete one, a truncate all', async () => {
  await using bench = await ArchiverBench.start({ tables: '  prices: { timestamp: at }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: keyless, rows: [row(1, 'twin'), row(1, 'twin'), row(2, 'old')] }]));
  const chunks = [
    ...wal.transaction([keyless], [insert(1, 'twin'), update(2, 'old', 'new')]),
    ...wal.transaction([keyless], [remove(1, 'twin'), insert(3, 'x'), remove(3, 'x'), insert(3, 'x')]),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  await using views = await Views.of(bench);
  const sql = 'SELECT id, note FROM prices ORDER BY ALL';
  assert.deepEqual(await views.rows(sql), ['1|twin', '1|twin', '2|new', '3|x']);
  const more = [
    ...wal.transaction([keyless], [truncateMessage([OID])]),
    ...wal.transaction([keyless], [insert(1, 'twin'), update(1, 'twin', 'after'), update(1, 'after', 'twin')]),
  ];
  await bench.publish(...more);
  await bench.archived(more.at(-1));
  assert.deepEqual(await views.rows(sql), ['1|twin']);
  const last = wal.transaction([keyless], [remove(1, 'twin')]);
  await bench.publish(...last);
  await bench.archived(last[0]);
  const sealed = await bench.seal({ day: DAY, asOf: wal.next });
  assert.deepEqual(sealed, { ok: true, file: null, rows: 0, history: 7 });
  const history = [...((await bench.state())?.files.values() ?? [])].find((entry) => entry.kind === 'history');
  assert.deepEqual((await bench.daily(history?.file as string)).map((text) => text.replace(`${AT}|`, '')).sort(), [
    '1|twin', '1|twin', '1|twin', '1|twin', '2|new', '3|x', '3|x',
  ]); // biome-ignore format: a list
  await running.stop();
});

test('an unchanged large value of a row without a key is in its old row', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  const large = 'x'.repeat(5000);
  await bench.publish(...bench.copy([{ definition: keyless, rows: [row(1, large)] }]));
  const chunk = wal.transaction([keyless], [updateMessage(OID, ['2', AT, undefined], { kind: 'O', values: row(1, large) })]);
  await bench.publish(...chunk);
  const state = await bench.archived(chunk[0]);
  assert.deepEqual((await bench.versions(state)).at(-1)?.split(' ').slice(2).join(' '), `2|${AT}|${large}`);
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows('SELECT id, length(note) FROM prices'), ['2|5000']);
  await running.stop();
});

test('a key that changes: deletes end the rows that they name by the key of their time, and the day is sealed', async () => {
  const columns = [
    ['id', 20],
    ['at', 1184],
    ['note', 25],
    ['part', 23],
  ] as const;
  const before = defineTable({ columns });
  const after = defineTable({ columns, key: ['id', 'part'] });
  const values = (id: number, part: number, note: string): string[] => [String(id), AT, note, String(part)];
  const put = (id: number, part: number, note: string): Buffer => insertMessage(OID, values(id, part, note));
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: before, rows: [values(1, 1, 'a'), values(2, 1, 'b'), values(3, 1, 'c')] }]));
  const chunks = [
    ...wal.transaction([before], [deleteMessage(OID, ['1', null, null, null]), updateMessage(OID, values(2, 1, 'b2'))]),
    ...wal.transaction(
      [after],
      [put(2, 2, 'twin of 2'), put(1, 1, 'again'), updateMessage(OID, values(3, 1, 'c2')), deleteMessage(OID, ['2', null, null, '1'])],
    ),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  await using views = await Views.of(bench);
  const sql = 'SELECT id, part, note FROM prices ORDER BY ALL';
  assert.deepEqual(await views.rows(sql), ['1|1|again', '2|2|twin of 2', '3|1|c2']);
  const rest = wal.transaction(
    [after],
    [deleteMessage(OID, ['1', null, null, '1']), deleteMessage(OID, ['2', null, null, '2']), deleteMessage(OID, ['3', null, null, '1'])],
  );
  await bench.publish(...rest);
  await bench.archived(rest[0]);
  await until('the key of the table is the new one', async () => (await bench.state())?.tables[0]?.key.length === 2);
  const sealed = await bench.seal({ day: DAY, asOf: wal.next });
  assert.ok(sealed.ok, sealed.reason);
  const files = [...((await bench.state())?.files.values() ?? [])].filter((entry) => entry.kind === 'history');
  const rows = (await Promise.all(files.map((entry) => bench.daily(entry.file)))).flat().map((text) => text.replace(`${AT}|`, ''));
  assert.deepEqual(rows.sort(), ['1|again|1', '1|a|1', '2|b2|1', '2|twin of 2|2', '3|c2|1']);
  await running.stop();
});

test('a row without a key that comes again after its day was sealed has an end of its own', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  const other = insertMessage(OID, ['9', '2026-01-13 10:00:00+00', 'another day, which stays open']);
  await bench.publish(...bench.copy([{ definition: keyless, rows: [row(1, 'twin')] }]));
  const first = wal.transaction([keyless], [other, remove(1, 'twin')]);
  await bench.publish(...first);
  await bench.archived(first[0]);
  assert.equal((await bench.seal({ day: DAY, asOf: wal.next })).history, 1);
  const late = wal.transaction([keyless], [insert(1, 'twin'), insert(1, 'twin'), remove(1, 'twin')]);
  await bench.publish(...late);
  await bench.archived(late[0]);
  await using views = await Views.of(bench);
  const sql = `SELECT id, note FROM prices WHERE "at" < '2026-01-13'`;
  assert.deepEqual(await views.rows(sql), ['1|twin']);
  const last = wal.transaction([keyless], [remove(1, 'twin')]);
  await bench.publish(...last);
  await bench.archived(last[0]);
  assert.deepEqual(await views.rows(sql), []);
  assert.deepEqual(await bench.seal({ day: DAY, asOf: wal.next }), { ok: true, file: null, rows: 0, history: 2 });
  await running.stop();
});

test('a key that is given up: equal rows of before and after it are told apart', async () => {
  const keyed = defineTable();
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: keyed, rows: [row(1, 'same'), row(2, 'kept')] }]));
  const chunks = [
    ...wal.transaction([keyed], [deleteMessage(OID, ['1', null, null])]),
    ...wal.transaction([keyless], [insert(1, 'same'), remove(1, 'same'), update(2, 'kept', 'changed')]),
  ];
  await bench.publish(...chunks);
  await bench.archived(chunks.at(-1));
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows('SELECT id, note FROM prices'), ['2|changed']);
  const last = wal.transaction([keyless], [remove(2, 'changed')]);
  await bench.publish(...last);
  await bench.archived(last[0]);
  assert.deepEqual((await bench.seal({ day: DAY, asOf: wal.next })).history, 3);
  await running.stop();
});

test('views of a table whose replica identity changed and nothing else: both keys are understood; views of before say that they are too old', async () => {
  const columns = [
    ['id', 20],
    ['at', 1184],
    ['part', 23],
  ] as const;
  const byId = defineTable({ columns });
  const byPart = defineTable({ columns, key: ['part'] });
  const values = (id: number, part: number): string[] => [String(id), AT, String(part)];
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: byId, rows: [values(1, 10), values(2, 20), values(3, 30)] }]));
  const first = wal.transaction([byId], [deleteMessage(OID, ['1', null, null])]);
  await bench.publish(...first);
  await bench.archived(first[0]);
  await using old = await Views.of(bench);
  const sql = 'SELECT id, part FROM prices ORDER BY id';
  assert.deepEqual(await old.rows(sql), ['2|20', '3|30']);
  const second = wal.transaction([byPart], [deleteMessage(OID, [null, null, '20'])]);
  await bench.publish(...second);
  await bench.archived(second[0]);
  await assert.rejects(old.rows(sql), /the key or replica identity of public\.prices has changed: make the views again/);
  await using views = await Views.of(bench);
  assert.deepEqual(await views.rows(sql), ['3|30']);
  const third = wal.transaction([byPart], [truncateMessage([OID]), insertMessage(OID, values(1, 10))]);
  await bench.publish(...third);
  await bench.archived(third[0]);
  assert.deepEqual(await views.rows(sql), ['1|10']);
  await running.stop();
});
