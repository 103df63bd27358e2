/**
 * `npm run test:faults`: the fault table against real engines, volumes and networks. `-- --only F28,C5` some rows or steps; `-- --steps` every step, killed and by power cut,
 * at its first, second and last passage; `-- --only U1 --seconds 3600` pressure for an hour. A table at the end, `--record` keeps it in docs/reports and docs/reliability.md;
 * exit 1 when a case failed.
 */
import { parseArgs } from 'node:util';
import { defaultPostgresMajor } from '../../services/demo/engines/postgres.js';
import { Pipeline } from '../pipeline/pipeline.js';
import { type Ending, POINTS } from './crash.js';
import { record } from './document.js';
import { type Case, ROWS } from './matrix.js';
import { type Result, runAll, table } from './runner.js';
import { type StepOptions, stepCases } from './steps.js';

const { values } = options();

function options() {
  try {
    return parseArgs({
      options: {
        only: { type: 'string' },
        steps: { type: 'boolean', default: false },
        endings: { type: 'string', default: 'kill,power' },
        passages: { type: 'string', default: 'first,second,last' },
        postgres: { type: 'string' },
        jobs: { type: 'string', default: '1' },
        seconds: { type: 'string' },
        record: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return refuse(
      `${(error as Error).message}; options: --only F28,C5 --steps --endings kill,power --passages first,second,last --postgres 18 --jobs 2 --seconds 3600 --record --list`,
    );
  }
}

function refuse(problem: string): never {
  console.error(`test:faults: ${problem}`);
  process.exit(2);
}

const major = values.postgres === undefined ? undefined : Number(values.postgres);
if (major !== undefined && !(major >= 15)) refuse(`--postgres ${values.postgres} is not a major version from 15`);
const jobs = Number(values.jobs);
if (!(Number.isInteger(jobs) && jobs >= 1)) refuse(`--jobs ${values.jobs} is not a whole number from 1`);
const seconds = values.seconds === undefined ? undefined : Number(values.seconds);
if (seconds !== undefined && !(seconds >= 10)) refuse(`--seconds ${values.seconds} is not a number from 10`);
const only = values.only?.split(',').map((id) => id.trim());
const known = [...ROWS.map(({ id }) => id), ...POINTS];
const unknown = only?.filter((id) => !(known as string[]).includes(id)) ?? [];
if (unknown.length > 0) refuse(`no fault is named ${unknown.join(', ')}; known: ${known.join(' ')}`);
const oneOf = <T extends string>(option: string, text: string, allowed: readonly T[]): T[] =>
  text.split(',').map((name) => allowed.find((entry) => entry === name) ?? refuse(`--${option} ${name} is none of ${allowed.join(', ')}`));

const endings: Ending[] = oneOf('endings', values.endings, ['kill', 'power']).map((name) =>
  name === 'kill' ? 'kill' : { power: 'machine', fileSystem: 'ext4' },
);
const passages: StepOptions['passages'] = oneOf('passages', values.passages, ['first', 'second', 'last']);
const points = POINTS.filter((point) => (values.steps && only === undefined ? true : only?.includes(point)));
const rows = values.steps ? [] : ROWS.filter(({ id }) => only === undefined || only.includes(id));

if (values.list) {
  for (const { id, fault, cases, waits } of ROWS)
    console.log(`${id.padEnd(4)} ${fault}${waits ? ` (not tried: ${waits})` : `: ${cases.map(({ name }) => name).join(', ')}`}`);
  process.exit(0);
}

const stop = new AbortController();
/** What a stopped case still has to take away: volumes, proxies. */
const STOP_MS = 10_000;
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    setTimeout(() => process.exit(130), STOP_MS).unref();
    stop.abort();
    void Pipeline.endAll();
  });
}

const cases: { id: string; case: Case }[] = rows.flatMap(({ id, cases: of }) => of.map((one) => ({ id, case: one })));
if (points.length > 0)
  cases.push(...(await stepCases({ points, endings: values.steps ? endings : ['kill'], passages: values.steps ? passages : ['first'], major })));
const engine = major ?? (await defaultPostgresMajor());
const keep = async (...of: Result[]): Promise<void> => (values.record ? await record(values.steps ? 'steps' : 'rows', engine, of) : undefined);
const results: Result[] = await runAll(cases, { jobs, major, seconds, ended: keep, signal: stop.signal });
if (stop.signal.aborted) process.exit(130);
const waiting = rows.flatMap(({ id, waits }): Result[] => (waits === undefined ? [] : [{ id, name: '', outcome: 'skipped', seconds: 0, detail: waits }]));
await keep(...waiting);
results.push(...waiting);
console.log(`\n${table(results)}`);
process.exit(results.some(({ outcome }) => outcome === 'FAILED') ? 1 : 0);
