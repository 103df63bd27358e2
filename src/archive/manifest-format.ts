/**
 * What a manifest file holds. A manifest is one numbered JSON commit of the archive: files are deltas (`add`, `drop`), everything else is the
 * complete state after it. Every CHECKPOINT_EVERY-th also lists all live files, so that opening reads few. `previous` chains them by SHA-256.
 */
import type { Epoch } from '../position/epoch.js';
import type { Fork } from '../position/fork.js';

export const FORMAT_VERSION = 1;

/** `_tidemark/archive.json`: identity of the folder, written once by the first archiver. */
export type ArchiveIdentity = { readonly formatVersion: number; readonly archive: string; readonly source: string; readonly createdAt: string };

/** A file the archive vouches for. */
export type FileEntry = {
  /** Path relative to the archive folder, `/`-separated. */
  readonly file: string;
  /** `segment`: row versions of one table and day · `restored`: row versions that were restored, and are in the archive already: only the pruner reads them · `keys`: updates and deletes of a table, key and boundary only · `daily`: a sealed day · `history`: versions ended by the user's deletes · `changes`: every version of a sealed day */
  readonly kind: 'segment' | 'restored' | 'keys' | 'daily' | 'history' | 'changes';
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** UTC day `2026-01-12` of the rows' own timestamp; null: undated rows, and `keys`. */
  readonly day: string | null;
  readonly rows: number;
  readonly bytes: number;
  readonly sha256: string;
  /** relationSignature of all its rows. */
  readonly signature: string;
  /** Sum of the row digests modulo 2^64, decimal: what a merged or sealed successor must reproduce. */
  readonly digestSum: string;
  /** Smallest and largest value of the timestamp column as Postgres text; null when there is none. */
  readonly minTimestamp: string | null;
  readonly maxTimestamp: string | null;
  /** Commit LSNs of the first and last change in it. */
  readonly minLsn: string;
  readonly maxLsn: string;
  /** Copy generation or id of the re-copy, when its rows came from one that is not complete yet; null otherwise. */
  readonly pendingCopy: string | null;
  /** Files that its rows were imported from, in the order of their names; absent for rows that came through the stream. */
  readonly origin?: readonly Original[];
};

/** A file that was there before Tidemark: its path in the folder that was imported, and the SHA-256 of its bytes. */
export type Original = { readonly file: string; readonly sha256: string };

/** The fence whose arrival in the archive proves coverage. */
export type ArchivedFence = {
  /** Start of its commit record: the slot is confirmed to exactly this. */
  readonly lsn: string;
  /** End of its commit. */
  readonly end: string;
  readonly nonce: string;
  /** 64-bit transaction id: every smaller one is archived. */
  readonly horizon: string;
};

/** One archived table. Key: OID. A table dropped and made again under its name is another table. */
export type TableState = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly group: string;
  readonly timestamp: string;
  /** Other columns by which older rows were divided into days; absent: there are none. Of a file with such rows its day says nothing of `timestamp`. */
  readonly dividedBy?: readonly string[];
  /** Columns that identify a row: primary key, else replica identity index, else empty. */
  readonly key: readonly string[];
  /** relationSignature of the newest rows. */
  readonly signature: string;
  /** open: rows older than the newest fence are covered, since manifest `since`. closed: none is, for `reason`. */
  readonly coverage: { readonly state: 'open'; readonly since: number } | { readonly state: 'closed'; readonly reason: string };
  /**
   * The newest copy of all its rows, null when it has none. `published`: its entry in the publication then; under another one changes may have been missed.
   * `snapshotXmax`: every transaction id from here on (64 bits) was not in that copy.
   */
  readonly copied: { readonly snapshotXmax: string; readonly published: string } | null;
  readonly columnTypes: Readonly<Record<string, string>>;
  readonly ddl: string;
};

export type CopyState = {
  readonly generation: string;
  readonly state: 'running' | 'complete';
  readonly consistentPoint: string;
  /** Rows archived of it. */
  readonly rows: number;
};

/** Rows of one table copied again while the stream goes on: the newest one, done or not. */
export type RecopyState = {
  readonly id: string;
  readonly state: 'running' | 'complete' | 'broken';
  /** Its rows stand at this LSN − 1; later re-copies have greater ones. */
  readonly at: string;
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly whole: boolean;
  readonly snapshotXmax: string;
  readonly published: string;
  /** Rows archived of it. */
  readonly rows: number;
};

/** A switchover that was proved, and how. */
export type ForkState = Fork & { readonly seen: string };

export type Manifest = {
  readonly formatVersion: number;
  readonly number: number;
  /** SHA-256 of the file of manifest number-1; null for the first. */
  readonly previous: string | null;
  readonly archive: string;
  readonly writer: { readonly incarnation: string /** The number of this writer's claim manifest. */; readonly claim: number; readonly pid: number };
  readonly writtenAt: string;
  readonly reason: 'claim' | 'flush' | 'copy-begin' | 'copy-end' | 'merge' | 'seal' | 'resync' | 'fork' | 'import' | 'expire';
  readonly epoch: Epoch | null;
  /** The newest planned switchover that `epoch` came from, with what was seen; absent before the first. */
  readonly forked?: ForkState;
  /** W, `lsn:0`; null until the first copy is complete. */
  readonly position: string | null;
  /** commit time of the newest archived transaction, ISO; null before any. */
  readonly committedAt: string | null;
  /** Newest last; the slot may stand at any of them. At most 32. */
  readonly fences: readonly ArchivedFence[];
  readonly copy: CopyState | null;
  readonly recopy: RecopyState | null;
  readonly tables: readonly TableState[];
  /** Where reading the stream may go on: a hint only, continuity is proved from positions. */
  readonly streamHint: { readonly created: string; readonly sequence: number } | null;
  readonly add: readonly FileEntry[];
  readonly drop: readonly string[];
  /** All live files, in checkpoints; null in the others. */
  readonly files: readonly FileEntry[] | null;
};
