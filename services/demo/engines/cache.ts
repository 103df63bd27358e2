/** Where fetched engines are kept: in the clone, or where that will not do, in the temporary folder. Never in the repository of somebody who installed the package. */
import { execFile } from 'node:child_process';
import { access, chmod, constants, lstat, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { unprivilegedAccount } from './process.js';

const execute = promisify(execFile);
const OWN_FOLDER = path.dirname(fileURLToPath(import.meta.url));

/** `.cache/engines` of the clone that holds `from`, made if need be; a folder of ours in the temporary one when there is no clone, when it is read-only, or when the server's account cannot get at it. */
export async function engineCache(from: string = OWN_FOLDER): Promise<string> {
  const clone = await cloneOf(from);
  if (clone !== undefined) {
    const cache = path.join(clone, '.cache', 'engines');
    const made = await mkdir(cache, { recursive: true }).then(
      () => access(cache, constants.W_OK).then(() => true),
      () => false,
    );
    if (made && (await serverReaches(cache))) return cache;
  }
  return ownTemporary();
}

async function cloneOf(from: string): Promise<string | undefined> {
  if (from.split(path.sep).includes('node_modules')) return undefined;
  for (let folder = from; folder !== path.dirname(folder); folder = path.dirname(folder)) {
    if (await lstat(path.join(folder, '.git')).catch(() => undefined)) return folder;
  }
  return undefined;
}

/** As root the database server runs under another account, which cannot enter /root. */
async function serverReaches(folder: string): Promise<boolean> {
  const account = await unprivilegedAccount();
  if (account === undefined) return true;
  return execute('test', ['-x', folder], { cwd: '/', ...account }).then(
    () => true,
    () => false,
  );
}

/** Throws when somebody else made the folder first: what lies in it is executed. */
async function ownTemporary(): Promise<string> {
  const folder = path.join(tmpdir(), `tidemark-engines-${process.getuid?.() ?? 'user'}`);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const found = await lstat(folder);
  if (!found.isDirectory() || (process.getuid !== undefined && found.uid !== process.getuid()) || (found.mode & 0o022) !== 0) {
    throw new Error(`${folder} is not a folder that only this account can write to; remove it and start again`);
  }
  await chmod(folder, 0o755); // whatever the umask: the server's account goes through it
  return folder;
}
