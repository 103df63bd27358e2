/**
 * Removes what an earlier archiver left unfinished: temporary files, and files under `_tidemark/` that no manifest names. Only after this incarnation's claim: from then
 * on no earlier archiver can name them; and only what was there before a later one claimed. Outside `_tidemark/` it removes only a daily file whose own note says that it was being
 * made, or whose receipt says that the retention of the archive has let it go.
 */
import type { Dirent, Stats } from 'node:fs';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { readExpired } from '../../src/archive/expire.js';
import { archivePaths, isEmptyFile } from '../../src/archive/layout.js';
import { droppedLately } from '../../src/archive/manifest.js';
import { type ArchiverContext, GRACE_MS } from './context.js';

/** Left in `_tidemark/tmp` while a day is sealed: the files that may get their names before the manifest does. */
export type SealNote = { readonly files: readonly string[] };

export const SEAL_NOTE = /^seal-\d+-\d+\.json$/;

export async function sweep(context: ArchiverContext): Promise<void> {
  const paths = archivePaths(context.dir);
  const live = context.state.files;
  for (const { file, at } of await droppedLately(context.dir, context.state, GRACE_MS)) context.retire(file, at); // others may still read them
  const unfinished = await readdir(paths.temporary);
  const unnamed: { readonly file: string; readonly found: Stats }[] = [];
  const leave = async (file: string): Promise<void> => {
    const found = await statOf(file);
    if (found !== undefined) unnamed.push({ file, found });
  };
  for (const name of unfinished.filter((one) => SEAL_NOTE.test(one)))
    for (const daily of (await readNote(path.join(paths.temporary, name)))?.files ?? []) if (!live.has(daily)) await leave(path.join(context.dir, daily));
  for (const folder of [paths.open, paths.history, paths.restored]) {
    for (const entry of await filesBelow(folder)) {
      const file = path.join(entry.parentPath, entry.name);
      const name = path.relative(context.dir, file).split(path.sep).join('/');
      if (entry.isFile() && !live.has(name) && !isEmptyFile(name) && !context.isRetired(name)) await leave(file);
    }
  }
  for (const { file, bytes } of await readExpired(context.dir, context.state)) {
    const daily = path.join(context.dir, file);
    if ((await statOf(daily))?.size === bytes && !context.isRetired(file)) await leave(daily);
  }
  await context.writer.requireNewest(); // what was found was there before a successor's claim, if there is one by now: all it has made since is not among it
  for (const { file, found } of unnamed) if (isSame(await statOf(file), found)) await rm(file, { force: true });
  for (const name of unfinished) await rm(path.join(paths.temporary, name), { force: true, recursive: true });
  if (unnamed.length > 0) context.log.info({ event: 'sweep', files: unnamed.length }, 'removed files that no manifest names');
}

async function statOf(file: string): Promise<Stats | undefined> {
  return await lstat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

function isSame(now: Stats | undefined, then: Stats): boolean {
  return now !== undefined && now.ino === then.ino && now.mtimeMs === then.mtimeMs && now.size === then.size;
}

/** A folder that nothing was ever put into is not there. */
async function filesBelow(folder: string): Promise<Dirent[]> {
  return await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}

/** Frees what spools of a dead archiver hold when the volume is full. Safe at any time: a spool is never named by anything. */
export async function sweepSpools(dir: string): Promise<void> {
  const { temporary } = archivePaths(dir);
  for (const name of await readdir(temporary)) if (name.startsWith('spool-')) await rm(path.join(temporary, name), { force: true });
}

async function readNote(file: string): Promise<SealNote | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as SealNote;
  } catch {
    return undefined; // torn: no file had its name yet
  }
}
