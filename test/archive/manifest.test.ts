import assert from 'node:assert/strict';
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, rmdir, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { encodeManifest, readManifest, sha256 } from '../../src/archive/chain.js';
import { createArchive, findParquet, openIdentity, readKey } from '../../src/archive/identity.js';
import { archivePaths, manifestName } from '../../src/archive/layout.js';
import { ArchiveFollower, ManifestWriter } from '../../src/archive/manifest.js';
import type { Manifest } from '../../src/archive/manifest-format.js';
import { findBreak } from '../../src/archive/mend.js';
import { Halt, TidemarkError } from '../../src/runtime/errors.js';
import { failure, linksReport, unreadable, watchSyncs } from './calls.js';
import { fileEntry, temporaryArchive, temporaryFolder } from './folder.js';

const halts = (name: string) => (error: unknown) => error instanceof Halt && error.halt === name;
const configError = (pattern: RegExp) => (error: unknown) => error instanceof TidemarkError && error.kind === 'config' && pattern.test(error.message);

test('an archive has one identity and one key, however often it is opened', async () => {
  await using folder = await temporaryFolder();
  const first = await createArchive(folder.dir, 'test');
  const second = await createArchive(folder.dir, 'test');
  assert.deepEqual(second, first);
  assert.equal((await readKey(folder.dir)).length, 32);
  assert.equal((await stat(archivePaths(folder.dir).key)).mode & 0o777, 0o640);
  await assert.rejects(createArchive(folder.dir, 'other'), configError(/is the archive of source "test"/));
});

test('two archivers that make the archive at once agree on one identity', async () => {
  await using folder = await temporaryFolder();
  const made = await Promise.all([createArchive(folder.dir, 'test'), createArchive(folder.dir, 'test'), createArchive(folder.dir, 'test')]);
  assert.equal(new Set(made.map((identity) => identity.archive)).size, 1);
});

test('a folder with foreign Parquet files, or none, is refused with a clear line', async () => {
  await using folder = await temporaryFolder();
  await mkdir(path.join(folder.dir, 'prices'));
  await writeFile(path.join(folder.dir, 'prices', 'prices_2026-01-12.parquet'), 'PAR1');
  await assert.rejects(createArchive(folder.dir, 'test'), configError(/already holds Parquet files.*prices_2026-01-12/));
  assert.equal(await openIdentity(folder.dir), undefined);
  await assert.rejects(createArchive(path.join(folder.dir, 'nowhere'), 'test'), configError(/there is no folder/));
});

test('the root of a volume has a lost+found that only root reads: it is passed over; another folder that cannot be read is named', async () => {
  await using folder = await temporaryFolder();
  await chmod(folder.dir, 0o777);
  const asAnother = async (work: () => Promise<unknown>): Promise<void> => {
    const root = process.getuid?.() === 0; // whom no mode keeps out
    if (root) process.seteuid?.(65_534);
    await work().finally(() => root && process.seteuid?.(0));
  };
  await mkdir(path.join(folder.dir, 'lost+found'), { mode: 0 });
  await asAnother(async () => assert.equal(await findParquet(folder.dir), undefined));
  await mkdir(path.join(folder.dir, 'theirs'), { mode: 0 });
  await asAnother(() => assert.rejects(createArchive(folder.dir, 'test'), configError(/^archive\.dir: .*theirs in it cannot be read \(EACCES\)/)));
  for (const name of ['lost+found', 'theirs']) await rmdir(path.join(folder.dir, name));
});

test('a follower sees what was committed, and fields that a commit does not name stay', async () => {
  await using folder = await temporaryArchive();
  const follower = new ArchiveFollower(folder.dir);
  assert.equal(await follower.refresh(), undefined);
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  assert.equal((await follower.refresh())?.reason, 'claim');
  await writer.commit({ reason: 'flush', position: '0/20:0', add: [fileEntry('a'), fileEntry('b')] });
  await writer.commit({ reason: 'merge', add: [fileEntry('c')], drop: ['a', 'b'] });
  const state = await follower.refresh();
  assert.equal(state?.position, '0/20:0');
  assert.deepEqual([...(state?.files.keys() ?? [])], ['c']);
  assert.equal(state?.hash, writer.state.hash);
  assert.equal(await follower.refresh(), state, 'nothing new, nothing read');
});

test('W never goes back and has the form (X, 0)', async () => {
  await using folder = await temporaryArchive();
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  await writer.commit({ reason: 'flush', position: '0/20:0' });
  await assert.rejects(writer.commit({ reason: 'flush', position: '0/1F:0' }), /W would go from/);
  await assert.rejects(writer.commit({ reason: 'flush', position: '0/30:2' }), /W would go from/);
});

test('law 8: of two writers the older one is superseded at its next commit and changes nothing', async () => {
  await using folder = await temporaryArchive();
  const first = await ManifestWriter.claim(folder.dir, 'test');
  const second = await ManifestWriter.claim(folder.dir, 'test');
  await assert.rejects(first.commit({ reason: 'flush', add: [fileEntry('late')] }), halts('SUPERSEDED'));
  await assert.rejects(first.commit({ reason: 'flush' }), 'a superseded writer stays so');
  await second.commit({ reason: 'flush', add: [fileEntry('mine')] });
  assert.deepEqual([...((await new ArchiveFollower(folder.dir).refresh())?.files.keys() ?? [])], ['mine']);
});

test('a writer behind whom a person went back neither commits nor removes: its newest manifest is gone, or another has taken its number', async () => {
  await using folder = await temporaryArchive();
  const { manifests } = archivePaths(folder.dir);
  const stopped = await ManifestWriter.claim(folder.dir, 'test');
  await stopped.commit({ reason: 'flush', add: [fileEntry('a')] });
  await stopped.commit({ reason: 'merge', add: [fileEntry('b')], drop: ['a'] });
  await stopped.requireNewest();
  await rename(path.join(manifests, manifestName(3)), path.join(folder.dir, 'aside'));
  await assert.rejects(stopped.requireNewest(), halts('MANIFEST'));
  const next = await ManifestWriter.claim(folder.dir, 'test');
  assert.deepEqual([next.state.number, [...next.state.files.keys()]], [3, ['a']]);
  await assert.rejects(stopped.requireNewest(), halts('MANIFEST'));
  await assert.rejects(stopped.commit({ reason: 'flush' }), halts('MANIFEST'));
  await next.commit({ reason: 'flush' });
  await next.requireNewest();
});

test('F38: what a writer linked itself is no other writer, when the fsync behind the link failed or the link reported an error; it takes nothing more, its next claim goes on from there', async () => {
  const unsynced = (manifests: string): Disposable =>
    watchSyncs((file) => {
      if (file === manifests) throw failure('EIO');
    });
  for (const failing of [unsynced, () => linksReport('EIO'), () => linksReport('EEXIST')]) {
    await using folder = await temporaryArchive();
    const writer = await ManifestWriter.claim(folder.dir, 'test');
    const injured = failing(archivePaths(folder.dir).manifests);
    await assert.rejects(writer.commit({ reason: 'flush', add: [fileEntry('a')] }), { kind: 'failed', message: /may or may not last/ });
    injured[Symbol.dispose]();
    await writer.requireNewest();
    await assert.rejects(writer.commit({ reason: 'flush' }), /claim again/);
    const next = await ManifestWriter.claim(folder.dir, 'test');
    assert.deepEqual([next.claim, [...next.state.files.keys()]], [3, ['a']]);
    await assert.rejects(writer.requireNewest(), halts('SUPERSEDED'));
  }
});

test('F38: a volume that does not answer is no mistake of the configuration, no empty folder and no broken chain', async () => {
  const { folder } = await archiveOf(4);
  await using _ = folder;
  const { dir } = folder;
  for (const code of ['EIO', 'EMFILE', 'ENOTCONN']) {
    const passes = (error: unknown): boolean => !(error instanceof Halt) && (error as { kind?: string }).kind !== 'config' && String(error).includes(code);
    const during = async (which: RegExp, run: () => Promise<unknown>): Promise<void> => {
      using _failing = unreadable(which, code);
      await assert.rejects(run(), passes);
    };
    await during(/\/key$/, () => readKey(dir));
    await during(/0003\.json$/, () => findBreak(dir));
    await rename(archivePaths(dir).identity, path.join(dir, 'aside'));
    await during(/manifest$/, () => createArchive(dir, 'test'));
    await rename(path.join(dir, 'aside'), archivePaths(dir).identity);
  }
  assert.equal(await findBreak(dir), undefined);
});

test('F39: an archive that this process knows is not made anew in the mount point that its volume left empty', async () => {
  await using folder = await temporaryFolder();
  const { archive } = await createArchive(folder.dir, 'test');
  assert.equal((await createArchive(folder.dir, 'test', archive)).archive, archive);
  await rm(archivePaths(folder.dir).own, { recursive: true });
  await assert.rejects(createArchive(folder.dir, 'test', archive), halts('WRONG_VOLUME'));
  assert.deepEqual(await readdir(folder.dir), []);
  const other = await createArchive(folder.dir, 'test');
  assert.notEqual(other.archive, archive);
  await assert.rejects(createArchive(folder.dir, 'test', archive), halts('WRONG_VOLUME'));
});

test('claims made at once all succeed, the last one rules', async () => {
  await using folder = await temporaryArchive();
  const writers = await Promise.all([1, 2, 3].map(() => ManifestWriter.claim(folder.dir, 'test')));
  assert.equal(new Set(writers.map((writer) => writer.claim)).size, 3);
  const results = await Promise.allSettled(writers.map((writer) => writer.commit({ reason: 'flush' })));
  assert.equal(results.filter((result) => result.status === 'fulfilled').length, 1);
});

async function archiveOf(commits: number): Promise<{ folder: Awaited<ReturnType<typeof temporaryArchive>>; manifests: string }> {
  const folder = await temporaryArchive();
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  for (let i = 1; i < commits; i += 1) await writer.commit({ reason: 'flush', add: [fileEntry(`f${i}`)] });
  return { folder, manifests: archivePaths(folder.dir).manifests };
}

test('opening starts at the newest checkpoint and sees every file', async () => {
  const { folder } = await archiveOf(131);
  await using _ = folder;
  const state = await new ArchiveFollower(folder.dir).refresh();
  assert.equal(state?.number, 131);
  assert.equal(state?.files.size, 130);
});

test('F41: a manifest cut off, deleted, changed or taken from elsewhere halts as MANIFEST', async (t) => {
  const damage: Record<string, (manifests: string) => Promise<void>> = {
    'cut off': (manifests) => truncate(path.join(manifests, manifestName(4)), 100),
    'newest cut off': (manifests) => truncate(path.join(manifests, manifestName(6)), 100),
    'one deleted in the middle': (manifests) => rm(path.join(manifests, manifestName(4))),
    'one byte of the newest changed': async (manifests) => {
      const file = path.join(manifests, manifestName(6));
      await writeFile(file, (await readFile(file, 'utf8')).replace('"rows":1', '"rows":7'));
    },
    'a forked number 4, whole in itself': async (manifests) => {
      const found = (await readManifest(manifests, 4)) as { manifest: Manifest };
      await writeFile(path.join(manifests, manifestName(4)), encodeManifest({ ...found.manifest, writtenAt: 'forked' }));
    },
    'number 3 under the name of 4': (manifests) => copyFile(path.join(manifests, manifestName(3)), path.join(manifests, manifestName(4))),
    'a newer format': async (manifests) => {
      const found = (await readManifest(manifests, 6)) as { manifest: Manifest };
      await writeFile(path.join(manifests, manifestName(6)), encodeManifest({ ...found.manifest, formatVersion: 2 }));
    },
  };
  for (const [name, harm] of Object.entries(damage)) {
    await t.test(name, async () => {
      const { folder, manifests } = await archiveOf(6);
      await using _ = folder;
      await harm(manifests);
      await assert.rejects(new ArchiveFollower(folder.dir).refresh(), halts('MANIFEST'));
      await assert.rejects(ManifestWriter.claim(folder.dir, 'test'), halts('MANIFEST'));
    });
  }
});

test('F41: an older copy of the archive put under a running follower and writer halts both', async () => {
  const { folder, manifests } = await archiveOf(3);
  await using _ = folder;
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  await writer.commit({ reason: 'flush' });
  const follower = new ArchiveFollower(folder.dir);
  await follower.refresh();
  await rm(path.join(manifests, manifestName(5)));
  await assert.rejects(follower.refresh(), halts('MANIFEST'));
  await assert.rejects(writer.commit({ reason: 'flush' }), halts('MANIFEST'));
});

test('a gap that appears under a running follower halts it, it never jumps', async () => {
  const { folder, manifests } = await archiveOf(3);
  await using _ = folder;
  const follower = new ArchiveFollower(folder.dir);
  await follower.refresh();
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  await writer.commit({ reason: 'flush' });
  await rm(path.join(manifests, manifestName(4)));
  await assert.rejects(follower.refresh(), halts('MANIFEST'));
});

test('F39: another volume, or none, under the same path halts as WRONG_VOLUME and nothing is written there', async () => {
  await using folder = await temporaryFolder();
  const dir = path.join(folder.dir, 'mount');
  await mkdir(dir);
  await createArchive(dir, 'test');
  const writer = await ManifestWriter.claim(dir, 'test');
  const follower = new ArchiveFollower(dir);
  await follower.refresh();
  await rename(dir, path.join(folder.dir, 'away'));
  await mkdir(dir);
  await assert.rejects(writer.commit({ reason: 'flush' }), halts('WRONG_VOLUME'));
  await assert.rejects(follower.refresh(), halts('WRONG_VOLUME'));
  assert.deepEqual(await readdir(dir), []);
  await createArchive(dir, 'test');
  await assert.rejects(writer.commit({ reason: 'flush' }), halts('WRONG_VOLUME'));
});

test('manifests without archive.json are an archive that lost its identity', async () => {
  const { folder } = await archiveOf(2);
  await using _ = folder;
  await rm(archivePaths(folder.dir).identity);
  await assert.rejects(createArchive(folder.dir, 'test'), halts('WRONG_VOLUME'));
});

test('start-up reads few of 10,000 manifests', async () => {
  await using folder = await temporaryArchive();
  const manifests = archivePaths(folder.dir).manifests;
  const writer = await ManifestWriter.claim(folder.dir, 'test');
  const first = (await readManifest(manifests, 1)) as { manifest: Manifest; hash: string };
  let previous = writer.state.hash;
  for (let number = 2; number <= 10_000; number += 1) {
    const bytes = encodeManifest({ ...first.manifest, number, previous, reason: 'flush', files: number % 64 === 0 ? [] : null });
    await writeFile(path.join(manifests, manifestName(number)), bytes);
    previous = sha256(bytes);
  }
  const started = performance.now();
  assert.equal((await new ArchiveFollower(folder.dir).refresh())?.number, 10_000);
  assert.ok(performance.now() - started < 2000);
});
