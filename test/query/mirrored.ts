/**
 * Tables with mirrors: each change of a row is made to its mirror in the same transaction, the pruner knows nothing of mirrors. So at any moment the rows of a table, hot and cold, are those of its mirror,
 * and one statement can say whether they are.
 */
import type pg from 'pg';
import type { Random } from '../campaign/chance.js';

export const MIRRORED_SCHEMA = `
  CREATE TABLE quotes (id int PRIMARY KEY, at timestamptz, v text, n numeric(12,4));
  CREATE TABLE quotes_mirror (m bigserial PRIMARY KEY, id int, at timestamptz, v text, n numeric(12,4));
  CREATE TABLE legs (id int, part smallint, at timestamp, v text, arr int[], PRIMARY KEY (part, id));
  CREATE TABLE legs_mirror (m bigserial PRIMARY KEY, id int, part smallint, at timestamp, v text, arr int[]);
  CREATE INDEX ON quotes_mirror (id); CREATE INDEX ON legs_mirror (id);`;
export const MIRRORED_TABLES = `  quotes: { timestamp: at }
  quotes_mirror: { timestamp: at, prune: false }
  legs: { timestamp: at }
  legs_mirror: { timestamp: at, prune: false }`;

const KINDS = {
  quotes: { columns: ['id', 'at', 'v', 'n'], key: ['id'], row: (age: string) => `i, date_trunc('second', now()) - ${age}, 'q' || i, i / 7.0` },
  legs: {
    columns: ['id', 'part', 'at', 'v', 'arr'],
    key: ['id', 'part'],
    row: (age: string) => `i, i % 3, date_trunc('second', now() AT TIME ZONE 'UTC') - ${age}, 'l' || i, ARRAY[i, i + 1]`,
  },
} as const;
export type Mirrored = keyof typeof KINDS;
export const MIRRORED = Object.keys(KINDS) as Mirrored[];

const IDS = 4000;

/** Changes a table and its mirror, a transaction a call. */
export async function change(sql: pg.Client, name: Mirrored, random: Random): Promise<void> {
  const { columns, key, row } = KINDS[name];
  const list = columns.join(', ');
  const from = 1 + random.below(IDS);
  const some = `id BETWEEN ${from} AND ${from + random.below(60)}`;
  const age = `make_interval(hours => ${random.pick(['0', '1', '20', '26', '30', '50', '75', '(24 + i % 60)'])})`;
  const newest = `m.m = (SELECT max(o.m) FROM ${name}_mirror o WHERE ${key.map((column) => `o.${column} = x.${column}`).join(' AND ')})`;
  const same = `${key.map((column) => `m.${column} = x.${column}`).join(' AND ')} AND ${newest}`;
  const roll = random.below(100);
  if (roll < 55)
    await sql.query(
      `WITH x AS (INSERT INTO ${name} SELECT ${row(age)} FROM generate_series(${from}, ${from + 80}) i ON CONFLICT DO NOTHING RETURNING *) INSERT INTO ${name}_mirror (${list}) SELECT ${list} FROM x`,
    );
  else if (roll < 80) {
    const at = random.chance(0.3) ? `, at = at - interval '30 hours'` : '';
    await sql.query(
      `WITH x AS (UPDATE ${name} SET v = v || '+'${at} WHERE ${some} RETURNING *) UPDATE ${name}_mirror m SET v = x.v, at = x.at FROM x WHERE ${same}`,
    );
  } else if (roll < 95) await sql.query(`WITH x AS (DELETE FROM ${name} WHERE ${some} RETURNING *) DELETE FROM ${name}_mirror m USING x WHERE ${same}`);
  else await sql.query(`BEGIN; INSERT INTO ${name}_mirror (id) VALUES (-1); DELETE FROM ${name} WHERE ${some}; ROLLBACK`);
}

/** SELECT of what is in a table or in its mirror only; nothing when all is right. `where`: on both. */
export function differenceSql(name: Mirrored, where = 'true'): string {
  const of = (table: string): string => `SELECT ${KINDS[name].columns.map((column) => `"${column}"`).join(', ')} FROM ${table} WHERE ${where}`;
  return `SELECT 'only here' AS side, * FROM (${of(name)} EXCEPT ALL ${of(`${name}_mirror`)}) UNION ALL SELECT 'only in the mirror', * FROM (${of(`${name}_mirror`)} EXCEPT ALL ${of(name)})`;
}
