/**
 * What the catalog says of a table: the description that goes before its rows on the stream, and its Relation message for the initial copy. Owns the
 * catalog queries for both. The description follows the relation version it is asked for, names and types; the catalog may have moved on meanwhile.
 */
import type pg from 'pg';
import { TAG } from '../change/pgoutput.js';
import type { Relation, RelationColumn, ReplicaIdentity, TableDescription, TypeDescription } from '../change/relation.js';

/** Types below this OID are built in: the same on every server. */
const FIRST_USER_OID = 16384;

/** `TableDescription` as a frame: type byte `d` and JSON. */
export function descriptionFrame(description: TableDescription): Buffer {
  return Buffer.concat([Buffer.of(TAG.description), Buffer.from(JSON.stringify(description))]);
}

/** Describes the table as `relation` has it. A table that is gone is described as far as its types still are. */
export async function describeTable(client: pg.Client, relation: Relation): Promise<TableDescription> {
  const types = await formatTypes(client, relation.columns);
  const { notNull, dimensions } = await attributes(client, relation.oid);
  const key = await keyColumns(client, relation.oid);
  const primaryKey = key.every((name) => relation.columns.some((column) => column.name === name)) ? key : []; // a part of a later one names no row
  const columnTypes = Object.fromEntries(
    relation.columns.map((column, i) => [column.name, `${types[i] ?? `type ${column.typeOid}`}${notNull.has(column.name) ? ' NOT NULL' : ''}`]),
  );
  return {
    oid: relation.oid,
    schema: relation.schema,
    table: relation.table,
    primaryKey,
    columnTypes,
    ddl: createTable(relation, columnTypes, primaryKey),
    types: await userTypes(client, relation.columns),
    dimensions,
  };
}

function createTable(relation: Relation, columnTypes: Readonly<Record<string, string>>, primaryKey: readonly string[]): string {
  const name = (text: string): string => `"${text.replaceAll('"', '""')}"`;
  const lines = relation.columns.map((column) => `  ${name(column.name)} ${columnTypes[column.name]}`);
  if (primaryKey.length > 0) lines.push(`  PRIMARY KEY (${primaryKey.map(name).join(', ')})`);
  return `CREATE TABLE ${name(relation.schema)}.${name(relation.table)} (\n${lines.join(',\n')}\n)`;
}

async function formatTypes(client: pg.Client, columns: readonly RelationColumn[]): Promise<string[]> {
  if (columns.length === 0) return [];
  const result = await client.query<{ type: string }>(
    `SELECT pg_catalog.format_type(t.oid, nullif(t.typmod, -1)) AS type
       FROM ROWS FROM (unnest($1::oid[]), unnest($2::int4[])) WITH ORDINALITY AS t(oid, typmod, i) ORDER BY t.i`,
    [columns.map((column) => column.typeOid), columns.map((column) => column.typmod)],
  );
  return result.rows.map((row) => row.type);
}

async function attributes(client: pg.Client, oid: number): Promise<{ notNull: Set<string>; dimensions: Record<string, number> }> {
  const result = await client.query<{ attname: string; required: string; dimensions: string }>(
    'SELECT attname, attnotnull::text AS required, attndims::text AS dimensions FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped',
    [oid],
  );
  return {
    notNull: new Set(result.rows.filter((row) => row.required === 'true').map((row) => row.attname)),
    dimensions: Object.fromEntries(result.rows.filter((row) => Number(row.dimensions) > 1).map((row) => [row.attname, Number(row.dimensions)])),
  };
}

/** Primary key columns in key order. None of a deferrable one: two rows may have the same key until their transaction commits, and Postgres does not tell rows apart by it either. */
async function keyColumns(client: pg.Client, oid: number): Promise<string[]> {
  const result = await client.query<{ attname: string }>(
    `SELECT a.attname FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
       JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
      WHERE i.indrelid = $1 AND i.indisprimary AND i.indimmediate AND a.attrelid = $1 AND k.n <= i.indnkeyatts ORDER BY k.n`,
    [oid],
  );
  return result.rows.map((row) => row.attname);
}

/** Descriptions of the types that are not built in, with the bases and elements they rest on, by OID. */
async function userTypes(client: pg.Client, columns: readonly RelationColumn[]): Promise<Record<string, TypeDescription>> {
  const found: Record<string, TypeDescription> = {};
  let wanted = columns.map((column) => column.typeOid).filter((oid) => oid >= FIRST_USER_OID);
  while (wanted.length > 0) {
    const result = await client.query<{ oid: string; name: string; kind: string; base: string; base_typmod: string; element: string }>(
      `SELECT oid::text, pg_catalog.format_type(oid, NULL) AS name, typtype::text AS kind, typbasetype::text AS base, typtypmod::text AS base_typmod,
              CASE WHEN typcategory = 'A' AND typdelim = ',' THEN typelem ELSE 0 END::text AS element
         FROM pg_catalog.pg_type WHERE oid = ANY($1::oid[])`,
      [wanted],
    );
    const next: number[] = [];
    for (const row of result.rows) {
      found[row.oid] = {
        name: row.name,
        kind: row.kind,
        ...(row.base === '0' ? {} : { baseOid: Number(row.base), baseTypmod: Number(row.base_typmod) }),
        ...(row.element === '0' ? {} : { elementOid: Number(row.element) }),
      };
      next.push(Number(row.base), Number(row.element));
    }
    wanted = [...new Set(next)].filter((oid) => oid >= FIRST_USER_OID && found[oid] === undefined);
  }
  return found;
}

/** A table as pgoutput would announce it: its stored columns in order, with the flags of the replica identity. undefined: there is no such table. */
export async function readRelationFromCatalog(client: pg.Client, schema: string, table: string): Promise<Relation | undefined> {
  const head = await client.query<{ oid: string; identity: string }>(
    'SELECT c.oid::text, c.relreplident::text AS identity FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2',
    [schema, table],
  );
  const found = head.rows[0];
  if (found === undefined) return undefined;
  const identity = found.identity as ReplicaIdentity;
  const columns = await client.query<{ name: string; type: string; typmod: string; key: string }>(
    `SELECT a.attname AS name, a.atttypid::text AS type, a.atttypmod::text AS typmod,
            (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
               AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR c.relreplident = 'i' AND i.indisreplident)))::text AS key
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
      WHERE c.oid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum`,
    [found.oid],
  );
  return {
    oid: Number(found.oid),
    schema,
    table,
    identity,
    columns: columns.rows.map((row) => ({ name: row.name, typeOid: Number(row.type), typmod: Number(row.typmod), key: row.key === 'true' })),
  };
}

/** The Relation message of pgoutput for it, byte for byte. */
export function relationFrame(relation: Relation): Buffer {
  const text = (value: string): Buffer => Buffer.from(`${value}\0`);
  const head = Buffer.alloc(5);
  head[0] = TAG.relation;
  head.writeUInt32BE(relation.oid, 1);
  const count = Buffer.alloc(3);
  count[0] = relation.identity.charCodeAt(0);
  count.writeUInt16BE(relation.columns.length, 1);
  const parts = [head, text(relation.schema === 'pg_catalog' ? '' : relation.schema), text(relation.table), count];
  for (const column of relation.columns) {
    const numbers = Buffer.alloc(8);
    numbers.writeUInt32BE(column.typeOid, 0);
    numbers.writeInt32BE(column.typmod, 4);
    parts.push(Buffer.of(column.key ? 1 : 0), text(column.name), numbers);
  }
  return Buffer.concat(parts);
}
