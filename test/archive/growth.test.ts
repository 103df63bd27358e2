/** How fast an archive grows, read from manifests on a real file system: of the last day, without the first copy, by what is live. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArchiveGrowth, volumeAlarm } from '../../src/archive/growth.js';
import { ManifestWriter } from '../../src/archive/manifest.js';
import { fileEntry, temporaryArchive } from './folder.js';

const HOUR = 3_600_000;
const copy = (state: 'running' | 'complete') => ({ generation: 'g', state, consistentPoint: '0/10', rows: 0 });

test('bytes that came and went since the copy was complete, over more manifests than one checkpoint', async () => {
  await using archive = await temporaryArchive();
  const writer = await ManifestWriter.claim(archive.dir, 'test');
  await writer.commit({ reason: 'copy-begin', copy: copy('running'), add: [fileEntry('copied.parquet', { bytes: 1_000_000 })] });
  assert.equal(await new ArchiveGrowth(archive.dir).measure(writer.state), null, 'a copy that runs is no growth');
  await writer.commit({ reason: 'flush', add: [fileEntry('gone.parquet', { bytes: 500 })] });
  await writer.commit({ reason: 'copy-end', copy: copy('complete'), drop: ['gone.parquet'] });
  const began = Date.now();
  for (let i = 0; i < 70; i += 1) await writer.commit({ reason: 'flush', add: [fileEntry(`${i}.parquet`, { bytes: 100 })] });
  await writer.commit({ reason: 'merge', add: [fileEntry('merged.parquet', { bytes: 150 })], drop: ['0.parquet', '1.parquet'] });
  const growth = new ArchiveGrowth(archive.dir);
  const hourLater = await growth.measure(writer.state, began + HOUR);
  assert.equal(hourLater?.amount, 70 * 100 - 50);
  assert.ok(Math.abs((hourLater?.seconds ?? 0) - 3600) < 30, `${hourLater?.seconds}`);
  await writer.commit({ reason: 'flush', add: [fileEntry('more.parquet', { bytes: 7 })] });
  assert.equal((await growth.measure(writer.state, began + HOUR))?.amount, 70 * 100 - 50 + 7, 'the beginning is kept, the end is new');
});

test('of the last day only: what is older is where it begins, and nothing new is nothing known', async () => {
  await using archive = await temporaryArchive();
  const writer = await ManifestWriter.claim(archive.dir, 'test');
  await writer.commit({ reason: 'copy-end', copy: copy('complete'), add: [fileEntry('old.parquet', { bytes: 5 })] });
  assert.equal(await new ArchiveGrowth(archive.dir).measure(writer.state, Date.now() + 25 * HOUR), null);
  const { freeBytes, sizeBytes, fullInSeconds } = await new ArchiveGrowth(archive.dir).forecast(writer.state);
  assert.ok(freeBytes > 0 && sizeBytes > freeBytes);
  assert.equal(fullInSeconds, null);
});

test('a volume with little room, or that is full within a day, is an alarm; one that lasts is none', () => {
  const GB = 1024 ** 3;
  const volume = { freeBytes: 10 * GB, sizeBytes: 100 * GB, fullInSeconds: 864_000 };
  assert.equal(volumeAlarm(volume), null);
  assert.equal(volumeAlarm({ ...volume, fullInSeconds: null }), null);
  assert.equal(volumeAlarm({ ...volume, fullInSeconds: 80_000 })?.seen, '10.0 GB of 100.0 GB free, which lasts less than a day as the archive grows');
  assert.equal(volumeAlarm({ ...volume, freeBytes: 0 })?.seen, '0.000 GB of 100.0 GB free');
});
