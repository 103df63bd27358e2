/** Reading back what the pruner will stand on: row groups by time, columns by name, dictionaries of any size, and files that are not ours. */
import assert from 'node:assert/strict';
import { truncate, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { segmentMetadata } from '../../src/segment/metadata.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { literal } from '../../src/segment/sql.js';
import { verifySegment } from '../../src/segment/verify.js';
import { SegmentWorld } from './world.js';

let world: SegmentWorld;
before(async () => {
  world = await SegmentWorld.open();
});
after(() => world[Symbol.asyncDispose]());

test('row groups tell the range of their timestamps, and their rows lie within', async () => {
  const at = (i: number) => new Date(Date.UTC(2026, 0, 12) + i * 1000).toISOString().slice(0, 19).replace('T', ' ');
  const rows = Array.from({ length: 5000 }, (_, i) => [String(i), i === 17 ? null : `${at(i)}.5`, 'x'.repeat(4000)]);
  for (const [type, suffix] of [
    [1114, ''],
    [1184, '+00'],
  ] as const) {
    const { file } = await world.segment(
      { id: [20, -1], at: [type, -1], v: [25, -1] },
      rows.map(([id, text, v]) => [id as string, text === null ? null : `${text}${suffix}`, v as string]),
    );
    const reader = await SegmentReader.open(file);
    assert.equal(reader.rowGroupCount, 3);
    let row = 0;
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const range = reader.timestampRange(group);
      const decoded = await reader.readRowGroup(group, ['at']);
      assert.equal(decoded.rowCount, reader.rowsOfGroup(group));
      const texts = Array.from({ length: decoded.rowCount }, (_, i) => decoded.text('at', i));
      assert.deepEqual(
        texts,
        rows.slice(row, row + texts.length).map((one) => (one[1] === null ? null : `${one[1]}${suffix}`)),
      );
      const known = texts.filter((text) => text !== null);
      assert.deepEqual(range, { min: known[0], max: known.at(-1) });
      row += texts.length;
    }
    assert.throws(() => reader.timestampRange(3), RangeError);
    await reader.close();
  }
});

test('a date column tells its range; a group without values tells none', async () => {
  const dates = await world.segment(world.shape({ id: [20, -1], at: [1082, -1] }), [
    ['1', '2026-01-12'],
    ['2', '1969-12-31'],
  ]);
  const reader = await SegmentReader.open(dates.file);
  assert.deepEqual(reader.timestampRange(0), { min: '1969-12-31', max: '2026-01-12' });
  await reader.close();
  const none = await world.segment(world.shape({ id: [20, -1], at: [1114, -1] }), [
    ['1', null],
    ['2', 'infinity'],
  ]);
  const other = await SegmentReader.open(none.file);
  assert.equal(other.timestampRange(0), undefined);
  assert.equal((await other.readRowGroup(0)).text('at', 1), 'infinity');
  await other.close();
});

test('only the columns asked for are read, the system’s own always', async () => {
  const { file } = await world.segment({ id: [20, -1], a: [25, -1], b: [25, -1] }, [['1', 'x', 'y']]);
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0, ['b']);
  assert.deepEqual([rows.text('b', 0), rows.op(0), rows.lsn(0), rows.ordinal(0), rows.unresolved(0)], ['y', 'insert', 0x1_0000_0000_1234n, 1n, false]);
  assert.throws(() => rows.text('a', 0), RangeError);
  await assert.rejects(reader.readRowGroup(0, ['c']), RangeError);
  await reader.close();
});

test('a dictionary beyond the 10 MB that the library reads by default', async () => {
  // Long values, each twice: a dictionary is worth it, and it is large.
  const rows = Array.from({ length: 4000 }, (_, i) => [String(i), `${i % 2000}`.padStart(7000, 'z')]);
  const { file, spool } = await world.segment({ id: [20, -1], v: [25, -1] }, rows);
  const copy = world.path('parquet');
  const { shape } = spool;
  await world.encoder.run(
    `COPY (SELECT * FROM read_parquet(${literal(file)})) TO ${literal(copy)} (FORMAT parquet, COMPRESSION uncompressed, PARQUET_VERSION V1,
       DICTIONARY_SIZE_LIMIT 100000, STRING_DICTIONARY_PAGE_SIZE_LIMIT 100000000, KV_METADATA {tidemark: ${literal(segmentMetadata(shape, 'archive'))}})`,
  );
  const [chunk] = await world.encoder.query<{ size: string }>(
    `SELECT max(data_page_offset - dictionary_page_offset)::VARCHAR AS size FROM parquet_metadata(${literal(copy)}) WHERE path_in_schema = 'v'`,
  );
  assert.ok(Number(chunk?.size) > 10_000_000, `dictionary of ${chunk?.size} bytes`);
  await verifySegment(copy, { rows: 4000, digestSum: spool.digestSum });
});

test('what is not ours, or not whole, is refused by name', async () => {
  const foreign = world.path('parquet');
  await world.encoder.run(`COPY (SELECT 1 AS id) TO ${literal(foreign)} (FORMAT parquet)`);
  await assert.rejects(SegmentReader.open(foreign), new RegExp(`${foreign}.*not a file of Tidemark`));
  const newer = world.path('parquet');
  await world.encoder.run(`COPY (SELECT 1 AS id) TO ${literal(newer)} (FORMAT parquet, KV_METADATA {tidemark: '{"formatVersion":2}'})`);
  await assert.rejects(SegmentReader.open(newer), /format version 2; this program reads 1/);
  const torn = world.path('parquet');
  await world.encoder.run(`COPY (SELECT 1 AS id) TO ${literal(torn)} (FORMAT parquet, KV_METADATA {tidemark: '{"format'})`);
  await assert.rejects(SegmentReader.open(torn), new RegExp(`${torn}: its metadata`));
  const { file } = await world.segment({ id: [20, -1] }, [['1']]);
  await truncate(file, 100);
  await assert.rejects(SegmentReader.open(file), new RegExp(file));
  const text = world.path('parquet');
  await writeFile(text, 'hello');
  await assert.rejects(SegmentReader.open(text), new RegExp(text));
  await assert.rejects(SegmentReader.open(world.path('parquet')), { code: 'ENOENT' });
});
