/**
 * The same load on a second database: what the first one has committed is committed there too, row for row. A change of a row that is not there any more changes nothing, and is not
 * journalled: an application would find the same. Keeps its own order, beside the load.
 */
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { quoteIdentifier } from '../../../src/wal/identifier.js';
import type { TableJournal } from '../journal.js';
import type { DemoTable } from '../rows.js';

type Rows = readonly (readonly (string | null)[])[];

export class Mirror {
  readonly #client: pg.Client;
  readonly #journals: ReadonlyMap<string, TableJournal>;
  #last: Promise<void> = Promise.resolve();

  /** `journals`: of the second database. */
  constructor(client: pg.Client, journals: readonly TableJournal[]) {
    this.#client = client;
    this.#journals = new Map(journals.map((journal) => [journal.table.name, journal]));
  }

  inserted(table: DemoTable, rows: Rows): void {
    const columns = table.columns.map(({ name }) => quoteIdentifier(name)).join(', ');
    this.#change(table, rows, `INSERT INTO ${nameOf(table)} (${columns}) SELECT ${columns} FROM ${given(table)} RETURNING *`);
  }

  updated(table: DemoTable, rows: Rows): void {
    const set = table.columns.filter(({ name }) => !table.key.includes(name)).map(({ name }) => `${quoteIdentifier(name)} = u.${quoteIdentifier(name)}`);
    this.#change(table, rows, `UPDATE ${nameOf(table)} t SET ${set.join(', ')} FROM ${given(table)} WHERE ${sameKey(table)} RETURNING t.*`);
  }

  removed(table: DemoTable, rows: Rows): void {
    this.#change(table, rows, `DELETE FROM ${nameOf(table)} t USING ${given(table)} WHERE ${sameKey(table)} RETURNING t.*`, true);
  }

  /** Resolves when everything so far is committed. Throws what the database said. */
  async settled(): Promise<void> {
    await this.#last;
  }

  #change(table: DemoTable, rows: Rows, text: string, removes = false): void {
    if (rows.length === 0) return;
    const journal = this.#journals.get(table.name) as TableJournal;
    const values = table.columns.map((_, c) => rows.map((row) => row[c] ?? null));
    const done = this.#last.then(async () => {
      const result = await this.#client.query<(string | null)[]>({ text, values, rowMode: 'array' });
      if (removes) journal.removed(result.rows);
      else journal.committed(result.rows);
    });
    this.#last = done;
    done.catch(() => undefined); // whoever waits hears it
  }
}

const nameOf = (table: DemoTable): string => `public.${quoteIdentifier(table.name)}`;
const sameKey = (table: DemoTable): string => table.key.map((name) => `t.${quoteIdentifier(name)} = u.${quoteIdentifier(name)}`).join(' AND ');

/** The rows as a table `u`, from one array of texts for each column. */
function given(table: DemoTable): string {
  const texts = table.columns.map((_, c) => `$${c + 1}::text[]`).join(', ');
  const casts = table.columns.map(({ name, type }, c) => `c${c}::${type} AS ${quoteIdentifier(name)}`).join(', ');
  return `(SELECT ${casts} FROM unnest(${texts}) AS x(${table.columns.map((_, c) => `c${c}`).join(', ')})) u`;
}

/** All rows of the tables, from one database into the other. */
export async function copyTables(from: pg.Client, to: pg.Client, tables: readonly DemoTable[]): Promise<void> {
  for (const table of tables) {
    const columns = table.columns.map(({ name }) => quoteIdentifier(name)).join(', ');
    await pipeline(from.query(copyTo(`COPY ${nameOf(table)} (${columns}) TO STDOUT`)), to.query(copyFrom(`COPY ${nameOf(table)} (${columns}) FROM STDIN`)));
  }
}
