/**
 * A position is a boundary, half-open. (lsn, k): everything whose record starts below `lsn` is behind it, and of the
 * transaction whose commit record starts at `lsn` the first `k` row changes (I, U, D, T; nothing else is counted).
 * The archived position W always has k = 0 and lsn = the end of the last archived commit.
 */
import { formatLsn, type Lsn, parseLsn } from './lsn.js';

export type Position = { readonly lsn: Lsn; readonly k: number };

/** The boundary before everything that starts at `lsn`. */
export function boundary(lsn: Lsn): Position {
  return { lsn, k: 0 };
}

/** Negative when a lies before b, 0 when equal, positive when behind. */
export function comparePositions(a: Position, b: Position): number {
  if (a.lsn !== b.lsn) return a.lsn < b.lsn ? -1 : 1;
  return a.k - b.k;
}

export function maxPosition(a: Position, b: Position): Position {
  return comparePositions(a, b) >= 0 ? a : b;
}

/** `16/B374D848:12`. */
export function formatPosition(position: Position): string {
  return `${formatLsn(position.lsn)}:${position.k}`;
}

/** Reads what formatPosition wrote. Throws SyntaxError on anything else. */
export function parsePosition(text: string): Position {
  const colon = text.lastIndexOf(':');
  const k = Number(text.slice(colon + 1));
  if (colon < 0 || !/^\d+$/.test(text.slice(colon + 1)) || !Number.isSafeInteger(k)) {
    throw new SyntaxError(`not a position: ${JSON.stringify(text)}`);
  }
  return { lsn: parseLsn(text.slice(0, colon)), k };
}
