/**
 * Changes taken in and not yet archived: one builder per (table version, day) and one of keys per table, with the boundary, fences and stream place that go into
 * the manifest with them. A batch ends at a transaction's end, never inside; a transaction larger than a segment gets several builders in one batch.
 */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { ArchivedFence, CopyState, ForkState, RecopyState } from '../../src/archive/manifest-format.js';
import type { Epoch } from '../../src/position/epoch.js';
import type { Position } from '../../src/position/position.js';
import { type ResolvedValues, SegmentBuilder, type SegmentShape } from '../../src/segment/builder.js';
import type { ChangeOrigin } from '../../src/segment/system-columns.js';
import type { SegmentWriter, Writing } from './segments.js';
import type { ArchivedTable } from './tables.js';

export type BatchLimits = { readonly rows: number; readonly bytes: number };

/** All builders together may spool this many times what one may. */
const WHOLE_BATCH = 4;
/** More builders than this end the batch: each becomes a file. */
const MOST_BUILDERS = 1024;

export const NOTHING = Buffer.alloc(0);

/** Where reading goes on: the chunk that the boundary lies in. */
export type StreamHint = { readonly created: string; readonly sequence: number };

export class Batch {
  readonly #dir: string;
  readonly #limits: BatchLimits;
  /** Open builders by table version, then by day; `keys` and restored rows beside the days. */
  readonly #open = new Map<ArchivedTable, Map<string, SegmentBuilder>>();
  readonly #full: SegmentBuilder[] = [];
  #rows = 0;
  #bytesOfFull = 0;
  #largest = 0;
  #bytesSeen = 0;
  #bytesAt = 0;
  #startedAt: number | undefined;
  #builders = 0;
  /** Builders that are being written, or are. */
  readonly #writing = new Map<SegmentBuilder, Writing>();
  /** Builders of rows that count only when their re-copy is complete. */
  readonly #recopied = new Map<SegmentBuilder, string>();
  readonly fences: ArchivedFence[] = [];
  /** End of the last whole transaction in it. */
  boundary: Position | undefined;
  committedAtMicros: bigint | undefined;
  hint: StreamHint | undefined;
  /** Set when this batch is the first of a replay that begins within the stream, or of an epoch that came by a switchover. */
  epoch: Epoch | undefined;
  forked: ForkState | undefined;
  /** State of the copy after it, when it holds copied rows or ends a copy. */
  copy: CopyState | undefined;
  /** State of the newest re-copy after it, when it holds anything of one. */
  recopy: RecopyState | undefined;
  /** Generations and ids of the copies that it completes. */
  readonly completed: string[] = [];
  /** It ends the copy. */
  ends = false;

  /** `dir`: for spools. */
  constructor(dir: string, limits: BatchLimits) {
    this.#dir = dir;
    this.#limits = limits;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Milliseconds of the monotonic clock when something worth a manifest came first. */
  get startedAt(): number | undefined {
    return this.#startedAt;
  }

  /** True when a manifest would say something new. */
  get worthCommitting(): boolean {
    return this.#rows > 0 || this.boundary !== undefined || this.copy !== undefined || this.recopy !== undefined || this.epoch !== undefined;
  }

  /** With it an epoch begins that came by a switchover. */
  begins(epoch: Epoch, forked: ForkState): void {
    this.epoch = epoch;
    this.forked = forked;
    this.touch();
  }

  /** Something came that a manifest will have to say. */
  touch(): void {
    this.#startedAt ??= performance.now();
  }

  /** True when it should be flushed at the next transaction's end, however young it is. */
  get full(): boolean {
    return this.#full.length > 0 || this.#largest >= this.#limits.rows || this.#builders >= MOST_BUILDERS || this.#bytes() >= this.#limits.bytes * WHOLE_BATCH;
  }

  /** Bytes spooled, counted anew only every few rows: it is asked at every commit. */
  #bytes(): number {
    if (this.#rows - this.#bytesAt < 64) return this.#bytesSeen;
    this.#bytesAt = this.#rows;
    let sum = this.#bytesOfFull;
    for (const days of this.#open.values()) for (const builder of days.values()) sum += builder.bytes;
    this.#bytesSeen = sum;
    return sum;
  }

  /** A row version: the TupleData at `at` of `buffer`, with values of unchanged columns that were found again. False: a column's unchanged TOAST was not found. */
  row(table: ArchivedTable, day: string | null, buffer: Buffer, at: number, origin: ChangeOrigin, resolved?: ResolvedValues): boolean {
    const { label, kind } = placeOf(day, origin);
    const builder = this.#builder(table, label, kind, day);
    const whole = builder.append(buffer, at, origin, resolved);
    this.#count(table, label, builder);
    return whole;
  }

  /** A row of re-copy `id`. `table` is of this re-copy alone. */
  recopied(id: string, table: ArchivedTable, day: string | null, buffer: Buffer, at: number, origin: ChangeOrigin): void {
    const { label, kind } = placeOf(day, origin);
    const builder = this.#builder(table, label, kind, day);
    this.#recopied.set(builder, id);
    builder.append(buffer, at, origin);
    this.#count(table, label, builder);
  }

  /** The copy whose completion its rows wait for; null: none. */
  copyOf(builder: SegmentBuilder): string | null {
    return this.copy?.generation ?? this.#recopied.get(builder) ?? null;
  }

  /** Throws away the rows of a re-copy that will never be complete. */
  dropRecopy(id: string): void {
    for (const [builder, of] of this.#recopied) {
      if (of !== id) continue;
      this.#recopied.delete(builder);
      this.#rows -= builder.rows;
      builder.discard();
      const full = this.#full.indexOf(builder);
      if (full >= 0) {
        this.#full.splice(full, 1);
        this.#bytesOfFull -= builder.bytes;
      }
      for (const days of this.#open.values()) for (const [label, open] of days) if (open === builder) days.delete(label);
    }
  }

  /** An update or delete, or (`at` -1) what concerns every row: key and boundary only. */
  key(table: ArchivedTable, buffer: Buffer, at: number, origin: ChangeOrigin): void {
    const builder = this.#builder(table, 'keys', 'keys', null);
    builder.appendKey(buffer, at, origin);
    this.#count(table, 'keys', builder);
  }

  /** A whole copy of a table, whose rows stand at `lsn`, is complete: the table begins anew before them, and what they do not hold is no more. */
  copied(table: ArchivedTable, lsn: bigint): void {
    this.key(table, NOTHING, -1, { op: 'copied', lsn, ordinal: 0, xid: 0, committedAtMicros: 0n });
  }

  #builder(table: ArchivedTable, label: string, kind: SegmentShape['kind'], day: string | null): SegmentBuilder {
    let days = this.#open.get(table);
    if (days === undefined) {
      days = new Map();
      this.#open.set(table, days);
    }
    const found = days.get(label);
    if (found !== undefined) return found;
    const shape: SegmentShape = { kind, relation: table.relation, description: table.description, key: table.key, timestamp: table.config.timestamp, day };
    const builder = new SegmentBuilder(shape, path.join(this.#dir, `spool-${process.pid}-${randomUUID()}.csv`));
    days.set(label, builder);
    this.#builders += 1;
    return builder;
  }

  #count(table: ArchivedTable, label: string, builder: SegmentBuilder): void {
    this.#rows += 1;
    this.touch();
    if (builder.rows > this.#largest) this.#largest = builder.rows;
    if (builder.rows < this.#limits.rows && builder.bytes < this.#limits.bytes) return;
    this.#full.push(builder);
    this.#bytesOfFull += builder.bytes;
    this.#open.get(table)?.delete(label);
  }

  /** True when it holds anything of this table. */
  touches(oid: number): boolean {
    return this.builders().some((builder) => builder.shape.relation.oid === oid);
  }

  /** Every builder with rows, in the order in which they were begun. */
  builders(): SegmentBuilder[] {
    return [...this.#full, ...[...this.#open.values()].flatMap((days) => [...days.values()])];
  }

  /** Those that are segments already while the batch fills, and are not being written; rows that wait for the end of a copy are not among them. */
  fullOnes(): SegmentBuilder[] {
    return this.copy === undefined ? this.#full.filter((builder) => !this.#recopied.has(builder) && !this.#writing.has(builder)) : [];
  }

  /** Has a builder written by `segments`, once. */
  write(builder: SegmentBuilder, segments: SegmentWriter): Writing {
    const known = this.#writing.get(builder);
    if (known !== undefined) return known;
    const writing = segments.begin(builder);
    this.#writing.set(builder, writing);
    return writing;
  }

  /** Throws everything away: spools, and segments that were written ahead. */
  discard(): void {
    for (const builder of this.builders()) (this.#writing.get(builder) ?? builder).discard();
  }
}

/** Restored rows of a day have a builder of their own. */
function placeOf(day: string | null, { op }: ChangeOrigin): { readonly label: string; readonly kind: SegmentShape['kind'] } {
  const label = day ?? 'undated';
  return op === 'restore' ? { label: `restored ${label}`, kind: 'restored' } : { label, kind: 'segment' };
}
