/** What a prune has decoded proves a row only as long as its file is there as it was. */
import assert from 'node:assert/strict';
import { appendFile, copyFile, link, mkdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { ArchiveFollower, ArchiveState } from '../../src/archive/manifest.js';
import { relationSignature } from '../../src/change/relation.js';
import { LookAhead, type LookAheadOptions } from '../../src/prune/look-ahead.js';
import type { Nominated } from '../../src/prune/nominate.js';
import { ArchiveLookup, FileGone } from '../../src/prune/proof.js';
import type { Target } from '../../src/prune/target.js';
import { hashFile } from '../../src/segment/durable-file.js';
import { SegmentReader } from '../../src/segment/reader.js';
import { type Columns, type Row, SegmentWorld } from '../segment/world.js';

const DAY = '2026-01-12';
const NAME = 'segment.parquet';
const rows = Array.from({ length: 40 }, (_, i) => [String(i), `${DAY} 10:00:${i + 10}`]);
const nominatedOf = (of: readonly Row[]): Nominated[] => of.map(([id, at]) => ({ key: [id], at, ctid: '(0,1)' })) as unknown as Nominated[];
const nominated = nominatedOf(rows);

/** An archive of one segment with these rows; the first column is the key. */
async function archived(world: SegmentWorld, columns: Columns, of: readonly Row[]): Promise<{ file: string; state: ArchiveState; target: Target }> {
  const segment = await world.segment(columns, of);
  const file = path.join(world.dir, NAME);
  await copyFile(segment.file, file);
  const { relation } = segment.spool.shape;
  const entry = {
    file: NAME,
    kind: 'segment',
    oid: relation.oid,
    pendingCopy: null,
    day: DAY,
    minTimestamp: null,
    maxTimestamp: null,
    signature: relationSignature(relation),
    sha256: await hashFile(file),
  };
  const state = { files: new Map([[NAME, entry]]) } as unknown as ArchiveState;
  return { file, state, target: { oid: relation.oid, key: ['id'] } as unknown as Target };
}

/** A lookup that has proved all rows of a segment, and the same question again. */
async function proved(work: (file: string, find: () => Promise<number>) => Promise<void>): Promise<void> {
  await using world = await SegmentWorld.open();
  const { file, state, target } = await archived(world, { id: [20, -1], at: [1114, -1] }, rows);
  const lookup = new ArchiveLookup(world.dir);
  const find = async (): Promise<number> => (await lookup.find(state, target, nominated)).size;
  assert.equal(await find(), 40);
  assert.equal(await find(), 40);
  await work(file, find);
}

/** Looks ahead into an archive of one segment with all rows. */
async function lookAhead(world: SegmentWorld): Promise<{ file: string; looks: LookAhead }> {
  const { file, state, target } = await archived(world, { id: [20, -1], at: [1114, -1] }, rows);
  const follower = { refresh: async () => state } as unknown as ArchiveFollower;
  return { file, looks: new LookAhead({ dir: world.dir, follower, state, target, signal: new AbortController().signal }) };
}

const CHANGES: Readonly<Record<string, (file: string) => Promise<unknown>>> = {
  'cut to nothing': (file) => truncate(file, 0),
  'cut in half': (file) => truncate(file, 700),
  'longer': (file) => appendFile(file, 'x'),
  'another of the same length': async (file) => {
    const { size } = await import('node:fs').then((fs) => fs.statSync(file));
    await rm(file);
    await writeFile(file, Buffer.alloc(size));
  },
  'a folder': async (file) => {
    await rm(file);
    await mkdir(file);
  },
}; // biome-ignore format: a table

for (const [name, change] of Object.entries(CHANGES)) {
  test(`law 1: a file that is ${name} proves nothing any more`, () =>
    proved(async (file, find) => {
      await change(file);
      await assert.rejects(find(), (error: { halt?: string; code?: string }) => error.halt === 'DIGEST' || error.code === 'EISDIR');
    }));
}

for (const [name, change] of Object.entries({ ...CHANGES, gone: (file: string) => rm(file), touched: (file: string) => utimes(file, 1, 1) })) {
  test(`law 1: what was looked up ahead proves nothing when its file is ${name} by then`, async () => {
    await using world = await SegmentWorld.open();
    const { file, looks } = await lookAhead(world);
    const found = await looks.look(nominated);
    assert.equal(await looks.proved(nominated, Promise.resolve(found)), found);
    await change(file);
    const again = looks.proved(nominated, Promise.resolve(found));
    if (name === 'touched') {
      assert.equal((await again).size, 40);
      assert.notEqual(await again, found, 'read again');
    } else {
      await assert.rejects(
        again,
        (error: Error & { halt?: string; code?: string }) => error instanceof FileGone || error.halt === 'DIGEST' || error.code === 'EISDIR',
      );
    }
  });
}

test('a look ahead that failed is made again when its turn comes', async () => {
  await using world = await SegmentWorld.open();
  const { looks } = await lookAhead(world);
  assert.equal((await looks.proved(nominated, Promise.reject(new Error('EIO')))).size, 40);
});

test('what is to be forgotten is forgotten between two looks, never in the midst of one', async (t) => {
  await using world = await SegmentWorld.open();
  const { looks } = await lookAhead(world);
  const decoded = t.mock.method(SegmentReader.prototype, 'readRowGroup');
  const first = looks.look(nominated);
  looks.forget();
  const second = looks.look(nominated);
  await Promise.all([first, second]);
  assert.equal(decoded.mock.callCount(), 2, 'the second reads the file again');
});

test('one look at a time, in the order in which they were asked for, whatever becomes of the one before', async (t) => {
  const order: string[] = [];
  let failed = (_error: Error): void => undefined;
  const held = new Promise<never>((_, reject) => {
    failed = reject;
  });
  t.mock.method(ArchiveLookup.prototype, 'find', async (_state: ArchiveState, _target: Target, [row]: Nominated[]) => {
    order.push(`${row?.key[0]} begins`);
    if (row?.key[0] === '0') await held;
    order.push(`${row?.key[0]} ends`);
    return new Map();
  });
  const looks = new LookAhead({ dir: '', follower: {}, state: {}, target: {}, signal: new AbortController().signal } as unknown as LookAheadOptions);
  const first = looks.look(nominated.slice(0, 1));
  const second = looks.look(nominated.slice(1, 2));
  await setImmediate();
  assert.deepEqual(order, ['0 begins']);
  failed(new Error('of the first'));
  await assert.rejects(first, /of the first/);
  assert.equal((await second).size, 0);
  assert.deepEqual(order, ['0 begins', '1 begins', '1 ends']);
  void looks.look(nominated.slice(0, 1)); // fails, and nobody hears it
  await looks.settled();
});

test('a file that is gone is one that was merged: the manifest is read again', () =>
  proved(async (file, find) => {
    await rm(file);
    await assert.rejects(find(), FileGone);
  }));

test('a file that was only touched, linked by a backup or copied back, is proved anew', () =>
  proved(async (file, find) => {
    await utimes(file, 1, 1);
    assert.equal(await find(), 40);
    await link(file, `${file}.backup`);
    assert.equal(await find(), 40);
    await rm(file);
    await copyFile(`${file}.backup`, file);
    assert.equal(await find(), 40);
  }));

test('a row group that every batch needs is decoded once, however many others are needed once each', async (t) => {
  await using world = await SegmentWorld.open();
  const [groups, each] = [9, 20_480];
  const minute = (row: number): number => (row < each ? row % groups : Math.floor(row / each)); // those of the first group lie everywhere
  const wide = Array.from({ length: groups * each }, (_, row) => [String(row), `${DAY} 10:0${minute(row)}:00`, String(row).padStart(250, 'x')]);
  const { file, state, target } = await archived(world, { id: [20, -1], at: [1114, -1], text: [25, -1] }, wide);
  const reader = await SegmentReader.open(file);
  assert.deepEqual([reader.rowGroupCount, reader.rowsOfGroup(0)], [groups, each], 'what the encoder makes of them');
  await reader.close();
  const decoded = t.mock.method(SegmentReader.prototype, 'readRowGroup');
  const lookup = new ArchiveLookup(world.dir);
  for (let group = 1; group < groups; group += 1) {
    const batch = [wide[group], ...wide.slice(group * each, group * each + 100)] as Row[];
    assert.equal((await lookup.find(state, target, nominatedOf(batch))).size, 101);
  }
  const calls = decoded.mock.calls.map(({ arguments: [group] }) => group);
  assert.deepEqual(calls, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});
