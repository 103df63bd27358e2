/** Which server this is, and which of its histories it writes. Must be asked again on every connection: another server may answer next time. */
import type pg from 'pg';
import { type Lsn, parseLsn } from '../position/lsn.js';

export type ServerIdentity = {
  /** pg_control_system().system_identifier. */
  readonly systemId: string;
  /** Of the WAL insert position: pg_control_checkpoint() is stale after a promotion. */
  readonly timeline: number;
  readonly inRecovery: boolean;
  readonly insertLsn: Lsn;
};

/** Any role may ask. In recovery there is no insert position: the replayed one is given, and the timeline of the last checkpoint. */
export async function readServerIdentity(client: pg.Client): Promise<ServerIdentity> {
  const result = await client.query<{ system: string; recovery: string; lsn: string; walfile: string | null; checkpoint: string }>(`
    SELECT s.system_identifier::text AS system, r.recovery::text AS recovery, coalesce(l.lsn, '0/0')::text AS lsn,
           CASE WHEN NOT r.recovery THEN pg_walfile_name(l.lsn) END AS walfile, (pg_control_checkpoint()).timeline_id::text AS checkpoint
      FROM pg_control_system() s, (SELECT pg_is_in_recovery() AS recovery) r,
           LATERAL (SELECT CASE WHEN r.recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS lsn) l`);
  const row = result.rows[0];
  if (row === undefined) throw new Error('the server did not tell its identity');
  return {
    systemId: row.system,
    timeline: row.walfile === null ? Number(row.checkpoint) : Number.parseInt(row.walfile.slice(0, 8), 16),
    inRecovery: row.recovery === 'true' || row.recovery === 't',
    insertLsn: parseLsn(row.lsn),
  };
}
