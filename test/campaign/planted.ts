/** `npm run campaign -- --planted [a,b]`: every planted bug must be caught, and the same program without one must be clean. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { CannotInject, Volume } from '../faults/volume.js';
import { Campaign, type CampaignOptions } from './campaign.js';
import { PatchedCopy, PLANTS, type Plant } from './plants.js';
import type { Report } from './report.js';

/** A bug that shows only at the right moment gets more than one seed. */
const TRIES = 2;

type Base = Pick<CampaignOptions, 'seed' | 'seconds' | 'major' | 'commit' | 'say'>;
type Outcome = { readonly caught: boolean; readonly by: string; readonly seen: string; readonly skipped?: boolean };

/** Prints the table; true when everything that could be tried was caught and the control is clean. */
export async function tryPlants(names: readonly string[], base: Base): Promise<boolean> {
  const chosen = names.length === 0 ? PLANTS : names.map((name) => PLANTS.find((plant) => plant.name === name) ?? unknown(name));
  const volume = await hasVolume();
  const rows: { name: string; outcome: Outcome }[] = [];
  for (const plant of chosen) {
    const outcome =
      'volume' in plant.by && !volume
        ? { caught: false, skipped: true, by: '–', seen: 'needs a volume of its own (root and loop devices)' }
        : await tryOne(plant, base);
    rows.push({ name: plant.name, outcome });
    process.stdout.write(`${outcome.skipped ? 'left out' : outcome.caught ? 'caught' : 'NOT CAUGHT'}  ${plant.name}: ${outcome.by}: ${outcome.seen}\n`);
  }
  const control = names.length > 0 ? undefined : await campaign(undefined, { faults: undefined }, base);
  const width = Math.max(...rows.map(({ name }) => name.length));
  process.stdout.write('\n');
  for (const { name, outcome } of rows)
    process.stdout.write(`${name.padEnd(width)}  ${outcome.skipped ? 'left out' : outcome.caught ? 'caught' : 'NOT CAUGHT'}  ${outcome.by}\n`);
  const tried = rows.filter(({ outcome }) => outcome.skipped !== true);
  const caught = tried.filter(({ outcome }) => outcome.caught).length;
  process.stdout.write(
    `\n${caught}/${tried.length} caught${control === undefined ? '' : `; without a bug: ${control.report?.ok === true ? 'clean' : `NOT CLEAN: ${seenIn(control)}`}`}\n`,
  );
  return caught === tried.length && (control === undefined || control.report?.ok === true);
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
    if (result.report?.ok !== true) return { caught: true, by: `${what}, seed ${base.seed + i}`, seen: seenIn(result) };
  }
  return { caught: false, by: what, seen: `${TRIES} seeds were clean` };
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
  if (!without.passed) return { caught: false, by: named, seen: `it fails without the bug too: ${without.seen}` };
  const { passed, seen } = await runTest(plant, by);
  return { caught: !passed, by: named, seen };
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
