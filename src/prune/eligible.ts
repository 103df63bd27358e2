/**
 * The SQL conditions under which a row may go: age by the database's clock, covered by the fence, not kept. Stated once, and used for nominating, for deleting
 * (on the target row itself: anywhere else a concurrently updated row would pass) and for dry runs.
 */
import type pg from 'pg';
import type { TableConfig } from '../runtime/config.js';
import { messageOf } from '../runtime/errors.js';
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

/** `databaseMs`: the reading of the clock that the cutoff was made from, milliseconds since 1970. */
export async function readCutoff(client: pg.Client, retentionMs: number, timezone: string): Promise<Cutoff & { readonly databaseMs: number }> {
  const { rows } = await client.query<{ instant: string; local: string; ms: string }>(
    `SELECT i.at::text AS instant, (i.at AT TIME ZONE $2)::text AS local, (extract(epoch FROM c.now) * 1000)::int8::text AS ms
       FROM (SELECT clock_timestamp() AS now OFFSET 0) c, LATERAL (SELECT c.now - make_interval(secs => $1::float8 / 1000) AS at) i`,
    [retentionMs, timezone],
  );
  const { instant, local, ms } = rows[0] as { instant: string; local: string; ms: string };
  return { instant, local, timezone, databaseMs: Number(ms) };
}

const DATE = 1082;
const TIMESTAMPTZ = 1184;

/** Older than the cutoff by the column alone, as the planner can judge it by the table's statistics. A row may not go for that. */
export function older(config: TableConfig, target: Target, cutoff: Cutoff): string {
  const column = quoteIdentifier(config.timestamp);
  if (target.timestampType === TIMESTAMPTZ) return `${column} < ${quoteLiteral(cutoff.instant)}::timestamptz`;
  return `${column} < ${quoteLiteral(cutoff.local)}::timestamp${target.timestampType === DATE ? '::date' : ''}`;
}

/** Old enough. Wall-clock columns must be old by both readings: the hour that a zone repeats counts as the later one. A date counts from its end. What has no usable day never is: NULL, infinite, before Christ. */
export function oldEnough(config: TableConfig, target: Target, cutoff: Cutoff): string {
  const column = quoteIdentifier(config.timestamp);
  const usable = `${column} >= '0001-01-01${target.timestampType === TIMESTAMPTZ ? ' 00:00:00+00' : ''}'`;
  const old = `${older(config, target, cutoff)} AND ${usable}`;
  if (target.timestampType === TIMESTAMPTZ || cutoff.timezone === 'UTC') return old;
  const end = target.timestampType === DATE ? `(${column} + 1)::timestamp` : column;
  return `${old} AND (${end} AT TIME ZONE ${quoteLiteral(cutoff.timezone)}) <= ${quoteLiteral(cutoff.instant)}::timestamptz`;
}

/** Behind the fence: its inserting transaction is older than the horizon. */
export function covered(horizon: string): string {
  return `age(xmin) > age(${quoteLiteral(horizon)}::xid8::xid)`;
}

/** `keepWhile` holds rows back while it is true; unknown does not hold. */
export function notKept(config: TableConfig): string {
  return config.keepWhile === undefined ? 'true' : `(${config.keepWhile}\n) IS NOT TRUE`;
}

/**
 * Why `keepWhile` is not a condition on this table, or undefined. It must parse in two surroundings: what closes the bracket of one breaks the other, so it cannot
 * widen the condition that it stands in. Call outside a transaction.
 */
export async function keepWhileProblem(client: pg.Client, config: TableConfig, target: Target): Promise<string | undefined> {
  if (config.keepWhile === undefined) return undefined;
  for (const condition of [notKept(config), `CASE WHEN ${config.keepWhile}\n THEN true END`]) {
    try {
      // A parameter makes it the extended protocol, which takes one statement only.
      await client.query(`EXPLAIN SELECT FROM ONLY ${tableSql(target)} WHERE ${condition} AND $1::int4 = 1`, [1]);
    } catch (error) {
      if (!/^(42|22|0A)/.test((error as { code?: string }).code ?? '')) throw error;
      return `keepWhile ${JSON.stringify(config.keepWhile)} is no condition on this table: ${messageOf(error)}`;
    }
  }
  return undefined;
}

/** No foreign key refers to it: whatever their actions are, they have nothing to do. */
export function unreferenced(target: Target): string {
  return ['true', ...target.references.map(({ refers }) => `NOT ${refers}`)].join(' AND ');
}

/** Not restored a while ago. `safe`: the transactions whose rows stay, as `xmin` shows them. */
export function notSafe(safe: readonly string[]): string {
  return safe.length === 0 ? 'true' : `xmin <> ALL (${quoteLiteral(`{${safe.join(',')}}`)}::xid[])`;
}

/** All of it: may be nominated, may be deleted. */
export function mayGo(config: TableConfig, target: Target, cutoff: Cutoff, horizon: string, safe: readonly string[] = []): string {
  return `${oldEnough(config, target, cutoff)} AND ${covered(horizon)} AND ${notKept(config)} AND ${notSafe(safe)} AND ${unreferenced(target)}`;
}

export function tableSql(target: Target): string {
  return quoteTable(target.schema, target.table);
}
