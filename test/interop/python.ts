/** A Python with the readers of the interoperability suite, in a virtual environment under `.cache`. */
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const FOLDER = path.join(ROOT, 'test', 'interop');

/** Path of a file beside the sources of this suite. */
export function interopFile(name: string): string {
  return path.join(FOLDER, name);
}

/** The interpreter with the packages of `requirements`, or why there is none. Installs what is missing. */
export function findPython(requirements = interopFile('requirements.txt')): { readonly python: string } | { readonly reason: string } {
  const version = spawnSync('python3', ['-c', 'import sys, venv, ensurepip; print(sys.version_info >= (3, 10))'], { encoding: 'utf8' });
  if (version.error !== undefined) return { reason: `python3 cannot be run (${version.error.message})` };
  if (version.stdout.trim() !== 'True') return { reason: `python3 is older than 3.10, or has no venv (${version.stderr.trim().split('\n').at(-1) ?? ''})` };
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const folder = path.join(ROOT, '.cache', `interop-${hash}`);
  const python = path.join(folder, 'bin', 'python');
  if (existsSync(path.join(folder, 'ready'))) return { python };
  process.stderr.write('installing the readers (pip)\n');
  rmSync(folder, { recursive: true, force: true });
  for (const [command, args] of [
    ['python3', ['-m', 'venv', folder]],
    [python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements]],
    [python, ['-c', `open(${JSON.stringify(path.join(folder, 'making'))}, 'w').close()`]],
  ] as const) {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) return { reason: `the readers cannot be installed: ${stderr.trim().split('\n').at(-1) ?? ''}` };
  }
  renameSync(path.join(folder, 'making'), path.join(folder, 'ready'));
  return { python };
}

/** What a script prints. Throws with its error output when it fails. */
export async function runPython(python: string, args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<string> {
  const env = { ...process.env, TZ: 'UTC', PYTHONWARNINGS: 'ignore', ...options.env };
  const { stdout } = await promisify(execFile)(python, [...args], { ...options, env, maxBuffer: 1024 ** 3 });
  return stdout;
}
