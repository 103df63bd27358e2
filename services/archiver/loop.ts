/**
 * archiver from start to stop: archive made or opened → stream there → claim → sweep → consume, beside it merging, purging and sealing. Needs no Postgres.
 * Anything that may pass is tried again from the start: position, tables and files are read from the manifest each time.
 */
import { archivePaths } from '../../src/archive/layout.js';
import { createArchive, ManifestWriter, readKey } from '../../src/archive/manifest.js';
import type { CopyState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import { ReceiptIndex } from '../../src/archive/receipts.js';
import { RestoreIndex } from '../../src/archive/restores.js';
import { type Epoch, formatEpoch } from '../../src/position/epoch.js';
import { formatPosition } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { Halt, messageOf, TidemarkError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { type Monitor, unwatched } from '../../src/runtime/monitor.js';
import { runWithRetry } from '../../src/runtime/service.js';
import { SegmentEncoder } from '../../src/segment/encoder.js';
import { sayDenied } from '../../src/stream/denied.js';
import { tellHalt, tellThrough } from '../../src/stream/events.js';
import { connectStream, ensureStream, type StreamConnection } from '../../src/stream/topology.js';
import { Batch } from './batch.js';
import { type ConsumeParts, consume } from './consume.js';
import { ArchiverContext, type Listeners } from './context.js';
import { earlierValues } from './earlier-values.js';
import { Flusher } from './flush.js';
import { Intake, type IntakeParts } from './intake.js';
import { Marks } from './intents.js';
import { maintain } from './maintain.js';
import { ArchiverMetrics } from './metrics.js';
import { answerRequests } from './requests.js';
import { RestoredCopies } from './restored-copies.js';
import { sweep, sweepSpools } from './sweep.js';
import { TableBook } from './tables.js';
import { Undecodable } from './undecodable.js';

/** A chunk that cannot be decoded is fetched and tried this often before it halts. */
const POISON_TRIES = 3;

/** Runs until the signal aborts. Throws halts and mistakes of the configuration; tries everything else again. */
export async function runArchiver(config: Config, log: Log, signal: AbortSignal, monitor: Monitor = unwatched()): Promise<void> {
  const metrics = new ArchiverMetrics(config, monitor);
  await tellHalt(config, 'archiver', () => archiveAlways(config, log, signal, metrics));
}

async function archiveAlways(config: Config, log: Log, signal: AbortSignal, metrics: ArchiverMetrics): Promise<void> {
  const poison = new PoisonCount();
  let known: string | undefined;
  const attempt = async (healthy: () => void): Promise<void> => {
    const { dir } = config.archive;
    const identity = await createArchive(dir, config.source.name, known).catch((error: unknown) => {
      throw storageError(error);
    });
    known = identity.archive;
    const key = await readKey(dir);
    const stream = await connectStream(config, `tidemark_${config.source.name}_archiver`, sayDenied(log));
    metrics.connected(stream.connected);
    try {
      metrics.stream(await ensureStream(stream.manager, config));
      metrics.at('claiming the archive');
      const tell = tellThrough(stream.connection, config.source.name, stream.connected);
      const context = await openContext(config, dir, identity.archive, key, log, { metrics, tell });
      try {
        log.info({ event: 'archiving', dir, archive: identity.archive, claim: context.writer.claim, position: context.state.position }, 'archiving');
        await archive(context, stream, signal, healthy);
      } catch (error) {
        // A successor sweeps what this one was working on: that it was superseded is the reason, not what failed for want of it.
        if (!(error instanceof Halt)) await context.writer.requireNewest().catch(throwHalt);
        throw poison.judge(error, stream);
      } finally {
        await context.close();
      }
    } finally {
      await stream.connection.close();
    }
  };
  await runWithRetry(log, signal, attempt, (error) => metrics.failed(error));
}

function throwHalt(error: unknown): void {
  if (error instanceof Halt) throw error;
}

/** Claims the archive, sweeps it, and opens what works on it. */
export async function openContext(config: Config, dir: string, archive: string, key: Buffer, log: Log, listeners?: Listeners): Promise<ArchiverContext> {
  const writer = await ManifestWriter.claim(dir, config.source.name).catch(async (error: unknown) => {
    if ((error as { kind?: string }).kind === 'transient') await sweepSpools(dir);
    throw error;
  });
  const encoder = await SegmentEncoder.open({ temporaryDir: archivePaths(dir).temporary });
  const context = new ArchiverContext({ config, dir, archive, key, log, encoder, writer }, listeners);
  await sweep(context).catch(async (error: unknown) => {
    await context.close();
    throw error;
  });
  return context;
}

/** An intake that starts where the manifest stands. `receipts`: folder of the archive whose prunes and restores are in the stream. */
export function openIntake(context: ArchiverContext, receipts: string, options: Pick<IntakeParts, 'rebase'> = {}): Intake {
  const { log, config, state } = context;
  const restores = new RestoreIndex(receipts);
  const tables = new TableBook(config.tables, state.tables, (name) =>
    log.warn({ event: 'not-configured', table: name }, 'a published table that is not configured: its rows are counted and not archived'),
  );
  return new Intake({
    log,
    archive: context.archive,
    key: context.key,
    state,
    tables,
    marks: new Marks(log, context.key, new ReceiptIndex(receipts), restores),
    restored: new RestoredCopies(restores),
    newBatch: () => new Batch(context.temporary, context.config.archive.flush),
    beginCopy: (epoch, copy) => beginCopy(context, tables, epoch, copy),
    ...options,
  });
}

/** Looks up the archive of this context, as it is at the time. */
export function earlierIn(context: ArchiverContext): ConsumeParts['earlier'] {
  return (wanted, signal) => earlierValues(context.dir, context.state, wanted, signal);
}

async function beginCopy(context: ArchiverContext, tables: TableBook, epoch: Epoch, copy: CopyState): Promise<void> {
  await context.commit((before) => ({
    reason: 'copy-begin',
    epoch,
    copy,
    tables: tables.states(),
    fences: [],
    drop: [...before.files.values()].filter((entry) => entry.pendingCopy !== null).map((entry) => entry.file),
  }));
  context.log.info({ event: 'copy-begin', epoch: formatEpoch(epoch), consistentPoint: copy.consistentPoint }, 'a copy begins');
}

/** Consumes, maintains and answers, until the signal aborts or one of them fails; then stops the others. */
async function archive(context: ArchiverContext, stream: StreamConnection, signal: AbortSignal, healthy: () => void): Promise<void> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) stop.abort();
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    stop.abort();
  };
  const intake = openIntake(context, context.dir);
  // Steady is what commits: on a volume that takes a claim and no segment, every try would be the first one, and each claims.
  const flusher = new Flusher(context, fail, healthy);
  const hint = context.state.streamHint;
  context.metrics.archives(
    () => context.state,
    () => ({ rows: intake.batch.rows + flusher.rows, since: flusher.since ?? intake.batch.startedAt, busy: flusher.busy }),
  );
  const work = [
    consume(
      {
        config: context.config,
        log: context.log,
        metrics: context.metrics,
        stream,
        intake,
        flusher,
        from: hint === null ? {} : { ...hint, read: true },
        earlier: earlierIn(context),
        asked: context.asked,
      },
      stop.signal,
    ),
    maintain(context, stream, stop.signal),
    answerRequests(context, stream, stop.signal),
  ];
  await Promise.all(work.map((one) => one.catch(fail)));
  await flusher.settled();
  signal.removeEventListener('abort', abort);
  if (failure !== undefined) throw failure.error;
  const { position } = intake;
  context.log.info({ event: 'archived', position: context.state.position, taken: position === null ? null : formatPosition(position) }, 'stopping');
}

/** Counts how often the same chunk could not be decoded. */
class PoisonCount {
  #sequence = 0;
  #tries = 0;

  /** What to throw for a failure: bytes may come better the next time, but not for ever. */
  judge(error: unknown, stream: StreamConnection): unknown {
    if (!(error instanceof Undecodable)) return error;
    const { chunk } = error;
    this.#tries = this.#sequence === chunk.sequence ? this.#tries + 1 : 1;
    this.#sequence = chunk.sequence;
    if (this.#tries < POISON_TRIES) return new TidemarkError('transient', `cannot be decoded: ${messageOf(error)}`, { cause: error });
    return new Halt('POISON', {
      seen: `message ${chunk.sequence} of stream ${stream.name}, changes from ${formatPosition(chunk.header.prev)} to ${formatPosition(chunk.header.end)}, cannot be decoded (${messageOf(error)}).`,
      safe: 'Nothing of it and nothing behind it was taken; the source still holds what is not archived.',
      remedy: 'stop the services, `tidemark repair --stream`, and start them: capture publishes it again; if it halts again, use a newer tidemark',
      cause: error,
    });
  }
}
