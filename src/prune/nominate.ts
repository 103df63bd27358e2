/** Chooses rows that may go, oldest first, in pages, without a lock. A nomination authorises nothing: the proof and the delete decide. */
import type pg from 'pg';
import type { TableConfig } from '../runtime/config.js';
import { quoteIdentifier } from '../wal/identifier.js';
import { type Cutoff, mayGo, notKept, older, tableSql } from './eligible.js';
import type { Target } from './target.js';

export type Nominated = {
  readonly ctid: string;
  /** Text of the timestamp column. */
  readonly at: string;
  /** Texts of the key columns, in key order. */
  readonly key: readonly string[];
};

/** A page of at most `rows` rows and `bytes` stored bytes (one row at least). Empty at the end. */
export type Page = { readonly rows: readonly Nominated[] };

/** Bytes that one batch may hold, by what Postgres stores of its variable-length columns. */
export const BATCH_BYTES = 16 * 1024 * 1024;

export async function nominate(
  client: pg.Client,
  config: TableConfig,
  target: Target,
  limits: { cutoff: Cutoff; horizon: string; safe?: readonly string[]; rows: number; after: Nominated | undefined },
): Promise<Page> {
  const at = quoteIdentifier(config.timestamp);
  const key = target.key.map(quoteIdentifier);
  const table = tableSql(target);
  const sizes = target.columns.filter((column) => column.varlena).map((column) => `coalesce(pg_column_size(${quoteIdentifier(column.name)}), 0)`);
  const after = limits.after ? `AND (${[at, ...key].join(', ')}) > (${[at, ...key].map((_, i) => `$${i + 1}`).join(', ')})` : '';
  // The key as it is printed, like the archive has it: a cast would give char(n), boolean and inet another text. ORDER BY names the table's columns: a bare name would mean what stands beside it.
  const { rows } = await client.query<string[]>({
    text: `SELECT ctid::text, ${at}::text, (${sizes.join(' + ') || '0'})::text, ${key.join(', ')}
           FROM ONLY ${table} WHERE ${mayGo(config, target, limits.cutoff, limits.horizon, limits.safe)} ${after}
           ORDER BY ${[at, ...key].map((column) => `${table}.${column}`).join(', ')} LIMIT ${limits.rows}`,
    values: limits.after ? [limits.after.at, ...limits.after.key] : [],
    rowMode: 'array',
  });
  const page: Nominated[] = [];
  let bytes = 0;
  for (const [ctid, time, size, ...texts] of rows) {
    bytes += Number(size);
    if (page.length > 0 && bytes > BATCH_BYTES) break;
    page.push({ ctid: ctid as string, at: time as string, key: texts });
  }
  return { rows: page };
}

/** Rows of `FROM` what `sql` says, counted up to `most`. */
export async function countRows(client: pg.Client, sql: string, most: number): Promise<number> {
  const { rows } = await client.query<{ n: string }>(`SELECT count(*)::text AS n FROM (SELECT FROM ${sql} LIMIT ${most}) s`);
  return Number(rows[0]?.n ?? 0);
}

/**
 * About how many rows are old enough and not kept, as the planner guesses: nothing is read, so it may be far off, above all where the table was never analyzed. What refers to the table is left
 * out. Throws what the database says, also of a `keepWhile` that is no condition.
 */
export async function estimateRows(client: pg.Client, config: TableConfig, target: Target, cutoff: Cutoff): Promise<number> {
  const { rows } = await client.query<{ 'QUERY PLAN': string }>(
    // A parameter makes it the extended protocol, which takes one statement only.
    `EXPLAIN (FORMAT JSON) SELECT FROM ONLY ${tableSql(target)} WHERE ${older(config, target, cutoff)} AND ${notKept(config)} AND $1::int4 = 1`,
    [1],
  );
  const [plan] = JSON.parse(rows[0]?.['QUERY PLAN'] ?? '[]') as { Plan: { 'Plan Rows': number } }[];
  return plan?.Plan['Plan Rows'] ?? 0;
}
