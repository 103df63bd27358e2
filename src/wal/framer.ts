/**
 * pgoutput messages → chunks. Pure and synchronous: knows positions and frames, no socket and no clock. Every chunk is decodable alone: it begins with the
 * running transaction's Begin and carries, before a table's first row, its description and Relation.
 * Must never cut inside a transaction except right behind a row change: a chunk whose end does not move would be dropped as a duplicate with what it holds.
 */
import { type Begin, readBegin, readLsn, readRelation, TAG } from '../change/pgoutput.js';
import type { Relation, TableDescription } from '../change/relation.js';
import type { Lsn } from '../position/lsn.js';
import { boundary, comparePositions, type Position } from '../position/position.js';
import { descriptionFrame } from './describe.js';

/** A chunk is cut at the end of a transaction when it has reached this size. */
export const CHUNK_BYTES = 256 * 1024;
/** And inside one when it has reached this one: a chunk that ends with a transaction lets the archiver's batch end there, and most transactions are shorter than what lies between. */
export const LONG_CHUNK_BYTES = 2 * CHUNK_BYTES;

/** Prefix of our own logical messages; other people's are dropped. */
const OUR_PREFIX = Buffer.from('tidemark.');

export type FramedChunk = { readonly prev: Position; readonly end: Position; readonly payload: Buffer /** Row changes in it. */; readonly rows: number };

/** What a pushed message asks of the caller: a description to be fetched before the next push, or nothing. */
export type Wanted = Relation | undefined;

type KnownRelation = { readonly frame: Buffer; description: Buffer | undefined };

export class Framer {
  /** Everything at or before it is in the stream already. */
  readonly #resumeAt: Position;
  readonly #emit: (chunk: FramedChunk) => void;
  readonly #relations = new Map<number, KnownRelation>();
  /** End of the newest chunk. */
  #prev: Position;
  /** Boundary behind everything framed so far. */
  #end: Position;
  #frames: Buffer[] = [];
  #bytes = 0;
  #rows = 0;
  #cuttable = false;
  #inChunk = new Set<number>();
  #begin: { readonly bytes: Buffer; readonly commitLsn: Lsn; readonly xid: number } | undefined;
  #beginFramed = false;
  /** Row changes of the running transaction seen so far. */
  #k = 0;
  /** True when the running transaction has something behind `resumeAt` in it. */
  #wanted = false;
  #newestXid = 0;

  constructor(resumeAt: Position, emit: (chunk: FramedChunk) => void) {
    this.#resumeAt = resumeAt;
    this.#prev = resumeAt;
    this.#end = resumeAt;
    this.#emit = emit;
  }

  /** End of the newest emitted chunk. */
  get emittedEnd(): Position {
    return this.#prev;
  }

  /** True between a Begin and its Commit. */
  get inTransaction(): boolean {
    return this.#begin !== undefined;
  }

  /** True when something waits to be cut, and may be: the last frame is a row change or a commit. */
  get pending(): boolean {
    return this.#cuttable;
  }

  /** 32-bit id of the transaction whose row was framed last; 0 before any. */
  get newestXid(): number {
    return this.#newestXid;
  }

  /** Takes one message (bytes that nobody reuses). Returns the relation to describe: call describe() before the next push. */
  push(message: Buffer): Wanted {
    switch (message[0]) {
      case TAG.insert:
      case TAG.update:
      case TAG.delete:
        this.#row(message, [message.readUInt32BE(1)]);
        return undefined;
      case TAG.begin:
        this.#openTransaction(message, readBegin(message, 0));
        return undefined;
      case TAG.commit:
        this.#commit(message);
        return undefined;
      case TAG.relation:
        return this.#relation(message);
      case TAG.truncate:
        this.#row(
          message,
          Array.from({ length: message.readUInt32BE(1) }, (_, i) => message.readUInt32BE(6 + 4 * i)),
        );
        return undefined;
      case TAG.message:
        this.#message(message);
        return undefined;
      case TAG.type:
      case TAG.origin:
        return undefined; // our descriptions say more
      default:
        throw new SyntaxError(`unknown pgoutput message 0x${(message[0] ?? 0).toString(16)}`);
    }
  }

  /** Gives the description of a relation that push() asked for. */
  describe(oid: number, description: TableDescription): void {
    const known = this.#relations.get(oid);
    if (known === undefined) throw new Error(`description of relation ${oid}, which was not announced`);
    known.description = descriptionFrame(description);
  }

  /** Cuts now if a cut is allowed here: behind a commit, or behind a row change of the open transaction. */
  flush(): void {
    if (this.pending) this.#cut();
  }

  #openTransaction(bytes: Buffer, begin: Begin): void {
    if (this.#begin !== undefined) throw new SyntaxError('Begin inside a transaction');
    this.#begin = { bytes, commitLsn: begin.commitLsn, xid: begin.xid };
    this.#beginFramed = false;
    this.#k = 0;
    this.#wanted = false;
  }

  #row(message: Buffer, oids: readonly number[]): void {
    const begin = this.#open();
    this.#k += 1;
    const at: Position = { lsn: begin.commitLsn, k: this.#k };
    if (comparePositions(at, this.#resumeAt) <= 0) return;
    this.#frameBegin();
    for (const oid of oids) this.#frameRelation(oid);
    this.#frame(message);
    this.#cuttable = true;
    this.#rows += 1;
    this.#newestXid = begin.xid;
    this.#end = at;
    if (this.#bytes >= LONG_CHUNK_BYTES) this.#cut();
  }

  /** Ours, transactional, and not in the stream yet: those behind the k-th row were not in a chunk that ended with it. */
  #message(message: Buffer): void {
    if (message[1] !== 1 || !message.subarray(10, 10 + OUR_PREFIX.length).equals(OUR_PREFIX)) return;
    const begin = this.#open();
    if (comparePositions({ lsn: begin.commitLsn, k: this.#k }, this.#resumeAt) < 0) return;
    this.#frameBegin();
    this.#frame(message);
  }

  #commit(message: Buffer): void {
    const begin = this.#open();
    const end = boundary(readLsn(message, 10));
    const behind = comparePositions(end, this.#resumeAt) <= 0;
    // The rest of a transaction whose last row was already in the stream is its commit alone.
    const torn = this.#resumeAt.k > 0 && begin.commitLsn === this.#resumeAt.lsn;
    if (!behind && (this.#wanted || torn)) {
      this.#frameBegin();
      this.#frame(message);
      this.#cuttable = true;
      this.#end = end;
    }
    this.#begin = undefined;
    if (this.#cuttable && this.#bytes >= CHUNK_BYTES) this.#cut();
  }

  #relation(message: Buffer): Wanted {
    const relation = readRelation(message, 0);
    this.#relations.set(relation.oid, { frame: message, description: undefined });
    this.#inChunk.delete(relation.oid);
    return relation;
  }

  #open(): { readonly bytes: Buffer; readonly commitLsn: Lsn; readonly xid: number } {
    if (this.#begin === undefined) throw new SyntaxError('a change outside a transaction');
    return this.#begin;
  }

  #frameBegin(): void {
    this.#wanted = true;
    if (this.#beginFramed) return;
    this.#beginFramed = true;
    this.#frame(this.#open().bytes);
  }

  #frameRelation(oid: number): void {
    if (this.#inChunk.has(oid)) return;
    const known = this.#relations.get(oid);
    if (known?.description === undefined) throw new SyntaxError(`a row of relation ${oid}, which was not described`);
    this.#inChunk.add(oid);
    this.#frame(known.description);
    this.#frame(known.frame);
  }

  #frame(bytes: Buffer): void {
    this.#cuttable = false;
    this.#frames.push(bytes);
    this.#bytes += 4 + bytes.length;
  }

  #cut(): void {
    const payload = joinFrames(this.#frames, this.#bytes);
    const chunk: FramedChunk = { prev: this.#prev, end: this.#end, payload, rows: this.#rows };
    this.#prev = this.#end;
    this.#frames = [];
    this.#bytes = 0;
    this.#rows = 0;
    this.#cuttable = false;
    this.#inChunk = new Set();
    this.#beginFramed = false;
    this.#emit(chunk);
  }
}

/** `u32 length` + bytes for each. */
export function joinFrames(frames: readonly Buffer[], size: number): Buffer {
  const payload = Buffer.allocUnsafe(size);
  let at = 0;
  for (const frame of frames) {
    at = payload.writeUInt32BE(frame.length, at);
    at += frame.copy(payload, at);
  }
  return payload;
}
