/**
 * Rows on their way into a table: brought by COPY into a temporary one with the table's own types, so that Postgres reads every value as it would in the table. Owns that temporary table, and the
 * text form of COPY. One for each connection.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { quoteIdentifier } from '../wal/identifier.js';
import { quoted, type RestoreTarget } from './target.js';

/** A row as it should stand in the table: texts of its columns in their order. `archived`: the texts that the archive has it by. */
export type StagedRow = { readonly texts: readonly (string | null)[]; readonly copies: number; readonly archived: readonly (string | null)[] };

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A line of COPY's text format (manual, COPY, "Text Format"). */
export function copyLine(values: readonly (string | null)[]): string {
  return `${values.map((value) => (value === null ? '\\N' : value.replace(/[\\\n\r\t]/g, (found) => ESCAPES[found] as string))).join('\t')}\n`;
}

export class Stage {
  readonly target: RestoreTarget;
  /** Its name in SQL. */
  readonly table = 'pg_temp.tidemark_stage';
  /** Columns of the stage beside the table's: a row's number in its batch, and how many equal rows there are with it (tables without a key). */
  readonly number: string;
  readonly copies: string;
  readonly #client: pg.Client;

  private constructor(client: pg.Client, target: RestoreTarget) {
    this.#client = client;
    this.target = target;
    let prefix = 'tm_';
    while (target.columns.some(({ name }) => name.startsWith(prefix))) prefix += '_';
    this.number = quoteIdentifier(`${prefix}number`);
    this.copies = quoteIdentifier(`${prefix}copies`);
  }

  /** Makes it; its rows last until the end of a transaction. Call outside one. */
  static async create(client: pg.Client, target: RestoreTarget): Promise<Stage> {
    const stage = new Stage(client, target);
    await client.query('DROP TABLE IF EXISTS pg_temp.tidemark_stage');
    await client.query(
      `CREATE TEMPORARY TABLE tidemark_stage ON COMMIT DELETE ROWS AS
         SELECT 0 AS ${stage.number}, 0 AS ${stage.copies}, ${stage.columns('t')} FROM ${quoted(target)} t WITH NO DATA`,
    );
    return stage;
  }

  /** The table's columns in SQL, of `alias`. */
  columns(alias: string): string {
    return this.target.columns.map(({ name }) => `${alias}.${quoteIdentifier(name)}`).join(', ');
  }

  /** Fills it with rows, numbered from 0. Inside a transaction. */
  async fill(rows: readonly StagedRow[]): Promise<void> {
    const columns = [this.number, this.copies, ...this.target.columns.map(({ name }) => quoteIdentifier(name))].join(', ');
    const copy = this.#client.query(copyFrom(`COPY ${this.table} (${columns}) FROM STDIN`));
    await pipeline(Readable.from(lines(rows)), copy);
  }

  /** What Postgres makes of the rows: texts by number. */
  async texts(): Promise<(string | null)[][]> {
    const { rows } = await this.#client.query<(string | null)[]>({
      text: `SELECT ${this.columns('s')} FROM ${this.table} s ORDER BY s.${this.number}`,
      rowMode: 'array',
    });
    return rows;
  }

  /** SQL condition: `t` is the row of the table that has the place of the staged `s`, by the key. */
  samePlace(): string {
    return this.target.key.map(({ name, equals }) => `t.${quoteIdentifier(name)} ${equals} s.${quoteIdentifier(name)}`).join(' AND ');
  }

  /** SQL of one text of all values of `alias`. */
  wholeRow(alias: string): string {
    return `ROW(${this.target.columns.map(({ name }) => `${alias}.${quoteIdentifier(name)}::text`).join(', ')})::text`;
  }

  /** SQL condition: all values of `t` and `s` print the same. */
  sameValues(): string {
    const equal = this.target.columns.map(({ name }) => `t.${quoteIdentifier(name)}::text IS NOT DISTINCT FROM s.${quoteIdentifier(name)}::text`);
    return equal.length === 0 ? 'true' : equal.join(' AND ');
  }
}

const LINES_AT_ONCE = 500;

function* lines(rows: readonly StagedRow[]): Generator<string> {
  for (let from = 0; from < rows.length; from += LINES_AT_ONCE) {
    yield rows
      .slice(from, from + LINES_AT_ONCE)
      .map(({ texts, copies }, i) => copyLine([String(from + i), String(copies), ...texts]))
      .join('');
  }
}
