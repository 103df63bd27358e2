/**
 * Batch → segments → manifest. Owns the order: every file durable, hashed and decoded again, then one commit that names them all with W, fences and tables.
 * At most one batch is on its way; a failure abandons its files and leaves the archive as it was.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { segmentFile } from '../../src/archive/layout.js';
import type { ArchiveState, ManifestChange } from '../../src/archive/manifest.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import { relationSignature } from '../../src/change/relation.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { formatPosition } from '../../src/position/position.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { SegmentBuilder } from '../../src/segment/builder.js';
import { DurableFile } from '../../src/segment/durable-file.js';
import { verifySegment } from '../../src/segment/verify.js';
import type { Batch } from './batch.js';
import type { ArchiverContext } from './context.js';
import { stampCoverage } from './tables.js';

/** A batch with the tables as they were at its end. */
export type ReadyBatch = { readonly batch: Batch; readonly tables: readonly TableState[] };

/** Flushes batches in their order, one at a time. After a failure it flushes nothing more: what comes behind a hole must not be committed. */
export class Flusher {
  readonly #context: ArchiverContext;
  readonly #failed: (error: unknown) => void;
  readonly #flushed: () => void;
  readonly #waiting: Promise<void>[] = [];
  #tail: Promise<void> = Promise.resolve();
  #failure: unknown;

  /** `failed` hears of the first failure, `flushed` of every batch that is archived. */
  constructor(context: ArchiverContext, failed: (error: unknown) => void, flushed: () => void = () => undefined) {
    this.#context = context;
    this.#failed = failed;
    this.#flushed = flushed;
  }

  /** True while a batch is on its way. */
  get busy(): boolean {
    return this.#waiting.length > 0;
  }

  add(ready: ReadyBatch): void {
    const done = this.#tail.then(() => this.#flush(ready)).then(() => void this.#waiting.shift());
    this.#tail = done;
    this.#waiting.push(done);
  }

  async #flush(ready: ReadyBatch): Promise<void> {
    if (this.#failure !== undefined) return ready.batch.discard();
    try {
      await flushBatch(this.#context, ready);
      this.#flushed();
    } catch (error) {
      this.#failure = error ?? new Error('flush failed');
      this.#failed(error);
    }
  }

  /** Resolves when at most one batch is on its way. Throws what one failed with. */
  async room(): Promise<void> {
    while (this.#waiting.length > 1) await this.#waiting[0];
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when none is, whatever became of them. */
  async settled(): Promise<void> {
    await this.#tail;
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

async function flushBatch(context: ArchiverContext, { batch, tables }: ReadyBatch): Promise<void> {
  if (isOfEarlierCopy(context.state, batch)) return batch.discard();
  const began = performance.now();
  const add: FileEntry[] = [];
  const builders = batch.builders();
  try {
    for (const builder of builders) add.push(await writeSegment(context, builder, batch.copyOf(builder)));
  } catch (error) {
    for (const builder of builders) builder.discard();
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

/** Encodes, verifies and publishes one builder's rows; the spool is gone afterwards. */
async function writeSegment(context: ArchiverContext, builder: SegmentBuilder, pendingCopy: string | null): Promise<FileEntry> {
  const spool = builder.finish();
  const { shape } = spool;
  const { relation, kind, day } = shape;
  const table = context.config.tables.find((one) => one.schema === relation.schema && one.table === relation.table);
  const counter = context.nextCounter();
  const group = table?.group ?? relation.table;
  const file = segmentFile({ group, table: relation.table, day, kind, claim: context.writer.claim, counter });
  const signature = relationSignature(relation, shape.description?.dimensions);
  const output = await DurableFile.create(path.join(context.temporary, `segment-${context.writer.claim}-${counter}.parquet`));
  try {
    const writing = context.encoder.encode(spool, output.temporary, context.archive);
    faultPoint('A2');
    await writing;
  } catch (error) {
    await output.abandon();
    throw error;
  }
  const published = await output.publish(path.join(context.dir, file), (temporary) =>
    verifySegment(temporary, { rows: spool.rows, digestSum: spool.digestSum, signature }),
  );
  await rm(spool.file, { force: true });
  await context.emptyFiles.ensure(shape, group);
  return {
    file,
    kind,
    oid: relation.oid,
    schema: relation.schema,
    table: relation.table,
    day,
    rows: spool.rows,
    bytes: published.bytes,
    sha256: published.sha256,
    signature,
    digestSum: spool.digestSum,
    minTimestamp: spool.minTimestamp,
    maxTimestamp: spool.maxTimestamp,
    minLsn: formatLsn(lsn(spool.minLsn)),
    maxLsn: formatLsn(lsn(spool.maxLsn)),
    pendingCopy,
  };
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
