/**
 * docs/reading.md, run: every block of it over an archive of the reference tables, and behind its section on open days the comparison of the views, of its pandas and of its Polars functions
 * with what was written.
 */
import { readFileSync } from 'node:fs';
import { type Block, blocksOf, withOutcomes } from './document.js';
import { interopFile, runPython, sparkProblem } from './python.js';
import { ReferenceArchive, TABLES } from './reference-archive.js';

/** What was found wrong, why Spark was left out, and the document with what its blocks printed. */
export type ReadingReport = { readonly wrong: readonly string[]; readonly blocks: number; readonly skipped: string | undefined; readonly document: string };

export async function readingReport(python: string, major: number, document: string): Promise<ReadingReport> {
  const blocks = blocksOf(document);
  const open = blocks.findLast(({ code }) => code.includes('def polars_rows('));
  if (open === undefined) throw new Error('docs/reading.md defines no polars_rows');
  const skipped = sparkProblem(python);
  const isRun = ({ section }: Block): boolean => skipped === undefined || section !== '## Spark';
  await using archive = await ReferenceArchive.make(major);
  const tables = Object.fromEntries(TABLES.map((table) => [table, table === 'whale_movements' ? 'keep' : 'history']));
  const comparison: Block = { ...open, code: `TABLES = ${JSON.stringify(tables)}\n${readFileSync(interopFile('compare_rows.py'), 'utf8')}` };
  const input = JSON.stringify([...blocks.filter(isRun), comparison]);
  const printed = JSON.parse(await runPython(python, [interopFile('run_document.py')], { cwd: archive.dir, input })) as string[];
  const wrong = (printed.pop() as string).split('\n').filter((line) => line !== `${TABLES.length} tables compared`);
  const outcomes = blocks.map((block) => (isRun(block) ? printed.shift() : undefined));
  return { wrong, blocks: blocks.length, skipped, document: withOutcomes(document, outcomes) };
}
