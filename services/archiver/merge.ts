/**
 * Many small segments of an open day → one. Owns when a day has too many, and what is merged with what: neighbours of equal columns. The rows stay the same: digests
 * must add up, and the file is decoded again like every other before a manifest puts it in the place of its parts.
 */
import path from 'node:path';
import { byFirstChange, groupFiles } from '../../src/archive/groups.js';
import { segmentFile } from '../../src/archive/layout.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import { parquet } from '../../src/archive/view.js';
import { formatLsn, type Lsn, parseLsn } from '../../src/position/lsn.js';
import { describeError, mayRetry, TidemarkError } from '../../src/runtime/errors.js';
import { DurableFile } from '../../src/segment/durable-file.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
import { literal, rowGroupRows, segmentOptions, systemIdentifier } from '../../src/segment/sql.js';
import type { ArchiverContext } from './context.js';

/** More files of one table and day than this are merged. */
export const MOST_FILES = 32;

const MERGED: ReadonlySet<FileEntry['kind']> = new Set(['segment', 'restored', 'keys']);

/** A merged file holds up to this part of its day: then no day has more than 100 files, however large it is. */
const SHARES = 16;

export type MergeLimits = { readonly rows: number; readonly bytes: number; readonly files?: number };

/** The lots that should be merged, each into one file: neighbours by first change, together at most `rows` and `bytes`, or a share of the day. Pure. */
export function mergeLots(entries: Iterable<FileEntry>, limits: MergeLimits): FileEntry[][] {
  const days = new Map<string, FileEntry[]>();
  for (const entry of entries) {
    if (!MERGED.has(entry.kind) || entry.pendingCopy !== null) continue;
    const name = `${entry.oid} ${entry.kind} ${entry.day}`;
    const day = days.get(name);
    if (day === undefined) days.set(name, [entry]);
    else day.push(entry);
  }
  return [...days.values()].filter((day) => day.length > (limits.files ?? MOST_FILES)).flatMap((day) => lotsOfDay(day, limits));
}

/** A day of any size has few files: the larger it is, the larger they become, and each row is rewritten no more often than the day doubles. */
function lotsOfDay(day: readonly FileEntry[], flush: MergeLimits): FileEntry[][] {
  const share = (size: (entry: FileEntry) => number): number => Math.ceil(day.reduce((sum, entry) => sum + size(entry), 0) / SHARES);
  const limits = {
    rows: Math.max(
      flush.rows,
      share((entry) => entry.rows),
    ),
    bytes: Math.max(
      flush.bytes,
      share((entry) => entry.bytes),
    ),
  };
  const small = day.filter((entry) => entry.rows * 2 <= limits.rows && entry.bytes * 2 <= limits.bytes).sort(byFirstChange);
  const lots: FileEntry[][] = [];
  let lot: FileEntry[] = [];
  let rows = 0;
  let bytes = 0;
  for (const entry of small) {
    const fits = lot[0] !== undefined && lot[0].signature === entry.signature && rows + entry.rows <= limits.rows && bytes + entry.bytes <= limits.bytes;
    if (!fits) {
      lots.push(lot);
      [lot, rows, bytes] = [[], 0, 0];
    }
    lot.push(entry);
    rows += entry.rows;
    bytes += entry.bytes;
  }
  lots.push(lot);
  return lots.map(withoutLarge).filter((one) => one.length > 1);
}

/** A file waits until as many rows as its own have come behind it. */
function withoutLarge(lot: readonly FileEntry[]): FileEntry[] {
  let behind = lot.reduce((sum, entry) => sum + entry.rows, 0);
  const from = lot.findIndex((entry) => {
    behind -= entry.rows;
    return entry.rows <= behind;
  });
  return from < 0 ? [] : lot.slice(from);
}

/** Lots that could not be merged, by their first file: a damaged segment must not keep the archiver from archiving. */
const refused = new Set<string>();

/** Merges what should be. Returns the number of files that took the place of others. Throws halts only. */
export async function mergeAll(context: ArchiverContext, limits: MergeLimits, signal: AbortSignal): Promise<number> {
  let merged = 0;
  for (const lot of mergeLots(context.state.files.values(), limits)) {
    const name = lot[0]?.file ?? '';
    if (signal.aborted || refused.has(name)) continue;
    try {
      await context.whole.require(lot);
      for (const group of await groupFiles(context.dir, lot)) {
        if (group.entries.length < 2) continue;
        await mergeFiles(context, group.entries, group.files, group.metadata);
        merged += 1;
      }
    } catch (error) {
      const known = storageError(error);
      if (known instanceof TidemarkError && !mayRetry(known)) throw known;
      if (!(known instanceof TidemarkError)) refused.add(name);
      context.log.warn({ event: 'merge-failed', files: lot.length, first: name, reason: describeError(known) }, 'small segments were not merged');
    }
  }
  return merged;
}

async function mergeFiles(context: ArchiverContext, entries: readonly FileEntry[], files: readonly string[], metadata: SegmentMetadata): Promise<void> {
  const [first] = entries as [FileEntry];
  const began = performance.now();
  const counter = context.nextCounter();
  const group = context.state.tables.find((table) => table.oid === first.oid)?.group ?? first.table;
  const kind = first.kind as 'segment' | 'restored' | 'keys';
  const file = segmentFile({ group, table: first.table, day: first.day, kind, claim: context.writer.claim, counter });
  const merged = summed(entries, file);
  const output = await DurableFile.create(path.join(context.temporary, `merge-${context.writer.claim}-${counter}.parquet`));
  const encoder = await context.housekeeper();
  try {
    const order = (['lsn', 'ordinal'] as const).map((name) => systemIdentifier(name, metadata.columns)).join(', ');
    const sorted = followEachOther(entries) ? '' : ` ORDER BY ${order}`;
    const options = segmentOptions(rowGroupRows(merged.rows, merged.bytes * 4), JSON.stringify(metadata));
    await encoder.run(`COPY (SELECT * FROM ${parquet(files)}${sorted}) TO ${literal(output.temporary)} (${options})`, { again: () => output.renew() });
    if (kind === 'keys') await requireSameRows(context, files, output.temporary);
    await encoder.release();
  } catch (error) {
    await output.abandon();
    throw error;
  }
  const published = await output.publish(path.join(context.dir, file), (temporary) => context.verifier.verifyMerged(temporary, merged));
  const drop = entries.map((entry) => entry.file);
  const state = await context.commit((before) =>
    drop.every((name) => before.files.has(name))
      ? { reason: 'merge', add: [{ ...merged, bytes: published.bytes, sha256: published.sha256 }], drop }
      : undefined,
  );
  context.metrics.merged(entries.length, performance.now() - began);
  context.log.info({ event: 'merge', manifest: state.number, table: first.table, day: first.day, kind, files: entries.length, rows: merged.rows }, 'merged');
}

/** One after the other they are in order, as each is: sorting would take the memory of all of them. */
function followEachOther(entries: readonly FileEntry[]): boolean {
  return entries.every((entry, i) => i === 0 || parseLsn((entries[i - 1] as FileEntry).maxLsn) < parseLsn(entry.minLsn));
}

/** The entry of a file that holds the rows of all of `entries`. */
function summed(entries: readonly FileEntry[], file: string): FileEntry {
  const [first] = entries as [FileEntry];
  const texts = (pick: (entry: FileEntry) => string | null): string[] =>
    entries
      .map(pick)
      .filter((text) => text !== null)
      .sort();
  const lsns = entries.flatMap((entry) => [parseLsn(entry.minLsn), parseLsn(entry.maxLsn)]).sort((a, b) => (a < b ? -1 : 1));
  return {
    ...first,
    file,
    rows: entries.reduce((sum, entry) => sum + entry.rows, 0),
    bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0),
    digestSum: BigInt.asUintN(
      64,
      entries.reduce((sum, entry) => sum + BigInt(entry.digestSum), 0n),
    ).toString(),
    minTimestamp: texts((entry) => entry.minTimestamp)[0] ?? null,
    maxTimestamp: texts((entry) => entry.maxTimestamp).at(-1) ?? null,
    minLsn: formatLsn(lsns[0] as Lsn),
    maxLsn: formatLsn(lsns.at(-1) as Lsn),
  };
}

/** keys have no digest: their rows are compared as a whole. */
async function requireSameRows(context: ArchiverContext, parts: readonly string[], whole: string): Promise<void> {
  const encoder = await context.housekeeper();
  const sum = async (files: readonly string[]): Promise<string> => {
    const rows = await encoder.query<{ sum: string }>(`SELECT count(*) || ' ' || coalesce(sum(hash(r)::HUGEINT), 0) AS sum FROM ${parquet(files)} r`);
    return rows[0]?.sum ?? '';
  };
  if ((await sum(parts)) !== (await sum([whole]))) throw new Error(`${whole}: merged keys differ from their parts`);
}
