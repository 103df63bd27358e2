/** `tidemark adopt`: takes another server for the one that the archive was made from, because it carries the same tables on (pg_upgrade, a restored backup); then as resync. */
import type pg from 'pg';
import type { ArchiveState } from '../../../src/archive/manifest.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { TidemarkError } from '../../../src/runtime/errors.js';
import { beginNewEpoch } from '../new-epoch.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  await beginNewEpoch(config, {
    command: 'adopt',
    yes: options['yes'],
    judge: async ({ client, server, state }) => {
      if (state.epoch !== null && state.epoch.systemId === server.systemId)
        throw new TidemarkError('failed', 'this is the server that the archive was made from', { remedy: 'tidemark resync' });
      await requireSameTables(client, config, state);
      return server.systemId;
    },
  });
  return 0;
}

/** Tables are known by their OIDs, which pg_upgrade and a restored backup keep: under others their archived rows would be those of other tables. */
async function requireSameTables(client: pg.Client, config: Config, state: ArchiveState): Promise<void> {
  const { rows } = await client.query<Record<'oid' | 'schema' | 'table', string>>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS table FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')`,
  );
  const oids = new Map(rows.map((row) => [`${row.schema}.${row.table}`, Number(row.oid)]));
  const configured = new Set(config.tables.map((table) => `${table.schema}.${table.table}`));
  const others = state.tables.filter(({ schema, table, oid }) => configured.has(`${schema}.${table}`) && oids.get(`${schema}.${table}`) !== oid);
  if (others.length === 0) return;
  const listed = others.map(({ schema, table, oid }) => `${schema}.${table} (${oid} in the archive, here ${oids.get(`${schema}.${table}`) ?? 'none'})`);
  throw new TidemarkError('failed', `these tables have other OIDs here: ${listed.join(', ')}: this server was loaded anew`, {
    remedy: 'use a new archive folder (archive.dir) for it: the old archive stays readable as it is',
  });
}
