/** A Python with the readers of the interoperability suite, in a virtual environment under `.cache`. */
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  const problem = failed('python3', ['-m', 'venv', folder]) ?? installed(python, requirements);
  if (problem !== undefined) return { reason: `the readers cannot be installed: ${problem}` };
  writeFileSync(path.join(folder, 'ready'), '');
  return { python };
}

/** Why Spark cannot be run by this interpreter; undefined: it can. Installs it when there is a Java for it. */
export function sparkProblem(python: string): string | undefined {
  const java = spawnSync('java', ['-version'], { encoding: 'utf8' });
  if (java.error !== undefined) return `java cannot be run (${java.error.message})`;
  const version = Number(/version "(\d+)/.exec(java.stderr)?.[1] ?? 0);
  if (version < LEAST_JAVA) return `java ${version} is older than ${LEAST_JAVA}`;
  if (failed(python, ['-c', 'import pyspark']) === undefined) return undefined;
  process.stderr.write('installing Spark (pip)\n');
  return installed(python, interopFile('requirements-spark.txt'));
}

const LEAST_JAVA = 17;

function installed(python: string, requirements: string): string | undefined {
  return failed(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements]);
}

/** The last line that a failing command printed. */
function failed(command: string, args: readonly string[]): string | undefined {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? undefined : (stderr.trim().split('\n').at(-1) ?? '');
}

/** What a script prints; `input`: its standard input. Throws with its error output when it fails. */
export async function runPython(python: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): Promise<string> {
  const { cwd, input = '' } = options;
  const env = { ...process.env, TZ: 'UTC', PYTHONWARNINGS: 'ignore' };
  const running = promisify(execFile)(python, [...args], { ...(cwd === undefined ? {} : { cwd }), env, maxBuffer: 1024 ** 3 });
  running.child.stdin?.end(input);
  return (await running).stdout;
}
