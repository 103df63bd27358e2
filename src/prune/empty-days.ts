/** Which archived days Postgres holds no row of any more: those may be sealed, once everything up to `asOf` is archived. */
import type pg from 'pg';
import type { ArchiveState } from '../archive/manifest.js';
import type { TableConfig } from '../runtime/config.js';
import { nextDay } from '../segment/day.js';
import { quoteIdentifier, quoteLiteral } from '../wal/identifier.js';
import { tableSql } from './eligible.js';
import type { Target } from './target.js';

/** Ask of the archiver: the day is empty in Postgres as of `asOf`. */
export type SealRequest = {
  readonly schema: string;
  readonly table: string;
  readonly day: string /** pg_lsn text, read after the day was seen empty. */;
  readonly asOf: string;
};

/** Days with segments that are over and empty in Postgres, oldest first. `only`: just this day. */
export async function emptyDays(client: pg.Client, state: ArchiveState, config: TableConfig, target: Target, only?: string): Promise<SealRequest[]> {
  const days = new Set<string>();
  for (const file of state.files.values())
    if (file.kind === 'segment' && file.oid === target.oid && file.pendingCopy === null && file.day !== null) days.add(file.day);
  const requests: SealRequest[] = [];
  const at = quoteIdentifier(config.timestamp);
  for (const day of [...days].sort()) {
    if (only !== undefined && day !== only) continue;
    const { rows } = await client.query<{ over: string; empty: string }>(
      `SELECT ((now() AT TIME ZONE 'UTC') >= ${quoteLiteral(nextDay(day))}::timestamp)::text AS over,
              (NOT EXISTS (SELECT FROM ONLY ${tableSql(target)} WHERE ${at} >= ${quoteLiteral(day)} AND ${at} < ${quoteLiteral(nextDay(day))}))::text AS empty`,
    );
    if (rows[0]?.over !== 'true' || rows[0]?.empty !== 'true') continue;
    const { rows: position } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    requests.push({ schema: target.schema, table: target.table, day, asOf: (position[0] as { lsn: string }).lsn });
  }
  return requests;
}
