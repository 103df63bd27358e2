/** Which archived days Postgres holds no row of any more: those may be sealed, once everything up to `asOf` is archived. */
import type pg from 'pg';
import type { ArchiveState } from '../archive/manifest.js';
import { UNDATED } from '../archive/seal.js';
import type { TableConfig } from '../runtime/config.js';
import { nextDay } from '../segment/day.js';
import { quoteIdentifier, quoteLiteral } from '../wal/identifier.js';
import { tableSql } from './eligible.js';
import type { Target } from './target.js';

/** A finished day of a table that Postgres holds no row of. */
export type EmptyDay = { readonly schema: string; readonly table: string; readonly day: string };

/** Ask of the archiver: the day is empty in Postgres as of `asOf`, pg_lsn text. */
export type SealRequest = EmptyDay & { readonly asOf: string };

/**
 * Days with segments that are over (since `overMs`, milliseconds) and empty in Postgres, oldest first. `only`: just this day. A day of a table that is not pruned is among them only
 * once somebody else has emptied it.
 */
export async function emptyDays(client: pg.Client, state: ArchiveState, config: TableConfig, target: Target, only?: string, overMs = 0): Promise<EmptyDay[]> {
  const days = new Set<string>();
  for (const { kind, oid, pendingCopy, day } of state.files.values())
    if ((kind === 'segment' || kind === 'restored') && oid === target.oid && pendingCopy === null) days.add(day ?? UNDATED);
  const found: string[] = [];
  const at = quoteIdentifier(config.timestamp);
  for (const day of [...days].sort()) {
    if (only !== undefined && day !== only) continue;
    const { rows } = await client.query<{ over: string; empty: string }>(
      `SELECT (${over(day, overMs)})::text AS over,
              (NOT EXISTS (SELECT FROM ONLY ${tableSql(target)} WHERE ${ofDay(at, day)}))::text AS empty`,
    );
    if (rows[0]?.over !== 'true' || rows[0]?.empty !== 'true') continue;
    found.push(day);
  }
  return found.map((day) => ({ schema: target.schema, table: target.table, day }));
}

/** SQL: the day ended so many milliseconds ago, by the database's clock. */
function over(day: string, overMs: number): string {
  if (day === UNDATED) return 'true';
  return `(clock_timestamp() - make_interval(secs => ${overMs / 1000}::float8)) AT TIME ZONE 'UTC' >= ${quoteLiteral(nextDay(day))}::timestamp`;
}

/** The day has ended. */
export async function isOver(client: pg.Client, day: string): Promise<boolean> {
  const { rows } = await client.query<{ over: string }>(`SELECT (${over(day, 0)})::text AS over`);
  return rows[0]?.over === 'true';
}

/** SQL condition: the row is of that day. */
export function ofDay(at: string, day: string): string {
  if (day === UNDATED) return `(${at} IS NULL OR ${at} < '0001-01-01' OR ${at} >= '10000-01-01')`;
  return `${at} >= ${quoteLiteral(day)} AND ${at} < ${quoteLiteral(nextDay(day))}`;
}

/** Puts `asOf` behind everything that was seen empty: by a transaction of its own, so that on an idle server too the archive reaches it. */
export async function sealRequests(client: pg.Client, days: readonly EmptyDay[]): Promise<SealRequest[]> {
  if (days.length === 0) return [];
  const { rows } = await client.query<{ lsn: string }>(`SELECT pg_logical_emit_message(true, 'tidemark.seal', '')::text AS lsn`);
  const { lsn } = rows[0] as { lsn: string };
  return days.map((day) => ({ ...day, asOf: lsn }));
}
