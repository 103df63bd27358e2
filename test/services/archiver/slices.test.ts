import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { DailyFiles, type DailyRows } from '../../../services/archiver/daily-file.js';
import { openContext } from '../../../services/archiver/loop.js';
import { sliceEnds, timeSlices } from '../../../services/archiver/slices.js';
import { groupFiles, tableFiles } from '../../../src/archive/groups.js';
import { parquet } from '../../../src/archive/view.js';
import { defineTable, insertMessage } from '../../change/pgoutput-writer.js';
import { ArchiverBench } from './harness.js';

const group = (from: number, to: number, rows = 10) => ({ rows, from: BigInt(from), to: BigInt(to) });

test('slices end where row groups do, of about equal size; what reads much twice is not sliced', () => {
  const inTurn = Array.from({ length: 12 }, (_, i) => group(i * 10, i * 10 + 10));
  assert.deepEqual(sliceEnds(inTurn, 4), [30n, 60n, 90n]);
  assert.deepEqual(sliceEnds(inTurn.toReversed(), 4), [30n, 60n, 90n], 'in any order');
  assert.deepEqual(sliceEnds([...inTurn, group(0, 120, 5)], 4), [40n, 70n, 100n], 'one from long before, read for each slice');
  assert.deepEqual(sliceEnds([...inTurn, group(0, 120, 100)], 12), [], 'most of the rows from long before');
  assert.deepEqual(
    sliceEnds(
      Array.from({ length: 12 }, () => group(0, 120)),
      4,
    ),
    [],
    'in no order',
  );
  assert.deepEqual(sliceEnds([group(0, 0), group(0, 0)], 4), [], 'all at one time');
});

for (const [type, oid, zone] of [
  ['timestamptz', 1184, '+00'],
  ['timestamp', 1114, ''],
] as const) {
  test(`a day sorted in slices of its time is the one sorted at once: ${type}`, async () => {
    await using bench = await ArchiverBench.start();
    const table = defineTable({
      columns: [
        ['id', 20],
        ['at', oid],
        ['note', 25],
      ],
    });
    const at = (id: number): string => `2026-01-12 ${String(Math.floor(id / 10)).padStart(2, '0')}:${String((id * 7) % 10).padStart(2, '0')}:00.00001${zone}`;
    const running = bench.run();
    const wal = bench.wal();
    await bench.publish(...bench.copy([{ definition: table, rows: [] }]));
    for (let segment = 0; segment < 8; segment += 1) {
      // The last of each is of the time of the next.
      const rows = Array.from({ length: 21 }, (_, i) => segment * 20 + i).map((id, i) => [String(id + (i === 20 ? 1000 : 0)), at(id), `n${id}`]);
      const chunks = wal.transaction(
        [table],
        rows.map((row) => insertMessage(table.relation.oid, row)),
      );
      await bench.publish(...chunks);
      await bench.archived(chunks.at(-1));
    }
    await running.stop();
    const context = await openContext(bench.config, bench.dir, bench.archive, bench.key, bench.log);
    const [found] = await groupFiles(bench.dir, tableFiles(context.state, table.relation.oid, 'segment', '2026-01-12'));
    const { files: segments, metadata } = found as NonNullable<typeof found>;
    const bytes = 100 * 1024 * 1024;
    assert.ok((await timeSlices(context.encoder, { segments, bytes, metadata })).length >= 3);
    assert.equal((await timeSlices(context.encoder, { segments, bytes: 1000, metadata })).length, 1, 'small');
    const names = ['prices/these.parquet', 'prices/all-but.parquet', 'prices/whole.parquet'] as const;
    const files = await DailyFiles.begin(context, context.encoder, names);
    if (typeof files === 'string') throw new Error(files);
    const chosen = (condition: string): string => `SELECT _lsn, _ordinal FROM ${parquet(segments)} WHERE id % 3 ${condition}`;
    const [{ n }] = (await context.encoder.query<{ n: number }>(`SELECT count(*)::INTEGER AS n FROM (${chosen('<> 0')})`)) as [{ n: number }];
    const rowsOf = async (file: string, rows: DailyRows, size: number): Promise<string[]> => {
      const facts = await files.write({ kind: 'daily', file, day: '2026-01-12', segments, bytes: size, metadata, rows, more: [] });
      assert.equal(facts?.rows, n);
      return await bench.daily(file);
    };
    const sliced = await rowsOf(names[0], { these: chosen('<> 0') }, bytes);
    assert.deepEqual(await rowsOf(names[1], { allBut: chosen('= 0') }, bytes), sliced);
    assert.deepEqual(await rowsOf(names[2], { these: chosen('<> 0') }, 1000), sliced);
    const times = sliced.map((row) => row.split('|')[1]);
    assert.deepEqual(times, times.toSorted());
    // To the other reader as well: in the same order, and each found by the statistics and filters of the row groups.
    const [joined, , whole] = names.map((name) => parquet([path.join(bench.dir, name)]));
    assert.deepEqual(await context.encoder.query(`SELECT * FROM ${joined}`), await context.encoder.query(`SELECT * FROM ${whole}`));
    for (const note of sliced.map((row) => row.split('|')[2])) {
      const found = await context.encoder.query(`SELECT id::INTEGER AS id FROM ${joined} WHERE note = '${note}'`);
      assert.equal(found.length, sliced.filter((row) => row.endsWith(`|${note}`)).length, note);
    }
    await files.takeBack();
    await context.close();
  });
}
