/**
 * Keeps prunes out of the moment between the position of a re-copy and its beginning in the stream. A row pruned before the snapshot and inserted again under its key would be in the copy, which
 * stands before the prune, and the copied row would pass for the newer version of the pruned one (law 1); one pruned before the beginning could be sealed without anybody knowing of the copy.
 * Advisory locks of the source's own server.
 */
import type pg from 'pg';

const KEY = `hashtextextended($1, 0)`;

function name(source: string, oid: number): string {
  return `tidemark:${source}:recopy:${oid}`;
}

/** Waits for prunes of the table that are on their way, and keeps others from beginning until endMoment, or the end of the connection. */
export async function beginMoment(client: pg.Client, source: string, oid: number): Promise<void> {
  await client.query(`SELECT pg_catalog.pg_advisory_lock(pg_catalog.${KEY})`, [name(source, oid)]);
}

export async function endMoment(client: pg.Client, source: string, oid: number): Promise<void> {
  await client.query(`SELECT pg_catalog.pg_advisory_unlock(pg_catalog.${KEY})`, [name(source, oid)]);
}

/** Holds re-copies of the table off until the running transaction ends. False: one is at that moment, so nothing may be pruned. */
export async function holdOffRecopy(client: pg.Client, source: string, oid: number): Promise<boolean> {
  const { rows } = await client.query<{ got: string }>(`SELECT pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.${KEY})::text AS got`, [
    name(source, oid),
  ]);
  return rows[0]?.got === 'true';
}
