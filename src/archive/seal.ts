/**
 * Whether a day may be sealed, and what sealing it writes: pure decisions over the lives of its rows. A day is sealed when Postgres holds none of its rows any more;
 * then every life has an end, and the last version of each goes into the daily file, or, ended by somebody's own delete, into the history.
 */

import { changesFile, dailyFile, historyFile } from './layout.js';
import type { FileEntry } from './manifest-format.js';
import { SUPERSEDED, USER_DELETED } from './view.js';

/**
 * Request on `tidemark.<source>.seal`. `day`: `2026-01-12`, or `undated` for rows whose timestamp is no day. `asOf`: LSN text, taken after the check that Postgres holds no row of the day; on an idle server W reaches it only when something
 * is written behind it, so it is best the result of pg_logical_emit_message(true, 'tidemark.seal', '').
 */
export type SealRequest = { readonly schema: string; readonly table: string; readonly day: string; readonly asOf: string };

/** The day of rows whose timestamp is none: NULL, infinite, BC or beyond the year 9999. */
export const UNDATED = 'undated';

export type SealReply =
  /** `released`: restored copies of rows, if any, that were kept apart until Postgres held them no more. `already`: the day had no open segment; its sealed files are as they were. */
  | { readonly ok: true; readonly file: string | null; readonly rows: number; readonly history: number; readonly released?: number; readonly already?: true }
  | { readonly ok: false; readonly reason: string };

/** Reads a request. Throws SyntaxError that says what is wrong. */
export function parseSealRequest(text: string): SealRequest {
  const request = JSON.parse(text) as Partial<SealRequest> | null;
  for (const name of ['schema', 'table', 'day', 'asOf'] as const)
    if (typeof request?.[name] !== 'string') throw new SyntaxError(`a seal request needs ${name}`);
  const { day, asOf } = request as SealRequest;
  if (day !== UNDATED && !/^\d{4}-\d{2}-\d{2}$/.test(day)) throw new SyntaxError(`${JSON.stringify(day)} is not a day; write for instance 2026-01-12`);
  if (!/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(asOf)) throw new SyntaxError(`${JSON.stringify(asOf)} is not an LSN`);
  return request as SealRequest;
}

/** What the versions of a day come to, counted by DuckDB. */
export type DayCounts = {
  readonly versions: number;
  /** Last versions whose life goes on, committed before and not before `asOf`. */
  readonly livingBefore: number;
  readonly livingSince: number;
  /** Last versions with a column that was not in the stream, of rows that nobody deleted: pruned ones never have any. */
  readonly unresolved: number;
};

/** SQL of DayCounts over a table of lives (livesSql). */
export function dayCountsSql(lives: string, asOf: bigint): string {
  return `SELECT count(*)::INTEGER AS versions,
    (count(*) FILTER (ended_by IS NULL AND _lsn < ${asOf}))::INTEGER AS "livingBefore",
    (count(*) FILTER (ended_by IS NULL AND _lsn >= ${asOf}))::INTEGER AS "livingSince",
    (count(*) FILTER (_unresolved IS NOT NULL AND NOT ${SUPERSEDED} AND NOT ${USER_DELETED}))::INTEGER AS unresolved FROM ${lives}`;
}

/** Why the day cannot be sealed now; undefined when it can. */
export function sealProblem(counts: DayCounts): string | undefined {
  if (counts.versions === 0) return 'the archive has no open segment of that day';
  if (counts.livingSince > 0) return `${counts.livingSince} rows of that day were written after it was found empty: seal it later`;
  if (counts.livingBefore > 0) return `${counts.livingBefore} rows of that day have no end in the archive: Postgres should still hold them`;
  if (counts.unresolved > 0) return `${counts.unresolved} rows have a large value that was not in the stream (unchanged TOAST): they stay in open segments`;
  return undefined;
}

/** What becomes of a version at sealing: the last one of a life goes into the daily file or into the history; of a table with `history: true` every one also into the changes. */
export type Fate = 'daily' | 'history' | 'changes';

/** SQL condition on a life. */
export function fateCondition(fate: Fate, deletes: 'history' | 'keep'): string {
  if (fate === 'changes') return 'true';
  const last = `NOT ${SUPERSEDED}`;
  if (fate === 'history') return deletes === 'keep' ? 'false' : USER_DELETED;
  return deletes === 'keep' ? last : `(${last} AND NOT ${USER_DELETED})`;
}

/** The first free part number of a day: rows that come after a seal go into the next part, never into a file that is there, or under a name that was another's (`gone`). */
export function nextPart(
  files: ReadonlyMap<string, FileEntry>,
  place: { readonly group: string; readonly table: string; readonly day: string | null },
  gone: ReadonlySet<string> = new Set(),
): number {
  for (let part = 1; ; part += 1) {
    const names = [dailyFile, historyFile, changesFile].map((name) => name(place.group, place.table, place.day, part));
    if (!names.some((name) => files.has(name) || gone.has(name))) return part;
  }
}

/** Keys files that no open segment needs any more: everything they end is older than the oldest open version, and sealed. */
export function spentKeys(open: readonly FileEntry[], keys: readonly FileEntry[], lsnOf: (text: string) => bigint): FileEntry[] {
  return keys.filter((entry) => open.every((segment) => lsnOf(segment.minLsn) > lsnOf(entry.maxLsn)));
}
