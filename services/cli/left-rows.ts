/** Rows that a restore left, for a person: how many, why, and what brings those back that refer to nothing. */
import type { RestoreRunReceipt } from '../../src/archive/restores.js';

export function leftLines({ left, orphans }: RestoreRunReceipt['tables'][number]): string[] {
  const lines = Object.entries(left).map(([reason, rows]) => `  ${rows} left: ${reason}${named(orphans?.[reason] ?? [], rows)}`);
  if (orphans !== undefined) lines.push('  → put back the rows they refer to (tidemark restore, or undo-prune of the run that took them), then run this again');
  return lines;
}

function named(keys: readonly (readonly string[])[], rows: number): string {
  if (keys.length === 0) return '';
  const texts = keys.map((key) => (key.length === 1 ? key[0] : `(${key.join(', ')})`));
  return `: key ${texts.join(', ')}${keys.length < rows ? ', …' : ''}`;
}
