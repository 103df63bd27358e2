/** Checks of a slot that is there, and of what keeps it through a failover: both can only be seen on the server that writes. */
import type pg from 'pg';
import type { Check } from '../runtime/check.js';
import { readSlot } from './slot.js';
import { slotAlarm } from './slot-health.js';

const SYNCHRONISED = 170_000;

export async function slotChecks(client: pg.Client, slot: string, serverVersion: number): Promise<Check[]> {
  const checks: Check[] = [];
  const found = await readSlot(client, slot);
  if (found !== undefined) {
    const { level, seen } = slotAlarm(found);
    const name = `slot ${slot}`;
    if (level === 0) checks.push({ name, status: 'ok', seen });
    else {
      const remedy =
        level === 4
          ? 'stop the services, `tidemark resync`, and start them'
          : 'let the archiver catch up, or raise max_slot_wal_keep_size; to give the slot up: `tidemark resync`';
      checks.push({ name, status: 'warning', seen, remedy });
    }
    if (serverVersion >= SYNCHRONISED && found.failover === false) {
      checks.push({
        name: `failover of ${slot}`,
        status: 'warning',
        seen: 'the slot was made without failover: a promoted standby will not have it',
        remedy: `while capture is stopped: psql "dbname=… replication=database" -c 'ALTER_REPLICATION_SLOT ${slot} (FAILOVER true)'`,
      });
    }
  }
  if (serverVersion >= SYNCHRONISED) checks.push(...(await standbyChecks(client)));
  return checks;
}

/** Capture must not read what a standby that may be promoted has not received: the archive would hold what is in no table then. */
async function standbyChecks(client: pg.Client): Promise<Check[]> {
  const name = 'synchronized_standby_slots';
  const { rows } = await client.query<Record<'listed' | 'slots' | 'slotless', string>>(
    `SELECT current_setting('synchronized_standby_slots') AS listed,
            coalesce((SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary), '') AS slots,
            (SELECT count(*) FROM pg_catalog.pg_stat_replication r WHERE r.state = 'streaming'
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.active_pid = r.pid))::text AS slotless`,
  );
  const { listed = '', slots = '', slotless = '0' } = rows[0] ?? {};
  const names = (text: string): string[] =>
    text
      .split(',')
      .map((part) => part.trim().replace(/^"(.*)"$/, '$1'))
      .filter((part) => part !== '');
  const missing = names(slots).filter((slot) => !names(listed).includes(slot));
  const standby = 'on the standby: sync_replication_slots = on, hot_standby_feedback = on, primary_slot_name, and dbname in primary_conninfo';
  if (missing.length > 0) {
    return [
      {
        name,
        status: 'warning',
        seen: `capture does not wait for ${missing.join(', ')}: a promotion of that standby may be a halt (TIMELINE)`,
        remedy: `ALTER SYSTEM SET ${name} = '${[...new Set([...names(listed), ...missing])].join(', ')}' (each standby that may be promoted); SELECT pg_reload_conf(); ${standby}`,
      },
    ];
  }
  if (slotless !== '0') {
    return [
      {
        name,
        status: 'warning',
        seen: `${slotless} standby without a replication slot: capture cannot wait for it`,
        remedy: `give it a slot, and name that in ${name}; ${standby}`,
      },
    ];
  }
  return [{ name, status: 'ok', seen: listed === '' ? 'no standby' : listed }];
}
