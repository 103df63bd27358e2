/** How many rows tables have, about. Never counts. */
import type pg from 'pg';

/** Counted by the statistics of this uptime, else guessed by the last ANALYZE; a table that neither knows counts as empty. */
export async function estimatedRows(client: pg.Client, oids: readonly number[]): Promise<number> {
  const { rows } = await client.query<{ rows: string }>(
    `SELECT coalesce(sum(CASE WHEN l.live > 0 THEN l.live ELSE greatest(c.reltuples, 0)::int8 END), 0)::text AS rows
       FROM pg_catalog.pg_class c, LATERAL (SELECT pg_catalog.pg_stat_get_live_tuples(c.oid) AS live) l WHERE c.oid = ANY($1::oid[])`,
    [oids],
  );
  return Number(rows[0]?.rows ?? 0);
}
