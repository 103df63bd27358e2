/**
 * The SQL conditions under which a row may go: age by the database's clock, covered by the fence, not kept. Stated once, and used for nominating, for deleting
 * (on the target row itself: anywhere else a concurrently updated row would pass) and for dry runs.
 */
import type pg from 'pg';
import type { TableConfig } from '../runtime/config.js';
import { quoteIdentifier, quoteLiteral, quoteTable } from '../wal/identifier.js';
import type { Target } from './target.js';

/** The instant before which rows are old enough, fixed at the start of a run: by the database's clock, so it only gets safer. */
export type Cutoff = {
  /** timestamptz text. */
  readonly instant: string;
  /** The same as wall-clock time in `source.timezone`, timestamp text: for columns without a zone. */
  readonly local: string;
  /** Name of that zone. */
  readonly timezone: string;
};

export async function readCutoff(client: pg.Client, retentionMs: number, timezone: string): Promise<Cutoff> {
  const { rows } = await client.query<{ instant: string; local: string }>(
    `SELECT i.at::text AS instant, (i.at AT TIME ZONE $2)::text AS local FROM (SELECT clock_timestamp() - make_interval(secs => $1::float8 / 1000) AS at) i`,
    [retentionMs, timezone],
  );
  return { ...(rows[0] as { instant: string; local: string }), timezone };
}

const DATE = 1082;
const TIMESTAMPTZ = 1184;

/** Old enough. Wall-clock columns must be old by both readings: the hour that a zone repeats counts as the later one. A date counts from its end. NULL and infinite never are. */
export function oldEnough(config: TableConfig, target: Target, cutoff: Cutoff): string {
  const column = quoteIdentifier(config.timestamp);
  const finite = `isfinite(${column})`;
  if (target.timestampType === TIMESTAMPTZ) return `${column} < ${quoteLiteral(cutoff.instant)}::timestamptz AND ${finite}`;
  const local =
    target.timestampType === DATE ? `${column} < ${quoteLiteral(cutoff.local)}::timestamp::date` : `${column} < ${quoteLiteral(cutoff.local)}::timestamp`;
  if (cutoff.timezone === 'UTC') return `${local} AND ${finite}`;
  const end = target.timestampType === DATE ? `(${column} + 1)::timestamp` : column;
  return `${local} AND ${finite} AND (${end} AT TIME ZONE ${quoteLiteral(cutoff.timezone)}) <= ${quoteLiteral(cutoff.instant)}::timestamptz`;
}

/** Behind the fence: its inserting transaction is older than the horizon. */
export function covered(horizon: string): string {
  return `age(xmin) > age(${quoteLiteral(horizon)}::xid8::xid)`;
}

/** `keepWhile` holds rows back while it is true; unknown does not hold. */
export function notKept(config: TableConfig): string {
  return config.keepWhile === undefined ? 'true' : `(${config.keepWhile}) IS NOT TRUE`;
}

/** All three: may be nominated, may be deleted. */
export function mayGo(config: TableConfig, target: Target, cutoff: Cutoff, horizon: string): string {
  return `${oldEnough(config, target, cutoff)} AND ${covered(horizon)} AND ${notKept(config)}`;
}

export function tableSql(target: Target): string {
  return quoteTable(target.schema, target.table);
}
