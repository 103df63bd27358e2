/** The proof at publishing catches whatever the writer may have done to a row, and says where without saying what. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import type { Spool } from '../../src/segment/builder.js';
import { hashFile } from '../../src/segment/durable-file.js';
import { segmentMetadata } from '../../src/segment/metadata.js';
import { literal, segmentOptions } from '../../src/segment/sql.js';
import { SegmentMismatch, verifyDaily, verifySegment } from '../../src/segment/verify.js';
import { SegmentWorld } from './world.js';

let world: SegmentWorld;
before(async () => {
  world = await SegmentWorld.open();
});
after(() => world[Symbol.asyncDispose]());

const COLUMNS = { id: [20, -1], at: [1114, -1], v: [25, -1], n: [1700, (20 << 16) + 8 + 4] } as const;
const ROWS = Array.from({ length: 3000 }, (_, i) => [String(i), '2026-01-12 00:00:00', i % 3 === 0 ? null : `secret ${i}`, `${i}.00000001`]);
const LSN = '10000/1234';

/** The file as a faulty writer would have written it. */
async function tampered({ file, spool }: { file: string; spool: Spool }, select: string): Promise<string> {
  const out = world.path('parquet');
  const options = segmentOptions(2048, segmentMetadata(spool.shape, 'archive'));
  await world.encoder.run(`COPY (SELECT ${select} FROM read_parquet(${literal(file)})) TO ${literal(out)} (${options})`);
  return out;
}

const mismatch = (pattern: RegExp) => (error: Error) => error instanceof SegmentMismatch && pattern.test(error.message) && !/secret/.test(error.message);

test('a whole file passes, with everything that a manifest says of it', async () => {
  const { file, spool } = await world.segment(COLUMNS as never, ROWS);
  await verifySegment(file, {
    rows: 3000,
    digestSum: spool.digestSum,
    signature: '"id":20:-1,"at":1114:-1,"v":25:-1,"n":1700:1310732',
    minLsn: LSN,
    maxLsn: LSN,
  });
});

test('one changed value in one row is found, by row number, and its value is not told', async () => {
  const segment = await world.segment(COLUMNS as never, ROWS);
  const expected = { rows: 3000, digestSum: segment.spool.digestSum };
  for (const select of [
    `* REPLACE (CASE WHEN id = 2500 THEN v || ' ' ELSE v END AS v)`,
    `* REPLACE (CASE WHEN id = 2500 THEN NULL ELSE v END AS v)`,
    `* REPLACE (CAST(CASE WHEN id = 2500 THEN n + 0.00000001 ELSE n END AS DECIMAL(20, 8)) AS n)`,
    `* REPLACE (CASE WHEN id = 2500 THEN "at" + INTERVAL 1 MICROSECOND ELSE "at" END AS "at")`,
    `* REPLACE (CASE WHEN id = 2500 THEN _digest + 1 ELSE _digest END AS _digest)`,
    `* REPLACE (CASE WHEN id = 2500 THEN '{"v":"secret other"}' ELSE _text END AS _text, CASE WHEN id = 2500 THEN NULL ELSE v END AS v)`,
  ]) {
    await assert.rejects(verifySegment(await tampered(segment, select), expected), mismatch(/row 2501 decodes to another text/), select);
  }
  const damaged = await tampered(segment, `* REPLACE (CASE WHEN id = 0 THEN '{"v":secret' ELSE _text END AS _text)`);
  await assert.rejects(verifySegment(damaged, expected), mismatch(/row group 0 cannot be decoded/));
  // NULL taken for empty: row 1 is the first of them.
  await assert.rejects(verifySegment(await tampered(segment, `* REPLACE (coalesce(v, '') AS v)`), expected), mismatch(/row 1 /));
});

test('rows lost, doubled or of another file, and other columns or locations than the manifest’s, are found', async () => {
  const segment = await world.segment(COLUMNS as never, ROWS);
  const { file, spool } = segment;
  const expected = { rows: 3000, digestSum: spool.digestSum };
  await assert.rejects(verifySegment(file, { ...expected, rows: 2999 }), mismatch(/3000 rows, 2999 were written/));

  await assert.rejects(verifySegment(file, { rows: 3000, digestSum: '1' }), mismatch(/do not add up/));
  await assert.rejects(verifySegment(file, { ...expected, signature: '"id":20:-1' }), mismatch(/columns differ/));
  await assert.rejects(verifySegment(file, { ...expected, maxLsn: '10000/1235' }), mismatch(/WAL locations/));
  const moved = await tampered(segment, `* REPLACE (CASE WHEN id = 7 THEN _lsn + 1 ELSE _lsn END AS _lsn)`);
  await assert.rejects(verifySegment(moved, { ...expected, minLsn: LSN, maxLsn: LSN }), mismatch(/WAL locations/));
});

test('a row with unchanged TOAST is proved in all its other columns', async () => {
  const rows = [
    ['1', '2026-01-12 00:00:00', undefined, '1.00000000'],
    ['2', '2026-01-12 00:00:00', null, '1.00000000'],
  ];
  const segment = await world.segment(COLUMNS as never, rows);
  const expected = { rows: 2, digestSum: segment.spool.digestSum };
  await verifySegment(segment.file, expected);
  const changed = await tampered(segment, `* REPLACE (CAST(CASE WHEN id = 1 THEN n + 1 ELSE n END AS DECIMAL(20, 8)) AS n)`);
  await assert.rejects(verifySegment(changed, expected), mismatch(/row 1 /));
  const forgotten = await tampered(segment, `* REPLACE (CAST(NULL AS VARCHAR) AS _unresolved)`);
  await assert.rejects(verifySegment(forgotten, expected), mismatch(/row 1 /));
  const invented = await tampered(segment, `* REPLACE (CASE WHEN id = 2 THEN 'v' ELSE _unresolved END AS _unresolved)`);
  await assert.rejects(verifySegment(invented, expected), mismatch(/row 2 /));
});

test('keys are proved too: key, kind and boundary', async () => {
  const shape = world.shape({ id: [20, -1], v: [25, -1] }, undefined, { kind: 'keys', day: null });
  const segment = await world.segment(shape, [
    ['1', null],
    ['2', null],
  ]);
  const expected = { rows: 2, digestSum: segment.spool.digestSum };
  await verifySegment(segment.file, expected);
  for (const select of [
    `* REPLACE (CASE WHEN id = '2' THEN '3' ELSE id END AS id)`,
    `* REPLACE ('delete' AS _op)`,
    `* REPLACE (_ordinal + 1 AS _ordinal)`,
    `* REPLACE (_lsn + 1 AS _lsn)`,
  ]) {
    await assert.rejects(verifySegment(await tampered(segment, select), expected), mismatch(/do not add up/), select);
  }
});

test('the hash is of the bytes before they were decoded: what changes meanwhile does not fit it', async () => {
  const rows = Array.from({ length: 30_000 }, (_, i) => [String(i), '2026-01-12 00:00:00', randomBytes(40).toString('hex'), `${i}.00000001`]);
  const segment = await world.segment(COLUMNS as never, rows);
  const daily = await world.daily(segment, { text: false });
  const expected = { rows: rows.length, digestSum: segment.spool.digestSum };
  const written = await readFile(segment.file);
  assert.ok(written.length > 1024 * 1024, 'larger than what is read at once');
  /** Flips a bit of the first row group when its last column is asked for. */
  const flipping = (file: string) => {
    let columns = 0;
    return async (): Promise<void> => {
      columns += 1;
      if (columns !== 4) return;
      const bytes = await readFile(file);
      bytes[5000] = (bytes[5000] as number) ^ 1;
      await writeFile(file, bytes);
    };
  };
  for (const [file, verify] of [
    [segment.file, verifySegment],
    [daily, verifyDaily],
  ] as const) {
    const before = await hashFile(file);
    assert.equal(await verify(file, expected).catch((error: Error) => error.message), before);
    assert.equal(await verify(file, expected, flipping(file)).catch(() => before), before);
    assert.notEqual(await hashFile(file), before);
  }
});
