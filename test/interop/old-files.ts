/** The old script's files as the pandas of this suite writes them, taken over by `tidemark import`, and their rows compared with what Postgres prints for those that were written. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { dailyRows, ROOT, startOddPipeline, writtenRows } from '../import/taken-rows.js';
import { runPython } from './python.js';

/** Rows that came as they were written, and what was wrong. */
export async function oldFilesReport(python: string, major: number): Promise<{ readonly rows: number; readonly wrong: readonly string[] }> {
  await using pipeline = await startOddPipeline(major);
  await pipeline.doctorFix();
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
  const dir = path.join(pipeline.dir, 'old');
  await mkdir(dir);
  await runPython(python, [path.join(ROOT, 'test/import/make_old_files.py'), dir]);
  const inexact = await pipeline.cli(['import', dir, '-c', pipeline.configFile, '--table', 'odd', '--dry-run']);
  const wrong: string[] = [];
  const named = inexact.stdout.split('\n').filter((line) => line.startsWith('NOT EXACT'));
  if (named.length === 0 || named.some((line) => !line.includes('odd_2026-01-16.parquet')))
    wrong.push(`import named other values than those of the last file: ${inexact.stdout}${inexact.stderr}`);
  const { code, stdout, stderr } = await pipeline.cli(['import', dir, '-c', pipeline.configFile, '--accept-inexact']);
  if (code !== 0) wrong.push(`import ended with ${code}: ${stdout}${stderr}`);
  const rows = (await dailyRows(pipeline)).rows.filter(({ id }) => Number(id) < 7);
  const written = await writtenRows(pipeline);
  for (const [i, row] of written.entries())
    if (!isDeepStrictEqual(rows[i], row)) wrong.push(`old files: row ${row['id']} is ${JSON.stringify(rows[i])}, was ${JSON.stringify(row)}`);
  return { rows: rows.length, wrong };
}
