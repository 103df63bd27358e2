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
