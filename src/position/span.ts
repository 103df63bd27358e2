/** How a span of positions meets the position already reached: the one rule of continuity (design decision 2). */
import { comparePositions, type Position } from './position.js';

export type Span = { readonly prev: Position; readonly end: Position };

/** `next`: take it, dropping what lies at or before `mine` · `duplicate`: wholly behind · `gap`: something is missing. */
export type Meeting = 'next' | 'duplicate' | 'gap';

export function meet(span: Span, mine: Position): Meeting {
  if (comparePositions(span.end, mine) <= 0) return 'duplicate';
  if (comparePositions(span.prev, mine) > 0) return 'gap';
  return 'next';
}
