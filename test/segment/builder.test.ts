/** What a builder makes of tuples: the facts of the manifest, unchanged TOAST, keys, and bytes that are no tuple. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { nameCollision, systemPrefix } from '../../src/change/system-columns.js';
import { TidemarkError } from '../../src/runtime/errors.js';
import { SegmentBuilder } from '../../src/segment/builder.js';
import { DigestSum, digestOfTexts } from '../../src/segment/digest.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { verifySegment } from '../../src/segment/verify.js';
import { tupleBytes } from './tuple.js';
import { origin, SegmentWorld } from './world.js';

let world: SegmentWorld;
before(async () => {
  world = await SegmentWorld.open();
});
after(() => world[Symbol.asyncDispose]());

const COLUMNS = { id: [20, -1], at: [1114, -1], v: [25, -1] } as const;
const shape = () => world.shape(COLUMNS as never);

test('rows, digests, timestamps and locations are counted on the way', () => {
  const builder = new SegmentBuilder(shape(), world.path('csv'));
  const rows = [
    ['1', '2026-01-12 10:00:00.5', 'a'],
    ['2', '2026-01-12 10:00:00', null],
    ['3', null, ''],
    ['4', '2026-01-12 10:00:00.49', 'b'],
  ];
  const lsns = [30n, 10n, 20n, 20n];
  for (const [i, row] of rows.entries()) builder.append(tupleBytes(row), 0, { ...origin(i + 1), lsn: lsns[i] as bigint });
  assert.equal(builder.rows, 4);
  const spool = builder.finish();
  const sum = new DigestSum();
  for (const row of rows) sum.addValue(digestOfTexts(row));
  assert.deepEqual(
    [spool.rows, spool.digestSum, spool.minTimestamp, spool.maxTimestamp, spool.minLsn, spool.maxLsn],
    [4, sum.toString(), '2026-01-12 10:00:00', '2026-01-12 10:00:00.5', 10n, 30n],
  );
});

test('a tuple in the middle of a message is read in place', async () => {
  const tuple = tupleBytes(['7', '2026-01-12 00:00:00', 'say "é"\t\n']);
  const builder = new SegmentBuilder(shape(), world.path('csv'));
  builder.append(Buffer.concat([Buffer.from('ttttt'), tuple, Buffer.from('ttttt')]), 5, origin(1));
  const spool = builder.finish();
  const file = world.path('parquet');
  await world.encoder.encode(spool, file, 'archive');
  await verifySegment(file, { rows: 1, digestSum: digestSum(['7', '2026-01-12 00:00:00', 'say "é"\t\n']) });
});

function digestSum(row: (string | null)[]): string {
  const sum = new DigestSum();
  sum.addValue(digestOfTexts(row));
  return sum.toString();
}

test('a value found again may be NULL, empty, or one that the typed column cannot hold', async () => {
  const builder = new SegmentBuilder(world.shape({ id: [20, -1], f: [701, -1], a: [25, -1], b: [25, -1] }), world.path('csv'));
  const found = new Map<number, Uint8Array | null>([
    [1, Buffer.from('-0')],
    [2, null],
    [3, Buffer.alloc(0)],
  ]);
  assert.equal(builder.append(tupleBytes(['1', undefined, undefined, undefined]), 0, origin(1), found), true);
  const spool = builder.finish();
  const file = world.path('parquet');
  await world.encoder.encode(spool, file, 'archive');
  await verifySegment(file, { rows: 1, digestSum: digestSum(['1', '-0', null, '']) });
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0);
  assert.deepEqual(
    reader.columns.map((name) => rows.text(name, 0)),
    ['1', '-0', null, ''],
  );
  await reader.close();
});

test('bytes that are no tuple of this table are refused, never read as NULL', () => {
  const builder = new SegmentBuilder(shape(), world.path('csv'));
  const good = tupleBytes(['1', '2026-01-12 00:00:00', 'abc']);
  const unknown = Buffer.from(good);
  unknown[2] = 0x62; // binary, which we never ask for
  assert.throws(() => builder.append(unknown, 0, origin(1)), SyntaxError);
  assert.throws(() => builder.append(tupleBytes(['1', null]), 0, origin(1)), /tuple of 2 columns/);
  for (let length = 2; length < good.length; length += 1) assert.throws(() => builder.append(good.subarray(0, length), 0, origin(1)), `${length} bytes`);
  const { file } = builder.finish();
  builder.discard();
  assert.equal(existsSync(file), false);

  const keys = new SegmentBuilder({ ...shape(), kind: 'keys', day: null }, world.path('csv'));
  assert.throws(() => keys.appendKey(tupleBytes(['1', null]), 0, origin(1)), SyntaxError);
  assert.throws(() => keys.appendKey(tupleBytes([undefined, null, null]), 0, origin(1)), /without its value/);
  for (let length = 2; length < good.length; length += 1) assert.throws(() => keys.appendKey(good.subarray(0, length), 0, origin(1)), `${length} bytes`);
  keys.discard();
});

test('keys: in key order, from the old key, the old row or the new one, and of any text', async () => {
  const relation = world.shape({ a: [25, -1], b: [25, -1], c: [25, -1] }).relation;
  const keys = new SegmentBuilder({ kind: 'keys', relation, description: undefined, key: ['c', 'a'], timestamp: 'b', day: null }, world.path('csv'));
  keys.appendKey(tupleBytes(['say "x"', null, '\t']), 0, origin(1, 'update'));
  keys.appendKey(tupleBytes(['', 'whole row', 'é']), 0, origin(2, 'delete'));
  keys.appendKey(Buffer.alloc(0), -1, origin(3, 'truncate'));
  const spool = keys.finish();
  assert.deepEqual([spool.rows, spool.minTimestamp], [3, null]);
  const file = world.path('parquet');
  await world.encoder.encode(spool, file, 'archive');
  await verifySegment(file, { rows: 3, digestSum: spool.digestSum });
  const reader = await SegmentReader.open(file);
  const rows = await reader.readRowGroup(0);
  assert.deepEqual(reader.columns, ['c', 'a']);
  assert.deepEqual(
    [0, 1, 2].map((row) => [rows.op(row), rows.text('c', row), rows.text('a', row), rows.ordinal(row)]),
    [
      ['update', '\t', 'say "x"', 1n],
      ['delete', 'é', '', 2n],
      ['truncate', null, null, 3n],
    ],
  );
  await reader.close();
});

test('names that one file cannot hold are refused before anything is written', () => {
  for (const names of [['a', 'A'], ['__proto__']]) {
    assert.notEqual(nameCollision(names), undefined, names.join());
    const columns = Object.fromEntries(names.map((name) => [name, [25, -1]]));
    const relation = { ...shape().relation, columns: names.map((name) => ({ name, typeOid: 25, typmod: -1, key: false })) };
    const file = world.path('csv');
    assert.throws(() => new SegmentBuilder({ ...world.shape(columns as never), relation }, file), TidemarkError);
    assert.equal(existsSync(file), false);
  }
  assert.equal(nameCollision(['a', 'b', '_op2', 'constructor', '_op']), undefined);
});

test('system columns get another prefix beside a column of their name, in any case', () => {
  assert.deepEqual([[], ['_op2'], ['_LSN'], ['x', '_op', '__text'], ['_deleted_at']].map(systemPrefix), ['_', '_', '__', '___', '__']);
});
