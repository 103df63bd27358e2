/** The tables of docs/reliability.md: from the reports that runs have left in docs/reports, one column for each pair of engine versions; and a summary of the campaigns' ledger. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { natsServer } from '../../services/demo/engines/install.js';
import { ledgerSummary } from '../campaign/ledger.js';
import { PLANTS } from '../campaign/plants.js';
import { POINTS } from './crash.js';
import { ROWS } from './matrix.js';
import type { Result } from './runner.js';

export type Report = {
  kind: 'rows' | 'steps' | 'planted';
  /** Day of the run. */
  at: string;
  commit: string;
  postgres: number;
  nats: string;
  /** Each with the commit that it ran on; those of earlier runs stay until they are run again. */
  results: (Result & { readonly commit?: string })[];
};

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const REPORTS = path.join(ROOT, 'docs/reports');
const DOCUMENT = path.join(ROOT, 'docs/reliability.md');
const PLACES = {
  rows: ['fault table', 'npm run test:faults -- --record'],
  steps: ['steps', 'npm run test:faults -- --steps --record'],
  campaigns: ['campaigns', 'npm run campaign -- --ledger'],
  planted: ['planted bugs', 'npm run campaign -- --planted --record'],
} as const;

/** The id of the campaign that must be clean, among those of planted bugs. */
export const WITHOUT_A_BUG = 'without a bug';

/** Keeps the outcome of a run; cases that were run before by the same engines and not now stay. */
export async function record(kind: Report['kind'], postgres: number, results: readonly Result[]): Promise<void> {
  const nats = (await natsServer()).version;
  const file = path.join(REPORTS, `${kind}-postgres-${postgres}-nats-${nats}.json`);
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  const earlier = await readReport(file);
  const same = (a: Result, b: Result): boolean => a.id === b.id && (kind === 'planted' || withoutNumber(a.name) === withoutNumber(b.name));
  const kept = (earlier?.results ?? []).filter((old) => !results.some((result) => same(old, result)));
  const short = results.map((result) => ({ ...result, commit, detail: result.detail.split('\n')[0] as string }));
  const report: Report = { kind, at: new Date().toISOString().slice(0, 10), commit, postgres, nats, results: [...kept, ...short] };
  await mkdir(REPORTS, { recursive: true });
  await writeFile(file, `${JSON.stringify(report, null, 1)}\n`);
  await writeTables();
}

/** Which passage is the last one is counted anew in each run. */
const withoutNumber = (name: string): string => name.replace(/ \(\d+\)$/, '');

const readReport = async (file: string): Promise<Report | undefined> => {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Report;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw error;
  }
};

/** Puts the tables between their marks. */
export async function writeTables(): Promise<void> {
  const files = (await readdir(REPORTS)).filter((name) => name.endsWith('.json')).sort();
  const reports = (await Promise.all(files.map((name) => readReport(path.join(REPORTS, name))))).filter((report) => report !== undefined);
  const of = (kind: Report['kind']): Report[] => reports.filter((report) => report.kind === kind);
  const tables = { rows: rowsTable(of('rows')), steps: stepsTable(of('steps')), campaigns: await ledgerSummary(), planted: plantedTable(of('planted')) };
  let document = await readFile(DOCUMENT, 'utf8');
  for (const [kind, [title, command]] of Object.entries(PLACES)) {
    const [begin, end] = [`<!-- ${title}: written by ${command} -->`, `<!-- end of ${title} -->`];
    const from = document.indexOf(begin);
    const to = document.indexOf(end);
    if (from < 0 || to < from) throw new Error(`docs/reliability.md has no place for the ${title}`);
    document = `${document.slice(0, from + begin.length)}\n${tables[kind as keyof typeof tables]}\n${document.slice(to)}`;
  }
  await writeFile(DOCUMENT, document);
}

const commitsOf = ({ commit, results }: Report): string => [...new Set(results.map((result) => result.commit ?? commit))].join(' ');
const heading = (report: Report): string => `Postgres ${report.postgres}, NATS ${report.nats} (${commitsOf(report)}, ${report.at})`;
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function cell(results: readonly Result[]): string {
  if (results.length === 0) return '–';
  const passed = results.filter(({ outcome }) => outcome === 'passed').length;
  const failed = results.some(({ outcome }) => outcome === 'FAILED');
  const skipped = results.filter(({ outcome }) => outcome === 'skipped');
  if (skipped.length === results.length) return `skipped: ${skipped[0]?.detail}`;
  return `${passed}/${results.length}${failed ? ' **FAILED**' : ''}${skipped.length > 0 ? `, ${skipped.length} skipped: ${skipped[0]?.detail}` : ''}`;
}

function rowsTable(reports: readonly Report[]): string {
  const lines = [line(['row', 'fault', 'oracles', ...reports.map(heading)]), line(['---', '---', '---', ...reports.map(() => '---')])];
  for (const { id, fault, oracles } of ROWS)
    lines.push(line([id, fault, oracles, ...reports.map((report) => cell(report.results.filter((result) => result.id === id)))]));
  const all = reports.map(({ results }) => `${results.filter(({ outcome }) => outcome === 'passed').length}/${results.length}`);
  return [...lines, line(['', 'cases passed', '', ...all])].join('\n');
}

function stepsTable(reports: readonly Report[]): string {
  const hows = ['SIGKILL', 'power cut'] as const;
  const lines = [
    line(['step', ...reports.flatMap((report) => hows.map((how) => `${how}: ${heading(report)}`))]),
    line(['---', ...reports.flatMap(() => hows.map(() => '---'))]),
  ];
  const of = (report: Report, how: string, id?: string): Result[] =>
    report.results.filter((result) => (id === undefined || result.id === id) && result.name.startsWith(how));
  for (const id of POINTS) lines.push(line([id, ...reports.flatMap((report) => hows.map((how) => cell(of(report, how, id))))]));
  lines.push(line(['all', ...reports.flatMap((report) => hows.map((how) => cell(of(report, how))))]));
  return lines.join('\n');
}

/** What is to catch a bug and what it saw are those of the last report that has it. */
function plantedTable(reports: readonly Report[]): string {
  const lines = [line(['planted', 'caught by', 'what it saw', ...reports.map(heading)]), line(['---', '---', '---', ...reports.map(() => '---')])];
  for (const id of [...PLANTS.map(({ name }) => name), WITHOUT_A_BUG]) {
    const found = reports.map(({ results }) => results.find((result) => result.id === id));
    const last = found.findLast((result) => result !== undefined);
    lines.push(line([id, inCell(last?.name ?? '–'), inCell(last?.detail ?? '–'), ...found.map((result) => wordFor(result, id))]));
  }
  const bugs = reports.map(({ results }) => results.filter(({ id }) => id !== WITHOUT_A_BUG));
  const caught = bugs.map((of) => `${of.filter(({ outcome }) => outcome === 'passed').length}/${of.length}`);
  return [...lines, line(['caught', '', '', ...caught])].join('\n');
}

function wordFor(result: Result | undefined, id: string): string {
  if (result === undefined) return '–';
  if (result.outcome === 'skipped') return `left out: ${result.detail}`;
  const passed = result.outcome === 'passed';
  if (id === WITHOUT_A_BUG) return passed ? 'clean' : '**NOT CLEAN**';
  return passed ? 'caught' : '**NOT CAUGHT**';
}

const inCell = (text: string): string => text.replaceAll('|', '\\|');
