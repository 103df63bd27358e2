/**
 * Removes what an earlier archiver left unfinished: temporary files, and files under `_tidemark/` that no manifest names. Only after this incarnation's claim: from then
 * on no other archiver can name them. Outside `_tidemark/` it removes only a daily file whose own seal note says that it was being made.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
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
  let removed = 0;
  const remove = async (file: string): Promise<void> => {
    await rm(file, { force: true });
    removed += 1;
  };
  for (const name of await readdir(paths.temporary)) {
    const file = path.join(paths.temporary, name);
    if (SEAL_NOTE.test(name)) {
      const noted = (await readNote(file))?.files ?? [];
      for (const daily of noted) if (!live.has(daily)) await remove(path.join(context.dir, daily));
    }
    await rm(file, { force: true, recursive: true });
  }
  for (const folder of [paths.open, paths.history]) {
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      const file = path.join(entry.parentPath, entry.name);
      const name = path.relative(context.dir, file).split(path.sep).join('/');
      if (entry.isFile() && !live.has(name) && !isEmptyFile(name) && !context.isRetired(name)) await remove(file);
    }
  }
  if (removed > 0) context.log.info({ event: 'sweep', files: removed }, 'removed files that no manifest names');
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
