/**
 * Every value of every type as readers that are not ours see it, and docs/types.md: what each makes of a column. A reader's value is right when Postgres, reading it, prints the text that it
 * printed for the original; values that a typed column cannot hold are NULL there and stand in `_text`. A filter on a value must find it: statistics and Bloom filters tell the truth.
 */
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { segmentColumn } from '../../src/segment/columns.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { literal } from '../../src/segment/sql.js';
import { Pipeline, until } from '../pipeline/pipeline.js';
import { TypesTable } from '../types/types-table.js';
import { interopFile, runPython } from './python.js';

type Reader = {
  readonly types: Readonly<Record<string, string>>;
  readonly values: Readonly<Record<string, readonly (string | null)[]>>;
  readonly lost: readonly string[];
};
type Seen = Readonly<Record<'pyarrow' | 'pandas' | 'polars' | 'duckdb', Reader>>;

/** What was found wrong, and the text of docs/types.md. */
export type TypesReport = { readonly wrong: readonly string[]; readonly values: number; readonly document: string };

export async function typesReport(python: string, major: number): Promise<TypesReport> {
  await using pipeline = await Pipeline.start({ major, schema: '', tables: '  typed: { timestamp: at }' });
  const table = await TypesTable.create(pipeline);
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
  await table.insertRandom(100);
  await pipeline.archived();
  const expected = await table.texts();
  const pruned = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  if (pruned.code !== 0) throw new Error(pruned.stdout + pruned.stderr);
  const daily = await until('the day is sealed', async () =>
    [...((await pipeline.state())?.files.values() ?? [])].find((file) => file.kind === 'daily' && file.table === 'typed'),
  );
  const file = path.join(pipeline.archiveDir, daily.file);
  const seen = JSON.parse(await runPython(python, [interopFile('read_types.py'), file])) as Seen;

  const ids = seen.pyarrow.values['id'] as string[];
  const wrong: string[] = [];
  let values = 0;
  for (const [reader, { values: columns, lost }] of Object.entries(seen)) {
    wrong.push(...lost.map((condition) => `${reader}: no row is found where ${condition}`));
    for (const { column, type } of table.cases) {
      const kept = (columns['_text'] ?? []).map((text) => (text === null ? {} : (JSON.parse(text) as Record<string, string>)));
      const texts = (columns[column] as (string | null)[]).map((text, i) => text ?? kept[i]?.[column] ?? null);
      const wanted = ids.map((id) => expected.get(id)?.get(column) ?? null);
      values += texts.length;
      const asPostgres = await printed(pipeline, type, texts, wanted);
      for (const [i, text] of asPostgres.entries()) if (text !== wanted[i]) wrong.push(`${reader}: ${column} of row ${ids[i]} is ${text}, not ${wanted[i]}`);
    }
  }
  if (ids.length !== expected.size) wrong.push(`${ids.length} of ${expected.size} rows`);
  return { wrong, values, document: await document(file, table, seen, major) };
}

/** Texts as Postgres prints them after reading them as `type`; those that are as wanted already are left alone: some types are read by nobody. */
async function printed(pipeline: Pipeline, type: string, texts: readonly (string | null)[], wanted: readonly (string | null)[]): Promise<(string | null)[]> {
  const different = texts.flatMap((text, i) => (text === wanted[i] ? [] : [i]));
  if (different.length === 0) return [...texts];
  const { rows } = await pipeline.sql.query<{ v: string }>(`SELECT format('%s', v::${type}) AS v FROM unnest($1::text[]) WITH ORDINALITY t(v, n) ORDER BY n`, [
    different.map((i) => texts[i]),
  ]);
  const result = [...texts];
  for (const [n, i] of different.entries()) result[i] = texts[i] === null ? null : (rows[n] as { v: string }).v;
  return result;
}

async function document(file: string, table: TypesTable, seen: Seen, major: number): Promise<string> {
  const { metadata } = await DailyReader.open(file);
  const parquet = await parquetTypes(file);
  const objects = (await parquetReadObjects({ file: await asyncBufferFromFile(file), compressors })) as Record<string, unknown>[];
  const lines = table.cases.map(({ column, type }) => {
    const relationColumn = metadata.columns.find((one) => one.name === column);
    if (relationColumn === undefined) throw new Error(`${column} is not in the file`);
    const form = segmentColumn(relationColumn, metadata);
    const sample = objects.map((row) => row[column]).find((value) => [value].flat(5).some((item) => item !== null && item !== undefined));
    return [
      type,
      parquet.get(column) ?? '',
      seen.duckdb.types[column],
      seen.pyarrow.types[column],
      seen.pandas.types[column],
      seen.polars.types[column],
      javascriptType(sample),
      form.beyond,
    ];
  });
  const head = ['Postgres', 'Parquet', 'DuckDB', 'pyarrow', 'pandas', 'Polars', 'hyparquet', 'in `_text`'];
  const row = (cells: readonly (string | undefined)[]): string => `| ${cells.map((cell) => (cell ?? '').replaceAll('|', '\\|')).join(' | ')} |`;
  return [row(head), row(head.map(() => '---')), ...lines.map(row)].join('\n').concat(`\n\nSeen on Postgres ${major}.\n`);
}

/** Physical and logical type of every column, as its footer has it. */
async function parquetTypes(file: string): Promise<Map<string, string>> {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const result = await connection.runAndReadAll(
    `SELECT name, type, type_length, num_children, converted_type, logical_type::VARCHAR FROM parquet_schema(${literal(file)}) OFFSET 1`,
  );
  const found = new Map<string, string>();
  let column = '';
  let lists = 0;
  for (const [name, type, length, children, converted, logical] of result.getRows() as (string | null)[][]) {
    if (children !== null && Number(children) > 0) {
      if (name !== 'list' && name !== 'element') column = name as string;
      if (name === 'list') lists += 1;
      continue;
    }
    const owner = lists > 0 ? column : (name as string);
    const physical = type === 'FIXED_LEN_BYTE_ARRAY' ? `FIXED(${length})` : (type as string);
    found.set(owner, `${'LIST of '.repeat(lists)}${physical}${logicalName(converted ?? null, logical ?? null)}`);
    lists = 0;
  }
  connection.closeSync();
  instance.closeSync();
  return found;
}

function logicalName(converted: string | null, logical: string | null): string {
  const decimal = /DecimalType\(scale=(\d+), precision=(\d+)/.exec(logical ?? '');
  if (decimal) return ` DECIMAL(${decimal[2]},${decimal[1]})`;
  const utc = /isAdjustedToUTC=(\w+)/.exec(logical ?? '');
  if (utc)
    return ` ${(converted ?? 'TIMESTAMP_MICROS').replace('_MICROS', '')} µs${converted?.startsWith('TIMESTAMP') ? (utc[1] === '1' || utc[1] === 'true' ? ', adjusted to UTC' : ', not adjusted') : ''}`;
  return converted === null ? '' : ` ${converted}`;
}

function javascriptType(value: unknown): string {
  if (value === undefined) return 'null';
  if (Array.isArray(value)) return `Array of ${javascriptType(value.flat(5).find((item) => item !== null && item !== undefined))}`;
  return typeof value === 'object' && value !== null ? value.constructor.name : typeof value;
}
