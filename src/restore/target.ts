/**
 * The table that rows go into, read from the catalog: its columns, how its rows are told apart, and what forbids writing to it. Also makes it from what the archive knows, when it is not there.
 */
import type pg from 'pg';
import { relationSignature } from '../change/relation.js';
import type { Config } from '../runtime/config.js';
import { configError, TidemarkError } from '../runtime/errors.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { quoteIdentifier, quoteTable } from '../wal/identifier.js';

export type TableName = { readonly schema: string; readonly table: string };

/** `filled`: it gets a value where none is given: by a default, its own or its type's, or as an identity. */
export type TargetColumn = { readonly name: string; readonly typeOid: number; readonly typmod: number; readonly notNull: boolean; readonly filled: boolean };

export type RestoreTarget = TableName & {
  readonly oid: number;
  /** Those that the stream carries: no generated ones. */
  readonly columns: readonly TargetColumn[];
  /** Primary key, else the replica identity index, each with its operator of equality; empty when it has neither. */
  readonly key: readonly { readonly name: string; readonly equals: string }[];
  /** relationSignature of its columns. */
  readonly signature: string;
  /** Triggers that may change a row as it comes, or once it is there. */
  readonly triggers: readonly string[];
};

type Row = {
  oid: string; relkind: string; rls: string; rules: string | null; triggers: string; ancestors: string; columns: string; key: string; who: string;
  missing: string; temporary: string; followers: string | null;
}; // biome-ignore format: a table

const QUERY = `
WITH RECURSIVE up(oid) AS (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = $1::oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid)
SELECT c.oid::text AS oid, c.relkind, (c.relrowsecurity OR c.relforcerowsecurity)::text AS rls, current_user AS who,
  (SELECT string_agg(r.rulename, ', ') FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '3' AND r.ev_enabled <> 'D') AS rules,
  coalesce((SELECT jsonb_agg(g.tgname ORDER BY g.tgname) FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND (g.tgtype & 4) <> 0 AND g.tgenabled <> 'D'), '[]')::text AS triggers,
  coalesce((SELECT jsonb_agg(jsonb_build_array(n.nspname, p.relname)) FROM up JOIN pg_catalog.pg_class p ON p.oid = up.oid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace), '[]')::text AS ancestors,
  (SELECT jsonb_agg(jsonb_build_array(a.attname, a.atttypid::int8, a.atttypmod, a.attnotnull, a.attndims,
     a.atthasdef OR a.attidentity <> '' OR (SELECT y.typdefault IS NOT NULL FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid)) ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')::text AS columns,
  coalesce((SELECT jsonb_agg(jsonb_build_array(a.attname, ons.nspname, op.oprname) ORDER BY k.n) FROM pg_catalog.pg_index x, LATERAL unnest(x.indkey::int2[], x.indclass::oid[]) WITH ORDINALITY k(attnum, class, n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attnum = k.attnum JOIN pg_catalog.pg_opclass o ON o.oid = k.class
     JOIN pg_catalog.pg_amop m ON m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype AND m.amopstrategy = 3
     JOIN pg_catalog.pg_operator op ON op.oid = m.amopopr JOIN pg_catalog.pg_namespace ons ON ons.oid = op.oprnamespace
     WHERE x.indexrelid = (SELECT y.indexrelid FROM pg_catalog.pg_index y WHERE y.indrelid = c.oid AND (y.indisprimary OR y.indisreplident) AND y.indimmediate AND y.indisvalid ORDER BY y.indisprimary DESC LIMIT 1)
       AND k.n <= x.indnkeyatts), '[]')::text AS key,
  (SELECT string_agg(o.relname || '.' || f.conname, ', ' ORDER BY f.oid) FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class o ON o.oid = f.conrelid
     WHERE $2::boolean AND f.contype = 'f' AND f.confrelid = c.oid AND f.confdeltype IN ('c', 'n', 'd')) AS followers,
  concat_ws(', ', CASE WHEN NOT has_table_privilege(c.oid, 'INSERT') THEN 'INSERT' END, CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
    CASE WHEN $2::boolean AND NOT has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END) AS missing,
  has_database_privilege(current_database(), 'TEMPORARY')::text AS temporary
FROM pg_catalog.pg_class c WHERE c.oid = $1::oid`;

/** OID of a table by its name, undefined when there is none. */
export async function findTable(client: pg.Client, { schema, table }: TableName): Promise<number | undefined> {
  const { rows } = await client.query<{ oid: string }>(
    'SELECT c.oid::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2',
    [schema, table],
  );
  return rows[0] === undefined ? undefined : Number(rows[0].oid);
}

/** Reads a table by its OID. Throws `config` when rows must not, or may not, be written to it. `replace`: rows will be deleted too. */
export async function readTarget(client: pg.Client, config: Config, name: TableName, oid: number, replace: boolean): Promise<RestoreTarget> {
  const { rows } = await client.query<Row>(QUERY, [oid, replace]);
  const row = rows[0];
  if (row === undefined) throw new TidemarkError('failed', `${textOf(name)} was dropped meanwhile`);
  refuse(row, config, name);
  const columns = JSON.parse(row.columns ?? '[]') as [name: string, typeOid: number, typmod: number, notNull: boolean, dimensions: number, filled: boolean][];
  const listed = columns.map(([column, typeOid, typmod, notNull, , filled]) => ({ name: column, typeOid, typmod, notNull, filled }));
  const key = JSON.parse(row.key) as [name: string, schema: string, operator: string][];
  return {
    ...name,
    oid: Number(row.oid),
    columns: listed,
    key: key.map(([column, schema, operator]) => ({ name: column, equals: `OPERATOR(${quoteIdentifier(schema)}.${operator})` })),
    signature: relationSignature(
      { columns: listed.map((column) => ({ ...column, key: false })) },
      Object.fromEntries(columns.filter(([, , , , dimensions]) => dimensions > 1).map(([column, , , , dimensions]) => [column, dimensions])),
    ),
    triggers: JSON.parse(row.triggers) as string[],
  };
}

function refuse(row: Row, config: Config, name: TableName): void {
  const text = textOf(name);
  const parents = JSON.parse(row.ancestors) as [schema: string, table: string][];
  for (const [schema, table] of [[name.schema, name.table] as const, ...parents]) requireUnprotected(config, { schema, table });
  if (row.relkind !== 'r') throw configError(`${text} is not an ordinary table`, 'give a table; of a partitioned one a partition');
  if (row.rls === 'true')
    throw configError(`${text} has row level security`, `ALTER TABLE ${quoted(name)} DISABLE ROW LEVEL SECURITY, or --into another table`);
  if (row.rules !== null) throw configError(`${text} has rules for INSERT (${row.rules})`, 'drop them, or --into another table');
  if (row.followers !== null)
    throw configError(
      `--on-conflict replace: rows of other tables would be deleted or changed along with a replaced row of ${text} (ON DELETE of ${row.followers})`,
      '--on-conflict skip leaves what is there, or --into another table',
    );
  if (row.missing !== '')
    throw configError(
      `${row.who} lacks ${row.missing} on ${text}`,
      `GRANT ${row.missing} ON ${quoted(name)} TO ${quoteIdentifier(row.who)}, or name a role that may in source.restoreUrl`,
    );
  if (row.temporary !== 'true') throw configError(`${row.who} may not make temporary tables`, `GRANT TEMPORARY ON DATABASE … TO ${quoteIdentifier(row.who)}`);
}

/** Law 14. Throws `config`. */
export function requireUnprotected(config: Config, { schema, table }: TableName): void {
  if (config.protected.some((one) => one.schema === schema && one.table === table))
    throw configError(`${textOf({ schema, table })} is protected: nothing is restored into it`, 'give --into another table');
}

/** The SQL that makes a table with columns, types, NOT NULL and primary key as the archive knows them. */
export function createTableSql(metadata: SegmentMetadata, name: TableName): string {
  const own = `CREATE TABLE ${quoteTable(metadata.schema, metadata.table)} (`;
  if (!metadata.ddl.startsWith(own))
    throw new TidemarkError('failed', `the archive does not know what ${textOf(metadata)} was made of`, {
      remedy: `make ${textOf(name)} yourself, then again`,
    });
  return `CREATE TABLE ${quoted(name)} (${metadata.ddl.slice(own.length)}`;
}

export function quoted({ schema, table }: TableName): string {
  return quoteTable(schema, table);
}

/** As a person writes it. */
export function textOf({ schema, table }: TableName): string {
  return schema === 'public' ? table : `${schema}.${table}`;
}
