/**
 * Two archives of the same changes, compared as what they say: for each table and day the rows that count (the last version of each life), and the sum of their digests. How
 * they are cut into files does not matter. Reads only.
 */
import path from 'node:path';
import { type Lsn, parseLsn } from '../position/lsn.js';
import { DailyReader } from '../segment/daily-reader.js';
import type { SegmentEncoder } from '../segment/encoder.js';
import { identifier, literal } from '../segment/sql.js';
import type { ArchiveState } from './chain.js';
import { groupFiles, tableFiles } from './groups.js';
import type { FileEntry } from './manifest-format.js';
import { digestSum, freeName, livesSql, numberedRows, parquet, rowKey, SUPERSEDED } from './view.js';

/** Rows of one table and day, and the sum of their digests modulo 2^64. */
export type DayContent = { readonly rows: number; readonly digestSum: string };

/** Keys of rows whose large values one archiver found again and another did not: the digests of these say nothing. As rowKey gives them. */
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
    if (entry.kind === 'keys' || entry.kind === 'changes' || entry.kind === 'restored' || entry.pendingCopy !== null || entry.origin !== undefined) continue;
    const name = `${entry.schema}.${entry.table}`;
    const known = tables.get(name) ?? { oids: new Set(), days: new Set() };
    known.oids.add(entry.oid);
    known.days.add(entry.day);
    tables.set(name, known);
  }
  return tables;
}

/** Sealed files of a day: their rows count as they are. What was imported is not among them: it never was in a stream. */
export function sealedFiles(state: ArchiveState, oid: number, day: string | null): FileEntry[] {
  return [...tableFiles(state, oid, 'daily', day), ...tableFiles(state, oid, 'history', day)].filter(({ origin }) => origin === undefined);
}

/** A day of a table, and the changes of it that are compared. */
export type ComparedDay = { readonly oid: number; readonly day: string | null; readonly window: ReplayWindow };

/** The rows of a day that count, of what committed within the window; the digests of `except` count as nothing. Sealed days must lie in the window as a whole. */
export async function dayContent(
  archive: ComparedArchive,
  encoder: SegmentEncoder,
  compared: ComparedDay,
  except: Unresolved = new Set(),
): Promise<DayContent> {
  return await onNewest(archive, async (state) => {
    const parts: DayContent[] = [];
    for (const entry of sealedFiles(state, compared.oid, compared.day)) {
      parts.push(except.size === 0 ? entry : await sealedContent(path.join(archive.dir, entry.file), encoder, except));
    }
    const counted = await openRows(archive.dir, state, compared);
    if (counted !== undefined) {
      const digest = except.size === 0 ? '_digest' : `(CASE WHEN ${among('_row', except)} THEN 0 ELSE _digest END)`;
      parts.push(...(await encoder.query<DayContent>(`SELECT count(*)::INTEGER AS rows, ${digestSum(digest)} AS "digestSum" FROM (${counted})`)));
    }
    return sumOf(parts);
  });
}

/** Keys of the rows that count whose large values were not found. */
export async function unresolvedRows(archive: ComparedArchive, encoder: SegmentEncoder, compared: ComparedDay): Promise<Unresolved> {
  return await onNewest(archive, async (state) => {
    const keys = new Set<string>();
    const add = async (from: string, key: string, unresolved: string): Promise<void> => {
      const found = await encoder.query<{ key: string | null }>(`SELECT ${key} AS key FROM ${from} WHERE ${unresolved} IS NOT NULL`);
      for (const row of found) if (row.key !== null) keys.add(row.key);
    };
    for (const { file } of sealedFiles(state, compared.oid, compared.day)) {
      const whole = path.join(archive.dir, file);
      const { metadata, text, unresolved } = await DailyReader.open(whole);
      if (unresolved !== undefined) await add(parquet([whole]), rowKey(metadata, text !== undefined), identifier(unresolved));
    }
    const counted = await openRows(archive.dir, state, compared);
    if (counted !== undefined) await add(`(${counted})`, '_row', '_unresolved');
    return keys;
  });
}

async function onNewest<T>(archive: ComparedArchive, body: (state: ArchiveState) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const state = await archive.state();
    try {
      return await body(state);
    } catch (error) {
      // Merged or sealed away meanwhile: the newest manifest names what took its place.
      if (attempt >= 5 || !/ENOENT|No files found|No such file/i.test(String(error))) throw error;
    }
  }
}

/** `SELECT _digest, _unresolved, _row`: the rows of the open segments that count. Undefined: there are none. */
async function openRows(dir: string, state: ArchiveState, { oid, day, window }: ComparedDay): Promise<string | undefined> {
  const segments = await groupFiles(dir, tableFiles(state, oid, 'segment', day));
  if (segments.length === 0) return undefined;
  const keys = await groupFiles(dir, tableFiles(state, oid, 'keys'));
  const lives = livesSql({ segments, keys, before: window.before, rowKeys: true });
  return `SELECT _digest, _unresolved, _row FROM (${lives}) WHERE NOT ${SUPERSEDED} AND _lsn >= ${window.from}`;
}

async function sealedContent(file: string, encoder: SegmentEncoder, except: Unresolved): Promise<DayContent> {
  const reader = await DailyReader.open(file);
  const row = freeName('tidemark_row', new Set(reader.metadata.columns.map(({ name }) => name)));
  const numbered = `SELECT ${row} AS row, ${rowKey(reader.metadata, reader.text !== undefined)} AS _row FROM ${numberedRows(file, reader.metadata.columns, row)}`;
  const rows = await encoder.query<{ row: number }>(`SELECT row::INTEGER AS row FROM (${numbered}) WHERE ${among('_row', except)}`);
  return await reader.digestSum(new Set(rows.map(({ row }) => row)));
}

function among(key: string, keys: Unresolved): string {
  return `coalesce(${key} IN (${[...keys].map(literal).join(', ')}), false)`;
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
