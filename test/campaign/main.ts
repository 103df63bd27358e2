/** `npm run campaign -- --seconds S --seed N [--runs N] [--major 15|18] [--faults A,B] [--report FILE] [--ledger]`, or `--planted [NAMES] [--record]`: exit 0 only when every run is clean, or every planted bug caught. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeTables } from '../faults/document.js';
import { Campaign } from './campaign.js';
import { FAULTS } from './faults.js';
import { appendToLedger } from './ledger.js';
import { tryPlants } from './planted.js';
import { PatchedCopy, ROOT } from './plants.js';
import { type Report, summary } from './report.js';

const USAGE = `campaign: --seconds 60 --seed 1 [--runs N] [--major 15|18] [--faults a,b] [--report FILE] [--ledger]; --planted [NAMES] [--record]; faults: ${Object.keys(FAULTS).join(' ')}`;

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      runs: { type: 'string', default: '1' },
      major: { type: 'string' },
      faults: { type: 'string' },
      report: { type: 'string' },
      ledger: { type: 'boolean', default: false },
      planted: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
    },
  });
  const whole = (name: 'seconds' | 'seed' | 'runs', least: number): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least) throw new Error(`--${name} ${values[name]} is not a whole number from ${least}`);
    return value;
  };
  const faults = values.faults?.split(',').filter((name) => name !== '');
  for (const name of faults ?? []) if (FAULTS[name] === undefined) throw new Error(`no fault is named ${name}`);
  if (values.record && !values.planted) throw new Error('--record is for --planted; --ledger keeps a campaign');
  if (positionals.length > 0 && !values.planted) throw new Error(`what is ${positionals.join(' ')}?`);
  return {
    ...values,
    plants: positionals.flatMap((names) => names.split(',')),
    seconds: whole('seconds', 20),
    seed: whole('seed', 0),
    runs: whole('runs', 1),
    faults,
  };
}

/** The last commit that changed the program (what lies behind it is tests and docs); `+` when its files differ from that. */
function commitOfProgram(): string {
  try {
    const git = (...args: string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return `${git('log', '-1', '--format=%h', '--', 'src', 'services')}${git('status', '--porcelain', 'src', 'services') === '' ? '' : '+'}`;
  } catch {
    return 'unknown';
  }
}

/** Somebody stops it: set by a signal. */
let stopping = false;

async function main(): Promise<number> {
  const { seconds, seed: first, runs, major, faults, report: file, ledger, verbose, planted, record, plants } = options();
  const commit = commitOfProgram();
  if (planted) {
    const say = (line: string): void => void (verbose && process.stdout.write(`${line}\n`));
    return (await tryPlants(plants, { seed: first, seconds, major: major === undefined ? undefined : Number(major), commit, say, record })) ? 0 : 1;
  }
  const reports: Report[] = [];
  for (let seed = first; seed < first + runs; seed += 1) {
    const repeat = `npm run campaign -- --seconds ${seconds} --seed ${seed}${major ? ` --major ${major}` : ''}${faults ? ` --faults ${faults.join(',')}` : ''}`;
    const say = (line: string): void => void (verbose && process.stdout.write(`${line}\n`));
    await using campaign = await Campaign.start({ seed, seconds, major: major === undefined ? undefined : Number(major), commit, faults, say });
    const report = await campaign.run();
    reports.push(report);
    process.stdout.write(`${summary(report)}\n`);
    if (!report.ok) {
      const logs = path.join('/tmp', `tidemark-campaign-${seed}.log`);
      await campaign.keepLogs(logs);
      process.stdout.write(
        `${report.problems.map((problem) => `  ${problem}\n`).join('')}  again (the seed repeats the choices, not the moments): ${repeat}\n  the services' last lines: ${logs}\n`,
      );
    }
    if (stopping) break; // a run that somebody stopped says nothing
    if (ledger) {
      await appendToLedger(report);
      await writeTables();
    }
    if (file !== undefined) writeFileSync(file, `${JSON.stringify(runs === 1 ? report : reports, null, 2)}\n`);
  }
  const clean = reports.filter(({ ok }) => ok).length;
  if (runs > 1) process.stdout.write(`${clean} of ${runs} clean\n`);
  return clean === runs ? 0 : 1;
}

for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    stopping = true;
    void Campaign.endAll()
      .then(() => PatchedCopy.endAll())
      .then(() => process.exit(130));
  });
}
try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(
    `${error instanceof Error && error.stack?.includes('options') ? `${error.message}\n${USAGE}` : String((error as Error).stack ?? error)}\n`,
  );
  process.exit(2);
}
