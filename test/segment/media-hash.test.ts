/** What is read past the page cache is the whole file, to the byte, whatever its size; and a missing file is missing. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { MediaHasher } from '../../src/segment/media-hash.js';

for (const folder of [tmpdir(), '/dev/shm']) {
  test(`files of every size in ${folder}`, async (t) => {
    const dir = await mkdtemp(path.join(folder, 'tidemark-media-')).catch(() => undefined);
    if (dir === undefined) return t.skip('not here');
    try {
      const hasher = new MediaHasher();
      const direct = new Set<boolean>();
      for (const size of [0, 1, 511, 512, 4095, 4096, 4097, 1048575, 1048576, 1048577, 3 * 1048576 + 5]) {
        const bytes = randomBytes(size);
        const file = path.join(dir, String(size));
        await writeFile(file, bytes);
        const found = await hasher.hash(file);
        assert.equal(found.sha256, createHash('sha256').update(bytes).digest('hex'), `${size} bytes`);
        direct.add(found.direct);
      }
      assert.equal(direct.size, 1, 'all in the same way');
      t.diagnostic(direct.has(true) ? 'read past the page cache' : 'this file system has no direct reading');
      await assert.rejects(hasher.hash(path.join(dir, 'gone')), /ENOENT/);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
}
