/** `npm run test:interop`: the archive read by programs that are not ours. `--write` puts what they said into the docs; without it the docs must already say so. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { oldFilesReport } from './old-files.js';
import { findPython } from './python.js';
import { readingReport } from './reading.js';
import { typesReport } from './types.js';

const DOCS = fileURLToPath(new URL('../../../docs/', import.meta.url));
const write = process.argv.includes('--write');
const found = findPython();
if ('reason' in found) {
  process.stdout.write(`skipped: ${found.reason}\n`);
  process.exit(0);
}
const problems: string[] = [];
const types = await typesReport(found.python, 18);
problems.push(...types.wrong);
process.stdout.write(`types: ${types.values} values compared, ${types.wrong.length} wrong\n`);
say('types.md', replaceTable(readFileSync(path.join(DOCS, 'types.md'), 'utf8'), types.document));
const reading = await readingReport(found.python, 18, readFileSync(path.join(DOCS, 'reading.md'), 'utf8'));
problems.push(...reading.wrong);
process.stdout.write(
  `reading: ${reading.blocks} blocks run, ${reading.wrong.length} wrong${reading.skipped === undefined ? '' : `; Spark skipped: ${reading.skipped}`}\n`,
);
say('reading.md', reading.document);
const old = await oldFilesReport(found.python, 18);
problems.push(...old.wrong);
process.stdout.write(`old files: ${old.rows} rows of pandas taken over, ${old.wrong.length} wrong\n`);
for (const problem of problems.slice(0, 50)) process.stdout.write(`${problem}\n`);
process.exit(problems.length === 0 ? 0 : 1);

function say(file: string, text: string): void {
  if (write) writeFileSync(path.join(DOCS, file), text);
  else if (readFileSync(path.join(DOCS, file), 'utf8') !== text) problems.push(`docs/${file} says something else: npm run test:interop -- --write`);
}

/** What stands between the marks. */
function replaceTable(text: string, table: string): string {
  return text.replace(/(<!-- generated: test:interop -->\n)[\s\S]*?(\n<!-- end -->)/, (_, head: string, tail: string) => `${head}${table}${tail}`);
}
