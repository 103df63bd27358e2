/** What a prune has decoded proves a row only as long as its file is there as it was. */
import assert from 'node:assert/strict';
import { appendFile, copyFile, link, mkdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { relationSignature } from '../../src/change/relation.js';
import type { Nominated } from '../../src/prune/nominate.js';
import { ArchiveLookup, FileGone } from '../../src/prune/proof.js';
import type { Target } from '../../src/prune/target.js';
import { hashFile } from '../../src/segment/durable-file.js';
import { SegmentWorld } from '../segment/world.js';

const DAY = '2026-01-12';
const NAME = 'segment.parquet';
const rows = Array.from({ length: 40 }, (_, i) => [String(i), `${DAY} 10:00:${i + 10}`]);
const nominated = rows.map(([id, at]) => ({ key: [id], at, ctid: '(0,1)' })) as unknown as Nominated[];

/** A lookup that has proved all rows of a segment, and the same question again. */
async function proved(work: (file: string, find: () => Promise<number>) => Promise<void>): Promise<void> {
  await using world = await SegmentWorld.open();
  const segment = await world.segment({ id: [20, -1], at: [1114, -1] }, rows);
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
  const target = { oid: relation.oid, key: ['id'] } as unknown as Target;
  const lookup = new ArchiveLookup(world.dir);
  const find = async (): Promise<number> => (await lookup.find(state, target, nominated)).size;
  assert.equal(await find(), 40);
  assert.equal(await find(), 40);
  await work(file, find);
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
