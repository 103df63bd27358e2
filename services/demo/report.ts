/** What the demo says at its end: the table for people, the JSON for programs. */
import { writeFileSync } from 'node:fs';
import Table from 'cli-table3';
import pc from 'picocolors';
import { bytesText, plainTable } from '../cli/print.js';
import type { TableAudit } from './audit.js';
import type { OldVerdict } from './compare/verdict.js';

export type DemoReport = {
  readonly ok: boolean;
  /** Of live load. */
  readonly seconds: number;
  readonly rowsPerSecond: number;
  readonly lost: number;
  readonly duplicate: number;
  readonly unexpected: number;
  readonly kills: number;
  readonly maxLagSeconds: number;
  readonly archive: string;
  /** What became of the rows under the script that Tidemark replaces: with `--compare`. */
  readonly oldScript?: OldVerdict;
  readonly tables: readonly Pick<TableAudit, 'table' | 'group' | 'written' | 'hot' | 'archived' | 'pruned' | 'segments' | 'bytes'>[];
};

export function makeReport(
  audits: readonly TableAudit[],
  facts: { seconds: number; rows: number; kills: number; maxLagSeconds: number; archive: string; otherwiseClean: boolean },
): DemoReport {
  const sum = (of: (audit: TableAudit) => number): number => audits.reduce((total, audit) => total + of(audit), 0);
  const [lost, duplicate, unexpected] = [sum((audit) => audit.lost), sum((audit) => audit.duplicate), sum((audit) => audit.unexpected)];
  return {
    ok: facts.otherwiseClean && lost + duplicate + unexpected === 0,
    seconds: Math.round(facts.seconds * 10) / 10,
    rowsPerSecond: Math.round(facts.rows / facts.seconds),
    lost,
    duplicate,
    unexpected,
    kills: facts.kills,
    maxLagSeconds: Math.round(facts.maxLagSeconds * 10) / 10,
    archive: facts.archive,
    tables: audits.map(({ table, group, written, hot, archived, pruned, segments, bytes }) => ({
      table,
      group,
      written,
      hot,
      archived,
      pruned,
      segments,
      bytes,
    })),
  };
}

export function printReport(report: DemoReport, audits: readonly TableAudit[], problems: readonly string[]): void {
  const rows = audits.map((audit) => [
    audit.table, audit.group, ...[audit.written, audit.hot, audit.archived, audit.pruned, audit.segments].map(String), bytesText(audit.bytes), audit.bytes === 0 ? '' : `${(audit.textBytes / audit.bytes).toFixed(1)}×`,
  ]); // biome-ignore format: one line
  process.stdout.write(`\n${plainTable(Table, ['table', 'group', 'written', 'hot', 'archived', 'pruned', 'segments', 'bytes', 'compression'], rows)}\n\n`);
  for (const problem of problems) process.stdout.write(`${pc.red('problem')}  ${problem}\n`);
  const count = (name: string, value: number): string => `${name} ${value === 0 ? pc.green('0') : pc.red(String(value))}`;
  process.stdout.write(
    `${[count('lost', report.lost), count('duplicate', report.duplicate), count('unexpected', report.unexpected)].join('   ')}   kills ${report.kills}   greatest lag ${report.maxLagSeconds} s   ${report.rowsPerSecond} rows/s\n`,
  );
  process.stdout.write(`${report.ok ? pc.green('the audit is clean') : pc.red('THE AUDIT IS NOT CLEAN')}; the files are in ${report.archive}\n`);
}

export function writeReport(file: string, report: DemoReport): void {
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}
