/**
 * Batch → segments → manifest. Owns the order: every file durable, hashed and decoded again, then one commit that names them all with W, fences and tables.
 * At most one batch is on its way; a failure abandons its files and leaves the archive as it was.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { ArchiveState, ManifestChange } from '../../src/archive/manifest.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import { formatPosition } from '../../src/position/position.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Batch } from './batch.js';
import type { ArchiverContext } from './context.js';
import { SegmentWriter } from './segments.js';
import { stampCoverage } from './tables.js';

/** A batch with the tables as they were at its end. */
export type ReadyBatch = { readonly batch: Batch; readonly tables: readonly TableState[] };

/** Of the batch that fills, so many segments may be on their way before more rows are taken in. */
const MOST_AHEAD = 2;

/** Flushes batches in their order, one at a time. After a failure it flushes nothing more: what comes behind a hole must not be committed. */
export class Flusher {
  readonly #context: ArchiverContext;
  readonly #segments: SegmentWriter;
  /** Segments of the batch that fills, until they are written. */
  readonly #ahead = new Set<Promise<unknown>>();
  readonly #failed: (error: unknown) => void;
  readonly #flushed: () => void;
  /** Batches on their way, oldest first, with what they were when they came: a batch that is written forgets its rows. */
  readonly #waiting: { readonly done: Promise<void>; readonly rows: number; readonly since: number | undefined }[] = [];
  #tail: Promise<void> = Promise.resolve();
  #failure: unknown;

  /** `failed` hears of the first failure, `flushed` of every batch that is archived. */
  constructor(context: ArchiverContext, failed: (error: unknown) => void, flushed: () => void = () => undefined) {
    this.#context = context;
    this.#segments = new SegmentWriter(context);
    this.#failed = failed;
    this.#flushed = flushed;
  }

  /** True while a batch is on its way. */
  get busy(): boolean {
    return this.#waiting.length > 0;
  }

  /** Rows of all batches on their way. */
  get rows(): number {
    return this.#waiting.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** When the first of them came, milliseconds of the monotonic clock. */
  get since(): number | undefined {
    return this.#waiting[0]?.since;
  }

  add(ready: ReadyBatch): void {
    const { rows, startedAt: since } = ready.batch;
    const done = this.#tail.then(() => this.#flush(ready)).then(() => void this.#waiting.shift());
    this.#tail = done;
    this.#waiting.push({ done, rows, since });
  }

  async #flush(ready: ReadyBatch): Promise<void> {
    if (this.#failure !== undefined) return ready.batch.discard();
    try {
      await flushBatch(this.#context, this.#segments, ready);
      this.#flushed();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error ?? new Error('flush failed');
    this.#failed(error);
  }

  /** Begins to write what of `batch`, which fills still, is a segment already. */
  writeAhead(batch: Batch): void {
    if (this.#failure !== undefined) return;
    for (const builder of batch.fullOnes()) {
      const ended: Promise<unknown> = batch
        .write(builder, this.#segments)
        .written.catch((error: unknown) => this.#fail(storageError(error)))
        .then(() => this.#ahead.delete(ended));
      this.#ahead.add(ended);
    }
  }

  /** Resolves when at most one batch is on its way, and few of its segments. Throws what one failed with. */
  async room(): Promise<void> {
    while (this.#waiting.length > 1) await this.#waiting[0]?.done;
    while (this.#ahead.size > MOST_AHEAD) await Promise.race(this.#ahead);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when none is, whatever became of them. */
  async settled(): Promise<void> {
    await this.#tail;
    await this.#segments.settled();
  }

  /** Resolves when none is. Throws what one failed with. */
  async drain(): Promise<void> {
    await this.#tail;
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** A copy began again while rows of the one before were on their way: they must not come in behind its beginning. */
function isOfEarlierCopy(before: ArchiveState, batch: Batch): boolean {
  return batch.copy !== undefined && before.copy !== null && before.copy.generation !== batch.copy.generation;
}

async function flushBatch(context: ArchiverContext, segments: SegmentWriter, { batch, tables }: ReadyBatch): Promise<void> {
  if (isOfEarlierCopy(context.state, batch)) return batch.discard();
  const began = performance.now();
  const add: FileEntry[] = [];
  try {
    const writing = batch.builders().map((builder) => ({ builder, ...batch.write(builder, segments) }));
    for (const { builder, written } of writing) add.push({ ...(await written), pendingCopy: batch.copyOf(builder) });
  } catch (error) {
    batch.discard();
    throw storageError(error);
  }
  let superseded = false;
  const state = await context.commit((before) => {
    superseded = isOfEarlierCopy(before, batch);
    return superseded ? undefined : manifestChange(before, batch, tables, add);
  });
  if (superseded) {
    for (const { file } of add) await rm(path.join(context.dir, file), { force: true });
    return;
  }
  faultPoint('A9');
  faultPoint('A10');
  faultPoint('A11');
  context.metrics.flushed(add, performance.now() - began);
  if (add.length > 0) tellSegments(context, state, batch.rows, add);
  context.log.info(
    {
      event: 'flush',
      manifest: state.number,
      rows: batch.rows,
      segments: add.length,
      bytes: add.reduce((sum, entry) => sum + entry.bytes, 0),
      position: state.position,
      fences: batch.fences.length,
      ms: Math.round(performance.now() - began),
    },
    'flushed',
  );
}

function tellSegments({ tell }: ArchiverContext, state: ArchiveState, rows: number, add: readonly FileEntry[]): void {
  const { number: manifest, position, committedAt } = state;
  const files = add.map(({ file, schema, table, day, rows: own, bytes }) => ({ file, table: `${schema}.${table}`, day, rows: own, bytes }));
  tell('segment', { manifest, position, committedAt, rows, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0), files });
}

/** What the manifest says after this batch. */
function manifestChange(before: ArchiveState, batch: Batch, tables: readonly TableState[], written: readonly FileEntry[]): ManifestChange {
  const files = completed(before, batch, written);
  return {
    ...files,
    reason: batch.ends ? 'copy-end' : batch.forked ? 'fork' : 'flush',
    tables: stampCoverage(before, tables),
    ...(batch.hint === undefined ? {} : { streamHint: batch.hint }),
    ...(batch.copy === undefined ? {} : { copy: batch.copy }),
    ...(batch.recopy === undefined ? {} : { recopy: batch.recopy }),
    ...(batch.boundary === undefined ? {} : { position: formatPosition(batch.boundary) }),
    ...(batch.epoch === undefined ? {} : { epoch: batch.epoch }),
    ...(batch.forked === undefined ? {} : { forked: batch.forked }),
    ...(batch.committedAtMicros === undefined ? {} : { committedAt: new Date(Number(batch.committedAtMicros / 1000n)).toISOString() }),
    ...(batch.fences.length === 0 ? {} : { fences: [...before.fences, ...batch.fences] }),
  };
}

/** Files of copies that this batch completes become rows like all others; those of copies that can never be completed go. */
function completed(
  before: ArchiveState,
  batch: Batch,
  written: readonly FileEntry[],
): { readonly add: readonly FileEntry[]; readonly drop: readonly string[] } {
  const whole = new Set(batch.completed);
  const here = (entry: FileEntry): FileEntry => (entry.pendingCopy !== null && whole.has(entry.pendingCopy) ? { ...entry, pendingCopy: null } : entry);
  const waiting = [...before.files.values()].filter((entry) => entry.pendingCopy !== null);
  const running = new Set([batch.copy?.state === 'running' ? batch.copy.generation : null, batch.recopy?.state === 'running' ? batch.recopy.id : null]);
  const over = batch.copy === undefined && batch.recopy === undefined ? [] : waiting.filter((entry) => !running.has(entry.pendingCopy));
  return { add: [...over.filter((entry) => whole.has(entry.pendingCopy ?? '')).map(here), ...written.map(here)], drop: over.map((entry) => entry.file) };
}
