/** How many rows tables have, about. Never counts. */
import type pg from 'pg';

/**
 * SQL of the rows of the table `c` of pg_class; -1 when nobody knows. The server's statistics begin at nothing after a crash (manual, "The Cumulative Statistics System"), and until the table is vacuumed or
 * analyzed again they know of the rows since: then they or the last ANALYZE count, whichever says more. The last ANALYZE alone where they say nothing: a session reports up to ten seconds late.
 */
export const LIVE_ROWS = `(SELECT CASE WHEN s.live = 0 THEN c.reltuples::int8 WHEN s.known THEN s.live ELSE greatest(s.live, c.reltuples::int8) END
  FROM (SELECT pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, coalesce(pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid),
    pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) IS NOT NULL AS known) s)`;

/** Of all of them together; a table of which nobody knows counts as empty. */
export async function estimatedRows(client: pg.Client, oids: readonly number[]): Promise<number> {
  const { rows } = await client.query<{ rows: string }>(
    `SELECT coalesce(sum(greatest(${LIVE_ROWS}, 0)), 0)::text AS rows FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[])`,
    [oids],
  );
  return Number(rows[0]?.rows ?? 0);
}
