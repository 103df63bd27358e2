/** All rows of a table in Postgres, as texts. */
import type pg from 'pg';
import { quoteIdentifier } from '../../src/wal/identifier.js';

export async function allRows(client: pg.Client, table: string): Promise<(string | null)[][]> {
  return (await client.query<(string | null)[]>({ text: `SELECT * FROM public.${quoteIdentifier(table)}`, rowMode: 'array' })).rows;
}
