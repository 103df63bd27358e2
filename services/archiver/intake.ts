/**
 * Chunks of the stream → batches ready to be flushed. Owns continuity (every chunk is met with the position reached), epochs and copy generations.
 * Must never take a chunk that leaves a gap, or one of another epoch than the archive's.
 */
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { CopyState, ForkState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import type { ChunkHeader, CopyBegin } from '../../src/change/chunk.js';
import { type Epoch, formatEpoch, sameEpoch } from '../../src/position/epoch.js';
import { liesBefore } from '../../src/position/fork.js';
import { LSN_ZERO, type Lsn, parseLsn } from '../../src/position/lsn.js';
import { boundary, comparePositions, type Position, parsePosition } from '../../src/position/position.js';
import { meet } from '../../src/position/span.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import type { StreamChunk } from '../../src/stream/consume.js';
import type { Batch } from './batch.js';
import { CopyReader, endOfCopy } from './copy-lane.js';
import { Cuts } from './cuts.js';
import { type WantedRows, wantedRows } from './earlier-values.js';
import type { ReadyBatch } from './flush.js';
import { readFork } from './fork.js';
import type { Marks } from './intents.js';
import { type Large, LargeValues } from './large-values.js';
import { RecopyLane } from './recopy-lane.js';
import type { RestoredCopies } from './restored-copies.js';
import { strangeCopy, strangeEpoch } from './strangers.js';
import type { ArchivedTable, TableBook } from './tables.js';
import { TransactionReader } from './transactions.js';
import { Undecodable } from './undecodable.js';

/** What became of a chunk. `beside`: taken, of a re-copy, which says nothing of the streamed position. `gap`: it was not taken, something before it is missing. */
export type Taken = 'taken' | 'beside' | 'duplicate' | 'stale' | 'gap';

export type IntakeParts = {
  readonly log: Log;
  readonly archive: string;
  readonly key: Buffer;
  readonly state: ArchiveState;
  readonly tables: TableBook;
  readonly marks: Marks;
  readonly restored: RestoredCopies;
  readonly newBatch: () => Batch;
  /** Commits a manifest that begins a copy generation and drops the unfinished one before it. */
  readonly beginCopy: (epoch: Epoch, copy: CopyState) => Promise<void>;
  /** A replay may begin within the stream, where no copy is any more. */
  readonly rebase?: boolean;
};

export class Intake {
  readonly cuts: Cuts;
  readonly #parts: IntakeParts;
  readonly #transactions: TransactionReader;
  readonly #copyReader: CopyReader;
  readonly #recopies: RecopyLane;
  readonly #large = new LargeValues();
  #batch: Batch;
  readonly #ready: ReadyBatch[] = [];
  #epoch: Epoch | null;
  #forked: ForkState | undefined;
  #copy: CopyState | null;
  /** Streamed position reached; null until a copy is complete. */
  #mine: Position | null;
  /** Copied rows reached. */
  #copied: number;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
    this.#epoch = parts.state.epoch;
    this.#forked = parts.state.forked;
    this.#copy = parts.state.copy;
    this.#mine = parts.state.position === null ? null : parsePosition(parts.state.position);
    this.#copied = parts.state.copy?.rows ?? 0;
    this.cuts = new Cuts(this.#mine?.lsn ?? LSN_ZERO);
    this.#batch = parts.newBatch();
    const intake = this;
    const sink = {
      archive: parts.archive,
      key: parts.key,
      get generation(): string {
        return intake.#epoch?.generation ?? '';
      },
      tables: parts.tables,
      batch: () => this.#batch,
      ended: (fenced: boolean) => this.#ended(fenced),
      longBegins: () => this.#longBegins(),
    };
    this.#transactions = new TransactionReader(sink, parts.marks, this.#large);
    this.#copyReader = new CopyReader(parts.tables, () => this.#batch, this.#large, parts.restored);
    this.#recopies = new RecopyLane(parts.log, parts.tables, () => this.#batch, parts.state.recopy, parts.restored);
  }

  /** Position reached in the stream, archived or not; null until a copy is complete. */
  get position(): Position | null {
    return this.#mine;
  }

  /** The batch that is filling. */
  get batch(): Batch {
    return this.#batch;
  }

  /** Batches that were cut, in order; taken out by the caller. */
  takeReady(): ReadyBatch[] {
    return this.#ready.splice(0);
  }

  /** Cuts the batch at the next transaction's end: now, when none is open. Or behind the next fence, so that what it holds is covered with it. */
  cut(when: 'now' | 'behind a fence' = 'now'): void {
    if (when === 'now' && !this.#batch.worthCommitting && this.#batch.startedAt === undefined) return;
    this.cuts.want(when);
    if (when === 'now' && (this.#mine === null || !this.#transactions.inTransaction)) this.#cutNow();
  }

  /** Cuts behind the first transaction that ends at or behind `upTo`: now, when the batch holds that one. */
  cutAt(upTo: Lsn): void {
    this.cuts.ask(upTo);
    if (!this.#transactions.inTransaction && this.cuts.reaches(this.#batch)) this.#cutNow();
  }

  /** Throws away what was taken in and not cut. */
  discard(): void {
    this.#batch.discard();
    for (const { batch } of this.#ready.splice(0)) batch.discard();
  }

  /**
   * Rows of a chunk, not taken yet, with unchanged values that are not in memory: their newest version is in the archive once all batches cut so far are. Cuts the
   * batch when it holds anything of their tables; inside a transaction it cannot, and these stay unresolved.
   */
  forgotten({ header, payload }: StreamChunk): WantedRows {
    const mine = this.#mine;
    const { tables, log } = this.#parts;
    if (header.kind !== 'changes' || mine === null || meet(header, mine) !== 'next' || !this.#isOurs(header)) return new Map();
    const states = tables.states(); // before the chunk: it may bring other columns
    const wanted = wantedRows(payload, tables, this.#large, comparePositions(header.prev, mine) < 0);
    const held = [...wanted.keys()].filter((table) => this.#batch.touches(table.relation.oid));
    if (held.length > 0 && !this.#transactions.inTransaction) this.#cutNow(states);
    else {
      for (const table of held) {
        log.warn(
          { event: 'unresolved', table: table.relation.table, rows: wanted.get(table)?.size },
          'large values that a long transaction left out were not looked up',
        );
        wanted.delete(table);
      }
    }
    return wanted;
  }

  /** Takes what the archive holds of forgotten rows. */
  recall(table: ArchivedTable, keys: ReadonlySet<string>, found: ReadonlyMap<string, Large>): void {
    for (const key of keys) this.#large.restore(table, key, found.get(key));
  }

  /** Takes one chunk. Throws Halt IDENTITY, Undecodable, or a storage error; the intake is spent then. */
  async take(chunk: StreamChunk): Promise<Taken> {
    const { header } = chunk;
    if (header.recopy !== undefined && this.#epoch === null) return 'stale';
    if (header.kind !== 'copy-begin' && header.kind !== 'fork' && !this.#isOurs(header)) {
      if (!this.#rebases(header)) return this.#foreign(chunk);
      this.#epoch = header.epoch;
      this.#mine = header.prev;
      this.#batch.epoch = header.epoch;
      this.#batch.boundary = header.prev;
      this.#batch.touch();
    }
    try {
      if (header.kind === 'copy-begin') return await this.#copyBegin(chunk);
      if (header.kind === 'fork') return this.#fork(chunk);
      if (header.kind === 'changes') return await this.#changes(chunk);
      if (header.kind === 'copy') return await this.#copyRows(chunk);
      if (header.recopy !== undefined) return await this.#recopy(chunk);
      return this.#copyEnd(chunk);
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof RangeError) throw new Undecodable(chunk, error);
      throw storageError(error);
    }
  }

  /** Of the epoch that counts, or of the one it came from by a switchover, up to there. */
  #isOurs(header: ChunkHeader): boolean {
    return (this.#epoch !== null && sameEpoch(this.#epoch, header.epoch)) || (this.#forked !== undefined && liesBefore(this.#forked, header));
  }

  /** A replay of a stream whose beginning is purged starts at a transaction's end. */
  #rebases(header: ChunkHeader): boolean {
    return this.#parts.rebase === true && this.#epoch === null && header.kind === 'changes' && header.prev.k === 0;
  }

  /** A chunk of another epoch: left from before this one, or a server that is not ours. */
  #foreign(chunk: StreamChunk): Taken {
    const { streamHint } = this.#parts.state;
    if (this.#mine === null) return 'gap'; // of a copy whose beginning is not here
    if (streamHint !== null && streamHint.created === chunk.streamCreated && chunk.sequence < streamHint.sequence) return 'stale';
    throw strangeEpoch(chunk.header.epoch, this.#epoch);
  }

  async #changes(chunk: StreamChunk): Promise<Taken> {
    const { header, payload } = chunk;
    if (this.#mine === null) return 'gap';
    const meeting = meet(header, this.#mine);
    if (meeting === 'gap') return 'gap';
    if (meeting === 'duplicate') return 'duplicate';
    await this.#parts.marks.find(payload);
    this.#transactions.read(payload, header, this.#mine, { created: chunk.streamCreated, sequence: chunk.firstSequence });
    this.#mine = header.end;
    faultPoint('A1');
    return 'taken';
  }

  async #copyBegin(chunk: StreamChunk): Promise<Taken> {
    const { epoch } = chunk.header;
    const begin = JSON.parse(chunk.payload.toString('utf8')) as CopyBegin;
    if (this.#isOurs(chunk.header)) return 'duplicate';
    if (this.#mine !== null) return this.#foreign(chunk);
    if (begin.archive !== this.#parts.archive && this.#parts.rebase !== true) throw strangeCopy(begin.archive, this.#parts.archive);
    this.discard();
    this.#batch = this.#parts.newBatch();
    this.#epoch = epoch;
    this.#copied = 0;
    this.#copy = { generation: epoch.generation, state: 'running', consistentPoint: begin.consistentPoint, rows: 0 };
    this.#parts.tables.beginCopy(begin.tables, begin.snapshot.split(':')[1] ?? '0');
    await this.#parts.beginCopy(epoch, this.#copy);
    return 'taken';
  }

  /** Another server carries the history on, and capture has seen the archive's fences in it: a new epoch, in a manifest of its own unless a transaction is open. */
  #fork(chunk: StreamChunk): Taken {
    const { epoch } = chunk.header;
    const { archive, log, rebase } = this.#parts;
    if (this.#epoch === null) return 'stale';
    if (sameEpoch(this.#epoch, epoch)) return 'duplicate';
    const found = readFork(chunk, { epoch: this.#epoch, mine: this.#mine, archive: rebase === true ? undefined : archive });
    if (typeof found === 'string') return found === 'gap' ? 'gap' : this.#foreign(chunk);
    if (!this.#transactions.inTransaction) {
      this.#cutNow();
      this.#batch.hint = { created: chunk.streamCreated, sequence: chunk.firstSequence };
    }
    this.#epoch = epoch;
    this.#forked = found;
    this.#batch.begins(epoch, found);
    log.info({ event: 'fork', to: formatEpoch(epoch), at: found.at, seen: found.seen }, 'a planned switchover: a new epoch');
    if (!this.#transactions.inTransaction) this.#cutNow();
    return 'taken';
  }

  async #copyRows(chunk: StreamChunk): Promise<Taken> {
    const { header, payload } = chunk;
    const copy = this.#copy;
    if (copy === null) return 'gap';
    if (copy.state === 'complete' || header.end.k < this.#copied) return 'duplicate';
    if (header.prev.k > this.#copied) return 'gap';
    const reached = header.end.k > this.#copied;
    await this.#copyReader.prepare(header.epoch.systemId);
    this.#copyReader.read(payload, copy, { prev: header.prev.k, end: header.end.k }, this.#copied);
    if (!reached) return 'taken'; // a form: after a restart it is read again
    this.#copied = header.end.k;
    this.#copyReached(copy, chunk);
    faultPoint('A1');
    if (this.#batch.full) this.#cutNow();
    return 'taken';
  }

  #copyReached(copy: CopyState, chunk: StreamChunk): void {
    this.#batch.touch();
    this.#batch.copy = { ...copy, rows: this.#copied };
    this.#batch.hint = { created: chunk.streamCreated, sequence: chunk.firstSequence };
  }

  #copyEnd(chunk: StreamChunk): Taken {
    const copy = this.#copy;
    if (copy === null) return 'gap';
    if (copy.state === 'complete') return 'duplicate';
    const end = endOfCopy(chunk.payload, this.#copied);
    if (end === undefined) return 'gap';
    this.#copy = { ...copy, state: 'complete', rows: this.#copied };
    this.#copyReached(this.#copy, chunk);
    this.#mine = boundary(parseLsn(copy.consistentPoint));
    this.#batch.boundary = this.#mine;
    this.#batch.completed.push(copy.generation);
    this.#batch.ends = true;
    this.#parts.tables.open(end.tables.map((table) => table.oid));
    this.#copyReader.end(copy, this.#parts.state);
    this.#parts.log.info({ event: 'copy-end', rows: this.#copied }, 'the copy has come whole');
    this.#cutNow();
    return 'taken';
  }

  async #recopy(chunk: StreamChunk): Promise<Taken> {
    await this.#recopies.prepare(chunk);
    if (!this.#recopies.take(chunk, this.#parts.rebase === true ? undefined : this.#parts.archive)) return 'stale';
    if (chunk.header.kind === 'recopy-end') this.#large.forgive();
    const mine = this.#mine;
    // Reading goes on here after a restart; inside a transaction it has to go on where that begins.
    if (mine !== null && mine.k === 0 && !this.#transactions.inTransaction) this.#batch.hint = { created: chunk.streamCreated, sequence: chunk.firstSequence };
    faultPoint('A1');
    if (!this.#transactions.inTransaction) this.#ended(false);
    return 'beside';
  }

  #ended(fenced: boolean): void {
    if (this.cuts.endHere(this.#batch, fenced)) this.#cutNow();
  }

  #longBegins(): void {
    if (this.cuts.endBeforeLong(this.#batch)) this.#cutNow();
  }

  #cutNow(tables = this.#parts.tables.states()): void {
    this.cuts.cut(this.#batch);
    if (!this.#batch.worthCommitting) return;
    this.#ready.push({ batch: this.#batch, tables });
    this.#batch = this.#parts.newBatch();
  }
}
