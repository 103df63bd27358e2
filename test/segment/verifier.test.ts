/** The proof in a thread of its own: says what verifySegment says, and outlives what it cannot read. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { SegmentVerifier } from '../../src/segment/verifier.js';
import { SegmentMismatch } from '../../src/segment/verify.js';
import { SegmentWorld } from './world.js';

const COLUMNS = { id: [20, -1], at: [1114, -1], v: [25, -1] } as const;

test('several proofs at once, each with its own answer; what is wrong is said as without a thread', async () => {
  await using world = await SegmentWorld.open();
  const verifier = new SegmentVerifier();
  try {
    const rows = Array.from({ length: 500 }, (_, i) => [String(i), '2026-01-12 00:00:00', `v${i}`]);
    const { file, spool } = await world.segment(COLUMNS as never, rows);
    const expected = { rows: 500, digestSum: spool.digestSum };
    const damaged = world.path('parquet');
    await writeFile(damaged, 'PAR1 and nothing else');
    const answers = await Promise.allSettled([
      verifier.verify(file, expected),
      verifier.verify(file, { ...expected, rows: 499 }),
      verifier.verify(world.path('parquet'), expected),
      verifier.verify(damaged, expected),
      verifier.verify(file, expected),
    ]);
    const said = answers.map((answer) => (answer.status === 'fulfilled' ? 'proved' : (answer.reason as Error & { code?: string })));
    assert.deepEqual([said[0], said[4]], ['proved', 'proved']);
    assert.ok(said[1] instanceof SegmentMismatch && /500 rows, 499 were written/.test(said[1].message));
    assert.equal((said[2] as { code?: string }).code, 'ENOENT');
    assert.ok(said[3] instanceof Error && said[3].message.includes(damaged));
  } finally {
    await verifier.close();
  }
});

test('what was merged gives way to what was flushed behind it', async () => {
  await using world = await SegmentWorld.open();
  const verifier = new SegmentVerifier();
  try {
    const rows = (count: number): string[][] => Array.from({ length: count }, (_, i) => [String(i), '2026-01-12 00:00:00', `v${i}`]);
    const [large, small] = [await world.segment(COLUMNS as never, rows(20_000)), await world.segment(COLUMNS as never, rows(10))];
    const proved: string[] = [];
    await Promise.all([
      verifier.verifyMerged(large.file, { rows: 20_000, digestSum: large.spool.digestSum }).then(() => proved.push('merged')),
      verifier.verify(small.file, { rows: 10, digestSum: small.spool.digestSum }).then(() => proved.push('flushed')),
    ]);
    assert.deepEqual(proved, ['flushed', 'merged']);
  } finally {
    await verifier.close();
  }
});

test('a thread that ends with a proof to give fails it, and the next proof has another one', async () => {
  await using world = await SegmentWorld.open();
  const verifier = new SegmentVerifier();
  const { file, spool } = await world.segment(COLUMNS as never, [['1', '2026-01-12 00:00:00', 'v']]);
  const expected = { rows: 1, digestSum: spool.digestSum };
  const asked = verifier.verify(file, expected);
  await Promise.all([assert.rejects(asked, /the thread that decodes segments ended/), verifier.close()]);
  await verifier.verify(file, expected);
  await verifier.close();
});
