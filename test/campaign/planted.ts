/** `npm run campaign -- --planted [a,b] [--record]`: every planted bug must be caught, and the same program without one must be clean; `--record` keeps that in docs/reports and docs/reliability.md. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { defaultPostgresMajor } from '../../services/demo/engines/postgres.js';
import { record, WITHOUT_A_BUG } from '../faults/document.js';
import type { Result } from '../faults/runner.js';
import { CannotInject, Volume } from '../faults/volume.js';
import { Campaign, type CampaignOptions } from './campaign.js';
import { PatchedCopy, PLANTS, type Plant } from './plants.js';
import { type Report, summary } from './report.js';

/** A bug that shows only at the right moment gets more than one seed. */
const TRIES = 2;

type Base = Pick<CampaignOptions, 'seed' | 'seconds' | 'major' | 'commit' | 'say'>;
type Outcome = Pick<Result, 'name' | 'outcome' | 'detail'>;
const WORDS: Readonly<Record<Result['outcome'], string>> = { passed: 'caught', FAILED: 'NOT CAUGHT', skipped: 'left out' };

/** Prints the table; true when everything that could be tried was caught and the control is clean. */
export async function tryPlants(names: readonly string[], base: Base & { readonly record: boolean }): Promise<boolean> {
  const chosen = names.length === 0 ? PLANTS : names.map((name) => PLANTS.find((plant) => plant.name === name) ?? unknown(name));
  const volume = await hasVolume();
  const major = base.major ?? (await defaultPostgresMajor());
  const results: Result[] = [];
  const tried = async (id: string, trial: () => Promise<Outcome>): Promise<Result> => {
    const started = Date.now();
    const outcome = await trial();
    const result = { id, seconds: Math.round((Date.now() - started) / 100) / 10, ...outcome };
    if (base.record) await record('planted', major, [result]);
    return result;
  };
  for (const plant of chosen) {
    const result = await tried(plant.name, async () =>
      'volume' in plant.by && !volume
        ? { name: '–', outcome: 'skipped', detail: 'needs a volume of its own (root and loop devices)' }
        : await tryOne(plant, base),
    );
    results.push(result);
    process.stdout.write(`${WORDS[result.outcome]}  ${result.id}: ${result.name}: ${result.detail}\n`);
  }
  const control = names.length > 0 ? undefined : await tried(WITHOUT_A_BUG, () => tryNone(base));
  const width = Math.max(...results.map(({ id }) => id.length));
  process.stdout.write('\n');
  for (const { id, name, outcome } of results) process.stdout.write(`${id.padEnd(width)}  ${WORDS[outcome].padEnd(10)}  ${name}\n`);
  const count = (...outcomes: Result['outcome'][]): number => results.filter(({ outcome }) => outcomes.includes(outcome)).length;
  process.stdout.write(
    `\n${count('passed')}/${count('passed', 'FAILED')} caught${control === undefined ? '' : `; ${WITHOUT_A_BUG}: ${control.outcome === 'passed' ? 'clean' : `NOT CLEAN: ${control.detail}`}`}\n`,
  );
  return count('FAILED') === 0 && (control === undefined || control.outcome === 'passed');
}

function unknown(name: string): never {
  throw new Error(`no planted bug is named ${name}; known: ${PLANTS.map((plant) => plant.name).join(' ')}`);
}

async function hasVolume(): Promise<boolean> {
  try {
    await using _ = await Volume.create('ext4', 16);
    return true;
  } catch (error) {
    if (error instanceof CannotInject) return false;
    throw error;
  }
}

async function tryOne(plant: Plant, base: Base): Promise<Outcome> {
  if ('test' in plant.by) return await byTest(plant, plant.by);
  const what = `campaign${plant.by.faults.length > 0 ? ` with ${plant.by.faults.join(', ')}` : ' without faults'}`;
  for (let i = 0; i < TRIES; i += 1) {
    const result = await campaign(plant, plant.by, { ...base, seed: base.seed + i });
    for (const problem of result.report?.problems ?? []) base.say(`         ${problem.slice(0, 400)}`);
    if (result.report?.ok !== true) return { name: `${what}, seed ${base.seed + i}`, outcome: 'passed', detail: seenIn(result) };
  }
  return { name: what, outcome: 'FAILED', detail: `${TRIES} seeds were clean` };
}

async function tryNone(base: Base): Promise<Outcome> {
  const result = await campaign(undefined, { faults: undefined }, base);
  const clean = result.report?.ok === true;
  return {
    name: `campaign with every fault, seed ${base.seed}`,
    outcome: clean ? 'passed' : 'FAILED',
    detail: clean ? summary(result.report) : seenIn(result),
  };
}

type Run = { readonly report?: Report; readonly failure?: unknown };

async function campaign(plant: Plant | undefined, how: { readonly faults: readonly string[] | undefined }, base: Base): Promise<Run> {
  await using copy = await PatchedCopy.of(plant);
  try {
    await using run = await Campaign.start({ ...base, services: copy.services, ...how, restless: true, bulkRows: 10_000, patienceMs: 60_000 });
    return { report: await run.run() };
  } catch (failure) {
    return { failure };
  }
}

function seenIn({ report, failure }: Run): string {
  const first = report === undefined ? String((failure as Error | undefined)?.message) : (report.problems[0] ?? 'counts');
  return first.split('\n')[0]?.slice(0, 300) ?? '';
}

/** The test must pass without the bug, and fail with it. */
async function byTest(plant: Plant, by: { readonly test: string; readonly title: string }): Promise<Outcome> {
  const named = `test/${by.test.replace(/\.js$/, '.ts')} "${by.title}"`;
  const without = await runTest(undefined, by);
  if (!without.passed) return { name: named, outcome: 'FAILED', detail: `it fails without the bug too: ${without.seen}` };
  const { passed, seen } = await runTest(plant, by);
  return { name: named, outcome: passed ? 'FAILED' : 'passed', detail: seen };
}

async function runTest(
  plant: Plant | undefined,
  { test, title }: { readonly test: string; readonly title: string },
): Promise<{ passed: boolean; seen: string }> {
  await using copy = await PatchedCopy.of(plant);
  const args = ['--test', '--test-timeout=90000', '--test-force-exit', `--test-name-pattern=${title}`, path.join(copy.dir, 'dist/test', test)];
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: copy.dir, encoding: 'utf8', timeout: 200_000 });
  const failed = /^\s*not ok \d+ - (.*)$/m.exec(stdout)?.[1]?.replace(copy.dir, '');
  const reason = /^\s*error: (.*)$/m.exec(stdout)?.[1];
  return { passed: status === 0, seen: failed === undefined ? `ended with ${status}` : `${failed} (${reason})` };
}
