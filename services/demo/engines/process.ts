/** Starting the engines' processes: as whom, on which port, and that they end when we do. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Below the ports that systems give to outgoing connections (Linux from 32768, macOS from 49152): of those one is taken again in the moment before it is used. */
const PORTS = { from: 10_000, to: 32_000 };

/** A TCP port of 127.0.0.1 that was free a moment ago: whoever uses it must still be ready to find it taken. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (await isFree(port)) return port;
  }
}

/** Nobody listens on this TCP port of 127.0.0.1 now. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Path of an executable on PATH or in the usual system folders, undefined when there is none. */
export function findExecutable(name: string, folders: readonly string[] = []): string | undefined {
  const places = [...folders, ...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/usr/local/bin', '/opt/homebrew/bin'];
  for (const folder of places) {
    if (folder === '') continue;
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not here
    }
  }
  return undefined;
}

/** An unprivileged account for servers that refuse to run as root; undefined when we are not root. */
export type Account = { uid: number; gid: number };

export async function unprivilegedAccount(): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([execute('id', ['-u', name]), execute('id', ['-g', name])]);
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
    } catch {
      // no such account
    }
  }
  throw new Error('running as root, and there is neither an account postgres nor nobody that the database server could run as; start as another user');
}

/**
 * Spawns a process that gets `deathSignal` when this one dies in any way. In a session of its own: a Ctrl-C of the terminal is ours to act on, not the server's.
 */
export function spawnServer(
  file: string,
  args: readonly string[],
  options: { account?: Account | undefined; deathSignal: 'INT' | 'TERM' | 'KILL'; cwd: string; env?: Record<string, string> | undefined },
): ChildProcess {
  const { account, deathSignal, cwd } = options;
  // By `env`, so that what the variables do (LD_PRELOAD) is done to the server alone and as its own user.
  const own = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`);
  const [program, ...rest] = own.length === 0 ? [file, ...args] : ['env', ...own, file, ...args];
  const setpriv = process.platform === 'linux' ? findExecutable('setpriv') : undefined;
  if (setpriv === undefined) {
    const child = spawn(program as string, rest, { cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...(account ?? {}) });
    if (child.pid !== undefined) outlive(child, deathSignal);
    return child;
  }
  const who = account === undefined ? [] : ['--reuid', String(account.uid), '--regid', String(account.gid), '--clear-groups'];
  return spawn(setpriv, ['--pdeathsig', deathSignal, ...who, program as string, ...rest], { cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
}

/** A command line whose process is killed when the one that spawns it dies in any way; where the kernel cannot do that, the command line as it is. */
export function mortal(program: string, args: readonly string[]): [program: string, args: string[]] {
  const setpriv = process.platform === 'linux' ? findExecutable('setpriv') : undefined;
  return setpriv === undefined ? [program, [...args]] : [setpriv, ['--pdeathsig', 'KILL', program, ...args]];
}

/** Where the kernel sends no death signal, a shell does, whose standard input ends with us. */
function outlive(child: ChildProcess, deathSignal: string): void {
  const watcher = spawn('/bin/sh', ['-c', `read _; kill -${deathSignal} "$0"`, String(child.pid)], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  watcher.unref();
  (watcher.stdin as unknown as { unref(): void }).unref();
  child.once('exit', () => watcher.kill('SIGKILL'));
}

/** Sends the signal and waits for the end; SIGKILL after `patienceMs`. */
export async function endProcess(child: ChildProcess, signal: NodeJS.Signals, patienceMs = 20_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  const hard = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await ended;
  clearTimeout(hard);
}
