/**
 * The connection of a restore: its role, the server it leads to, and the lock that only one restore of a source has. Owns opening it, making the table that is missing, and finding out what became
 * of a transaction whose end nobody wrote down.
 */
import type pg from 'pg';
import type { RestoreIndex, RestoreWriter } from '../archive/restores.js';
import type { Config } from '../runtime/config.js';
import { TidemarkError } from '../runtime/errors.js';
import { sleep } from '../runtime/service.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { applicationName } from '../wal/identifier.js';
import { readServerIdentity, type ServerIdentity } from '../wal/identity.js';
import { connectClient } from '../wal/session.js';
import { createTableSql, findTable, quoted, type RestoreTarget, readTarget, type TableName, textOf } from './target.js';

/** Longer than a batch takes. */
const QUERY_MS = 10 * 60_000;
/** One that was killed a moment ago is at work until the server has noticed. */
const LOCK_PATIENCE_MS = 10_000;
const LOCK_LOOK_MS = 200;

/** Connects with the role of restores where there is one. */
export function connectRestore(config: Config): Promise<pg.Client> {
  const { url, restoreUrl } = config.source;
  const field = restoreUrl === undefined ? 'source.url' : 'source.restoreUrl';
  return connectClient((restoreUrl ?? url).reveal(), { field, applicationName: applicationName(config.source.name, 'restore'), queryTimeoutMs: QUERY_MS });
}

/** The server, which must be one that can be written to. Throws when it is not, or another restore is at work. */
export async function beginRestore(client: pg.Client, source: string): Promise<ServerIdentity> {
  const server = await readServerIdentity(client);
  if (server.inRecovery) throw new TidemarkError('failed', 'the server is in recovery: it is a standby', { remedy: 'restore into its primary' });
  for (const until = performance.now() + LOCK_PATIENCE_MS; ; await sleep(LOCK_LOOK_MS)) {
    const { rows } = await client.query<{ got: string }>('SELECT pg_try_advisory_lock(hashtextextended($1, 0))::text AS got', [`tidemark:${source}:restore`]);
    if (rows[0]?.got === 'true') return server;
    if (performance.now() > until) throw new TidemarkError('failed', 'another restore of this source is at work', { remedy: 'wait for its end' });
  }
}

/** Writes down what became of restores that were killed at their COMMIT. A transaction that is not over, or too old for the server to know, stays open. */
export async function settleRestores(client: pg.Client, systemId: string, index: RestoreIndex, receipts: RestoreWriter): Promise<void> {
  for (const { batch, run, xid, systemId: of } of await index.unresolved()) {
    if (of !== systemId) continue;
    const { rows } = await client.query<{ status: string | null }>('SELECT pg_xact_status($1::xid8) AS status', [xid]).catch((error: { code?: string }) => {
      if (error.code === '22023') return { rows: [] }; // a transaction id of the future
      throw error;
    });
    const status = rows[0]?.status;
    if (status !== 'committed' && status !== 'aborted') continue;
    await receipts.append({ type: 'outcome', run, batch, result: status === 'committed' ? 'committed' : 'rolled-back', at: new Date().toISOString() });
  }
}

/**
 * The table that rows go into; made, when it is missing, as `form` has it. A dry run makes a temporary one in its place. Throws `config` when it may not be written to.
 */
export async function openTarget(
  client: pg.Client,
  config: Config,
  name: TableName,
  options: { form: SegmentMetadata; replace: boolean; dryRun: boolean },
): Promise<{ target: RestoreTarget; created: boolean }> {
  const found = await findTable(client, name);
  if (found !== undefined) return { target: await readTarget(client, config, name, found, options.replace), created: false };
  const place: TableName = options.dryRun ? { schema: 'pg_temp', table: `tidemark_${name.table}`.slice(0, 63) } : name;
  await client.query(createTableSql(options.form, place)).catch((error: { code?: string; message: string }) => {
    throw new TidemarkError('config', `${textOf(name)} is not there and cannot be made: ${error.message}`, {
      remedy: 'give the role what is missing (CREATE on the schema, types, extensions), or make the table yourself',
      cause: error,
    });
  });
  const { rows } = await client.query<{ oid: string }>('SELECT $1::regclass::oid::text AS oid', [quoted(place)]);
  return { target: await readTarget(client, config, place, Number(rows[0]?.oid), options.replace), created: true };
}
