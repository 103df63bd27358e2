/** doctor's checks for pruning: everything that would refuse a table in a run, the pruner's rights, and that protected tables are out of its reach. */
import type pg from 'pg';
import type { Check } from '../runtime/check.js';
import type { Config, TableConfig } from '../runtime/config.js';
import { quoteIdentifier, quoteTable } from '../wal/identifier.js';
import { keepWhileProblem } from './eligible.js';
import { readTarget, type Target } from './target.js';

/** `client`: a connection with the pruner's role. A failed check with `table` keeps only that table from being pruned. */
export async function prunePreflight(client: pg.Client, config: Config): Promise<Check[]> {
  const checks: Check[] = [];
  for (const table of config.tables) {
    if (!table.prune) {
      checks.push({ name: `prune ${table.key}`, status: 'ok', seen: 'prune: false, its rows stay in Postgres', table: table.key });
      continue;
    }
    const target = await readTarget(client, config.source.name, table);
    if (target === undefined) continue; // capture's checks say so
    checks.push(...obstacleChecks(table, target), await rightsCheck(client, table, target), ...(await referenceChecks(client, table, target)));
    if (table.keepWhile !== undefined) checks.push(await keepWhileCheck(client, table, table.keepWhile, target));
  }
  checks.push(...(await protectedChecks(client, config)), await timezoneCheck(client, config.source.timezone), await standbyCheck(client));
  return checks;
}

function obstacleChecks(table: TableConfig, target: Target): Check[] {
  // The publication is capture's check, and doctor --fix makes it.
  const found = target.obstacles.filter(({ reason }) => !reason.includes('publication'));
  const needed = target.references.length === 0 ? '' : `, but for rows that others refer to (${target.references.map(({ name }) => name).join(', ')})`;
  if (found.length === 0) return [{ name: `prune ${table.key}`, status: 'ok', seen: `nothing stands against deleting${needed}`, table: table.key }];
  return found.map(({ reason, remedy }) => ({ name: `prune ${table.key}`, status: 'failed', seen: `will not be pruned: ${reason}`, remedy, table: table.key }));
}

/** Foreign keys whose referring rows are looked for without an index. One that begins with any of the columns is enough, also one that leaves out NULL. */
async function referenceChecks(client: pg.Client, table: TableConfig, target: Target): Promise<Check[]> {
  if (target.references.length === 0) return [];
  const { rows } = await client.query<{ schema: string; table: string; constraint: string; kind: string; columns: string }>(
    `SELECT n.nspname::text AS schema, o.relname::text AS table, f.conname::text AS constraint, o.relkind::text AS kind,
            (SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY k(attnum, n) JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid AND a.attnum = k.attnum)::text AS columns
       FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class o ON o.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace
      WHERE f.contype = 'f' AND f.confrelid = $1
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint whole WHERE whole.oid = f.conparentid AND whole.confrelid = $1)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = o.oid AND i.indisvalid AND m.amname IN ('btree', 'hash') AND i.indkey[0] = ANY (f.conkey)
              AND (i.indpred IS NULL OR pg_catalog.pg_get_expr(i.indpred, i.indrelid) = pg_catalog.format('(%I IS NOT NULL)', a.attname)))
      ORDER BY f.oid`,
    [target.oid],
  );
  return rows.map((row) => {
    const columns = JSON.parse(row.columns) as string[];
    const where = `${quoteTable(row.schema, row.table)} (${columns.map(quoteIdentifier).join(', ')})`;
    return {
      name: `foreign key index ${table.key}`,
      status: 'warning',
      seen: `${row.schema === 'public' ? '' : `${row.schema}.`}${row.table}.${row.constraint} refers to it, and no index begins with ${columns.join(' or ')}: every batch reads that table`,
      // A partitioned table takes its index only with a lock.
      remedy: row.kind === 'p' ? `CREATE INDEX ON ${where}` : `CREATE INDEX CONCURRENTLY ON ${where}`,
      table: table.key,
    };
  });
}

async function rightsCheck(client: pg.Client, table: TableConfig, target: Target): Promise<Check> {
  const name = quoteTable(table.schema, table.table);
  const key = target.key[0];
  const { rows } = await client.query<{ who: string; d: string; s: string; u: string }>(
    `SELECT current_user AS who, has_table_privilege($1::oid, 'DELETE')::text AS d, has_table_privilege($1::oid, 'SELECT')::text AS s, has_any_column_privilege($1::oid, 'UPDATE')::text AS u`,
    [target.oid],
  );
  const row = rows[0] as { who: string; d: string; s: string; u: string };
  const missing = [
    row.s === 'true' ? '' : 'SELECT',
    row.d === 'true' ? '' : 'DELETE',
    row.u === 'true' ? '' : `UPDATE (${key === undefined ? 'a column' : quoteIdentifier(key)})`,
  ].filter((right) => right !== '');
  const check = { name: `rights ${table.key}`, table: table.key } as const;
  if (missing.length === 0) return { ...check, status: 'ok', seen: `${row.who} may delete from it` };
  return {
    ...check,
    status: 'failed',
    seen: `${row.who} lacks ${missing.join(', ')}`,
    remedy: `GRANT ${missing.join(', ')} ON ${name} TO ${quoteIdentifier(row.who)}`,
  };
}

async function keepWhileCheck(client: pg.Client, table: TableConfig, condition: string, target: Target): Promise<Check> {
  const check = { name: `keepWhile ${table.key}`, table: table.key } as const;
  const problem = await keepWhileProblem(client, table, target);
  if (problem !== undefined) return { ...check, status: 'failed', seen: problem, remedy: `correct tables.${table.key}.keepWhile` };
  return { ...check, status: 'ok', seen: condition };
}

/** `timestamp` columns are compared with wall-clock time of this zone, as the server knows it. */
async function timezoneCheck(client: pg.Client, timezone: string): Promise<Check> {
  try {
    await client.query('SELECT now() AT TIME ZONE $1', [timezone]);
    return { name: 'timezone', status: 'ok', seen: timezone };
  } catch (error) {
    if ((error as { code?: string }).code !== '22023') throw error;
    return { name: 'timezone', status: 'failed', seen: `the server does not know ${JSON.stringify(timezone)}`, remedy: 'correct source.timezone' };
  }
}

/** The pruner waits for standbys that lag; it must be able to see that they do. */
async function standbyCheck(client: pg.Client): Promise<Check> {
  const { rows } = await client.query<{ who: string; standbys: string; seen: string }>(
    `SELECT current_user AS who, count(*)::text AS standbys, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')::text AS seen
       FROM pg_catalog.pg_stat_replication r WHERE r.pid NOT IN (SELECT s.active_pid FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL)`,
  );
  const { who, standbys, seen } = rows[0] as { who: string; standbys: string; seen: string };
  if (seen === 'true' || standbys === '0')
    return { name: 'standbys', status: 'ok', seen: standbys === '0' ? 'none is connected' : `the replay lag of ${standbys} is seen` };
  return {
    name: 'standbys',
    status: 'warning',
    seen: `${who} cannot see their replay lag: pruning will not wait for them`,
    remedy: `GRANT pg_read_all_stats TO ${quoteIdentifier(who)}`,
  };
}

/** Law 14: the role must not be able to delete from a protected table, whatever the configuration says. */
async function protectedChecks(client: pg.Client, config: Config): Promise<Check[]> {
  const checks: Check[] = [];
  for (const table of config.protected) {
    const { rows } = await client.query<{ who: string; super: string; owner: string | null; oid: string | null; d: string | null }>(
      `SELECT current_user AS who, r.rolsuper::text AS super, pg_has_role(current_user, c.relowner, 'USAGE')::text AS owner, c.oid::text AS oid, has_table_privilege(c.oid, 'DELETE, TRUNCATE, UPDATE')::text AS d
         FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_class c ON c.oid = to_regclass($1) WHERE r.rolname = current_user`,
      [quoteTable(table.schema, table.table)],
    );
    const row = rows[0];
    const name = `protected ${table.key}`;
    if (row === undefined || row.oid === null)
      checks.push({ name, status: 'warning', seen: 'there is no such table', remedy: 'correct the name under protected' });
    else if (row.d !== 'true') checks.push({ name, status: 'ok', seen: `${row.who} cannot change it` });
    else {
      const own = 'let the pruner connect as a role of its own: infra/postgres/roles.sql, source.prunerUrl';
      // From a superuser nothing can be taken: said, and left to the person. From the owner it would be taken from the application too.
      const remedy =
        row.super === 'true'
          ? own
          : row.owner === 'true'
            ? `${own} (${row.who} owns the table: a REVOKE would stop the application's own writes)`
            : `REVOKE DELETE, TRUNCATE, UPDATE ON ${quoteTable(table.schema, table.table)} FROM ${quoteIdentifier(row.who)}, or ${own}`;
      checks.push({ name, status: row.super === 'true' ? 'warning' : 'failed', seen: `${row.who} could delete from it (Tidemark does not)`, remedy });
    }
  }
  return checks;
}
