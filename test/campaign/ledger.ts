/** The table at the end of docs/campaigns.md: a line for each run that was kept, appended by `npm run campaign -- --ledger`; and its summary. */
import { appendFile, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { faultsOf, type Report } from './report.js';

const LEDGER = fileURLToPath(new URL('../../../docs/campaigns.md', import.meta.url));

/** The columns, in their order. `wrong`: lost, unexpected, phantom, duplicate, torn, out of order. */
const COLUMNS = ['seed', 'commit', 'seconds', 'postgres', 'nats', 'versions', 'pruned', 'faults', 'wrong', 'law3', 'witness', 'lag', 'verdict'] as const;
type Line = Readonly<Record<(typeof COLUMNS)[number], string>>;

export async function appendToLedger(report: Report): Promise<void> {
  const { seed, commit, seconds, major, nats, versions, pruned, law3, witness, maxLagSeconds, ok } = report;
  const cells: Readonly<Record<keyof Line, string | number>> = {
    seed,
    commit,
    seconds,
    postgres: major,
    nats,
    versions,
    pruned,
    faults: faultsOf(report),
    wrong: [report.lost, report.unexpected, report.phantom, report.duplicate, report.torn, report.outOfOrder].join(' '),
    law3: `${law3.violations}/${law3.samples}`,
    witness: witness === null ? '–/–' : `${witness.differences}/${witness.changes}`,
    lag: maxLagSeconds,
    verdict: ok ? 'clean' : 'NOT CLEAN',
  };
  await appendFile(LEDGER, `| ${COLUMNS.map((name) => cells[name]).join(' | ')} |\n`);
}

/** The runs of the ledger's newest commit, those of one length and one pair of engines as one row; then all of the ledger. Markdown. */
export async function ledgerSummary(): Promise<string> {
  const lines = linesOf(await readFile(LEDGER, 'utf8'));
  const newest = lines.at(-1)?.commit;
  const groups = new Map<string, Line[]>();
  for (const line of lines.filter(({ commit }) => commit === newest)) {
    const group = `${line.seconds.padStart(6)} ${line.postgres} ${line.nats}`;
    groups.set(group, [...(groups.get(group) ?? []), line]);
  }
  const rows = [...groups].sort(([a], [b]) => a.localeCompare(b)).map(([, of]) => summaryOf(of));
  return [
    '| commit | seconds | Postgres | NATS | clean | versions | pruned | faults | lost, unexpected, phantom, duplicate, torn, out of order | law 3 | witness | greatest lag, s |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...rows,
    summaryOf(lines, { commit: `all ${new Set(lines.map(({ commit }) => commit)).size} commits`, seconds: '', postgres: '', nats: '' }),
  ].join('\n');
}

/** @throws Error when a line has not as many cells as the ledger has columns */
function linesOf(document: string): Line[] {
  const lines = document.slice(document.indexOf('\n## Ledger\n')).split('\n');
  return lines
    .filter((line) => /^\| \d/.test(line))
    .map((line) => {
      const cells = line.split('|').slice(1, -1);
      if (cells.length !== COLUMNS.length) throw new Error(`docs/campaigns.md: ${cells.length} cells instead of ${COLUMNS.length}: ${line}`);
      return Object.fromEntries(COLUMNS.map((name, i) => [name, cells[i]?.trim()])) as Line;
    });
}

function summaryOf(lines: readonly Line[], named: Pick<Line, 'commit' | 'seconds' | 'postgres' | 'nats'> = lines[0] as Line): string {
  const sums = (name: keyof Line, separator: string): number[] =>
    lines
      .map((line) => line[name].split(separator).map((part) => Number(part) || 0))
      .reduce((sum, parts) => sum.map((before, i) => before + (parts[i] as number)));
  const lag = Math.max(...lines.map((line) => Number(line.lag)));
  const cells = [
    `${lines.filter(({ verdict }) => verdict === 'clean').length}/${lines.length}`,
    ...(['versions', 'pruned', 'faults'] as const).map((name) => sums(name, ' ').join(' ')),
    sums('wrong', ' ').join(' '),
    ...(['law3', 'witness'] as const).map((name) => sums(name, '/').join('/')),
    lag,
  ];
  return `| ${[named.commit, named.seconds, named.postgres, named.nats, ...cells].join(' | ')} |`;
}
