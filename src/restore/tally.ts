/** What a restore did with one table: counts, and the words for rows that were left. */
import type { BatchCounts } from './batch.js';

const REASONS = {
  living: 'still in Postgres, as far as is archived',
  present: 'there already',
  conflict: 'place taken by another row',
  older: 'earlier life of a key',
  unresolved: 'archived without a large value that the stream did not carry',
  missing: 'not found in the archive',
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

  leave(reason: keyof typeof REASONS, rows: number): void {
    if (rows > 0) this.left[REASONS[reason]] = (this.left[REASONS[reason]] ?? 0) + rows;
  }

  add(counts: BatchCounts, known: boolean): void {
    this.restored += counts.restored;
    this.replaced += counts.replaced;
    if (counts.restored > 0) this.batches += 1;
    if (!known) this.changed += counts.restored;
    this.leave('present', counts.present);
    this.leave('conflict', counts.conflict);
  }

  /** Rows that were looked at, whatever became of them. */
  get done(): number {
    return this.restored + Object.values(this.left).reduce((sum, rows) => sum + rows, 0);
  }
}
