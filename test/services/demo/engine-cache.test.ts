/** Where fetched engines are kept: reachable for the account the server runs as, and never in somebody else's repository. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { engineCache } from '../../../services/demo/engines/cache.js';

async function clone(mode: number): Promise<{ inside: string; cache: string } & AsyncDisposable> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-clone-'));
  const inside = path.join(folder, 'dist', 'services');
  await mkdir(path.join(folder, '.git'));
  await mkdir(inside, { recursive: true });
  await chmod(folder, mode);
  const remove = async (): Promise<void> => {
    await chmod(folder, 0o755); // else only root could
    await rm(folder, { recursive: true, force: true });
  };
  return { inside, cache: path.join(folder, '.cache', 'engines'), [Symbol.asyncDispose]: remove };
}

const scratch = await mkdtemp(path.join(tmpdir(), 'tidemark-cache-'));
await chmod(scratch, 0o755);
process.env['TMPDIR'] = scratch;
after(() => rm(scratch, { recursive: true, force: true }));
const temporary = path.join(tmpdir(), `tidemark-engines-${process.getuid?.() ?? 'user'}`);

test('engines are kept in the clone', async () => {
  await using place = await clone(0o755);
  assert.equal(await engineCache(place.inside), place.cache);
});

const root = process.getuid?.() === 0;

test("not in a clone that the server's account cannot enter, as one under /root", {
  skip: root ? false : 'the server runs as another account for root only',
}, async () => {
  await using place = await clone(0o700);
  assert.equal(await engineCache(place.inside), temporary);
});

test('not in a clone that cannot be written', { skip: root ? 'root writes everywhere' : false }, async () => {
  await using place = await clone(0o555);
  assert.equal(await engineCache(place.inside), temporary);
});

test('not in the repository of somebody who installed the package', async () => {
  await using place = await clone(0o755);
  const inside = path.join(path.dirname(place.inside), 'node_modules', 'tidemark', 'dist');
  await mkdir(inside, { recursive: true });
  assert.equal(await engineCache(inside), temporary);
});
