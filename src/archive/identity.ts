/**
 * Which archive a folder is: `_tidemark/archive.json` and the key that signs fences. Owns making both, and telling that a volume is not the one it was.
 * Must never write into a folder that holds Parquet files of somebody else, nor into an empty mount point where an archive was.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { access, link, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { configError, Halt, TidemarkError } from '../runtime/errors.js';
import { archivePaths, RESERVED } from './layout.js';
import { type ArchiveIdentity, FORMAT_VERSION } from './manifest-format.js';
import { putIfAbsent, storageError, syncFolder } from './put.js';

/** What keeps `dir` from being the folder of an archive; undefined: nothing. It is never made by us: a mount point that is empty because its volume is missing must not become an archive. */
export async function folderProblem(dir: string): Promise<{ readonly seen: string; readonly remedy: string } | undefined> {
  const found = await stat(dir).catch((error: NodeJS.ErrnoException) => error);
  if (!(found instanceof Error)) return found.isDirectory() ? undefined : { seen: `${dir} is not a folder`, remedy: 'set archive.dir to a folder' };
  if (found.code === 'ENOENT') return { seen: `there is no folder ${dir}`, remedy: `mkdir -p ${dir}, or mount the volume it lies on` };
  if (found.code === 'ENOTDIR') return { seen: `${dir} lies in a file, not in a folder`, remedy: 'correct archive.dir' };
  return { seen: `${dir} cannot be looked at (${found.code ?? found.message})`, remedy: 'let this user into the folders above it, or correct archive.dir' };
}

/** What is said where an archive is needed and there is none: the folder is missing, or nothing was archived yet. */
export async function noArchive(dir: string, remedy = 'start the archiver'): Promise<TidemarkError> {
  const problem = await folderProblem(dir);
  if (problem !== undefined) return configError(`archive.dir: ${problem.seen}`, problem.remedy);
  return new TidemarkError('failed', `there is no archive in ${dir} yet`, { remedy: `correct archive.dir, or ${remedy}` });
}

/** The identity of the archive in `dir`, undefined when there is none yet. Halts on one of a newer format or unreadable; throws `config` where `dir` is or lies in a file. */
export async function openIdentity(dir: string): Promise<ArchiveIdentity | undefined> {
  const file = archivePaths(dir).identity;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    // Only this is a mistake of the configuration: what a volume says that fails (EIO, ESTALE, EACCES) passes, and is tried again.
    const problem = code === 'ENOTDIR' ? await folderProblem(dir) : undefined;
    throw problem === undefined ? storageError(error) : configError(`archive.dir: ${problem.seen}`, problem.remedy);
  }
  return parseIdentity(file, text);
}

function parseIdentity(file: string, text: string): ArchiveIdentity {
  let identity: Partial<ArchiveIdentity> = {};
  try {
    identity = JSON.parse(text) as Partial<ArchiveIdentity>;
  } catch {
    // falls through: no field is right
  }
  if (typeof identity.formatVersion === 'number' && identity.formatVersion > FORMAT_VERSION) {
    throw new Halt('MANIFEST', {
      seen: `${file} has formatVersion ${identity.formatVersion}, this program knows ${FORMAT_VERSION}.`,
      safe: 'Nothing was changed.',
      remedy: 'use a newer tidemark',
    });
  }
  if (identity.formatVersion !== FORMAT_VERSION || typeof identity.archive !== 'string' || typeof identity.source !== 'string') {
    throw new Halt('MANIFEST', {
      seen: `${file} is not an archive identity.`,
      safe: 'Nothing was changed.',
      remedy: 'restore this file from a copy of the archive',
    });
  }
  return identity as ArchiveIdentity;
}

/** Only a person can mend it. Whatever else a volume says passes by itself: the services try again. */
function isOfPerson(error: unknown): boolean {
  return ['ENOENT', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');
}

/** What link(2) says on a file system that has none. */
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'ENOSYS', 'EINVAL', 'EMLINK']);

/** Key that signs fences and prune messages: 32 bytes. Throws a `config` error when it is missing or may not be read. */
export async function readKey(dir: string): Promise<Buffer> {
  const file = archivePaths(dir).key;
  try {
    const key = Buffer.from((await readFile(file, 'utf8')).trim(), 'hex');
    if (key.length === 32) return key;
  } catch (error) {
    if (!isOfPerson(error)) throw storageError(error);
    throw configError(
      `archive.dir: ${file} cannot be read (${(error as Error).message})`,
      'let this user read it; it is made by the archiver, mode 0640: the services run as one user or in one group',
    );
  }
  throw configError(`archive.dir: ${file} is not a key of 32 bytes in hexadecimal`, 'restore this file from a copy of the archive');
}

/**
 * Opens the archive in `dir`, or makes one in a folder that is there, writable, has hard links and no foreign Parquet files. Throws `config` errors. `known`: the archive that was there
 * before in the life of this process; without it the folder is a mount point whose volume is gone: Halt WRONG_VOLUME.
 */
export async function createArchive(dir: string, source: string, known?: string): Promise<ArchiveIdentity> {
  await requireFolder(dir);
  const found = await openIdentity(dir);
  if (known !== undefined && found?.archive !== known)
    throw wrongVolume(
      dir,
      found === undefined ? `${archivePaths(dir).identity} is gone` : `${archivePaths(dir).identity} names archive ${found.archive}, not ${known}`,
    );
  if (found === undefined) await refuseForeign(dir);
  const paths = archivePaths(dir);
  for (const folder of [paths.own, paths.temporary, paths.manifests, paths.open, paths.history, paths.receipts]) await makeFolder(folder);
  await requireHardLinks(paths.temporary);
  for (const folder of [paths.own, dir]) await syncFolder(folder);
  if (found === undefined) {
    await putIfAbsent(paths.key, Buffer.from(`${randomBytes(32).toString('hex')}\n`), { temporary: paths.temporary, mode: 0o640 });
    const fresh: ArchiveIdentity = { formatVersion: FORMAT_VERSION, archive: randomUUID(), source, createdAt: new Date().toISOString() };
    await putIfAbsent(paths.identity, Buffer.from(`${JSON.stringify(fresh, null, 2)}\n`), { temporary: paths.temporary });
  }
  const identity = (await openIdentity(dir)) as ArchiveIdentity; // the one that was linked first, ours or another's
  if (identity.source === source) return identity;
  throw configError(
    `archive.dir: ${dir} is the archive of source ${JSON.stringify(identity.source)}, source.name is ${JSON.stringify(source)}`,
    'give this source a folder of its own, or correct source.name',
  );
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o750 }).catch((error: unknown) => {
    throw storageError(error);
  });
}

async function requireFolder(dir: string): Promise<void> {
  let found: { isDirectory(): boolean };
  try {
    found = await stat(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw configError(`archive.dir: there is no folder ${dir}`, `make it (mkdir -p ${dir}), or mount the volume it lies on`);
  }
  if (!found.isDirectory()) throw configError(`archive.dir: ${dir} is not a folder`, 'give a folder');
  try {
    await access(dir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    if (!isOfPerson(error)) throw storageError(error);
    throw configError(`archive.dir: ${dir} cannot be written (${(error as Error).message})`, 'let the user of the archiver write there');
  }
}

/** A folder with Parquet files or manifests but without identity is somebody else's, or lost its identity. */
async function refuseForeign(dir: string): Promise<void> {
  const manifests = await readdir(archivePaths(dir).manifests).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw storageError(error);
  });
  if (manifests.length > 0) throw wrongVolume(dir, `${archivePaths(dir).identity} is missing, but there are ${manifests.length} manifests`);
  const foreign = await findParquet(dir, 0);
  if (foreign === undefined) return;
  throw configError(
    `archive.dir: ${dir} already holds Parquet files that are not Tidemark's (${path.relative(dir, foreign)})`,
    `give an empty folder; then \`tidemark import ${dir}\` takes them over`,
  );
}

/** Any `*.parquet` outside `_tidemark/`, at most four folders deep. Also used by doctor. Throws `config` for a folder in it that cannot be looked into. */
export async function findParquet(dir: string, depth = 0): Promise<string | undefined> {
  const entries = await readdir(dir, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    // The root of an ext4 volume has this folder of root's own.
    if (depth === 1 && path.basename(dir) === 'lost+found') return [];
    if (error.code !== 'EACCES' && error.code !== 'EPERM') throw error;
    throw configError(`archive.dir: ${dir} in it cannot be read (${error.code}), and may hold Parquet files of somebody else`, 'give an empty folder');
  });
  for (const entry of entries) {
    const file = path.join(dir, entry.name);
    if (!entry.isDirectory() && /\.parquet$/i.test(entry.name)) return file;
    if (!entry.isDirectory() || depth >= 4 || (depth === 0 && entry.name === RESERVED)) continue;
    const deeper = await findParquet(file, depth + 1);
    if (deeper !== undefined) return deeper;
  }
  return undefined;
}

/** Publishing a file needs link(2): refused where the file system has none. `dir`: a folder to try it in. */
export async function requireHardLinks(dir: string): Promise<void> {
  const file = path.join(dir, `probe-${process.pid}-${randomUUID()}`);
  try {
    await writeFile(file, 'probe', { flag: 'wx', mode: 0o640 });
    await link(file, `${file}-link`);
    const found = await lstat(`${file}-link`);
    if (found.nlink < 2) throw Object.assign(new Error('a linked file has one name only'), { code: 'EMLINK' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES')
      throw configError(
        `archive.dir: this user may not write in ${dir} (${(error as Error).message})`,
        'give the archive folder and all that is in it to the user of the services (chown -R)',
      );
    if (!NO_LINKS.has(code)) throw storageError(error);
    throw configError(
      `archive.dir: no hard link can be made in ${dir} (${(error as Error).message})`,
      'use a file system with hard links (ext4, xfs, zfs, btrfs, apfs)',
    );
  } finally {
    await Promise.all([rm(file, { force: true }), rm(`${file}-link`, { force: true })]).catch(() => undefined);
  }
}

export function wrongVolume(dir: string, seen: string): Halt {
  return new Halt('WRONG_VOLUME', {
    seen: `${seen}.`,
    safe: 'Nothing was written; the source still holds what is not archived.',
    remedy: `mount the archive's volume at ${dir} and start again`,
  });
}

/** The folder as it was when it was opened: asked again before every commit. */
export class VolumeAnchor {
  readonly #dir: string;
  readonly #archive: string;
  readonly #folder: BigIntStats;

  private constructor(dir: string, archive: string, folder: BigIntStats) {
    this.#dir = dir;
    this.#archive = archive;
    this.#folder = folder;
  }

  static async at(dir: string, identity: ArchiveIdentity): Promise<VolumeAnchor> {
    return new VolumeAnchor(dir, identity.archive, await stat(archivePaths(dir).manifests, { bigint: true }));
  }

  /** Throws Halt WRONG_VOLUME when the folder is no longer the one that was opened. */
  async check(): Promise<void> {
    const paths = archivePaths(this.#dir);
    const now = await stat(paths.manifests, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') throw wrongVolume(this.#dir, `${paths.manifests} is gone`);
      throw storageError(error);
    });
    if (now.dev !== this.#folder.dev || now.ino !== this.#folder.ino) throw wrongVolume(this.#dir, `${paths.manifests} is another folder than before`);
    const identity = await openIdentity(this.#dir);
    if (identity === undefined) throw wrongVolume(this.#dir, `${paths.identity} is gone`);
    if (identity.archive !== this.#archive) throw wrongVolume(this.#dir, `${paths.identity} names archive ${identity.archive}, not ${this.#archive}`);
  }
}
