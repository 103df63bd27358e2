/** The tables of a database, of which init chooses: what each is, the column that says when its rows happened, and why a table cannot be archived. Reads the catalog only. */
import type pg from 'pg';

export type Found = {
  schema: string;
  table: string;
  relkind: string;
  persistence: string;
  partition: boolean;
  /** UPDATE and DELETE go on when it is published. */
  identified: boolean;
  columns: [name: string, type: string, notNull: boolean, indexed: boolean][];
};
export type Refused = { key: string; why: string };

const QUERY = `
SELECT n.nspname AS schema, c.relname AS table, c.relkind, c.relpersistence AS persistence, c.relispartition::text AS partition,
  (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)))::text AS identified,
  (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, NULL), a.attnotnull, EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum)) ORDER BY a.attnum)::text
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' ORDER BY n.nspname, c.relname`;

/** Every table but those of the system. */
export async function readTables(client: pg.Client): Promise<Found[]> {
  const { rows } = await client.query<Record<string, string>>(QUERY);
  return rows.map((row) => ({
    schema: row['schema'] as string,
    table: row['table'] as string,
    relkind: row['relkind'] as string,
    persistence: row['persistence'] as string,
    partition: row['partition'] === 'true',
    identified: row['identified'] === 'true',
    columns: JSON.parse(row['columns'] ?? '[]') as Found['columns'],
  }));
}

/** As the configuration names it. */
export const keyOf = (table: Found): string => (table.schema === 'public' && !table.table.includes('.') ? table.table : `${table.schema}.${table.table}`);
const TYPES = /^(date|timestamp with(out)? time zone)$/;
const NAMES = [/^(timestamp|ts|time|at|event_time)$/i, /_timestamp$|_ts$/i, /^created/i, /_at$/i, /_time$|_date$/i];
/** Columns that change after the row was made, or lie ahead of it. */
const LATER = /^(updated|modified|changed|deleted|expires|expired|finished|ended|valid_until|last_)/i;

/** The column that most likely says when a row happened: indexed and NOT NULL before names. */
export function timestampColumn(table: Found): string | undefined {
  const rank = ([name, , notNull, indexed]: Found['columns'][number]): number => {
    const named = NAMES.findIndex((pattern) => pattern.test(name));
    return (indexed ? 100 : 0) + (notNull ? 20 : 0) + (named < 0 ? 0 : NAMES.length - named) - (LATER.test(name) ? 200 : 0);
  };
  return table.columns.filter(([, type]) => TYPES.test(type)).sort((a, b) => rank(b) - rank(a))[0]?.[0];
}

/** Why it cannot be archived; undefined when it can. */
export function refusal(table: Found): Refused | undefined {
  const why =
    table.relkind === 'p' ? 'it is partitioned; list its partitions instead'
    : table.relkind === 'f' ? 'it is a foreign table'
    : table.persistence !== 'p' ? 'it is unlogged: its rows are not in the WAL'
    : table.schema.includes('.') ? 'the configuration cannot name a schema with a dot in its name'
    : table.table === '__proto__' ? 'JavaScript cannot hold its name'
    : /[/\\]/.test(table.table) || /^\.\.?$/.test(table.table) ? 'its name cannot be a file name'
    : !table.identified ? 'it has no primary key and no replica identity: once published, its UPDATEs and DELETEs would fail; ALTER TABLE … REPLICA IDENTITY FULL has it archived (not pruned)'
    : timestampColumn(table) === undefined ? 'it has no date or timestamp column'
    : undefined; // biome-ignore format: a table of reasons
  return why === undefined ? undefined : { key: keyOf(table), why };
}
