/** What a restore did with one table: counts, the words for rows that were left, and the rows that wait for others. */
import type { BatchResult } from './batch.js';

const REASONS = {
  living: 'still in Postgres, as far as is archived',
  present: 'there already',
  conflict: 'place taken by another row',
  older: 'earlier life of a key',
  unresolved: 'archived without a large value that the stream did not carry',
  missing: 'not found in the archive',
  unreached: 'not looked at',
} as const;

export class Tally {
  restored = 0;
  replaced = 0;
  batches = 0;
  /** Restored as rows of their own, because they print otherwise than they are archived. */
  changed = 0;
  readonly left: Record<string, number> = {};
  /** Archived columns that the table has no more. */
  readonly lost = new Set<string>();

  /** By reason: the keys of the first that were left because they refer to nothing. */
  readonly orphans: Record<string, readonly (readonly string[])[]> = {};

  /** By column that is NOT NULL: rows that have no value for it, as a dry run found. */
  readonly missing = new Map<string, number>();

  leave(reason: keyof typeof REASONS, rows: number): void {
    if (rows > 0) this.left[REASONS[reason]] = (this.left[REASONS[reason]] ?? 0) + rows;
  }

  add(counts: BatchResult, known: boolean): void {
    for (const [column, rows] of counts.missing) this.missing.set(column, (this.missing.get(column) ?? 0) + rows);
    this.restored += counts.restored;
    this.replaced += counts.replaced;
    if (counts.restored > 0) this.batches += 1;
    if (!known) this.changed += counts.restored;
    this.leave('present', counts.present);
    this.leave('conflict', counts.conflict);
  }

  /** Nothing came that they wait for. */
  leaveOrphans(waiting: Waiting): void {
    for (const [reason, { rows, keys }] of waiting.reasons) {
      this.left[reason] = (this.left[reason] ?? 0) + rows;
      if (keys.length > 0) this.orphans[reason] = keys;
    }
  }

  /** Rows that were left because they seem to be in Postgres still. */
  get living(): number {
    return this.left[REASONS.living] ?? 0;
  }

  /** Rows that were looked at, whatever became of them. */
  get done(): number {
    return this.restored + Object.values(this.left).reduce((sum, rows) => sum + rows, 0);
  }
}

const NAMED = 5;

/** Rows that refer to rows which are not there, or not yet: how they are found again, and which they are. */
export class Waiting {
  readonly #digests: bigint[] = [];
  readonly reasons = new Map<string, { rows: number; readonly keys: (readonly string[])[] }>();

  /** `digest`: of the archived row. */
  add(digest: bigint, reason: string, key: readonly string[]): void {
    this.#digests.push(digest);
    const found = this.reasons.get(reason) ?? { rows: 0, keys: [] };
    this.reasons.set(reason, found);
    found.rows += 1;
    if (found.keys.length < NAMED && key.length > 0) found.keys.push(key);
  }

  get size(): number {
    return this.#digests.length;
  }

  digests(): BigInt64Array {
    return BigInt64Array.from(this.#digests);
  }
}
