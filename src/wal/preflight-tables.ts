/** What a table must be to be archived: an ordinary, logged table with its timestamp column, names free of ours, a usable replica identity, and readable. */
import type pg from 'pg';
import { nameCollision, systemPrefix } from '../change/system-columns.js';
import type { Check } from '../runtime/check.js';
import type { Config, TableConfig } from '../runtime/config.js';
import { quoteIdentifier, quoteTable } from './identifier.js';

const TIMESTAMP_TYPES = ['date', 'timestamp without time zone', 'timestamp with time zone'];

const KINDS: Readonly<Record<string, string>> = {
  p: 'a partitioned table',
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
  S: 'a sequence',
  i: 'an index',
  c: 'a composite type',
};

type Column = { readonly name: string; readonly type: string; readonly generated: boolean };

type TableFacts = {
  readonly oid: string;
  /** Ours. */
  readonly role: string;
  readonly kind: string;
  readonly persistence: string;
  readonly identity: string;
  readonly partition: boolean;
  readonly selectable: boolean;
  /** Row level security applies to our role. */
  readonly narrowed: boolean;
  readonly hasPrimaryKey: boolean;
  readonly identityIndex: boolean;
  readonly columns: readonly Column[];
};

/** Several checks for each table of the configuration; `table` names it. */
export async function tableChecks(client: pg.Client, config: Config): Promise<Check[]> {
  const checks: Check[] = [];
  for (const table of config.tables) {
    const facts = await readFacts(client, table);
    checks.push(...(facts === undefined ? [await missing(client, table)] : await checkTable(client, table, facts)));
  }
  return checks;
}

async function readFacts(client: pg.Client, table: TableConfig): Promise<TableFacts | undefined> {
  const head = await client.query<
    Record<'oid' | 'role' | 'kind' | 'persistence' | 'identity' | 'partition' | 'selectable' | 'narrowed' | 'pk' | 'identity_index', string>
  >(
    `SELECT c.oid::text, current_user::text AS role, c.relkind::text AS kind, c.relpersistence::text AS persistence, c.relreplident::text AS identity, c.relispartition::text AS partition,
            (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))::text AS selectable,
            pg_catalog.row_security_active(c.oid)::text AS narrowed,
            EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid)::text AS pk,
            EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)::text AS identity_index
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
    [table.schema, table.table],
  );
  const row = head.rows[0];
  if (row === undefined) return undefined;
  const columns = await client.query<{ name: string; type: string; generated: string }>(
    `SELECT attname::text AS name, pg_catalog.format_type(atttypid, NULL) AS type, (attgenerated <> '')::text AS generated
       FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [row.oid],
  );
  return {
    oid: row.oid,
    role: row.role,
    kind: row.kind,
    persistence: row.persistence,
    identity: row.identity,
    partition: row.partition === 'true',
    selectable: row.selectable === 'true',
    narrowed: row.narrowed === 'true',
    hasPrimaryKey: row.pk === 'true',
    identityIndex: row.identity_index === 'true',
    columns: columns.rows.map((column) => ({ ...column, generated: column.generated === 'true' })),
  };
}

/** Says where a table of that name is, if there is one. */
async function missing(client: pg.Client, table: TableConfig): Promise<Check> {
  const result = await client.query<{ place: string }>(
    "SELECT n.nspname || '.' || c.relname AS place FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE lower(c.relname) = lower($1) AND c.relkind IN ('r', 'p') LIMIT 3",
    [table.table],
  );
  const others = result.rows.map((row) => row.place).join(', ');
  const remedy = others === '' ? `take tables.${table.key} out of the configuration, or make the table` : `did you mean ${others}? correct tables.${table.key}`;
  return { name: `table ${table.key}`, status: 'failed', seen: `there is no table ${table.schema}.${table.table}`, remedy, table: table.key };
}

async function checkTable(client: pg.Client, table: TableConfig, facts: TableFacts): Promise<Check[]> {
  const kind = kindCheck(table, facts);
  if (kind.status === 'failed') return [kind];
  return [
    kind,
    ...timestampChecks(table, facts, await hasIndex(client, facts.oid, table.timestamp)),
    ...nameChecks(table, facts),
    identityCheck(table, facts),
    ...(await ageCheck(client, table, facts)),
  ];
}

function check(table: TableConfig, what: string, status: Check['status'], seen: string, remedy?: string): Check {
  return { name: `${what} ${table.key}`, status, seen, ...(remedy === undefined ? {} : { remedy }), table: table.key };
}

function kindCheck(table: TableConfig, facts: TableFacts): Check {
  const name = quoteTable(table.schema, table.table);
  const out = `take tables.${table.key} out of the configuration`;
  if (facts.kind === 'p') return check(table, 'table', 'failed', 'is a partitioned table', `list its partitions under tables instead of ${table.key}`);
  if (facts.kind !== 'r') return check(table, 'table', 'failed', `is ${KINDS[facts.kind] ?? `of kind ${facts.kind}`}, not a table`, out);
  if (facts.persistence === 'u') return check(table, 'table', 'failed', 'is UNLOGGED: its changes are not in the WAL', `ALTER TABLE ${name} SET LOGGED`);
  if (facts.persistence === 't') return check(table, 'table', 'failed', 'is a temporary table', out);
  const role = quoteIdentifier(facts.role);
  if (!facts.selectable)
    return check(
      table,
      'table',
      'failed',
      'may not be read',
      `GRANT USAGE ON SCHEMA ${quoteIdentifier(table.schema)} TO ${role}; GRANT SELECT ON ${name} TO ${role}`,
    );
  if (facts.narrowed)
    return check(table, 'table', 'failed', `row level security hides rows from role ${facts.role}: a copy would not be whole`, `ALTER ROLE ${role} BYPASSRLS`);
  return check(table, 'table', 'ok', facts.partition ? 'a partition' : 'an ordinary table');
}

async function hasIndex(client: pg.Client, oid: string, column: string): Promise<boolean> {
  const result = await client.query(
    `SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = $1 AND a.attname = $2 AND i.indisvalid AND i.indpred IS NULL LIMIT 1`,
    [oid, column],
  );
  return result.rowCount === 1;
}

function timestampChecks(table: TableConfig, facts: TableFacts, indexed: boolean): Check[] {
  const column = facts.columns.find((found) => found.name === table.timestamp);
  if (column === undefined) {
    const candidates = facts.columns.filter((found) => TIMESTAMP_TYPES.includes(found.type)).map((found) => found.name);
    const remedy =
      candidates.length === 0
        ? `take tables.${table.key} out of the configuration: it has no date or timestamp column`
        : `set tables.${table.key}.timestamp to one of: ${candidates.join(', ')}`;
    return [check(table, 'timestamp column', 'failed', `there is no column ${JSON.stringify(table.timestamp)}`, remedy)];
  }
  if (!TIMESTAMP_TYPES.includes(column.type)) {
    return [
      check(
        table,
        'timestamp column',
        'failed',
        `${table.timestamp} is of type ${column.type}, needed is date, timestamp or timestamptz`,
        `set tables.${table.key}.timestamp to a column of such a type`,
      ),
    ];
  }
  if (column.generated) {
    return [
      check(
        table,
        'timestamp column',
        'failed',
        `${table.timestamp} is a generated column, which is not in the WAL`,
        `set tables.${table.key}.timestamp to an ordinary column`,
      ),
    ];
  }
  const found = check(table, 'timestamp column', 'ok', `${table.timestamp} ${column.type}`);
  if (indexed) return [found];
  const remedy = `CREATE INDEX CONCURRENTLY ON ${quoteTable(table.schema, table.table)} (${quoteIdentifier(table.timestamp)})`;
  return [found, check(table, 'timestamp index', 'warning', `no index begins with ${table.timestamp}: every prune reads the whole table`, remedy)];
}

function nameChecks(table: TableConfig, facts: TableFacts): Check[] {
  const checks: Check[] = [];
  const prefix = systemPrefix(facts.columns.map((column) => column.name));
  if (prefix !== '_')
    checks.push(
      check(table, 'column names', 'ok', `the archive's own columns are named ${prefix}op, ${prefix}lsn and so on: the table has a column of such a name`),
    );
  const collision = nameCollision(facts.columns.map((column) => column.name));
  if (collision !== undefined)
    checks.push(check(table, 'column names', 'failed', `${collision}: readers of Parquet mix them up`, 'rename the column, or take the table out of tables'));
  const generated = facts.columns.filter((column) => column.generated);
  if (generated.length > 0) {
    const names = generated.map((column) => column.name).join(', ');
    checks.push(
      check(
        table,
        'generated columns',
        'warning',
        `${names}: generated, so not in the WAL nor in the archive`,
        'none needed: their values follow from the other columns',
      ),
    );
  }
  return checks;
}

/** Without it the application's own UPDATE and DELETE fail as soon as the table is published. */
function identityCheck(table: TableConfig, facts: TableFacts): Check {
  const name = quoteTable(table.schema, table.table);
  const usable = facts.identity === 'f' || (facts.identity === 'd' && facts.hasPrimaryKey) || (facts.identity === 'i' && facts.identityIndex);
  if (usable) {
    const seen = { f: 'the whole row', d: 'the primary key', i: 'an index' }[facts.identity] ?? facts.identity;
    return check(table, 'replica identity', 'ok', seen);
  }
  const remedy = facts.hasPrimaryKey ? `ALTER TABLE ${name} REPLICA IDENTITY DEFAULT` : `ALTER TABLE ${name} REPLICA IDENTITY FULL, or give it a primary key`;
  return check(table, 'replica identity', 'failed', "none that is usable: once published, the application's UPDATE and DELETE would fail", remedy);
}

/** A clock that is ahead, or a column that holds plans for the future. */
async function ageCheck(client: pg.Client, table: TableConfig, facts: TableFacts): Promise<Check[]> {
  const column = facts.columns.find((found) => found.name === table.timestamp);
  if (column === undefined || !TIMESTAMP_TYPES.includes(column.type)) return [];
  if (!(await hasIndex(client, facts.oid, table.timestamp))) return []; // the whole table would be read
  const result = await client.query<{ newest: string | null; ahead: string | null }>(
    `SELECT max(${quoteIdentifier(table.timestamp)})::text AS newest, (max(${quoteIdentifier(table.timestamp)}) > pg_catalog.now() + interval '1 day')::text AS ahead
       FROM ONLY ${quoteTable(table.schema, table.table)} WHERE ${quoteIdentifier(table.timestamp)} < 'infinity'`,
  );
  const row = result.rows[0];
  if (row?.ahead !== 'true') return [];
  return [
    check(table, 'newest row', 'warning', `${row.newest} lies in the future`, 'look at what writes that timestamp; a row is pruned only when it has grown old'),
  ];
}
