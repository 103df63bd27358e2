/** The columns that a segment holds beside the table's own, in their order. A table that has one of these names is refused by doctor. */
export const SYSTEM_COLUMNS = ['_op', '_lsn', '_ordinal', '_xid', '_committed_at', '_digest', '_unresolved', '_text'] as const;

/** What a row of a segment records. */
export type Op = 'insert' | 'update' | 'delete' | 'copy' | 'prune' | 'truncate';

/** The boundary and transaction of one row. */
export type ChangeOrigin = {
  readonly op: Op;
  /** Start of the commit record; for copied rows the slot's consistent point minus one. */
  readonly lsn: bigint;
  /** k of the change, from 1. */
  readonly ordinal: number;
  readonly xid: number;
  /** Microseconds since 1970-01-01 UTC. */
  readonly committedAtMicros: bigint;
};
