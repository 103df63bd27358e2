/**
 * Plausible rows for the reference tables, made by Postgres itself from each column's name and type: one INSERT … SELECT for any number of rows. `i` numbers the rows of a
 * table, so that natural keys are unique.
 */
import type pg from 'pg';
import { quoteIdentifier } from '../../src/wal/identifier.js';

export type DemoColumn = { readonly name: string /** format_type() */; readonly type: string; readonly notNull: boolean };

export type DemoTable = {
  readonly name: string;
  readonly group: string;
  readonly timestamp: string;
  readonly columns: readonly DemoColumn[];
  /** Primary key columns. */
  readonly key: readonly string[];
  /** Rows of this table among all: order book 4, prices 2, trades 1, the rest less. */
  readonly weight: number;
};

const WEIGHTS: Readonly<Record<string, number>> = {
  order_book_features: 4, prices: 2, sol_stablecoin_trades: 1, price_points: 0.2, price_analysis: 0.2, follow_the_goat_buyins_price_checks: 0.15, whale_movements: 0.1,
  trade_filter_values: 0.1, wallet_profiles: 0.08, job_execution_metrics: 0.08, follow_the_goat_buyins: 0.04, buyin_trail_minutes: 0.015, cycle_tracker: 0.01,
}; // biome-ignore format: a table

/** Reads the columns of the archived tables. */
export async function readDemoTables(client: pg.Client, tables: readonly { table: string; group: string; timestamp: string }[]): Promise<DemoTable[]> {
  const found: DemoTable[] = [];
  for (const { table, group, timestamp } of tables) {
    const { rows } = await client.query<{ name: string; type: string; required: string; key: string | null }>(
      `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull::text AS required,
              (SELECT k.n::text FROM pg_catalog.pg_index x, LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, n) WHERE x.indrelid = a.attrelid AND x.indisprimary AND k.attnum = a.attnum) AS key
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
      [`public.${quoteIdentifier(table)}`],
    );
    const key = rows.filter((row) => row.key !== null).sort((a, b) => Number(a.key) - Number(b.key));
    found.push({
      name: table,
      group,
      timestamp,
      columns: rows.map((row) => ({ name: row.name, type: row.type, notNull: row.required === 'true' })),
      key: key.map((row) => row.name),
      weight: WEIGHTS[table] ?? 0.01,
    });
  }
  return found;
}

/** An expression for one column of row `i`; `at` is the row's time. */
function expression(column: DemoColumn, at: string): string {
  const { name, type } = column;
  if (['buyin_id', 'trade_id'].includes(name)) return 'i';
  if (name === 'minute') return '(i % 15)';
  if (type.startsWith('timestamp')) return at;
  const value = typed(name, type);
  return column.notNull ? value : `CASE WHEN random() < 0.08 THEN NULL ELSE ${value} END`;
}

const CHOICES: Readonly<Record<string, string>> = {
  token: "(ARRAY['SOL','BTC','ETH'])[1 + floor(random() * 3)]",
  symbol: "(ARRAY['SOLUSDT','BTCUSDT'])[1 + floor(random() * 2)]",
  direction: "(ARRAY['buy','sell'])[1 + floor(random() * 2)]",
  our_status: "(ARRAY['pending','sold','no_go'])[1 + floor(random() * 3)]",
  source: "'jupiter'",
  status: "(ARRAY['ok','failed'])[1 + floor(random() * 2)]",
};

function typed(name: string, type: string): string {
  const choice = CHOICES[name];
  if (choice !== undefined) return choice;
  const length = /character varying\((\d+)\)/.exec(type)?.[1];
  if (length !== undefined) return `substr(md5(random()::text) || md5(i::text), 1, ${Math.min(44, Number(length))})`;
  if (type === 'double precision') return 'random() * 200 - 20';
  const scale = /numeric\(\d+,(\d+)\)/.exec(type)?.[1];
  if (scale !== undefined) return `round((random() * 180)::numeric, ${scale})`;
  if (type === 'boolean') return '(random() < 0.5)';
  if (type === 'smallint') return 'floor(random() * 3)::int';
  if (type === 'integer') return 'floor(random() * 1000)::int';
  if (type === 'bigint') return 'floor(random() * 1e12)::int8';
  if (type === 'jsonb') return `jsonb_build_object('i', i, 'score', random(), 'note', md5(random()::text), 'emoji', '🐐 "goat"')`;
  return `E'line one\\tof ' || md5(random()::text) || E'\\nline "two" \\\\N'`;
}

/** SELECT of `columns` of rows `from`…`to` whose times are given by the expression `at` over `i`. A serial id is `i`. */
export function rowsSql(columns: readonly DemoColumn[], from: number, to: number, at: string): string {
  const values = columns.map((column) => (column.name === 'id' ? 'i' : expression(column, 's.at')));
  return `SELECT ${values.join(', ')} FROM (SELECT i, ${at} AS at FROM generate_series(${from}, ${to}) i) s`;
}

/** INSERT of such rows. The serial id is left to its sequence. */
export function insertSql(table: DemoTable, from: number, to: number, at: string): string {
  const columns = table.columns.filter((column) => column.name !== 'id');
  return `INSERT INTO public.${quoteIdentifier(table.name)} (${columns.map((column) => quoteIdentifier(column.name)).join(', ')})
    ${rowsSql(columns, from, to, at)}`;
}

/** The present as the reference tables keep it: a timestamp without time zone in UTC. */
export const NOW_UTC = "(clock_timestamp() AT TIME ZONE 'UTC')";

/** Three days of history, oldest first, ending now. Returns the number of rows by table. */
export async function loadHistory(
  client: pg.Client,
  tables: readonly DemoTable[],
  total: number,
  said: (table: string, rows: number) => void,
): Promise<Map<string, number>> {
  const weights = tables.reduce((sum, table) => sum + table.weight, 0);
  const loaded = new Map<string, number>();
  for (const table of tables) {
    const rows = Math.ceil((total * table.weight) / weights);
    await client.query(insertSql(table, 1, rows, `${NOW_UTC} - interval '72 hours' * (1 - i / ${rows}.0)`));
    loaded.set(table.name, rows);
    said(table.name, rows);
  }
  return loaded;
}
