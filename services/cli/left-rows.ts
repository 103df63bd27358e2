/** What a restore says of rows for a person: those that it left, why, and what brings those back that refer to nothing; those that are another version now. */
import type { RestoreRunReceipt } from '../../src/archive/restores.js';

export function leftLines({ left, orphans }: RestoreRunReceipt['tables'][number]): string[] {
  const lines = Object.entries(left).map(([reason, rows]) => `  ${rows} left: ${reason}${named(orphans?.[reason] ?? [], rows)}`);
  if (orphans !== undefined) lines.push('  → put back the rows they refer to (tidemark restore, or undo-prune of the run that took them), then run this again');
  return lines;
}

/** Rows that went back as new versions; empty: none. */
export function changedLines(changed = 0): string[] {
  if (changed === 0) return [];
  return [
    `  ${changed} of them print otherwise than they are archived (columns were changed since): the archive takes them as new versions, beside the old ones`,
  ];
}

function named(keys: readonly (readonly string[])[], rows: number): string {
  if (keys.length === 0) return '';
  const texts = keys.map((key) => (key.length === 1 ? key[0] : `(${key.join(', ')})`));
  return `: key ${texts.join(', ')}${keys.length < rows ? ', …' : ''}`;
}
