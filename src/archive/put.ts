/**
 * Small files of the archive (identity, key, manifests): written whole, fsynced, then linked to their name, which must be free. Must never go on after a failed fsync. Only what
 * the pruner notes for itself (settings, clock) takes the place of what it noted before.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, TidemarkError } from '../runtime/errors.js';

/** Makes the entries of a folder durable, by an fsync of the caller's own. Throws what it says; never try it again for the same change. */
export async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes all of `bytes`; a short write goes on, an error throws. */
export async function writeFully(handle: FileHandle, bytes: Buffer): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at);
    if (bytesWritten <= 0) throw new TidemarkError('transient', 'the archive volume took no more bytes and gave no reason');
    at += bytesWritten;
  }
}

export type PutOptions = {
  /** Folder for the unfinished file; on the same volume. */
  readonly temporary: string;
  readonly mode?: number;
  /** Called between the link and the fsync of the folder. */
  readonly linked?: () => void;
};

/** Creates `file` with `bytes`, durable when it resolves. False: the name is taken, nothing was changed. */
export async function putIfAbsent(file: string, bytes: Buffer, options: PutOptions): Promise<boolean> {
  const temporary = path.join(options.temporary, `put-${process.pid}-${randomUUID()}`);
  const handle = await open(temporary, 'wx', options.mode ?? 0o640).catch((error: unknown) => {
    throw storageError(error);
  });
  try {
    await writeFully(handle, bytes);
    await handle.sync();
    await link(temporary, file).catch((error: unknown) => {
      throw MAYBE_DONE.has((error as NodeJS.ErrnoException).code ?? '') ? mayBeThere(file, 'its link reported an error', error) : error;
    });
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw storageError(error);
  } finally {
    await handle.close();
  }
  options.linked?.();
  await syncLinked(file);
  await unlink(temporary).catch(() => undefined); // swept at the next start
  return true;
}

/** Puts `text` in the place of a small file that is no part of the record, durable when it resolves. `dir`: its folder. */
export async function replaceFile(dir: string, name: string, text: string): Promise<void> {
  const temporary = path.join(dir, `${path.parse(name).name}-${process.pid}-${randomUUID()}`);
  try {
    const handle = await open(temporary, 'wx', 0o640);
    try {
      await writeFully(handle, Buffer.from(text));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path.join(dir, name));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw storageError(error);
  }
  await syncFolder(dir);
}

/** After a failed fsync of a name nobody knows whether it lasts: no second try can tell either. */
async function syncLinked(file: string): Promise<void> {
  await syncFolder(path.dirname(file)).catch((error: unknown) => {
    throw mayBeThere(file, 'the fsync behind its link failed', error);
  });
}

/** Codes of a link that may have been made all the same: a disk or a network that loses the answer. */
const MAYBE_DONE: ReadonlySet<string> = new Set(['EIO', 'ESTALE', 'ETIMEDOUT', 'EINTR']);

/** Nobody knows whether the name `file` is there and lasts: who linked it must not go on as if it were, or were not. */
export function mayBeThere(file: string, seen: string, cause: unknown): TidemarkError {
  return new TidemarkError('failed', `${file} may or may not last: ${seen} (${messageOf(cause)})`, {
    remedy: 'check the archive volume; the next start reads what is there',
    cause,
  });
}

/** By errno: what is wrong, and what a person does. */
const STORAGE: Readonly<Record<string, readonly [string, string]>> = {
  ENOSPC: ['the archive volume is full', 'make room'],
  EDQUOT: ['the quota of the archive volume is used up', 'make room'],
  EROFS: ['the archive volume is mounted read-only', 'mount it writable'],
  EIO: ['the archive volume reports an input/output error', 'check the volume'],
  ESTALE: ['the archive volume was mounted anew behind an open file', 'check the volume'],
  ETIMEDOUT: ['the archive volume does not answer', 'check the volume'],
};
/** What a library's message says of the same. */
const MESSAGES: Readonly<Record<string, string>> = { 'no space left on device': 'ENOSPC', 'disk quota exceeded': 'EDQUOT', 'read-only file system': 'EROFS' };

/** Turns errors of a full, read-only or failing volume into a transient error with one clear line; gives back all others as they are. */
export function storageError(error: unknown): unknown {
  if (error instanceof TidemarkError) return error;
  const said = /No space left on device|Disk quota exceeded|Read-only file system/i.exec(String((error as Error | null)?.message))?.[0].toLowerCase() ?? '';
  const known = STORAGE[(error as NodeJS.ErrnoException | null)?.code ?? ''] ?? STORAGE[MESSAGES[said] ?? ''];
  if (known === undefined) return error;
  const [reason, remedy] = known;
  return new TidemarkError('transient', `${reason} (${(error as Error).message})`, {
    remedy: `${remedy}; nothing is lost, archiving goes on by itself`,
    cause: error,
  });
}
