/**
 * Values of unchanged TOAST that memory has not: found in the newest archived version of the same row. Read-only. The caller makes sure that everything before the
 * chunk is archived, so that no version between the archived one and the update is passed over.
 */
import path from 'node:path';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { type ChangeVisitor, COLUMN, type RowChange, TAG, visitFrames, visitMessage } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { digestOfTexts } from '../../src/segment/digest.js';
import { SegmentReader } from '../../src/segment/reader.js';
import type { SegmentRows } from '../../src/segment/segment-rows.js';
import { isNarrow, keyOfTexts, keyText, type Large, type LargeValues, mayMove } from './large-values.js';
import type { ArchivedTable, TableBook } from './tables.js';

/** Rows by key whose newest version is wanted, of each table. */
export type WantedRows = Map<ArchivedTable, Set<string>>;

/** Not more rows of a table are searched for one chunk; what is older stays unresolved. */
const MOST_ROWS = 4_000_000;

/** Rows of a chunk whose unchanged values neither the chunk nor `large` has; none of one that cannot be read, which shows when it is taken. `overlaps`: its first changes were taken before, and will be dropped. */
export function wantedRows(payload: Buffer, tables: TableBook, large: LargeValues, overlaps: boolean): WantedRows {
  const scan = new Scan(tables, large, overlaps);
  try {
    if (hasUpdates(payload)) visitFrames(payload, scan);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) return new Map();
    throw error;
  }
  return scan.wanted;
}

function hasUpdates(payload: Buffer): boolean {
  const probe = new Probe();
  for (let at = 0; at + 4 < payload.length && !probe.found; at += 4 + payload.readUInt32BE(at)) {
    if (payload[at + 4] === TAG.update) visitMessage(payload, at + 4, at + 4 + payload.readUInt32BE(at), probe);
  }
  return probe.found;
}

class Quiet implements ChangeVisitor {
  begin(): void {}
  commit(): void {}
  relation(_: Relation): void {}
  description(_: TableDescription): void {}
  message(): void {}
  row(_: RowChange): void {}
  truncate(_: readonly number[]): void {}
}

/** Is there an update with an unchanged value at all? */
class Probe extends Quiet {
  found = false;

  override row({ buffer, newTuple }: RowChange): void {
    let at = newTuple + 2;
    for (let left = buffer.readUInt16BE(newTuple); left > 0; left -= 1) {
      if (buffer[at] === COLUMN.unchanged) this.found = true;
      at = buffer[at] === COLUMN.text ? at + 5 + buffer.readUInt32BE(at + 1) : at + 1;
    }
  }
}

class Scan extends Quiet {
  readonly wanted: WantedRows = new Map();
  readonly #tables: TableBook;
  readonly #large: LargeValues;
  /** Keys of rows that the chunk itself brings: what they hold will be in memory in time. */
  readonly #seen = new Map<ArchivedTable, Set<string>>();
  readonly #overlaps: boolean;

  constructor(tables: TableBook, large: LargeValues, overlaps: boolean) {
    super();
    this.#tables = tables;
    this.#large = large;
    this.#overlaps = overlaps;
  }

  override relation(relation: Relation): void {
    this.#tables.relate(relation);
  }

  override description(description: TableDescription): void {
    this.#tables.describe(description);
  }

  override row({ op, oid, buffer, newTuple, oldTuple }: RowChange): void {
    if (newTuple < 0) return;
    const table = this.#tables.route(oid);
    if (table === undefined || isNarrow(table, buffer, newTuple)) return;
    const key = op === 'update' ? this.#large.wanting(table, buffer, newTuple, oldTuple >= 0 ? oldTuple : newTuple) : undefined;
    const seen = this.#seen.get(table) ?? new Set<string>();
    if (key !== undefined && (this.#overlaps || !seen.has(key))) this.wanted.set(table, (this.wanted.get(table) ?? new Set()).add(key));
    this.#seen.set(table, seen.add(keyText(table, buffer, newTuple)));
  }
}

type Newest = { readonly lsn: bigint; readonly ordinal: bigint; readonly rows: SegmentRows; readonly row: number };

/** What is looked up: rows of a table by key, as they were archived at or before `upTo`. */
export type Earlier = { readonly table: ArchivedTable; readonly keys: ReadonlySet<string>; readonly upTo: Lsn };

/**
 * Texts of the large columns of the newest version of each wanted row. A row that was archived under other columns later than under these is not found. `signal`: what was found until then is of no use;
 * hundreds of files take longer than somebody who stops this, or the successor of a superseded archiver, should wait.
 */
export async function earlierValues(dir: string, state: ArchiveState, { table, keys, upTo }: Earlier, signal: AbortSignal): Promise<Map<string, Large>> {
  const entries = [...state.files.values()]
    .filter(
      (entry) =>
        (entry.kind === 'segment' || entry.kind === 'restored') &&
        entry.oid === table.relation.oid &&
        entry.pendingCopy === null &&
        parseLsn(entry.minLsn) <= upTo,
    )
    .sort((a, b) => (parseLsn(a.maxLsn) < parseLsn(b.maxLsn) ? 1 : -1));
  const open = new Set(keys);
  const newest = new Map<string, Newest>();
  let searched = 0;
  for (const entry of entries) {
    const last = parseLsn(entry.maxLsn);
    for (const key of open) if ((newest.get(key)?.lsn ?? -1n) > last) open.delete(key);
    if (open.size === 0 || searched > MOST_ROWS || signal.aborted) break;
    searched += entry.rows;
    if (entry.signature === table.signature) await search(path.join(dir, entry.file), table, open, newest, upTo);
    else {
      for (const key of open) newest.delete(key);
      open.clear();
    }
  }
  return new Map([...newest].filter(([, found]) => isWhole(table, found)).map(([key, found]) => [key, valuesOf(table, found)]));
}

/** A version that does not decode to its own digest brings nothing: its file is damaged, and what was taken from it would be archived with a digest that fits. */
function isWhole(table: ArchivedTable, { rows, row }: Newest): boolean {
  const missing = new Set(rows.unresolvedColumns(row)?.split(','));
  return digestOfTexts(table.relation.columns.map(({ name }) => (missing.has(name) ? undefined : rows.text(name, row)))) === rows.digest(row);
}

async function search(file: string, table: ArchivedTable, keys: ReadonlySet<string>, newest: Map<string, Newest>, upTo: Lsn): Promise<void> {
  const reader = await SegmentReader.open(file);
  try {
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const rows = await reader.readRowGroup(group, table.key);
      const hits = new Map<string, Newest>();
      for (let row = 0; row < rows.rowCount; row += 1) {
        const key = keyOfTexts(table.key.map((name) => Buffer.from(rows.text(name, row) ?? '')));
        if (!keys.has(key)) continue;
        const [lsn, ordinal] = [rows.lsn(row), rows.ordinal(row)];
        if (lsn > upTo) continue;
        const best = hits.get(key) ?? newest.get(key);
        if (best === undefined || lsn > best.lsn || (lsn === best.lsn && ordinal > best.ordinal)) hits.set(key, { lsn, ordinal, rows, row });
      }
      if (hits.size === 0) continue;
      const whole = await reader.readRowGroup(group);
      for (const [key, hit] of hits) newest.set(key, { ...hit, rows: whole });
    }
  } finally {
    await reader.close();
  }
}

function valuesOf(table: ArchivedTable, { rows, row }: Newest): Large {
  const missing = new Set(rows.unresolvedColumns(row)?.split(','));
  const values: Large = new Map();
  for (const [index, column] of table.relation.columns.entries()) {
    const text = missing.has(column.name) ? null : rows.text(column.name, row);
    const bytes = Buffer.from(text ?? '');
    if (text !== null && mayMove(table, index, bytes.length)) values.set(index, bytes);
  }
  return values;
}
