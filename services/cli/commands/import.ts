/** `tidemark import DIR [--table NAME] [--dry-run] [--accept-inexact] [--timezone ZONE] [--json]`: exit 0 when everything is in the archive, 1 when something was left out. */
import Table from 'cli-table3';
import { loadConfig } from '../../../src/runtime/config.js';
import { plainTable } from '../print.js';
import { progressBar } from '../progress.js';
import { type TakenTable, type TakeOver, takeOver } from '../take-over.js';

export async function run([dir]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const text = (name: string): string | undefined => (options[name] === undefined ? undefined : String(options[name]));
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  const bar = progressBar('import', 'files');
  const dryRun = options['dryRun'] === true;
  const result = await takeOver(config, {
    dir: String(dir),
    table: text('table'),
    dryRun,
    acceptInexact: options['acceptInexact'] === true,
    timezone: text('timezone'),
    signal: controller.signal,
    progress: (done, all) => bar.update(done, all),
  }).finally(() => bar.stop());
  if (options['json'] === true) process.stdout.write(`${JSON.stringify({ dryRun, ...result })}\n`);
  else print(result, dryRun);
  return result.tables.some(({ problem }) => problem !== null) ? 1 : 0;
}

function print({ tables, others, timezone }: TakeOver, dryRun: boolean): void {
  if (tables.length === 0) process.stdout.write('no file here is named <table>_<date>.parquet after a table of the configuration\n');
  else {
    const head = [
      'table',
      'files',
      'known',
      'rows',
      dryRun ? 'would be imported' : 'imported',
      'days',
      'duplicates',
      'older versions',
      'archived already',
      'beyond keep',
    ];
    process.stdout.write(`${plainTable(Table, head, tables.map(rowOf))}\n`);
  }
  for (const { table, findings, problem, missing, assumed } of tables) {
    for (const { file, column, seen, count, row } of findings) {
      const where = `${column === null ? '' : ` ${column}:`} ${row === null ? '' : `${count} × `}${seen}${row === null ? '' : ` (first: row ${row})`}`;
      process.stdout.write(`${problem === null ? 'accepted ' : 'NOT EXACT'}  ${file}${where}\n`);
    }
    for (const { file, columns } of missing) process.stdout.write(`note       ${file} has no column ${columns.join(', ')}: NULL in its rows\n`);
    if (assumed > 0) process.stdout.write(`note       ${table}: ${assumed} times without a time zone were read as ${timezone} (--timezone)\n`);
    if (problem !== null) process.stdout.write(`REFUSED    ${table}: ${problem}\n`);
  }
  if (tables.some(({ findings, problem }) => findings.length > 0 && problem !== null))
    process.stdout.write('--accept-inexact imports these tables with what is nearest to each value, or NULL; the originals stay as they are\n');
  for (const file of others) process.stdout.write(`left       ${file}: of no table that was asked for\n`);
  if (dryRun) process.stdout.write('dry run: nothing was imported\n');
}

function rowOf({ table, files, known, counts }: TakenTable): string[] {
  const numbers =
    counts === null
      ? ['', '', '', '', '', '', '']
      : [counts.rows, counts.imported, counts.days, counts.duplicates, counts.olderVersions, counts.archived, counts.expired];
  return [table, String(files), String(known), ...numbers.map(String)];
}
