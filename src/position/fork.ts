/** A planned switchover: up to `at` (an LSN) the epoch that counts and `from` are one history. */
import { type Epoch, sameEpoch } from './epoch.js';
import { parseLsn } from './lsn.js';
import { boundary, comparePositions, type Position } from './position.js';

export type Fork = { readonly from: Epoch; readonly at: string };

/** Changes of the epoch before, on the line that both have in common: as good as those of the epoch that counts. */
export function liesBefore(fork: Fork, { epoch, end }: { readonly epoch: Epoch; readonly end: Position }): boolean {
  return sameEpoch(fork.from, epoch) && comparePositions(end, boundary(parseLsn(fork.at))) <= 0;
}
