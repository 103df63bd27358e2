/**
 * Streamed transactions → rows of the batch. Synchronous, one chunk after the other; drops exactly what lies at or before the position reached. Owns what is
 * known of the running transaction, which may span chunks and come again after a reconnect of capture.
 */
import { FENCE_PREFIX, type FencePayload, openMessage, PRUNE_PREFIX, type PrunePayload, RESTORE_PREFIX, type RestorePayload } from '../../src/change/fence.js';
import { type Begin, type ChangeVisitor, COLUMN, type Commit, type LogicalMessage, type RowChange, visitFrames } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { formatLsn, type Lsn } from '../../src/position/lsn.js';
import { boundary, comparePositions, formatPosition, type Position } from '../../src/position/position.js';
import { viewOf } from '../../src/segment/byte-view.js';
import { dayOfBytes } from '../../src/segment/day.js';
import type { ChangeOrigin } from '../../src/segment/system-columns.js';
import { tupleDigest } from '../../src/segment/tuple-digest.js';
import { type Batch, NOTHING, type StreamHint } from './batch.js';
import type { KnownRestore, Marks } from './intents.js';
import type { LargeValues } from './large-values.js';
import type { ArchivedTable, TableBook } from './tables.js';

/** What a reader of transactions works on. */
export type TransactionSink = {
  readonly archive: string;
  readonly key: Buffer;
  readonly generation: string;
  readonly tables: TableBook;
  /** The batch that rows go into now. */
  batch(): Batch;
  /** A transaction ended: the batch may be cut here. `fenced`: with a fence of ours, which covers what came before. */
  ended(fenced: boolean): void;
  /** A transaction begins that does not end in this chunk: the batch may be cut before it. */
  longBegins(): void;
};

type Origin = { -readonly [Name in keyof ChangeOrigin]: ChangeOrigin[Name] };

const NO_LSN = -1n as Lsn;

export class TransactionReader implements ChangeVisitor {
  readonly #sink: TransactionSink;
  readonly #marks: Marks;
  readonly #large: LargeValues;
  /** Reached before this chunk. */
  #mine: Position = boundary(0n as Lsn);
  #hint: StreamHint | undefined;
  /** Boundary behind what was read of this chunk. */
  #at: Position = boundary(0n as Lsn);
  #end: Position = boundary(0n as Lsn);
  /** Inside a transaction of this chunk. */
  #begin: Begin | undefined;
  #first = true;
  #k = 0;
  /** The running transaction, across chunks. */
  #running: Lsn = NO_LSN;
  #pruned: number | undefined;
  #restore: KnownRestore | undefined;
  #fence: FencePayload | undefined;
  readonly #origin: Origin = { op: 'insert', lsn: 0n, ordinal: 0, xid: 0, committedAtMicros: 0n };

  /** `marks`: filled by the caller before a chunk is read, with the receipts behind all marks in it. */
  constructor(sink: TransactionSink, marks: Marks, large: LargeValues) {
    this.#large = large;
    this.#sink = sink;
    this.#marks = marks;
  }

  /** True between a Begin and its Commit, also at the end of a chunk. */
  get inTransaction(): boolean {
    return this.#begin !== undefined;
  }

  /** Reads a chunk's payload. Throws SyntaxError or RangeError when it is not what its header says. */
  read(payload: Buffer, span: { readonly prev: Position; readonly end: Position }, mine: Position, hint: StreamHint): void {
    this.#mine = mine;
    this.#hint = hint;
    this.#at = span.prev;
    this.#end = span.end;
    this.#first = true;
    this.#begin = undefined;
    visitFrames(payload, this);
    if (comparePositions(this.#at, span.end) !== 0)
      throw new SyntaxError(`its changes end at ${formatPosition(this.#at)}, its header says ${formatPosition(span.end)}`);
  }

  begin(begin: Begin): void {
    // The first transaction of a chunk may have begun in the one before: its changes are counted on.
    this.#k = this.#first && begin.commitLsn === this.#at.lsn ? this.#at.k : 0;
    this.#first = false;
    this.#begin = begin;
    if (begin.commitLsn !== this.#running) {
      this.#running = begin.commitLsn;
      this.#pruned = undefined;
      this.#restore = undefined;
      this.#fence = undefined;
      if (this.#end.k > 0 && this.#end.lsn === begin.commitLsn) this.#sink.longBegins();
    }
    this.#origin.lsn = begin.commitLsn;
    this.#origin.xid = begin.xid;
    this.#origin.committedAtMicros = begin.committedAtMicros;
  }

  relation(relation: Relation): void {
    this.#sink.tables.relate(relation);
  }

  description(description: TableDescription): void {
    this.#sink.tables.describe(description);
  }

  message(message: LogicalMessage): void {
    if (!message.transactional || this.#begin === undefined) return;
    if (message.prefix === FENCE_PREFIX) {
      const fence = openMessage<FencePayload>(this.#sink.key, message.content);
      if (fence?.generation === this.#sink.generation && fence.archive === this.#sink.archive) this.#fence = fence;
    } else if (message.prefix === PRUNE_PREFIX) {
      this.#pruned = this.#behind(openMessage<PrunePayload>(this.#sink.key, message.content), this.#marks.prunes, this.#begin)?.oid;
    } else if (message.prefix === RESTORE_PREFIX) {
      this.#restore = this.#behind(openMessage<RestorePayload>(this.#sink.key, message.content), this.#marks.restores, this.#begin);
    }
  }

  /** What stands behind a mark. It counts only with the receipt of that very transaction: any role may emit messages, or repeat one that it saw. */
  #behind<T extends { readonly xid: string }>(mark: PrunePayload | RestorePayload | undefined, receipts: ReadonlyMap<string, T>, begin: Begin): T | undefined {
    const receipt = mark?.archive === this.#sink.archive ? receipts.get(mark.batch) : undefined;
    if (receipt !== undefined && Number(BigInt.asUintN(32, BigInt(receipt.xid))) === begin.xid) return receipt;
    this.#marks.unproved(`transaction ${begin.xid} at ${formatLsn(begin.commitLsn)}`);
    return undefined;
  }

  row(change: RowChange): void {
    if (!this.#count()) return;
    const table = this.#sink.tables.route(change.oid);
    if (table === undefined) return;
    const origin = this.#origin;
    const batch = this.#sink.batch();
    const { buffer, newTuple } = change;
    origin.op = this.#opOf(change);
    const keyTuple = change.oldTuple >= 0 ? change.oldTuple : newTuple;
    if (newTuple >= 0) {
      const length = change.op === 'insert' ? change.end - newTuple : undefined;
      batch.row(table, rowDay(table, buffer, newTuple), buffer, newTuple, origin, this.#large.version(table, buffer, newTuple, keyTuple, length));
    } else this.#large.gone(table, buffer, keyTuple);
    if (change.op !== 'insert') batch.key(table, buffer, keyTuple, origin);
  }

  /** A row of a restore is one that the archive has when it is the very row of the receipt: a trigger may have made another of it. */
  #opOf({ op, oid, buffer, newTuple }: RowChange): Origin['op'] {
    if (op === 'delete' && this.#pruned === oid) return 'prune';
    if (op === 'insert' && this.#restore?.oid === oid && this.#restore.digests.has(tupleDigest(buffer, newTuple))) return 'restore';
    return op;
  }

  truncate(oids: readonly number[]): void {
    if (!this.#count()) return;
    this.#origin.op = 'truncate';
    for (const oid of oids) {
      const table = this.#sink.tables.route(oid);
      if (table === undefined) continue;
      this.#large.truncated(table);
      this.#sink.batch().key(table, NOTHING, -1, this.#origin);
    }
  }

  /** Counts one change; false when it is behind the position reached. */
  #count(): boolean {
    if (this.#begin === undefined) throw new SyntaxError('a change outside a transaction');
    this.#k += 1;
    this.#at = { lsn: this.#begin.commitLsn, k: this.#k };
    this.#origin.ordinal = this.#k;
    return comparePositions(this.#at, this.#mine) > 0;
  }

  commit(commit: Commit): void {
    const begin = this.#begin;
    if (begin === undefined || commit.commitLsn !== begin.commitLsn) throw new SyntaxError('a Commit that is not of the open transaction');
    this.#begin = undefined;
    this.#at = boundary(commit.endLsn);
    if (comparePositions(this.#at, this.#mine) <= 0) return;
    const batch = this.#sink.batch();
    batch.touch();
    batch.boundary = this.#at;
    batch.committedAtMicros = begin.committedAtMicros;
    batch.hint = this.#hint;
    if (this.#fence !== undefined) {
      const { nonce, horizon } = this.#fence;
      batch.fences.push({ lsn: formatLsn(commit.commitLsn), end: formatLsn(commit.endLsn), nonce, horizon });
    }
    this.#sink.ended(this.#fence !== undefined);
  }
}

/** The day a row version belongs to: that of its own timestamp. */
export function rowDay(table: ArchivedTable, buffer: Buffer, tuple: number): string | null {
  if (table.timestampIndex < 0) return null;
  const view = viewOf(buffer);
  let at = tuple + 2;
  for (let i = 0; i < table.timestampIndex; i += 1) at = buffer[at] === COLUMN.text ? at + 5 + view.getUint32(at + 1) : at + 1;
  if (buffer[at] !== COLUMN.text) return null;
  return dayOfBytes(buffer, at + 5, at + 5 + view.getUint32(at + 1));
}
