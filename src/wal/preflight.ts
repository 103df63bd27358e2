/**
 * capture's preconditions, all at once, each with its remedy. Reads the catalog only. Owns nothing; must never change anything: what doctor may mend by itself is
 * returned as SQL in `fix`.
 */
import type pg from 'pg';
import type { Check } from '../runtime/check.js';
import type { Config } from '../runtime/config.js';
import { configError } from '../runtime/errors.js';
import { applicationName, quoteIdentifier, slotName } from './identifier.js';
import { publicationChecks } from './preflight-publication.js';
import { slotChecks } from './preflight-slot.js';
import { tableChecks } from './preflight-tables.js';
import { closeClient, connectClient } from './session.js';
import { readServerVersion, readSlot } from './slot.js';

/** Name of the check that a server in recovery fails. */
export const PRIMARY_CHECK = 'server is a primary';
const OLDEST_VERSION = 150_000;
/** Minor releases of 2025 that mended lost changes when a publication is altered under load: 15.13, 16.9, 17.5. */
const MENDED: Readonly<Record<number, number>> = { 15: 13, 16: 9, 17: 5 };
const SMALL_KEEP_MB = 1024;

/** Checks server, connection, tables and publication. Never throws for what a check can say. */
export async function capturePreflight(client: pg.Client, config: Config): Promise<Check[]> {
  const checks = [...(await serverChecks(client, config)), ...(await roleChecks(client, config)), await statisticsCheck(client)];
  const tables = await tableChecks(client, config);
  checks.push(...tables);
  checks.push(
    ...(await publicationChecks(client, config, {
      publish: tables.every((check) => check.status !== 'failed'),
      alter: mendedBy(await readServerVersion(client)) === undefined,
    })),
  );
  return checks;
}

type Setting = (name: string) => string;

async function readSettings(client: pg.Client): Promise<Setting> {
  const result = await client.query<{ name: string; setting: string }>(
    `SELECT name, setting FROM pg_catalog.pg_settings
      WHERE name IN ('wal_level', 'max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', 'synchronous_standby_names', 'idle_replication_slot_timeout')`,
  );
  const found = new Map(result.rows.map((row) => [row.name, row.setting]));
  return (name) => found.get(name) ?? '';
}

async function serverChecks(client: pg.Client, config: Config): Promise<Check[]> {
  const setting = await readSettings(client);
  const version = await readServerVersion(client);
  const slot = await readSlot(client, slotName(config.source.name));
  const counts = await client.query<Record<'slots' | 'senders' | 'recovery' | 'prepared', string>>(
    `SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots)::text AS slots, (SELECT count(*) FROM pg_catalog.pg_stat_replication)::text AS senders,
            pg_catalog.pg_is_in_recovery()::text AS recovery, coalesce((SELECT string_agg(gid, ', ') FROM pg_catalog.pg_prepared_xacts), '') AS prepared`,
  );
  const row = counts.rows[0] as Record<'slots' | 'senders' | 'recovery' | 'prepared', string>;
  return [
    versionCheck(version),
    verdict(PRIMARY_CHECK, row.recovery !== 'true', 'in recovery', 'let source.url name the primary', 'a primary'),
    verdict('wal_level', setting('wal_level') === 'logical', setting('wal_level'), "ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres"),
    room('max_replication_slots', Number(setting('max_replication_slots')), Number(row.slots), slot === undefined),
    room('max_wal_senders', Number(setting('max_wal_senders')), Number(row.senders), slot === undefined),
    ...(await slotChecks(client, slotName(config.source.name), version)),
    keepSizeCheck(Number(setting('max_slot_wal_keep_size'))),
    ...idleTimeoutCheck(setting('idle_replication_slot_timeout')),
    synchronousCheck(setting('synchronous_standby_names'), config.source.name),
    slot === undefined && row.prepared !== ''
      ? {
          name: 'prepared transactions',
          status: 'warning',
          seen: `open: ${row.prepared}; the slot cannot be made before they end`,
          remedy: 'COMMIT PREPARED or ROLLBACK PREPARED each of them',
        }
      : { name: 'prepared transactions', status: 'ok', seen: row.prepared === '' ? 'none open' : `open: ${row.prepared}` },
  ];
}

function verdict(name: string, good: boolean, seen: string, remedy: string, seenWhenGood = seen): Check {
  return good ? { name, status: 'ok', seen: seenWhenGood } : { name, status: 'failed', seen, remedy };
}

/** The minor release that mends what this server loses while a publication is altered under load; undefined: it loses nothing. */
function mendedBy(version: number): string | undefined {
  const major = Math.floor(version / 10_000);
  const mended = MENDED[major];
  return mended !== undefined && version % 10_000 < mended ? `${major}.${mended}` : undefined;
}

function versionCheck(version: number): Check {
  const shown = `PostgreSQL ${Math.floor(version / 10_000)}.${version % 10_000}`;
  if (version < OLDEST_VERSION) return { name: 'server version', status: 'failed', seen: shown, remedy: 'upgrade to PostgreSQL 15 or newer' };
  const mended = mendedBy(version);
  if (mended !== undefined) {
    return {
      name: 'server version',
      status: 'warning',
      seen: `${shown} can lose changes while a publication is altered under load`,
      remedy: `update to ${mended} or newer, or alter the publication only while nobody writes`,
    };
  }
  return { name: 'server version', status: 'ok', seen: shown };
}

function room(name: string, most: number, used: number, needed: boolean): Check {
  const seen = `${used} of ${most} used`;
  if (needed && used >= most) return { name, status: 'failed', seen, remedy: `ALTER SYSTEM SET ${name} = ${most + 4}; then restart Postgres` };
  return { name, status: 'ok', seen };
}

function keepSizeCheck(megabytes: number): Check {
  const name = 'max_slot_wal_keep_size';
  if (megabytes < 0) {
    return {
      name,
      status: 'warning',
      seen: 'unlimited: while archiving stands still, the slot can fill the disk of Postgres',
      remedy: `ALTER SYSTEM SET ${name} = '50GB' (less than the free space); SELECT pg_reload_conf()`,
    };
  }
  if (megabytes < SMALL_KEEP_MB) {
    return {
      name,
      status: 'warning',
      seen: `${megabytes} MB: a short stop of archiving loses the slot`,
      remedy: `ALTER SYSTEM SET ${name} = '50GB' (less than the free space); SELECT pg_reload_conf()`,
    };
  }
  return { name, status: 'ok', seen: `${megabytes} MB` };
}

/** PostgreSQL 18 can give up slots that nobody reads. */
function idleTimeoutCheck(setting: string): Check[] {
  if (setting === '' || setting === '0') return [];
  const name = 'idle_replication_slot_timeout';
  return [
    { name, status: 'warning', seen: `${setting}: a longer stop of capture loses the slot`, remedy: `ALTER SYSTEM SET ${name} = 0; SELECT pg_reload_conf()` },
  ];
}

/** True when a name in synchronous_standby_names is ours: `*`, or our application_name, as the server compares them (case apart). */
export function namesUs(standbyNames: string, source: string): boolean {
  const ours = applicationName(source, 'capture').toLowerCase();
  const inside = standbyNames.replace(/^\s*(FIRST|ANY)?\s*\d*\s*\(/i, '').replace(/\)\s*$/, '');
  return inside.split(',').some((part) => {
    const name = part
      .trim()
      .replace(/^"(.*)"$/, '$1')
      .replaceAll('""', '"');
    return name === '*' || name.toLowerCase() === ours;
  });
}

function synchronousCheck(standbyNames: string, source: string): Check {
  const name = 'synchronous_standby_names';
  if (standbyNames !== '' && namesUs(standbyNames, source)) {
    return {
      name,
      status: 'failed',
      seen: `${JSON.stringify(standbyNames)} matches ${applicationName(source, 'capture')}: every commit of the application would wait for the archive`,
      remedy: `ALTER SYSTEM SET ${name} = 'name_of_your_standby' (each by its name, no *); SELECT pg_reload_conf()`,
    };
  }
  return { name, status: 'ok', seen: standbyNames === '' ? 'empty' : standbyNames };
}

/** The same check while capture runs: the setting may be changed by a reload. Throws `config`. */
export async function requireNotSynchronous(client: pg.Client, source: string): Promise<void> {
  const result = await client.query<{ synchronous_standby_names: string }>('SHOW synchronous_standby_names');
  const check = synchronousCheck(result.rows[0]?.synchronous_standby_names ?? '', source);
  if (check.status === 'failed') throw configError(`${check.name}: ${check.seen}`, check.remedy);
}

/** Of its own walsender, too, a role sees no lag without it. */
async function statisticsCheck(client: pg.Client): Promise<Check> {
  const { rows } = await client.query<{ role: string; seen: string }>(
    "SELECT current_user::text AS role, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')::text AS seen",
  );
  const { role, seen } = rows[0] as { role: string; seen: string };
  if (seen === 'true') return { name: 'statistics', status: 'ok', seen: `role ${role} sees the lag of capture` };
  return {
    name: 'statistics',
    status: 'warning',
    seen: `role ${role} cannot see the lag of capture: status and console know no seconds of the stream`,
    remedy: `GRANT pg_read_all_stats TO ${quoteIdentifier(role)}`,
  };
}

async function roleChecks(client: pg.Client, config: Config): Promise<Check[]> {
  const result = await client.query<{ role: string; replication: string }>(
    'SELECT rolname::text AS role, (rolreplication OR rolsuper)::text AS replication FROM pg_catalog.pg_roles WHERE rolname = current_user',
  );
  const row = result.rows[0];
  const role = row?.role ?? '';
  if (row?.replication !== 'true') {
    return [
      { name: 'replication privilege', status: 'failed', seen: `role ${role} may not replicate`, remedy: `ALTER ROLE ${quoteIdentifier(role)} REPLICATION` },
    ];
  }
  try {
    const replication = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'capture'), replication: true });
    await replication.query('IDENTIFY_SYSTEM');
    await closeClient(replication);
    return [{ name: 'replication privilege', status: 'ok', seen: `role ${role} may replicate, and the server lets it` }];
  } catch (error) {
    const { kind, message, remedy } = error as { kind?: string; message: string; remedy?: string };
    // Anything that may pass, such as a full house of walsenders, shows again when capture connects.
    return [
      {
        name: 'replication privilege',
        status: kind === 'config' ? 'failed' : 'warning',
        seen: message,
        remedy: remedy ?? 'free a walsender, or raise max_wal_senders',
      },
    ];
  }
}
