/** The encoder within its memory: rows of any width, many columns, odd names; and what the file says of itself. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { SegmentBuilder } from '../../src/segment/builder.js';
import { DurableFile, hashFile } from '../../src/segment/durable-file.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { literal, rowGroupRows } from '../../src/segment/sql.js';
import { verifySegment } from '../../src/segment/verify.js';
import { origin, SegmentWorld } from './world.js';

const MB = 1024 * 1024;
const LIMIT = `SELECT current_setting('memory_limit') AS value`;

test('rows of megabytes pass: the statement gets the memory it needs, and gives it back', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 64 * MB });
  const before = await world.encoder.query(LIMIT);
  const wide = Array.from({ length: 60 }, (_, i) => [String(i), randomBytes(MB / 4).toString('hex')]);
  const { file, spool } = await world.segment({ id: [20, -1], v: [25, -1] }, wide);
  await verifySegment(file, { rows: 60, digestSum: spool.digestSum });
  assert.deepEqual(await world.encoder.query(LIMIT), before);
});

test('what was told too little is tried again with more; only the ceiling ends it', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 16 * MB, memoryCeiling: 512 * MB });
  const { file, spool } = await world.segment(
    { id: [20, -1], v: [25, -1] },
    Array.from({ length: 40 }, (_, i) => [String(i), randomBytes(MB / 2).toString('hex')]),
  );
  const copy = world.path('parquet');
  const before = await world.encoder.query(LIMIT);
  await world.encoder.run(`COPY (SELECT * FROM read_parquet(${literal(file)}) ORDER BY v) TO ${literal(copy)} (FORMAT parquet)`);
  assert.deepEqual(await world.encoder.query(LIMIT), before);
  await using poor = await SegmentWorld.open({ memoryLimit: 16 * MB, memoryCeiling: 24 * MB });
  await assert.rejects(poor.encoder.encode(spool, poor.path('parquet'), 'archive'), /Out of Memory/);
  assert.deepEqual((await poor.encoder.query<{ n: number }>('SELECT 1 AS n'))[0]?.n, 1, 'the encoder lives on');
});

test('a statement has the memory it is said to need, never less than the limit, and the limit is back afterwards', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 64 * MB, memoryCeiling: 512 * MB });
  const { encoder } = world;
  const before = await encoder.query(LIMIT);
  const seen: unknown[] = [];
  for (const memory of [1, 200 * MB, 4096 * MB]) {
    await encoder.run(`CREATE OR REPLACE TABLE seen AS ${LIMIT}`, { memory });
    seen.push((await encoder.query<{ value: string }>('SELECT value FROM seen'))[0]?.value);
    assert.deepEqual(await encoder.query(LIMIT), before);
  }
  assert.deepEqual(seen, ['64.0 MiB', '200.0 MiB', '512.0 MiB']);
  // Too little by a word of its own: the next try has more than the limit, not twice that word.
  await encoder.run(`CREATE TABLE wide AS SELECT list(i) AS l FROM range(8000000) t(i)`, { memory: 1 });
  assert.deepEqual(await encoder.query(LIMIT), before);
});

test('a value of 20 MB, quotes and tabs throughout, as text and as bytea', async () => {
  await using world = await SegmentWorld.open();
  const rows = [
    ['1', `"${'x\t"'.repeat((20 * MB) / 3)}"`, null],
    ['2', '', `\\x${randomBytes(10 * MB).toString('hex')}`],
  ];
  const { file, spool } = await world.segment({ id: [20, -1], v: [25, -1], b: [17, -1] }, rows);
  assert.ok(spool.longestLine > 20 * MB);
  await verifySegment(file, { rows: 2, digestSum: spool.digestSum });
});

test('250 columns, as buyin_trail_minutes has, with NULLs all over', async () => {
  await using world = await SegmentWorld.open();
  const columns = Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`pm_${i}`, i === 0 ? [20, -1] : [701, -1]]));
  const rows = Array.from({ length: 2500 }, (_, r) =>
    Array.from({ length: 250 }, (_, c) => (c === 0 ? String(r) : (r * c) % 5 === 0 ? null : String((r * 31 + c) / 8))),
  );
  const { file, spool } = await world.segment(columns as never, rows);
  await verifySegment(file, { rows: 2500, digestSum: spool.digestSum });
});

test('no rows at all, and a table without columns of its own', async () => {
  await using world = await SegmentWorld.open();
  const empty = await world.segment({ id: [20, -1], v: [25, -1] }, []);
  await verifySegment(empty.file, { rows: 0, digestSum: '0' });
  const bare = await world.segment({}, [[], []]);
  await verifySegment(bare.file, { rows: 2, digestSum: bare.spool.digestSum });
});

test('column names of every kind, those of our own CSV among them', async () => {
  await using world = await SegmentWorld.open();
  for (const names of [
    ['c1', 'c0', 's_op', 's_text'],
    ['a.b', 'a,b', 'a b', 'a"b', "it's", '😀'],
    ['select', 'list', 'element', 'filename', 'rowid', 'constructor', 'length'],
  ]) {
    const rows = [names.map((_, i) => `v${i}`), names.map(() => null)];
    const { file, spool } = await world.segment(Object.fromEntries(names.map((name) => [name, [25, -1]])) as never, rows);
    await verifySegment(file, { rows: 2, digestSum: spool.digestSum });
    const reader = await SegmentReader.open(file);
    const decoded = await reader.readRowGroup(0);
    assert.deepEqual(
      names.map((name) => decoded.text(name, 0)),
      rows[0],
    );
    await reader.close();
  }
});

test('the file says what it is: format, archive, table, key, columns, types and DDL', async () => {
  await using world = await SegmentWorld.open();
  const description = {
    oid: 20_000,
    schema: 'public',
    table: 't',
    primaryKey: ['id'],
    columnTypes: { id: 'bigint NOT NULL', m: "mood 'quoted'" },
    ddl: `CREATE TABLE t (id bigint, m "mood")`,
    types: { 20003: { name: 'mood', kind: 'e' } },
  };
  const { file } = await world.segment(world.shape({ id: [20, -1], m: [20003, -1] }, description, { day: null }), [['1', "it's"]]);
  const reader = await SegmentReader.open(file);
  const { formatVersion, archive, kind, oid, table, day, key, columnTypes, ddl, types, signature } = reader.metadata;
  assert.deepEqual(
    { formatVersion, archive, kind, oid, table, day, key },
    { formatVersion: 1, archive: 'archive', kind: 'segment', oid: 20_000, table: 't', day: null, key: ['id'] },
  );
  assert.deepEqual({ columnTypes, ddl, types }, { columnTypes: description.columnTypes, ddl: description.ddl, types: description.types });
  assert.equal(signature, '"id":20:-1,"m":20003:-1');
  await reader.close();
});

test('a file that is there already is filled, not replaced; nothing else is left in the folder', async () => {
  await using world = await SegmentWorld.open();
  const spool = world.spool(world.shape({ id: [20, -1] }), [['1']]);
  const file = world.path('parquet');
  await writeFile(file, '');
  const { ino } = await stat(file);
  await world.encoder.encode(spool, file, 'archive');
  assert.equal((await stat(file)).ino, ino);
  const names = (await readdir(world.dir)).filter((name) => !/^\d+\.(csv|parquet)$/.test(name));
  assert.deepEqual(names, []);
});

test('row groups hold about 8 MB, in whole vectors', () => {
  assert.equal(rowGroupRows(1_000_000, 1_000_000), 122_880);
  assert.equal(rowGroupRows(200_000, 63_000_000) % 2048, 0);
  assert.ok(rowGroupRows(200_000, 63_000_000) * 315 <= 8 * MB);
  assert.equal(rowGroupRows(10, 100 * MB), 2048);
  assert.equal(rowGroupRows(0, 0), 122_880);
});

test('what cannot be read is named by table, row and column; its value is not told', async () => {
  await using world = await SegmentWorld.open();
  const bad = (columns: Record<string, [number, number]>, row: readonly string[]) =>
    world.encoder.encode(world.spool(world.shape(columns), [['1', row[1] === 'secret' ? '2' : 'fine'], row]), world.path('parquet'), 'archive');
  const told = (pattern: RegExp) => (error: Error) => pattern.test(error.message) && !/secret/.test(`${error.message} ${String(error.cause)}`);
  await assert.rejects(bad({ id: [20, -1], n: [20, -1] }, ['2', 'secret']), told(/^public\.t: column n of row 2 of 2 is not of its type$/));

  const builder = new SegmentBuilder(world.shape({ v: [25, -1] }), world.path('csv'));
  builder.append(Buffer.concat([Buffer.from([0, 1, 0x74, 0, 0, 0, 7]), Buffer.from('secret'), Buffer.of(0xe9)]), 0, origin(1));
  await assert.rejects(world.encoder.encode(builder.finish(), world.path('parquet'), 'archive'), told(/row 1 of 1 is not UTF-8$/));
});

test('an encoder beside another shares its memory: what either asks for is given back, and one that needs more gets it', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 64 * 1024 * 1024 });
  const beside = await world.encoder.beside();
  const limit = async (): Promise<string> => (await world.encoder.query<{ text: string }>(`SELECT current_setting('memory_limit') AS text`))[0]?.text ?? '';
  const before = await limit();
  const sorted = `CREATE OR REPLACE TEMP TABLE sorted AS SELECT hash(i) AS h, repeat('x', 40) || i AS t FROM range(600_000) r(i) ORDER BY h`;
  await Promise.all([world.encoder.run(sorted), beside.run(sorted, { memory: 200 * 1024 * 1024 })]);
  const counted = await Promise.all([world.encoder, beside].map((one) => one.query<{ n: number }>('SELECT count(*)::INTEGER AS n FROM sorted')));
  assert.deepEqual(counted, [[{ n: 600_000 }], [{ n: 600_000 }]], 'each has a table of its own');
  assert.equal(await limit(), before);
  beside.close();
  assert.equal(await limit(), before, 'the first one goes on');
});

test('one that gives memory back while the other holds it does not fail; the limit is lowered with the next statement', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 64 * MB });
  const { encoder } = world;
  const beside = await encoder.beside();
  const held = beside.run('CREATE TEMP TABLE held AS SELECT len(list(hash(i))) FROM range(60_000_000) r(i)');
  await encoder.run('CREATE TEMP TABLE summed AS SELECT sum(hash(i)) FROM range(60_000_000) r(i)', { memory: 900 * MB });
  await held;
  assert.deepEqual(await encoder.query(LIMIT), [{ value: '64.0 MiB' }]);
  beside.close();
});

test('a COPY that has too little memory at first is published all the same: its file is a new one, and ours', async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 40 * 1024 * 1024 });
  const output = await DurableFile.create(world.path('parquet'));
  let renewed = 0;
  const again = async (): Promise<void> => {
    renewed += 1;
    await output.renew();
  };
  const rows = `SELECT hash(i) AS h, repeat('x', 100) || hash(i * 7) AS t FROM range(3_000_000) r(i) ORDER BY h`;
  await world.encoder.run(`COPY (${rows}) TO ${literal(output.temporary)} (FORMAT parquet, USE_TMP_FILE false)`, { again });
  assert.ok(renewed > 0, 'it had too little');
  const { bytes } = await output.publish(path.join(world.dir, 'published', 'rows.parquet'), hashFile);
  assert.ok(bytes > 1e6);
});

test('what a large statement has freed goes back to the system', {
  skip: process.platform === 'linux' ? false : 'memory of a process is read from /proc',
}, async () => {
  await using world = await SegmentWorld.open({ memoryLimit: 128 * MB });
  const resident = async (): Promise<number> => Number(/^RssAnon:\s+(\d+)/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1]) * 1024;
  await world.encoder.run(`CREATE TEMP TABLE sorted AS SELECT hash(i) AS h, (i % 1000) || repeat('x', 40) AS t FROM range(2_000_000) r(i) ORDER BY h`);
  await world.encoder.run('DROP TABLE sorted');
  const kept = await resident();
  await world.encoder.release();
  const left = await resident();
  assert.ok(left < kept - 30 * MB, `${kept} bytes before, ${left} after`);
  assert.deepEqual(await world.encoder.query(LIMIT), [{ value: '128.0 MiB' }]);
});
