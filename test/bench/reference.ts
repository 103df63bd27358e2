/** The reference tables on a Postgres of one's own, and the SELECT of a day of rows as the demo makes them. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { parse } from 'yaml';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { type DemoTable, readDemoTables, rowsSql } from '../../services/demo/rows.js';

const example = (name: string): string => readFileSync(fileURLToPath(new URL(`../../../infra/examples/${name}`, import.meta.url)), 'utf8');

/** SQL of the reference tables, and the archived ones among them with their lines of the configuration. */
export const SCHEMA = example('follow_the_goat.sql');
export const ARCHIVED = (parse(example('follow_the_goat.yaml')) as { tables: Readonly<Record<string, { timestamp: string; group?: string }>> }).tables;

export const DAY = '2026-01-12';

export class Reference implements AsyncDisposable {
  readonly #postgres: PostgresServer;
  readonly url: string;
  readonly client: pg.Client;

  private constructor(postgres: PostgresServer, url: string, client: pg.Client) {
    this.#postgres = postgres;
    this.url = url;
    this.client = client;
  }

  static async start(): Promise<Reference> {
    const postgres = await startPostgres();
    const url = await postgres.createDatabase();
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(SCHEMA);
    return new Reference(postgres, url, client);
  }

  async table(name: string, timestamp: string): Promise<DemoTable> {
    const [found] = await readDemoTables(this.client, [{ table: name, group: name, timestamp }]);
    return found as DemoTable;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.end();
    await this.#postgres[Symbol.asyncDispose]();
  }
}

/** `rows` rows that come in all day long, at irregular times, in their order. */
export function dayOfRows(table: DemoTable, rows: number): string {
  return rowsSql(table.columns, 1, rows, `timestamp '${DAY}' + interval '24 hours' * ((i - random()) / ${rows}.0)`);
}
