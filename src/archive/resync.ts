/**
 * The end of an epoch by a person's word: what the archive holds stays, nothing is covered, and the next copy of what Postgres holds begins a new epoch behind all of it.
 * Pure. What happened between W and that copy to rows that are no more is in no archive: the command says so, and records it.
 */
import { type Lsn, parseLsn } from '../position/lsn.js';
import type { ArchiveState } from './chain.js';
import type { ManifestChange } from './manifest.js';

const CLOSED = { state: 'closed', reason: 'the archive was resynchronised: its rows are not copied again yet' } as const;

/** The manifest that ends the epoch. Rows of copies that were not complete go: they are copied again. */
export function endOfEpoch(before: ArchiveState): ManifestChange {
  return {
    reason: 'resync',
    epoch: null,
    position: null,
    fences: [],
    copy: null,
    recopy: null,
    streamHint: null,
    tables: before.tables.map((table) => ({ ...table, coverage: CLOSED, copied: null })),
    drop: [...before.files.values()].filter((entry) => entry.pendingCopy !== null).map((entry) => entry.file),
  };
}

/** The highest place of a change in the archive: a copy that begins a new epoch must stand behind it, or its rows would pass for older ones. */
export function newestLsn(state: Pick<ArchiveState, 'files'>): Lsn {
  let newest = 0n as Lsn;
  for (const { maxLsn, pendingCopy } of state.files.values()) {
    const lsn = parseLsn(maxLsn);
    if (pendingCopy === null && lsn > newest) newest = lsn;
  }
  return newest;
}
