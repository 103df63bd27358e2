/** What an import of test/fixtures/old-archive must give: the rows of odd-rows.sql, as Postgres prints them, against those of the daily files. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { Pipeline } from '../pipeline/pipeline.js';

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

export type Row = Record<string, string | null>;

/** A pipeline with the tables of odd-rows.sql. Row 7 is hot: the script wrote it, and was killed before its DELETE. */
export async function startOddPipeline(major?: number): Promise<Pipeline> {
  const schema = await readFile(path.join(ROOT, 'test/import/odd-rows.sql'), 'utf8');
  return await Pipeline.start({
    ...(major === undefined ? {} : { major }),
    schema: `${schema}; INSERT INTO odd SELECT * FROM was.odd WHERE id = 7`,
    tables: '  odd: { timestamp: at, group: odds }\n  bare: { timestamp: at, group: odds, prune: false }',
  });
}

/** The rows of all daily files of `odd`, in order, as Postgres texts; and the files. */
export async function dailyRows(pipeline: Pipeline): Promise<{ rows: Row[]; files: string[] }> {
  const entries = [...((await pipeline.state())?.files.values() ?? [])].filter(({ kind, table }) => kind === 'daily' && table === 'odd');
  const files = entries.map(({ file }) => file).sort();
  const rows: Row[] = [];
  for (const file of files) {
    const reader = await DailyReader.open(path.join(pipeline.archiveDir, file));
    await reader.forEachRow((texts) => rows.push(Object.fromEntries(reader.columns.map((name, i) => [name, texts[i] as string | null]))));
  }
  return { rows: rows.sort((a, b) => Number(a['id']) - Number(b['id'])), files };
}

/** What Postgres prints for the rows that were written and are not hot. */
export async function writtenRows(pipeline: Pipeline): Promise<Row[]> {
  const columns = await pipeline.query<{ name: string }>(
    `SELECT attname::text AS name FROM pg_attribute WHERE attrelid = 'odd'::regclass AND attnum > 0 ORDER BY attnum`,
  );
  const texts = columns.map(({ name }) => `CASE WHEN ${name} IS NOT NULL THEN format('%s', ${name}) END`);
  const rows = await pipeline.query<{ row: string }>(`SELECT to_json(ARRAY[${texts.join(', ')}])::text AS row FROM was.odd WHERE id < 7 ORDER BY id`);
  return rows.map(({ row }) => Object.fromEntries((JSON.parse(row) as (string | null)[]).map((text, i) => [columns[i]?.name ?? '', text])));
}
