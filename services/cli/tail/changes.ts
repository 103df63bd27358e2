/**
 * Chunks → the changes in them, in the order of the stream, each once. Owns what was read already and which transactions are shown: those that begin behind the place where reading
 * began. Row values stay where they are, in the chunk: a change knows their offsets. Judges nothing: it must never decide what the archive takes.
 */
import type { IntentHead } from '../../../src/archive/receipts.js';
import type { ChunkHeader } from '../../../src/change/chunk.js';
import { FENCE_PREFIX, openMessage, PRUNE_PREFIX, type PrunePayload } from '../../../src/change/fence.js';
import { type Begin, type ChangeVisitor, type Commit, type LogicalMessage, type RowChange, visitFrames } from '../../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../../src/change/relation.js';
import type { Lsn } from '../../../src/position/lsn.js';
import { boundary, comparePositions, formatPosition, type Position } from '../../../src/position/position.js';
import { meet } from '../../../src/position/span.js';
import { TidemarkError } from '../../../src/runtime/errors.js';
import type { StreamChunk } from '../../../src/stream/consume.js';
import { keyOf } from '../../archiver/tables.js';

export type TailedTable = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly string[];
  readonly key: readonly string[];
};

/** Where a change stands. `ordinal`: its number in the transaction, from 1. Copied rows have no transaction: they stand at their copy's LSN. */
type Place = { readonly lsn: Lsn; readonly ordinal: number; readonly xid: number | null; readonly committedAtMicros: bigint | null };

/** `prune`: deleted by our own pruner, proved by its intent. */
export type RowLine = Place & {
  readonly op: 'insert' | 'update' | 'delete' | 'prune' | 'copy';
  readonly table: TailedTable;
  readonly change: Readonly<RowChange>;
};
export type Change =
  | RowLine
  | (Place & { readonly op: 'truncate'; readonly table: TailedTable; readonly cascade: boolean; readonly restartIdentity: boolean })
  | (Place & { readonly op: 'fence' | 'message'; readonly prefix: string; readonly content: string });

export type TailScope = {
  /** Transactions whose commit record starts below it are left out. */
  readonly sinceLsn?: Lsn;
  /** Transactions that committed before it, microseconds since 1970, are left out. */
  readonly sinceMicros?: bigint;
  /** Key of the archive's signatures; without it the pruner's deletes are deletes. */
  readonly key: Buffer | undefined;
};

export class TailedChanges implements ChangeVisitor {
  readonly #scope: TailScope;
  readonly #intents: ReadonlyMap<string, IntentHead>;
  readonly #descriptions = new Map<number, TableDescription>();
  readonly #tables = new Map<number, TailedTable>();
  /** Boundary behind everything read; undefined before the first chunk of streamed changes. */
  #mine: Position | undefined;
  #generation: string | undefined;
  /** The transaction that had begun before reading began. */
  #begunBefore: Lsn | undefined;
  #at: Position = boundary(0n as Lsn);
  #first = true;
  #begin: Begin | undefined;
  #wanted = false;
  #running: Lsn | undefined;
  #prune: IntentHead | undefined;
  /** Rows of a copy are being read: their place, without a transaction. */
  #copy: { readonly lsn: Lsn; ordinal: number } | undefined;
  #found: Change[] = [];

  /** `intents`: filled by the caller before a chunk is read, with those of all prune marks in it. */
  constructor(scope: TailScope, intents: ReadonlyMap<string, IntentHead>) {
    this.#scope = scope;
    this.#intents = intents;
  }

  /** Throws `failed` when something between this chunk and the one before is missing, SyntaxError or RangeError when it is not what its header says. */
  read({ header, payload }: StreamChunk): Change[] {
    this.#found = [];
    if (header.kind === 'changes') this.#readStreamed(header, payload);
    else if (header.kind === 'copy') this.#readCopied(payload, (header.prev.lsn - 1n) as Lsn, header.prev.k);
    else if (header.kind === 'recopy' && header.recopy !== undefined) this.#readCopied(payload, (header.recopy.at - 1n) as Lsn, header.recopy.prev);
    return this.#found;
  }

  #readStreamed(header: ChunkHeader, payload: Buffer): void {
    const { generation } = header.epoch;
    if (this.#mine === undefined) this.#begunBefore = header.prev.k > 0 ? header.prev.lsn : undefined;
    if (this.#mine === undefined || generation !== this.#generation) this.#mine = header.prev; // another slot: the positions begin anew
    this.#generation = generation;
    const meeting = meet(header, this.#mine);
    if (meeting === 'duplicate') return;
    if (meeting === 'gap') throw missing(this.#mine, header.prev);
    this.#at = header.prev;
    this.#first = true;
    this.#begin = undefined;
    this.#copy = undefined;
    visitFrames(payload, this);
    this.#mine = header.end;
  }

  #readCopied(payload: Buffer, lsn: Lsn, rows: number): void {
    this.#copy = { lsn, ordinal: rows };
    visitFrames(payload, this);
  }

  begin(begin: Begin): void {
    // The first transaction of a chunk may have begun in the one before: its changes are counted on.
    const k = this.#first && begin.commitLsn === this.#at.lsn ? this.#at.k : 0;
    this.#first = false;
    this.#begin = begin;
    this.#at = { lsn: begin.commitLsn, k };
    if (begin.commitLsn !== this.#running) this.#prune = undefined;
    this.#running = begin.commitLsn;
    const { sinceLsn, sinceMicros } = this.#scope;
    this.#wanted =
      begin.commitLsn !== this.#begunBefore &&
      (sinceLsn === undefined || begin.commitLsn >= sinceLsn) &&
      (sinceMicros === undefined || begin.committedAtMicros >= sinceMicros);
  }

  commit(commit: Commit): void {
    this.#begin = undefined;
    this.#at = boundary(commit.endLsn);
  }

  description(description: TableDescription): void {
    this.#descriptions.set(description.oid, description);
  }

  relation(relation: Relation): void {
    const { oid, schema, table } = relation;
    const key = keyOf(relation, this.#descriptions.get(oid) ?? { primaryKey: [] });
    this.#tables.set(oid, { oid, schema, table, columns: relation.columns.map(({ name }) => name), key });
  }

  /** A message stands behind the change before it: a chunk that was cut there holds it, or the next one does. */
  message(message: LogicalMessage): void {
    if (!message.transactional || this.#begin === undefined) return;
    const { prefix, content } = message;
    if (prefix === PRUNE_PREFIX) this.#mark(content, this.#begin);
    if (this.#wanted && comparePositions(this.#at, this.#mine as Position) >= 0)
      this.#found.push({ ...this.#place(), op: prefix === FENCE_PREFIX ? 'fence' : 'message', prefix, content });
  }

  /** As the archiver takes it: a mark counts only with the intent of that very transaction. */
  #mark(content: string, begin: Begin): void {
    const mark = this.#scope.key === undefined ? undefined : openMessage<PrunePayload>(this.#scope.key, content);
    const intent = mark === undefined ? undefined : this.#intents.get(mark.batch);
    if (intent !== undefined && Number(BigInt.asUintN(32, BigInt(intent.xid))) === begin.xid) this.#prune = intent;
  }

  row(change: RowChange): void {
    const copy = this.#copy;
    const table = this.#table(change.oid);
    if (copy !== undefined) {
      copy.ordinal += 1;
      this.#found.push({ lsn: copy.lsn, ordinal: copy.ordinal, xid: null, committedAtMicros: null, op: 'copy', table, change: { ...change } });
      return;
    }
    if (!this.#count()) return;
    const op = change.op === 'delete' && this.#prune?.oid === change.oid ? 'prune' : change.op;
    this.#found.push({ ...this.#place(), op, table, change: { ...change } });
  }

  truncate(oids: readonly number[], options: { cascade: boolean; restartIdentity: boolean }): void {
    if (!this.#count()) return;
    for (const oid of oids) this.#found.push({ ...this.#place(), op: 'truncate', table: this.#table(oid), ...options });
  }

  #table(oid: number): TailedTable {
    const table = this.#tables.get(oid);
    if (table === undefined) throw new SyntaxError(`a row of relation ${oid}, which was not announced`);
    return table;
  }

  /** Counts one change; true when it is to be shown. */
  #count(): boolean {
    if (this.#begin === undefined) throw new SyntaxError('a change outside a transaction');
    this.#at = { lsn: this.#at.lsn, k: this.#at.k + 1 };
    return this.#wanted && comparePositions(this.#at, this.#mine as Position) > 0;
  }

  #place(): Place {
    const { commitLsn, xid, committedAtMicros } = this.#begin as Begin;
    return { lsn: commitLsn, ordinal: this.#at.k, xid, committedAtMicros };
  }
}

function missing(mine: Position, prev: Position): TidemarkError {
  return new TidemarkError(
    'failed',
    `the stream goes on behind ${formatPosition(prev)}, read was up to ${formatPosition(mine)}: what lies between was taken out before it was read`,
    {
      remedy: 'start again with --from; what is archived is read from the archive',
    },
  );
}
