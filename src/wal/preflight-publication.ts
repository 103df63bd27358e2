/** What the publication must be: made by the tables' owner before the slot, of exactly the listed tables, whole, with every operation. */
import type pg from 'pg';
import type { Check } from '../runtime/check.js';
import type { Config } from '../runtime/config.js';
import { quoteIdentifier, quoteTable, slotName } from './identifier.js';
import { readServerVersion } from './slot.js';

type Named = { readonly schema: string; readonly table: string };

function quoted({ schema, table }: Named): string {
  return quoteTable(schema, table);
}

/** SQL that makes it. Run by the owner of the tables, before the slot exists; never drop and make it again. */
export function createPublicationSql(config: Config): string {
  const tables = config.tables.map((table) => `ONLY ${quoted(table)}`).join(', ');
  return `CREATE PUBLICATION ${quoteIdentifier(slotName(config.source.name))} FOR TABLE ${tables}`;
}

/**
 * What doctor may do by itself. `publish`: every table is fit to be published; an unfit one would break the application. `alter`: this server loses no change while a
 * publication is altered under load.
 */
export type MayFix = { readonly publish: boolean; readonly alter: boolean };

export async function publicationChecks(client: pg.Client, config: Config, mayFix: MayFix): Promise<Check[]> {
  const name = slotName(config.source.name);
  const head = await client.query<Record<'all_tables' | 'ins' | 'upd' | 'del' | 'trunc' | 'schemas', string>>(
    `SELECT puballtables::text AS all_tables, pubinsert::text AS ins, pubupdate::text AS upd, pubdelete::text AS del, pubtruncate::text AS trunc,
            EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid)::text AS schemas
       FROM pg_catalog.pg_publication p WHERE pubname = $1`,
    [name],
  );
  const row = head.rows[0];
  if (row === undefined) {
    const sql = createPublicationSql(config);
    return [
      {
        name: `publication ${name}`,
        status: 'failed',
        seen: 'does not exist',
        remedy: `as the owner of the tables: ${sql}`,
        ...(mayFix.publish ? { fix: sql } : {}),
      },
    ];
  }
  const checks: Check[] = [];
  const ofOurKind = row.all_tables !== 'true' && row.schemas !== 'true';
  const alter = ofOurKind && mayFix.alter;
  if (!ofOurKind) {
    checks.push(
      failed(
        name,
        'is FOR ALL TABLES or FOR TABLES IN SCHEMA: it would publish tables that are not listed',
        `give source.name another value and run: ${createPublicationSql(config)}`,
      ),
    );
  }
  if ([row.ins, row.upd, row.del, row.trunc].includes('false')) {
    const sql = `ALTER PUBLICATION ${quoteIdentifier(name)} SET (publish = 'insert, update, delete, truncate')`;
    checks.push(failed(name, 'does not publish every operation', sql, alter ? sql : undefined));
  }
  if ((await readServerVersion(client)) >= 180_000) {
    const generated = await client.query<{ columns: string }>('SELECT pubgencols::text AS columns FROM pg_catalog.pg_publication WHERE pubname = $1', [name]);
    const sql = `ALTER PUBLICATION ${quoteIdentifier(name)} SET (publish_generated_columns = none)`;
    if (generated.rows[0]?.columns !== 'n')
      checks.push(failed(name, 'publishes generated columns, which the copied rows have not', sql, alter ? sql : undefined));
  }
  checks.push(...(await memberChecks(client, config, name, alter && mayFix.publish)));
  return checks.length > 0 ? checks : [{ name: `publication ${name}`, status: 'ok', seen: `${config.tables.length} tables, every operation` }];
}

function failed(name: string, seen: string, remedy: string, fix?: string): Check {
  return { name: `publication ${name}`, status: 'failed', seen, remedy, ...(fix === undefined ? {} : { fix }) };
}

/** `mayAdd`: doctor may add what is missing by itself. It never takes a table out. */
async function memberChecks(client: pg.Client, config: Config, name: string, mayAdd: boolean): Promise<Check[]> {
  const result = await client.query<Record<'schema' | 'table' | 'filtered' | 'columns', string>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS table, (r.prqual IS NOT NULL)::text AS filtered, (r.prattrs IS NOT NULL)::text AS columns
       FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
       JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`,
    [name],
  );
  const same = (a: Named) => (b: Named) => a.schema === b.schema && a.table === b.table;
  const publication = quoteIdentifier(name);
  const checks: Check[] = [];
  for (const member of result.rows) {
    const shown = `${member.schema}.${member.table}`;
    const drop = `ALTER PUBLICATION ${publication} DROP TABLE ${quoted(member)}`;
    if (config.protected.some(same(member))) checks.push(failed(name, `publishes the protected table ${shown}`, drop));
    else if (!config.tables.some(same(member))) checks.push(failed(name, `publishes ${shown}, which is not listed under tables`, `${drop}; or list the table`));
    else if (member.filtered === 'true' || member.columns === 'true') {
      checks.push(
        failed(
          name,
          `publishes ${shown} with a row filter or a column list: the archive would not be whole`,
          `${drop}; ALTER PUBLICATION ${publication} ADD TABLE ONLY ${quoted(member)}`,
        ),
      );
    }
  }
  const lacking = config.tables.filter((table) => !result.rows.some(same(table)));
  if (lacking.length > 0) {
    const sql = `ALTER PUBLICATION ${publication} ADD TABLE ${lacking.map((table) => `ONLY ${quoted(table)}`).join(', ')}`;
    const remedy = `as the owner of the tables: ${sql}; their rows are copied then, while the others go on`;
    checks.push(failed(name, `lacks ${lacking.map((table) => table.key).join(', ')}`, remedy, mayAdd ? sql : undefined));
  }
  return checks;
}
