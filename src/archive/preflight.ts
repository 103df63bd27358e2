/** doctor's checks of the archive volume: it can hold what decides over deletes. Leaves nothing behind. */
import { access, constants, mkdtemp, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Check } from '../runtime/check.js';
import { describeError } from '../runtime/errors.js';
import { volumeAlarm } from './growth.js';
import { findParquet, folderProblem, openIdentity, requireHardLinks } from './identity.js';
import { archiveOwner } from './owner.js';

/** `dir`: archive.dir. */
export async function archivePreflight(dir: string): Promise<Check[]> {
  const name = 'archive folder';
  const problem = await folderProblem(dir);
  if (problem !== undefined) return [{ name, status: 'failed', ...problem }];
  try {
    await access(dir, constants.W_OK | constants.X_OK);
  } catch {
    return [{ name, status: 'failed', seen: `${dir} is not writable for this user`, remedy: 'chown it to this user, or set archive.dir' }];
  }
  return [ownerCheck(name, dir, await archiveOwner(dir)), await linkCheck(dir), await spaceCheck(dir), await contentCheck(dir)];
}

/** What root writes there with 0640, the services, which are another user, cannot read. */
function ownerCheck(name: string, dir: string, owner: number): Check {
  const self = process.getuid?.();
  if (self === undefined || self === owner) return { name, status: 'ok', seen: dir };
  const seen = `${dir} is another user's (uid ${owner}); what you write there the services cannot read`;
  return { name, status: 'warning', seen, remedy: 'run the commands as that user (runuser -u, sudo -u)' };
}

async function linkCheck(folder: string): Promise<Check> {
  const name = 'archive hard links';
  let probe: string | undefined;
  try {
    probe = await mkdtemp(path.join(folder, '.tidemark-probe-'));
    await requireHardLinks(probe);
    return { name, status: 'ok', seen: 'the volume has them' };
  } catch (error) {
    return { name, status: 'failed', seen: describeError(error), remedy: 'put the archive on a file system with hard links (ext4, xfs, btrfs, zfs, apfs)' };
  } finally {
    if (probe !== undefined) await rm(probe, { recursive: true, force: true });
  }
}

async function spaceCheck(folder: string): Promise<Check> {
  const name = 'archive space';
  const { bavail, blocks, bsize } = await statfs(folder);
  const alarm = volumeAlarm({ freeBytes: bavail * bsize, sizeBytes: blocks * bsize, fullInSeconds: null });
  return alarm === null ? { name, status: 'ok', seen: `${((bavail * bsize) / 1024 ** 3).toFixed(1)} GB free` } : { name, status: 'warning', ...alarm };
}

async function contentCheck(dir: string): Promise<Check> {
  const name = 'archive content';
  try {
    const identity = await openIdentity(dir);
    if (identity !== undefined) return { name, status: 'ok', seen: `archive ${identity.archive} of source ${identity.source}` };
  } catch (error) {
    return { name, status: 'failed', seen: describeError(error), remedy: 'mount the right volume, or set archive.dir' };
  }
  let foreign: string | undefined;
  try {
    foreign = await findParquet(dir);
  } catch (error) {
    return { name, status: 'failed', seen: describeError(error), remedy: 'set archive.dir to an empty folder' };
  }
  if (foreign === undefined) return { name, status: 'ok', seen: 'empty of Parquet files' };
  return {
    name,
    status: 'failed',
    seen: `holds Parquet files that are not of an archive (${foreign})`,
    remedy: `set archive.dir to an empty folder; when the services run, \`tidemark import ${dir}\` takes them over`,
  };
}
