/** Is the row that Postgres is about to lose the one the archive holds? Pure; column by column; unknown is never equal. */
import type { Archived } from './proof.js';
import type { Target } from './target.js';

/**
 * equal: every live column has the archived text · absent: no version of this key is archived · unresolved: the archived version lacks a value · other-schema: differs, and was archived under
 * other columns · differs: differs under the same columns, which must never be.
 */
export type Verdict = 'equal' | 'absent' | 'unresolved' | 'other-schema' | 'differs';

/** `live`: texts of `target.columns` in their order. A column added since the version was archived is equal when it is NULL. */
export function compareRow(target: Target, live: readonly (string | null)[], archived: Archived | undefined): Verdict {
  if (archived === undefined) return 'absent';
  if (archived.unresolved) return 'unresolved';
  for (let i = 0; i < target.columns.length; i += 1) {
    const then = archived.texts.get((target.columns[i] as { name: string }).name) ?? null;
    if (then !== (live[i] ?? null)) return archived.signature === target.signature ? 'differs' : 'other-schema';
  }
  return 'equal';
}
