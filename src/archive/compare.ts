/**
 * Two archives of the same changes, compared as what they say: for each table and day the rows that count (the last version of each life), and the sum of their digests. How
 * they are cut into files does not matter. Reads only.
 */
import type { Lsn } from '../position/lsn.js';
import { parseLsn } from '../position/lsn.js';
import type { SegmentEncoder } from '../segment/encoder.js';
import { literal } from '../segment/sql.js';
import type { ArchiveState } from './chain.js';
import { groupFiles, tableFiles } from './groups.js';
import type { FileEntry } from './manifest-format.js';
import { digestSum, livesSql, SUPERSEDED } from './view.js';

/** Rows of one table and day, and the sum of their digests modulo 2^64. */
export type DayContent = { readonly rows: number; readonly digestSum: string };

/** Versions whose large values one archiver found again and another did not: the digests of these say nothing. As `lsn:ordinal`. */
export type Unresolved = ReadonlySet<string>;

export type ReplayWindow = { readonly from: Lsn; readonly before: Lsn };

export type ComparedArchive = {
  readonly dir: string;
  /** The newest state: files may be merged away under a comparison. */
  readonly state: () => Promise<ArchiveState>;
};

/** Tables by `schema.table`, each with the days that it has files of. */
export function daysOf(state: ArchiveState): Map<string, { oids: Set<number>; days: Set<string | null> }> {
  const tables = new Map<string, { oids: Set<number>; days: Set<string | null> }>();
  for (const entry of state.files.values()) {
    if (entry.kind === 'keys' || entry.kind === 'changes' || entry.pendingCopy !== null) continue;
    const name = `${entry.schema}.${entry.table}`;
    const known = tables.get(name) ?? { oids: new Set(), days: new Set() };
    known.oids.add(entry.oid);
    known.days.add(entry.day);
    tables.set(name, known);
  }
  return tables;
}

/** Sealed files of a day: their rows count as they are. */
export function sealedFiles(state: ArchiveState, oid: number, day: string | null): FileEntry[] {
  return [...tableFiles(state, oid, 'daily', day), ...tableFiles(state, oid, 'history', day)];
}

/** The rows of a day that count, of what committed within the window; the digests of `except` count as nothing. Sealed days must lie in the window as a whole. */
export async function dayContent(
  archive: ComparedArchive,
  encoder: SegmentEncoder,
  oid: number,
  day: string | null,
  window: ReplayWindow,
  except: Unresolved = new Set(),
): Promise<DayContent & { readonly unresolved: Unresolved }> {
  for (let attempt = 1; ; attempt += 1) {
    const state = await archive.state();
    try {
      const sealed = sealedFiles(state, oid, day).map(({ rows, digestSum }) => ({ rows, digestSum }));
      const open = await openContent(archive.dir, state, encoder, { oid, day, window, except });
      return { ...sumOf([...sealed, open]), unresolved: open.unresolved };
    } catch (error) {
      // Merged or sealed away meanwhile: the newest manifest names what took its place.
      if (attempt >= 5 || !/ENOENT|No files found|No such file/i.test(String(error))) throw error;
    }
  }
}

type OpenDay = { readonly oid: number; readonly day: string | null; readonly window: ReplayWindow; readonly except: Unresolved };

async function openContent(
  dir: string,
  state: ArchiveState,
  encoder: SegmentEncoder,
  { oid, day, window, except }: OpenDay,
): Promise<DayContent & { readonly unresolved: Unresolved }> {
  const segments = await groupFiles(dir, tableFiles(state, oid, 'segment', day));
  if (segments.length === 0) return { rows: 0, digestSum: '0', unresolved: new Set() };
  const keys = await groupFiles(dir, tableFiles(state, oid, 'keys'));
  const lives = livesSql({ segments, keys, before: window.before });
  const counted = `FROM (${lives}) WHERE NOT ${SUPERSEDED} AND _lsn >= ${window.from}`;
  const skip = except.size === 0 ? 'false' : `(_lsn || ':' || _ordinal) IN (${[...except].map(literal).join(', ')})`;
  const [content] = await encoder.query<{ rows: number; sum: string }>(
    `SELECT rows, sum FROM (SELECT count(*)::INTEGER AS rows, ${digestSum(`(CASE WHEN ${skip} THEN 0 ELSE _digest END)`)} AS sum ${counted})`,
  );
  const unresolved = await encoder.query<{ at: string }>(`SELECT _lsn || ':' || _ordinal AS at ${counted} AND _unresolved IS NOT NULL`);
  return { rows: content?.rows ?? 0, digestSum: content?.sum ?? '0', unresolved: new Set(unresolved.map((row) => row.at)) };
}

function sumOf(parts: readonly DayContent[]): DayContent {
  return {
    rows: parts.reduce((sum, part) => sum + part.rows, 0),
    digestSum: BigInt.asUintN(
      64,
      parts.reduce((sum, part) => sum + BigInt(part.digestSum), 0n),
    ).toString(),
  };
}

/** True when every sealed file of the day was sealed in `then`, and holds nothing from before the window or behind it. */
export function comparable(now: readonly FileEntry[], then: ArchiveState, window: ReplayWindow): boolean {
  return now.every((entry) => then.files.has(entry.file) && parseLsn(entry.minLsn) >= window.from && parseLsn(entry.maxLsn) < window.before);
}
