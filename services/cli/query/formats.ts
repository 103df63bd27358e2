/** How rows of a query are written: a table for people, CSV, JSON. Owns the forms, not where they go. A value that a form cannot hold is written as text, never rounded. */
import type CliTable from 'cli-table3';
import { identifier } from '../../../src/segment/sql.js';
import { plainTable } from '../print.js';

export const FORMATS = ['table', 'csv', 'json', 'jsonl', 'parquet'] as const;
export type Format = (typeof FORMATS)[number];

/** Rows that a table for people shows. */
export const SHOWN_ROWS = 1000;
const SHOWN_CHARACTERS = 120;

export type Rows = AsyncIterable<(string | null)[][]>;

/** SQL that makes the text of a column of DuckDB: as it prints it, or as JSON. */
export function textOf(format: Exclude<Format, 'parquet'>): (column: string) => string {
  return format === 'json' || format === 'jsonl'
    ? (column) => `CAST(to_json(${identifier(column)}) AS VARCHAR)`
    : (column) => `CAST(${identifier(column)} AS VARCHAR)`;
}

/** The text of a result, in pieces. */
export async function* written(format: Exclude<Format, 'parquet'>, columns: readonly string[], rows: Rows, Table: typeof CliTable): AsyncGenerator<string> {
  if (format === 'table') yield await tableText(columns, rows, Table);
  else if (format === 'csv') yield* csv(columns, rows);
  else yield* json(columns, rows, format === 'json');
}

async function tableText(columns: readonly string[], rows: Rows, Table: typeof CliTable): Promise<string> {
  const shown: string[][] = [];
  for await (const piece of rows) for (const row of piece) shown.push(row.map(cell));
  return `${plainTable(Table, columns.map(cell), shown)}\n`;
}

/** Whatever a value holds, it cannot move the cursor or ring the bell. */
function cell(text: string | null): string {
  if (text === null) return 'NULL';
  const plain = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) =>
    JSON.stringify(character)
      .slice(1, -1)
      .replace(/^[\u007f-\u009f\u2028\u2029]$/, escaped),
  );
  const characters = Array.from(plain.slice(0, 2 * SHOWN_CHARACTERS));
  return plain.length <= SHOWN_CHARACTERS ? plain : `${characters.slice(0, SHOWN_CHARACTERS).join('')}…`;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** RFC 4180 with newlines alone; NULL is nothing, an empty text is "". */
async function* csv(columns: readonly string[], rows: Rows): AsyncGenerator<string> {
  const value = (text: string | null): string => (text === null ? '' : text === '' || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const line = (values: readonly (string | null)[]): string => `${values.map(value).join(',')}\n`;
  yield line(columns);
  for await (const piece of rows) yield piece.map(line).join('');
}

/** An array, a row a line; or lines alone. Numbers have all their digits; NaN and the infinities, which JSON does not have, are texts. */
async function* json(columns: readonly string[], rows: Rows, array: boolean): AsyncGenerator<string> {
  const names = distinct(columns).map((name) => JSON.stringify(name));
  const row = (values: readonly (string | null)[]): string =>
    `{${values.map((value, i) => `${names[i]}:${value === null ? 'null' : jsonValue(value)}`).join(',')}}`;
  let first = true;
  if (array) yield '[';
  for await (const piece of rows) {
    if (array) yield `${first ? '\n' : ',\n'}${piece.map(row).join(',\n')}`;
    else yield piece.map((values) => `${row(values)}\n`).join('');
    first = false;
  }
  if (array) yield '\n]\n';
}

function jsonValue(text: string): string {
  return /NaN|Infinity/.test(text) ? text.replace(/"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)/g, (part) => (part.startsWith('"') ? part : `"${part}"`)) : text;
}

/** A second column of a name gets a number: an object has each name once. */
function distinct(columns: readonly string[]): string[] {
  const taken = new Set<string>();
  return columns.map((column) => {
    let name = column;
    for (let n = 2; taken.has(name); n += 1) name = `${column}_${n}`;
    taken.add(name);
    return name;
  });
}
