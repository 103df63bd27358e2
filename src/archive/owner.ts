/**
 * Whose archive it is. Its files are 0640: what root writes beside services of another user they cannot read, and they stand still for it (a restore's receipts keep the archiver from beginning).
 * Knows users only; what a user may do is the file system's to say.
 */
import { stat } from 'node:fs/promises';
import { configError } from '../runtime/errors.js';
import { archivePaths } from './layout.js';

/** The user id that made the archive; where there is none yet, that of the folder. A bound folder may belong to somebody who never writes in it. Throws what the volume says of the folder. */
export async function archiveOwner(dir: string): Promise<number> {
  const { uid } = await stat(archivePaths(dir).identity).catch(() => stat(dir));
  return uid;
}

/** Throws `config` for root beside an archive that another user has made. Of a folder that is not there others speak. */
export async function requireSameUser(dir: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid } = await stat(archivePaths(dir).identity).catch(() => ({ uid: 0 }));
  if (uid === 0) return;
  throw configError(
    `archive.dir: ${dir} is the archive of the user with id ${uid}, and what root writes there its services could not read`,
    `run this as that user (runuser -u "$(id -un ${uid})" -- tidemark …, or sudo -u)`,
  );
}
