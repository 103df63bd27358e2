/** A case of the fault table that a named test of `npm test` covers: runs those tests of the file whose names match, here and now. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const TESTS = fileURLToPath(new URL('..', import.meta.url));

/** `file`: below test/, without its ending. Throws when a test fails or none matches. */
export async function byTest(file: string, pattern: string): Promise<string> {
  const child = spawn(process.execPath, ['--test', '--test-reporter=tap', `--test-name-pattern=${pattern}`, `${TESTS}${file}.test.js`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => {
    output += bytes.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  // Node 20 counts tests that the pattern leaves out as skipped ones.
  const passed = [...output.matchAll(/^\s*ok \d+ - (.*)$/gm)]
    .map(([, name]) => name as string)
    .filter((name) => !/# SKIP/.test(name) && new RegExp(pattern).test(name));
  if (code !== 0) throw new Error(`${file}: ${output.slice(-4000)}`);
  if (passed.length === 0) throw new Error(`${file}: no test passed that matches ${pattern}`);
  return `${passed.length} named ${passed.length === 1 ? 'test' : 'tests'} of test/${file}.test.ts`;
}
