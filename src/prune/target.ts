/** A table as the pruner sees it, read from the catalog: its columns, and every condition that stands against deleting from it. */
import type pg from 'pg';
import { relationSignature } from '../change/relation.js';
import type { TableConfig } from '../runtime/config.js';
import { quoteIdentifier, quoteTable, slotName } from '../wal/identifier.js';
import { PUBLICATION_ENTRY, PUBLISHED } from '../wal/publication-entry.js';

export type Target = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** The configured column. */
  readonly timestamp: string;
  readonly columns: readonly {
    readonly name: string;
    readonly typeOid: number;
    readonly typmod: number /** Stored with variable length: may be large. */;
    readonly varlena: boolean;
  }[];
  /** relationSignature of the columns that the stream carries. */
  readonly signature: string;
  /** pg_type OID of the timestamp column. */
  readonly timestampType: number;
  /** Primary key, else the replica identity index, in key order; empty when there is none. */
  readonly key: readonly string[];
  /** Its entry in the publication; null when it has none. */
  readonly published: string | null;
  /** Foreign keys that refer to it. */
  readonly references: readonly Reference[];
  /** Reasons that forbid pruning, each with its remedy; empty when there is none. */
  readonly obstacles: readonly { readonly reason: string; readonly remedy: string }[];
};

/** A foreign key of another table, or of the same, that refers to this one. */
export type Reference = {
  /** `table.constraint`, for people. */
  readonly name: string;
  /** `schema.table` whose rows refer: the one that it belongs to, or that one's partitions. */
  readonly from: readonly string[];
  /** SQL condition: a row of the other table refers to the row at hand. */
  readonly refers: string;
};

type Row = {
  oid: string; relkind: string; relpersistence: string; rls: string; identity: string; children: string; parents: string;
  foreign_keys: string | null; triggers: string | null; rules: string | null; published: string | null; entry: string | null; filtered: string | null;
  columns: string; key: string;
}; // biome-ignore format: a table

/** One query, so that what it sees under a lock is one state. */
const QUERY = `
SELECT c.oid::text AS oid, c.relkind, c.relpersistence, (c.relrowsecurity OR c.relforcerowsecurity)::text AS rls, c.relreplident AS identity,
  EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)::text AS children,
  (NOT c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid))::text AS parents,
  (SELECT jsonb_agg(jsonb_build_object('constraint', f.conname, 'schema', s.nspname, 'table', o.relname,
      'parts', (SELECT jsonb_agg(ps.nspname || '.' || pc.relname ORDER BY ps.nspname, pc.relname) FROM pg_catalog.pg_partition_tree(CASE o.relkind WHEN 'p' THEN o.oid END) t
         JOIN pg_catalog.pg_class pc ON pc.oid = t.relid JOIN pg_catalog.pg_namespace ps ON ps.oid = pc.relnamespace WHERE t.isleaf),
      'readable', pg_catalog.has_table_privilege(o.oid, 'SELECT') OR (SELECT bool_and(pg_catalog.has_column_privilege(o.oid, k.child, 'SELECT')) FROM unnest(f.conkey) k(child)),
      'pairs', (SELECT jsonb_agg(jsonb_build_array(theirs.attname, ours.attname, ons.nspname, op.oprname)) FROM unnest(f.conkey, f.confkey, f.conpfeqop) k(child, parent, op)
         JOIN pg_catalog.pg_attribute theirs ON theirs.attrelid = f.conrelid AND theirs.attnum = k.child JOIN pg_catalog.pg_attribute ours ON ours.attrelid = c.oid AND ours.attnum = k.parent
         JOIN pg_catalog.pg_operator op ON op.oid = k.op JOIN pg_catalog.pg_namespace ons ON ons.oid = op.oprnamespace)) ORDER BY f.oid)::text
     FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class o ON o.oid = f.conrelid JOIN pg_catalog.pg_namespace s ON s.oid = o.relnamespace
     WHERE f.contype = 'f' AND f.confrelid = c.oid
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint whole WHERE whole.oid = f.conparentid AND whole.confrelid = c.oid)) AS foreign_keys,
  (SELECT string_agg(g.tgname, ', ') FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND (g.tgtype & 8) <> 0 AND g.tgenabled <> 'D') AS triggers,
  (SELECT string_agg(r.rulename, ', ') FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4' AND r.ev_enabled <> 'D') AS rules,
  (SELECT (p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate)::text FROM ${PUBLISHED} WHERE pr.prrelid = c.oid AND p.pubname = $3) AS published,
  (SELECT ${PUBLICATION_ENTRY} FROM ${PUBLISHED} WHERE pr.prrelid = c.oid AND p.pubname = $3) AS entry,
  (SELECT (pr.prqual IS NOT NULL OR pr.prattrs IS NOT NULL)::text FROM ${PUBLISHED} WHERE pr.prrelid = c.oid AND p.pubname = $3) AS filtered,
  (SELECT jsonb_agg(jsonb_build_array(a.attname, a.atttypid::int8, a.atttypmod, a.attgenerated, a.attlen, a.attndims) ORDER BY a.attnum)::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  coalesce((SELECT jsonb_agg(a.attname ORDER BY k.n)::text FROM pg_catalog.pg_index x, LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
     WHERE x.indexrelid = (SELECT y.indexrelid FROM pg_catalog.pg_index y WHERE y.indrelid = c.oid AND (y.indisprimary OR y.indisreplident) AND y.indimmediate AND y.indisvalid ORDER BY y.indisprimary DESC LIMIT 1)
       AND k.n <= x.indnkeyatts), '[]') AS key
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`;

/** Reads a table. undefined: it does not exist. */
export async function readTarget(client: pg.Client, source: string, config: TableConfig): Promise<Target | undefined> {
  // Prepared: it is asked again for every batch.
  const { rows } = await client.query<Row>({ name: 'tidemark_target', text: QUERY, values: [config.schema, config.table, slotName(source)] });
  const row = rows[0];
  if (row === undefined) return undefined;
  const attributes = JSON.parse(row.columns) as [name: string, typeOid: number, typmod: number, generated: string, length: number, dimensions: number][];
  const carried = attributes.filter(([, , , generated]) => generated === '');
  const columns = carried.map(([name, typeOid, typmod, , length]) => ({ name, typeOid, typmod, varlena: length < 0 }));
  const key = JSON.parse(row.key) as string[];
  return {
    oid: Number(row.oid),
    schema: config.schema,
    table: config.table,
    columns,
    signature: relationSignature(
      { columns: columns.map((column) => ({ ...column, key: false })) },
      Object.fromEntries(attributes.filter(([, , , , , dimensions]) => dimensions > 1).map(([name, , , , , dimensions]) => [name, dimensions])),
    ),
    timestamp: config.timestamp,
    timestampType: columns.find((column) => column.name === config.timestamp)?.typeOid ?? 0,
    key,
    published: row.entry,
    references: foreignKeys(row).map((one) => ({ name: nameOf(one), from: one.parts ?? [`${one.schema}.${one.table}`], refers: refersSql(config, one) })),
    obstacles: obstacles(row, config, key, attributes.length !== carried.length),
  };
}

type ForeignKey = {
  readonly constraint: string;
  readonly schema: string;
  readonly table: string;
  readonly readable: boolean;
  /** Its partitions, `schema.table`; null when it has none. */
  readonly parts: readonly string[] | null;
  readonly pairs: readonly (readonly [theirs: string, ours: string, operatorSchema: string, operator: string])[];
};

function foreignKeys({ foreign_keys: text }: Row): ForeignKey[] {
  return text === null ? [] : (JSON.parse(text) as ForeignKey[]);
}

function nameOf({ schema, table, constraint }: ForeignKey): string {
  return `${schema === 'public' ? '' : `${schema}.`}${table}.${constraint}`;
}

/** The names of the table's own columns are written in full: the other table may have the same. */
function refersSql(config: TableConfig, { schema, table, pairs }: ForeignKey): string {
  const own = quoteTable(config.schema, config.table);
  const equal = pairs.map(
    ([theirs, ours, operatorSchema, operator]) =>
      `${own}.${quoteIdentifier(ours)} OPERATOR(${quoteIdentifier(operatorSchema)}.${operator}) tidemark_referrer.${quoteIdentifier(theirs)}`,
  );
  return `EXISTS (SELECT FROM ${quoteTable(schema, table)} tidemark_referrer WHERE ${equal.join(' AND ')})`;
}

const TIMESTAMP_TYPES: ReadonlySet<number> = new Set([1082, 1114, 1184]);

/** What stands against deleting: P13, each a way by which a delete would touch more, less or other rows than were proved. */
function obstacles(row: Row, config: TableConfig, key: readonly string[], generated: boolean): Target['obstacles'] {
  const name = `${config.schema}.${config.table}`;
  const found: { reason: string; remedy: string }[] = [];
  const add = (when: boolean, reason: string, remedy: string): void => {
    if (when) found.push({ reason, remedy });
  };
  const types = new Map((JSON.parse(row.columns) as [string, number][]).map(([column, type]) => [column, type]));
  add(row.relkind === 'p', 'it is partitioned', 'list its partitions as tables instead');
  add(row.relkind !== 'r' && row.relkind !== 'p', 'it is not an ordinary table', 'take it out of tables');
  add(row.relpersistence !== 'p', 'it is unlogged or temporary: its rows are not in the WAL', `ALTER TABLE ${name} SET LOGGED`);
  add(
    row.rls === 'true',
    'row level security is on: a delete could see other rows than the copy',
    `ALTER TABLE ${name} DISABLE ROW LEVEL SECURITY, or set prune: false`,
  );
  add(row.children === 'true' || row.parents === 'true', 'it has inheritance children or parents', 'set prune: false');
  const foreign = foreignKeys(row);
  const unread = foreign.filter((one) => !one.readable);
  add(
    unread.length > 0,
    `foreign keys refer to it (${unread.map(nameOf).join(', ')}) from tables that the pruner may not read: it cannot tell which rows they need`,
    `${unread.map((one) => `GRANT SELECT (${one.pairs.map(([theirs]) => quoteIdentifier(theirs)).join(', ')}) ON ${quoteTable(one.schema, one.table)} TO the pruner's role`).join('; ')}; or set prune: false`,
  );
  const odd = foreign.filter((one) => one.pairs.some(([, , , operator]) => operator !== '='));
  add(odd.length > 0, `foreign keys refer to it by something else than equality (${odd.map(nameOf).join(', ')})`, 'drop them, or set prune: false');
  add(row.triggers !== null, `DELETE triggers are on it (${row.triggers})`, 'disable them, or set prune: false');
  add(row.rules !== null, `DELETE rules are on it (${row.rules})`, 'drop them, or set prune: false');
  add(row.published === null, 'it is not in the publication, or only as part of a partitioned table', 'see what tidemark doctor says of the publication');
  add(
    row.published === 'false',
    'the publication leaves out inserts, updates, deletes or truncates',
    "ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate')",
  );
  add(row.filtered === 'true', 'the publication filters its rows or columns', 'ALTER PUBLICATION … SET TABLE without WHERE and column lists');
  add(generated, 'it has generated columns, which the stream does not carry', 'set prune: false');
  add(
    row.identity === 'n',
    'its replica identity is NOTHING: its updates and deletes do not say which row they are about',
    `ALTER TABLE ${name} REPLICA IDENTITY DEFAULT`,
  );
  add(
    key.length === 0,
    'it has no primary key and no replica identity index (a deferrable one does not count: two rows may have its key at once)',
    `ALTER TABLE ${name} ADD PRIMARY KEY (…), or set prune: false`,
  );
  add(!types.has(config.timestamp), `it has no column ${config.timestamp}`, `correct tables.${config.key}.timestamp`);
  add(
    types.has(config.timestamp) && !TIMESTAMP_TYPES.has(types.get(config.timestamp) ?? 0),
    `${config.timestamp} is not a date, timestamp or timestamptz`,
    `correct tables.${config.key}.timestamp`,
  );
  return found;
}
