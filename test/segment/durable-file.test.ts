/** Decision 10: at whichever call publishing fails, the file is given up, its fsync is never tried again, and its final name is free or names the whole file. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { appendFile, link, mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { DurableFile, type FileSystem, hashFile, makeFolder, type OpenFile, syncFolderTogether } from '../../src/segment/durable-file.js';

let root: string;
before(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidemark-durable-'));
});
after(() => rm(root, { recursive: true, force: true }));

let folders = 0;
/** A fresh archive folder with its folder for temporary files. */
async function archive(): Promise<{ temporary: string; final: string; dir: string }> {
  folders += 1;
  const dir = path.join(root, String(folders));
  await mkdir(path.join(dir, '_tidemark/tmp'), { recursive: true });
  return { dir, temporary: path.join(dir, '_tidemark/tmp/a.parquet'), final: path.join(dir, '_tidemark/open/prices/a.parquet') };
}

/** The real file system, with a record of its calls; call `failAt` (from 1) fails. */
function recorded(dir: string, failAt = 0): { files: FileSystem; calls: string[] } {
  const calls: string[] = [];
  const call = <T>(what: string, file: string, go: () => Promise<T>): Promise<T> => {
    calls.push(`${what} ${path.relative(dir, file) || '.'}`);
    if (calls.length === failAt) return Promise.reject(Object.assign(new Error(`EIO: ${what}`), { code: 'EIO' }));
    return go();
  };
  const files: FileSystem = {
    open: (file, flags, mode) =>
      call('open', file, async (): Promise<OpenFile> => {
        const handle = await open(file, flags, mode);
        return {
          sync: () => call('fsync', file, () => handle.sync()),
          stat: (options) => call('stat', file, () => handle.stat(options)),
          close: () => call('close', file, () => Promise.resolve()).finally(() => handle.close()),
        };
      }),
    mkdir: (folder, options) => call('mkdir', folder, () => mkdir(folder, options)),
    link: (existing, name) => call('link', name, () => link(existing, name)),
    unlink: (file) => call('unlink', file, () => unlink(file)),
  };
  return { files, calls };
}

test('the order of the steps: our descriptor is fsynced before anything is believed, each new folder’s name after it', async () => {
  const { dir, temporary, final } = await archive();
  const { files, calls } = recorded(dir);
  const file = await DurableFile.create(temporary, files);
  await appendFile(temporary, 'the content');
  const published = await file.publish(final, async (verified) => {
    calls.push('verify');
    assert.equal(verified, temporary);
    assert.equal(existsSync(final), false);
    return await hashFile(verified);
  });
  const steps = calls.filter((one) => !/^(open|close|stat) /.test(one));
  assert.deepEqual(steps, [
    'fsync _tidemark/tmp/a.parquet',
    'verify',
    'mkdir _tidemark/open/prices',
    'fsync _tidemark/open',
    'fsync _tidemark',
    'link _tidemark/open/prices/a.parquet',
    'fsync _tidemark/open/prices',
    'unlink _tidemark/tmp/a.parquet',
  ]);
  assert.deepEqual(published, { bytes: 11, sha256: '6e569e05cb6f8608572c79d63b365dc31617bf84d7393d2cb9d2f1ffe0edf95b' });
  assert.equal((await stat(final)).mode & 0o777, 0o640);
  assert.equal((await stat(path.dirname(final))).mode & 0o777, 0o750);
});

test('whichever call fails: the caller hears of it or the file is whole, no fsync is repeated, nothing stays open or half', async () => {
  const dry = await archive();
  const { files, calls: all } = recorded(dry.dir);
  const first = await DurableFile.create(dry.temporary, files);
  await appendFile(dry.temporary, 'the content');
  await first.publish(dry.final, hashFile);
  assert.ok(all.length > 12, all.join('; '));

  for (let failAt = 1; failAt <= all.length; failAt += 1) {
    const { dir, temporary, final } = await archive();
    const { files: faulty, calls } = recorded(dir, failAt);
    const what = `call ${failAt}: ${all[failAt - 1]}`;
    let failed = false;
    try {
      const file = await DurableFile.create(temporary, faulty);
      await appendFile(temporary, 'the content');
      await file.publish(final, hashFile);
    } catch (error) {
      failed = true;
      assert.equal((error as { code?: string }).code, 'EIO', what);
    }
    const linked = calls.findIndex((one) => one.startsWith('link'));
    if (linked < 0 || linked === failAt - 1) assert.equal(existsSync(final), false, `${what}: nothing is published`);
    else assert.equal(await readFile(final, 'utf8'), 'the content', `${what}: what has the name is whole`);
    // Only giving up the temporary file may fail unheard: the name is durable by then.
    const tidying = failAt > all.findLastIndex((one) => one.startsWith('fsync')) + 2;
    if (!tidying) assert.ok(failed, `${what} was not heard`);
    const fsyncs = calls.filter((one) => one.startsWith('fsync'));
    assert.equal(new Set(fsyncs).size, fsyncs.length, `${what}: fsynced again`);
    if (!all[failAt - 1]?.startsWith('unlink')) assert.equal(existsSync(temporary), false, `${what}: temporary file left`);
  }
});

test('a failed proof publishes nothing', async () => {
  const { temporary, final } = await archive();
  const file = await DurableFile.create(temporary);
  await assert.rejects(
    file.publish(final, () => Promise.reject(new Error('row 7 differs'))),
    /row 7 differs/,
  );
  assert.deepEqual([existsSync(final), existsSync(temporary)], [false, false]);
});

test('names are never taken over: neither the temporary nor the final one', async () => {
  const { temporary, final } = await archive();
  const file = await DurableFile.create(temporary);
  await assert.rejects(DurableFile.create(temporary), { code: 'EEXIST' });
  await mkdir(path.dirname(final), { recursive: true });
  await writeFile(final, 'somebody else’s');
  await assert.rejects(file.publish(final, hashFile), { code: 'EEXIST' });
  assert.equal(await readFile(final, 'utf8'), 'somebody else’s');
});

test('a writer that replaces the file instead of filling it is found: our fsync was of another', async () => {
  const { temporary, final } = await archive();
  const file = await DurableFile.create(temporary);
  await writeFile(`${temporary}.new`, 'written beside');
  await rename(`${temporary}.new`, temporary);
  await assert.rejects(file.publish(final, hashFile), /was replaced while it was written/);
  assert.equal(existsSync(final), false);
});

test('an abandoned file is gone; giving it up again does no harm', async () => {
  const { temporary } = await archive();
  const file = await DurableFile.create(temporary);
  await file.abandon();
  await file.abandon();
  assert.deepEqual(await readdir(path.dirname(temporary)), []);
});

test('folders that a killed process left are made durable at their first use, and only then', async () => {
  const { dir, temporary, final } = await archive();
  await mkdir(path.dirname(final), { recursive: true }); // made, and killed before the fsync
  const beside = path.dirname(temporary);
  const first = recorded(dir);
  await makeFolder(path.dirname(final), beside, first.files);
  assert.deepEqual(
    first.calls.filter((one) => one.startsWith('fsync')),
    ['fsync _tidemark/open', 'fsync _tidemark'],
  );
  const second = recorded(dir);
  await makeFolder(path.dirname(final), beside, second.files);
  assert.deepEqual(second.calls, ['mkdir _tidemark/open/prices']);
  // Beside the group folders of daily files, the archive folder itself.
  const daily = recorded(dir);
  await makeFolder(path.join(dir, 'prices'), beside, daily.files);
  assert.deepEqual(
    daily.calls.filter((one) => one.startsWith('fsync')),
    ['fsync .'],
  );
  // One whose fsync failed is not believed the next time.
  const failing = recorded(dir);
  await assert.rejects(makeFolder(path.join(dir, 'trades'), beside, { ...failing.files, ...failSync(failing.files) }), { code: 'EIO' });
  const again = recorded(dir);
  await makeFolder(path.join(dir, 'trades'), beside, again.files);
  assert.ok(again.calls.includes('fsync .'));
});

test('names that come while their folder is made durable are made so together, by an fsync that began behind them', async () => {
  const { dir } = await archive();
  const { files, calls } = recorded(dir);
  const waiting: (() => void)[] = [];
  const slow: FileSystem = {
    ...files,
    open: async (file, flags) => {
      const handle = await files.open(file, flags);
      return {
        ...handle,
        sync: async () => {
          await new Promise<void>((resolve) => waiting.push(resolve));
          await handle.sync();
        },
      };
    },
  };
  const ended: number[] = [];
  const come = (n: number): Promise<void> => syncFolderTogether(dir, slow).then(() => void ended.push(n));
  const all = [come(1)];
  while (waiting.length < 1) await new Promise(setImmediate);
  all.push(come(2), come(3), come(4));
  await new Promise(setImmediate);
  assert.deepEqual([waiting.length, ended], [1, []], 'one at a time');
  waiting[0]?.();
  while (waiting.length < 2) await new Promise(setImmediate);
  assert.deepEqual(ended, [1]);
  all.push(come(5)); // behind the beginning of the second one
  waiting[1]?.();
  while (waiting.length < 3) await new Promise(setImmediate);
  assert.deepEqual(ended, [1, 2, 3, 4]);
  waiting[2]?.();
  await Promise.all(all);
  assert.deepEqual([ended, calls.filter((call) => call.startsWith('fsync')).length], [[1, 2, 3, 4, 5], 3]);
  // Who waits for one that fails is told so, and the next one begins anew.
  let fails = 1;
  const failing: FileSystem = {
    ...files,
    open: async (file, flags) => {
      const handle = await files.open(file, flags);
      return { ...handle, sync: () => (fails-- > 0 ? Promise.reject(new Error('EIO')) : handle.sync()) };
    },
  };
  const found = await Promise.allSettled([syncFolderTogether(dir, failing), syncFolderTogether(dir, failing), syncFolderTogether(dir, failing)]);
  assert.deepEqual(
    found.map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
});

function failSync(files: FileSystem): Pick<FileSystem, 'open'> {
  return {
    open: async (file, flags, mode) => ({
      ...(await files.open(file, flags, mode)),
      sync: () => Promise.reject(Object.assign(new Error('EIO: fsync'), { code: 'EIO' })),
    }),
  };
}

test('one flipped bit anywhere changes the hash', async () => {
  const file = path.join(root, 'bits');
  const bytes = Buffer.alloc(5000, 0x5a);
  await writeFile(file, bytes);
  const whole = await hashFile(file);
  for (const bit of [0, 7, 20_001, 39_999]) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
    await writeFile(file, flipped);
    assert.notEqual(await hashFile(file), whole);
  }
});

test('a file that is written to, or replaced, while it is proved is not published', async () => {
  for (const change of [
    (file: string) => appendFile(file, 'more'),
    (file: string) => writeFile(file, 'CONTENT'),
    (file: string) => rm(file).then(() => writeFile(file, 'content')),
  ]) {
    const { temporary, final } = await archive();
    const file = await DurableFile.create(temporary);
    await appendFile(temporary, 'content');
    const publishing = file.publish(final, async (proved) => {
      const hash = await hashFile(proved);
      await change(proved);
      return hash;
    });
    await assert.rejects(publishing, /was (changed|replaced) while/);
    assert.equal(existsSync(final), false);
  }
});
