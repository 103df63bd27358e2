/** Small files of the archive on a volume that fills up while they are written: whole or not there. */
import assert from 'node:assert/strict';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { putIfAbsent, replaceFile } from '../../src/archive/put.js';
import { smallVolume } from './small-volume.js';

const PAGE = 4096;

test('F37: a write that the volume takes only a part of leaves no file, however often it is tried', async (t) => {
  const volume = smallVolume(16 * PAGE);
  if (typeof volume === 'string') return t.skip(volume);
  const { dir } = volume;
  try {
    const bytes = Buffer.alloc(3 * PAGE, 'x');
    // One page is left for three: the first write is short, the second fails.
    writeFileSync(path.join(dir, 'filler'), Buffer.alloc(15 * PAGE));
    for (let i = 0; i < 3; i += 1) {
      await assert.rejects(putIfAbsent(path.join(dir, 'manifest'), bytes, { temporary: dir }), { kind: 'transient', message: /volume is full/ });
      await assert.rejects(replaceFile(dir, 'settings', bytes.toString()), { kind: 'transient', message: /volume is full/ });
      assert.deepEqual(readdirSync(dir), ['filler']);
    }
    rmSync(path.join(dir, 'filler'));
    assert.equal(await putIfAbsent(path.join(dir, 'manifest'), bytes, { temporary: dir }), true);
  } finally {
    volume.unmount();
  }
});
