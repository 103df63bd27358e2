/** `tidemark explain TABLE [KEY…] [--json]`: why a table or a row is not prunable yet, and every version of the row: where it lies, how it ended, which run pruned it. Reads only. */
import type pg from 'pg';
import { ArchiveFollower, type ArchiveState } from '../../../src/archive/manifest.js';
import { describePause, readPause } from '../../../src/archive/operations.js';
import { RestoreIndex, restoredTransactions } from '../../../src/archive/restores.js';
import { tableCoverage } from '../../../src/coverage/coverage.js';
import { covered, notKept, oldEnough, readCutoff, tableSql, unreferenced } from '../../../src/prune/eligible.js';
import { readTarget, type Target } from '../../../src/prune/target.js';
import { type Config, loadConfig, type TableConfig } from '../../../src/runtime/config.js';
import { configError, messageOf } from '../../../src/runtime/errors.js';
import { applicationName, quoteIdentifier, slotName } from '../../../src/wal/identifier.js';
import { readServerIdentity } from '../../../src/wal/identity.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { readSlot, slotFlaw } from '../../../src/wal/slot.js';
import { configuredTable } from '../configured-table.js';
import { rowHistory } from '../explain/history.js';
import { type Explanation, render } from '../explain/render.js';
import { notConfigured } from '../not-configured.js';

export async function run(args: readonly unknown[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const table = await tableNamed(config, String(args[0]));
  const explanation = await explain(config, table, (args[1] as string[] | undefined) ?? []);
  process.stdout.write(options['json'] === true ? `${JSON.stringify(explanation)}\n` : render(explanation));
  return 0;
}

/** Throws `config` when the configuration has no such table, and says why when the database has it. */
async function tableNamed(config: Config, name: string): Promise<TableConfig> {
  try {
    return configuredTable(config, name);
  } catch (error) {
    throw (await notConfigured(config, name)) ?? error;
  }
}

/** What there is to say; reads Postgres and the archive. Throws `config` for a key that cannot be one. */
export async function explain(config: Config, table: TableConfig, key: readonly string[]): Promise<Explanation> {
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  try {
    const target = await readTarget(client, config.source.name, table);
    const explanation: Explanation = { table: table.key, reasons: await tableReasons({ config, table, state, client, target }) };
    if (key.length === 0) return explanation;
    const names = target?.key ?? state?.tables.findLast((one) => one.schema === table.schema && one.table === table.table)?.key ?? [];
    if (target !== undefined && names.length === 0)
      throw configError(
        `${table.key} has no primary key: no row of it can be named`,
        `leave KEY out; tidemark query "SELECT * FROM ${table.key} WHERE …" finds its rows, archived ones too`,
      );
    if (key.length !== names.length) throw configError(`the key of ${table.key} has ${names.length} columns (${names.join(', ')}), ${key.length} were given`);
    const hot = target === undefined ? undefined : await hotRow({ config, table, state, client, target }, key);
    const texts = hot?.key ?? key;
    const archived = await rowHistory(config.archive.dir, state, { schema: table.schema, table: table.table, oid: target?.oid, key: names, texts });
    const reasons = [...(hot?.reasons ?? [])];
    if (hot?.there === true && archived.versions.length === 0) reasons.push('no version of it is in the archive');
    return { ...explanation, row: { key: texts, hot: hot?.there ?? false, reasons, archived } };
  } finally {
    await closeClient(client);
  }
}

type Parts = {
  readonly config: Config;
  readonly table: TableConfig;
  readonly state: ArchiveState | undefined;
  readonly client: pg.Client;
  readonly target: Target | undefined;
};

async function coverageOf({ state, client }: Parts, target: Target): Promise<ReturnType<typeof tableCoverage>> {
  const identity = await readServerIdentity(client);
  const { rows } = await client.query<{ next: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next');
  return tableCoverage(state, target, { ...identity, nextXid: rows[0]?.next ?? '0' });
}

async function tableReasons(parts: Parts): Promise<string[]> {
  const { config, table, target } = parts;
  if (target === undefined) return ['the table does not exist'];
  const coverage = await coverageOf(parts, target);
  const flaw = coverage.state === 'covered' ? slotFlaw(await readSlot(parts.client, slotName(config.source.name))) : undefined;
  const pause = await readPause(config.archive.dir);
  return [
    ...(pause === undefined ? [] : [`pruning is ${describePause(pause)} → tidemark resume`]),
    ...(config.prune.enabled ? [] : ['pruning is off: prune.enabled is false']),
    ...(table.prune ? [] : ['prune: false']),
    ...target.obstacles.map(({ reason, remedy }) => (table.prune ? `${reason} → ${remedy}` : reason)),
    ...(coverage.state === 'not' ? [coverage.reason] : []),
    ...(flaw === undefined ? [] : [flaw]),
  ];
}

/** The row in Postgres: whether it is there, why it is not pruned yet, and the texts of its key as Postgres prints them. */
async function hotRow(parts: Parts & { readonly target: Target }, key: readonly string[]): Promise<{ there: boolean; reasons: string[]; key: string[] }> {
  const { config, table, client, target } = parts;
  const coverage = await coverageOf(parts, target);
  const cutoff = await readCutoff(client, table.retentionMs, config.source.timezone);
  const horizon = coverage.state === 'covered' ? coverage.fence.horizon : undefined;
  const where = target.key.map((column, i) => `${quoteIdentifier(column)} = $${i + 1}`).join(' AND ');
  const isCovered = horizon === undefined ? 'NULL' : `(${covered(horizon)})::text`;
  try {
    const { rows } = await client.query<{ old: string | null; kept: string | null; free: string | null; covered: string | null; xmin: string }>(
      `SELECT xmin::text AS xmin, (${oldEnough(table, target, cutoff)})::text AS old, (${notKept(table)})::text AS kept, (${unreferenced(target)})::text AS free, ${isCovered} AS covered FROM ONLY ${tableSql(target)} WHERE ${where}`,
      [...key],
    );
    const texts = await keyTexts(client, target, key);
    const row = rows[0];
    if (row === undefined) return { there: false, reasons: [], key: texts };
    const reasons: string[] = [];
    if (row.old !== 'true') reasons.push(`its ${table.timestamp} is not older than ${cutoff.instant} (or has no value that can age)`);
    if (row.kept !== 'true') reasons.push(`keepWhile holds it: ${table.keepWhile}`);
    if (row.free !== 'true') reasons.push(`rows refer to it by ${target.references.map(({ name }) => name).join(', ')}`);
    if (row.covered === 'false') reasons.push('its newest version is not behind an archived fence yet');
    reasons.push(...(await restoredReason(parts, row.xmin, cutoff.databaseMs)));
    return { there: true, reasons, key: texts };
  } catch (error) {
    // Class 22: a text that is no value of the column's type.
    if (!(error as { code?: string }).code?.startsWith('22')) throw error;
    const kept = table.keepWhile === undefined ? '' : ', or keepWhile on this row';
    throw configError(`KEY${kept}: ${messageOf(error)}`, `give the value of ${target.key.join(', ')} as Postgres prints it`);
  }
}

/** Rows that were restored stay for a while. `now`: of the database's clock, milliseconds since 1970. */
async function restoredReason({ config, client, target }: Parts & { readonly target: Target }, xmin: string, now: number): Promise<string[]> {
  const { systemId } = await readServerIdentity(client);
  const { rows } = await client.query<{ next: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next');
  const restored = await restoredTransactions(new RestoreIndex(config.archive.dir), { oid: target.oid, systemId, nextXid: rows[0]?.next ?? '0' });
  const found = restored.find((one) => one.xmin === xmin);
  return found !== undefined && Date.parse(found.safeUntil) > now ? [`it was restored: the pruner leaves it until ${found.safeUntil}`] : [];
}

/** What a person writes, `007` or an upper-case uuid, as the archive holds it. */
async function keyTexts(client: pg.Client, target: Target, key: readonly string[]): Promise<string[]> {
  const { rows: types } = await client.query<{ name: string; type: string }>(
    'SELECT attname AS name, pg_catalog.format_type(atttypid, atttypmod) AS type FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped',
    [target.oid],
  );
  // format prints by the type's output function, as Postgres sends a row; a cast to text prints char(n), boolean and inet otherwise.
  const casts = target.key.map((name, i) => `pg_catalog.format('%s', $${i + 1}::text::${types.find((one) => one.name === name)?.type ?? 'text'})`);
  const { rows } = await client.query<string[]>({ text: `SELECT ${casts.join(', ')}`, values: [...key], rowMode: 'array' });
  return rows[0] ?? [...key];
}
