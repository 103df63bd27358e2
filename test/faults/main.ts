/** `npm run test:faults [-- --only C5,F8] [--passage N] [--postgres 18]`: each fault against real engines, a table at the end, exit 1 when one failed. */
import { parseArgs } from 'node:util';
import type { FaultPoint } from '../../src/runtime/fault-point.js';
import { crashAt } from './crash.js';
import { doubleStart } from './double-start.js';

const POINTS: readonly FaultPoint[] = [
  ...(['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C7'] as const),
  ...(['A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8', 'A9'] as const),
  ...(['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7'] as const),
];

type Case = { id: string; what: string; run: (major?: number) => Promise<string> };

const { values } = parseArgs({
  options: { only: { type: 'string' }, passage: { type: 'string', default: '1' }, postgres: { type: 'string' }, list: { type: 'boolean', default: false } },
});
const passage = Number(values.passage);
const cases: Case[] = [
  ...POINTS.map((point) => ({ id: point, what: `SIGKILL at ${point}, passage ${passage}`, run: (major?: number) => crashAt(point, passage, major) })),
  { id: 'F8', what: 'two of each service at once', run: (major?: number) => doubleStart(major) },
];

const only = values.only?.split(',').map((id) => id.trim());
const unknown = only?.filter((id) => !cases.some((entry) => entry.id === id)) ?? [];
if (unknown.length > 0 || !Number.isInteger(passage) || passage < 1) {
  console.error(
    `test:faults: ${unknown.length > 0 ? `no fault is named ${unknown.join(', ')}` : `--passage ${values.passage} is not a whole number from 1`}; known: ${cases.map((entry) => entry.id).join(' ')}`,
  );
  process.exit(2);
}
if (values.list) {
  for (const entry of cases) console.log(`${entry.id.padEnd(4)} ${entry.what}`);
  process.exit(0);
}

const results: { entry: Case; passed: boolean; seconds: number; detail: string }[] = [];
for (const entry of cases.filter(({ id }) => only === undefined || only.includes(id))) {
  const started = Date.now();
  const outcome = await entry.run(values.postgres === undefined ? undefined : Number(values.postgres)).then(
    (detail) => ({ passed: true, detail }),
    (error: unknown) => ({ passed: false, detail: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
  const result = { entry, ...outcome, seconds: Math.round((Date.now() - started) / 100) / 10 };
  results.push(result);
  console.log(`${result.passed ? 'passed' : 'FAILED'}  ${entry.id.padEnd(4)} ${entry.what} (${result.seconds} s): ${outcome.detail}`);
}
const failed = results.filter((result) => !result.passed);
console.log('\nfault  result  seconds');
for (const { entry, passed, seconds } of results) console.log(`${entry.id.padEnd(5)}  ${passed ? 'passed' : 'FAILED'}  ${seconds}`);
console.log(`\n${results.length - failed.length} passed, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);
