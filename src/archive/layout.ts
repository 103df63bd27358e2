/** Names and places of everything in an archive folder. Outside `_tidemark/` lie only finished daily files. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { relationSignature } from '../change/relation.js';
import type { SegmentShape } from '../segment/builder.js';

export const RESERVED = '_tidemark';

/** Absolute paths inside the archive `dir`. */
export function archivePaths(dir: string) {
  const own = path.join(dir, RESERVED);
  return {
    dir,
    own,
    identity: path.join(own, 'archive.json'),
    /** Key that signs fences and prune messages, 32 random bytes as hex, mode 0640. */
    key: path.join(own, 'key'),
    /** The brake on pruning, while it is on. */
    pause: path.join(own, 'pause.json'),
    /** The settings by which rows were pruned last. */
    settings: path.join(own, 'settings.json'),
    /** When the machine booted, by the clock as it was at the last prune. */
    clock: path.join(own, 'clock.json'),
    /** What a person did, a JSON line each. */
    operations: path.join(own, 'operations.jsonl'),
    /** Which files were imported, a JSON line each. */
    imports: path.join(own, 'imports.jsonl'),
    /** Which files the retention of the archive took, a JSON line each. */
    expired: path.join(own, 'expired.jsonl'),
    /** How long tables are kept, as a person confirmed it. */
    keep: path.join(own, 'keep.json'),
    /** Rows of old files on their way in: of the `import` command, which removes them. */
    staging: path.join(own, 'import'),
    manifests: path.join(own, 'manifest'),
    open: path.join(own, 'open'),
    history: path.join(own, 'history'),
    /** Segments of restored rows. */
    restored: path.join(own, 'restored'),
    receipts: path.join(own, 'receipts'),
    /** Work in progress of the archiver; swept at its start. */
    temporary: path.join(own, 'tmp'),
  } as const;
}

/** `000000000042.json`. */
export function manifestName(number: number): string {
  return `${String(number).padStart(12, '0')}.json`;
}

/** Number of a manifest file name, undefined for anything else. */
export function manifestNumber(name: string): number | undefined {
  const match = /^(\d{12})\.json$/.exec(name);
  return match ? Number(match[1]) : undefined;
}

/** Relative path of a new segment; the writer's claim and counter make it unique for ever. Restored rows lie apart: no pattern over open days finds them. */
export function segmentFile(part: { group: string; table: string; day: string | null; kind: SegmentShape['kind']; claim: number; counter: number }): string {
  const label = part.kind === 'keys' ? 'keys' : (part.day ?? 'undated');
  return `${RESERVED}/${part.kind === 'restored' ? 'restored' : 'open'}/${part.group}/${part.table}_${label}_${String(part.claim).padStart(9, '0')}-${String(part.counter).padStart(6, '0')}.parquet`;
}

/** Relative path of a sealed day; `part` from 1: the first has no suffix, the next are `_p2`, `_p3`. Rows without a day: `_undated_001`, `_undated_002`. */
export function dailyFile(group: string, table: string, day: string | null, part: number): string {
  return `${group}/${table}_${dayLabel(day, part)}.parquet`;
}

/** Relative path of the versions of a sealed day that the user's own deletes ended. */
export function historyFile(group: string, table: string, day: string | null, part: number): string {
  return `${RESERVED}/history/${group}/${table}_${dayLabel(day, part)}.parquet`;
}

/** Relative path of all versions of a sealed day, each with its change: for tables with `history: true`. */
export function changesFile(group: string, table: string, day: string | null, part: number): string {
  return `${RESERVED}/history/${group}/${table}_${dayLabel(day, part)}_changes.parquet`;
}

function dayLabel(day: string | null, part: number): string {
  return day === null ? `undated_${String(part).padStart(3, '0')}` : `${day}${part === 1 ? '' : `_p${part}`}`;
}

/** Relative paths of the files without rows that stand for one form of a table's columns. No segment has such a name: it ends with claim and counter. */
export function emptyFiles(group: string, table: string, form: Pick<SegmentShape, 'relation' | 'description' | 'key'>) {
  const name = createHash('sha256')
    .update(JSON.stringify([relationSignature(form.relation, form.description?.dimensions), form.key]))
    .digest('hex')
    .slice(0, 12);
  const open = `${RESERVED}/open/${group}/${table}`;
  return {
    segment: `${open}_0000-00-00_${name}.parquet`,
    undated: `${open}_undated_${name}.parquet`,
    keys: `${open}_keys_${name}.parquet`,
    daily: `${RESERVED}/${table}_0000-00-00_${name}.parquet`,
    dailyUndated: `${RESERVED}/${table}_undated_${name}.parquet`,
  } as const;
}

/** True for the name of such a file. */
export function isEmptyFile(name: string): boolean {
  return /_(0000-00-00|undated|keys)_[0-9a-f]{12}\.parquet$/.test(name);
}
