/**
 * Reads the stream into the intake and hands its batches to the flusher. Owns when a batch is cut by age, the back-pressure, and what is done about a gap:
 * read the stream again from its first message, wait a bounded time for capture, halt.
 */

import { fenceEvery } from '../../src/change/fence.js';
import { formatPosition } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { Halt } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { type Place, readChunks, type StreamChunk } from '../../src/stream/consume.js';
import type { StreamConnection } from '../../src/stream/topology.js';
import type { AskedFlushes } from './asked-flushes.js';
import { dueMs, patienceMs } from './cuts.js';
import type { Earlier } from './earlier-values.js';
import type { Flusher } from './flush.js';
import type { Intake } from './intake.js';
import type { Large } from './large-values.js';
import type { ArchiverMetrics } from './metrics.js';

/** How long a gap may last before it halts. */
const GAP_MS = 60_000;
/** With so many messages before it the archiver is behind. */
const BEHIND_MESSAGES = 64;
/** So many rows are worth files of their own once nothing more waits or comes for a fifth of the flush interval, at most a second: the end of a backlog or a burst does not wait for its age. */
const WORTH_ROWS = 50_000;
const QUIET_MOST_MS = 1000;
/** A batch may be cut so much later than its age, ms. */
const SHORTEST_TICK_MS = 50;
const LONGEST_TICK_MS = 500;

export type ConsumeParts = {
  readonly config: Config;
  readonly log: Log;
  readonly metrics?: ArchiverMetrics;
  readonly stream: StreamConnection;
  readonly intake: Intake;
  readonly flusher: Flusher;
  /** Where reading starts; the first message without one. */
  readonly from: Place;
  /** Stop when this sequence has been read. */
  readonly until?: number;
  /** Large values of rows as the archive holds them now, by key; of what stands at or before `upTo`: rows copied again may be of later. */
  readonly earlier: (wanted: Earlier, signal: AbortSignal) => Promise<ReadonlyMap<string, Large>>;
  /** What others wait for. */
  readonly asked?: AskedFlushes;
  /** A chunk was taken. */
  readonly taken?: (chunk: StreamChunk) => void;
};

/** `behind`: more than the newest waits in the stream. `quietSince`: all that the stream has is taken in, and nothing came since, milliseconds of the monotonic clock; undefined while a message waits or is worked on. */
type Backlog = { behind: boolean; pending: number; quietSince: number | undefined };

class Gap {
  readonly #parts: ConsumeParts;
  #since: number | undefined;
  #seen = '';

  constructor(parts: ConsumeParts) {
    this.#parts = parts;
  }

  get open(): boolean {
    return this.#since !== undefined;
  }

  at(chunk: StreamChunk): void {
    if (this.#since !== undefined) return;
    const { intake, stream, log } = this.#parts;
    const reached = intake.position === null ? 'no complete copy' : formatPosition(intake.position);
    this.#seen = `message ${chunk.sequence} of stream ${stream.name} continues behind ${formatPosition(chunk.header.prev)}, the archive has ${reached}`;
    this.#since = performance.now();
    log.warn({ event: 'stream-gap', seen: this.#seen, waitMs: GAP_MS }, 'something is missing in the stream: waiting for capture to send it again');
  }

  closed(): void {
    if (this.#since === undefined) return;
    this.#since = undefined;
    this.#parts.log.info({ event: 'stream-gap-closed' }, 'what was missing has come');
  }

  /** Throws Halt STREAM_GAP when it has lasted too long. */
  check(): void {
    if (this.#since === undefined || performance.now() - this.#since < GAP_MS) return;
    throw this.halt();
  }

  halt(): Halt {
    return new Halt('STREAM_GAP', {
      seen: `${this.#seen}.`,
      safe: 'Nothing behind the gap was taken; the source still holds everything that is not archived.',
      remedy: 'stop the services, `tidemark repair --stream`, and start them: capture publishes again what is not archived',
    });
  }
}

/** Reads until `signal` aborts, or `until` is read. Then cuts what is whole and waits until it is archived. */
export async function consume(parts: ConsumeParts, signal: AbortSignal): Promise<void> {
  const { intake, flusher, config } = parts;
  const gap = new Gap(parts);
  const backlog: Backlog = { behind: false, pending: 0, quietSince: undefined };
  const stop = new AbortController();
  const stopReading = (): void => stop.abort();
  signal.addEventListener('abort', stopReading, { once: true });
  if (signal.aborted) stop.abort();
  let failure: unknown;
  const { every } = config.archive.flush;
  const fenceMs = 1.5 * fenceEvery(every); // one comes in this time, if rows do
  const tickMs = Math.min(LONGEST_TICK_MS, Math.max(SHORTEST_TICK_MS, every / 20));
  const quietMs = Math.min(QUIET_MOST_MS, every / 5);
  const hand = (): void => {
    for (const ready of intake.takeReady()) flusher.add(ready);
  };
  const cutAsked = (): void => {
    const upTo = flusher.busy ? undefined : parts.asked?.take(performance.now());
    if (upTo === undefined) return;
    intake.cutAt(upTo);
    hand();
  };
  parts.asked?.hear(cutAsked);
  const tick = setInterval(() => {
    const { startedAt, rows } = intake.batch;
    parts.metrics?.turned(flusher.busy);
    if (startedAt !== undefined && !flusher.busy) {
      const now = performance.now();
      const { uncoveredSince = startedAt } = intake.cuts;
      const left = dueMs(every, backlog.behind) - (now - uncoveredSince);
      const ended = rows >= WORTH_ROWS && backlog.quietSince !== undefined && now - backlog.quietSince >= quietMs;
      const fenceComes = uncoveredSince < startedAt && now - startedAt < fenceMs;
      if ((left <= 0 && !fenceComes) || ended) {
        intake.cut();
        hand();
      } else if (left <= fenceMs) intake.cut('behind a fence');
    }
    cutAsked();
    try {
      gap.check();
    } catch (error) {
      failure = error;
      stop.abort();
    }
  }, tickMs);
  try {
    await readFrom(parts, gap, backlog, stop.signal);
    if (failure !== undefined) throw failure;
    if (parts.until !== undefined && gap.open) throw gap.halt();
    intake.cut();
    hand();
    await flusher.drain();
  } finally {
    clearInterval(tick);
    parts.asked?.hear(() => undefined);
    signal.removeEventListener('abort', stopReading);
    intake.discard();
  }
}

/** Reads from where the manifest points to; from the first message once, when that leaves a gap. */
async function readFrom(parts: ConsumeParts, gap: Gap, backlog: Backlog, signal: AbortSignal): Promise<void> {
  if (await readOnce(parts, gap, backlog, parts.from, signal)) return;
  parts.log.info({ event: 'read-again' }, 'reading the stream again from its first message');
  await readOnce(parts, gap, backlog, {}, signal);
}

/** False: a gap was met that reading from the first message may close. */
async function readOnce(parts: ConsumeParts, gap: Gap, backlog: Backlog, from: Place, signal: AbortSignal): Promise<boolean> {
  const { stream, intake, flusher, log } = parts;
  const { every } = parts.config.archive.flush;
  const options = {
    notice: (reason: string) => log.debug({ event: 'stream-retry', reason }, 'reading again'),
    pending: (messages: number, storedAt: number) => {
      backlog.behind = messages >= BEHIND_MESSAGES;
      backlog.pending = messages;
      backlog.quietSince = undefined;
      parts.metrics?.pending(messages, storedAt);
    },
    ...(parts.until === undefined ? {} : { until: parts.until }),
  };
  for await (const chunk of readChunks(stream, from, signal, options)) {
    if (!(await recall(parts, chunk, signal))) return true;
    intake.cuts.patienceMs = patienceMs(every, backlog.behind || flusher.busy);
    const taken = await intake.take(chunk);
    if (taken === 'gap' && from.sequence !== undefined) return false;
    if (taken === 'gap') gap.at(chunk);
    else if (taken === 'taken' || taken === 'beside') {
      if (taken === 'taken') gap.closed();
      parts.taken?.(chunk);
    }
    for (const ready of intake.takeReady()) flusher.add(ready);
    flusher.writeAhead(intake.batch);
    await flusher.room();
    if (backlog.pending === 0) backlog.quietSince = performance.now();
  }
  return true;
}

/** Unchanged values that memory has not, after a restart above all, come from the archive, once everything before the chunk is there. False: stopped meanwhile, the chunk must not be taken without them. */
async function recall({ intake, flusher, earlier, log }: ConsumeParts, chunk: StreamChunk, signal: AbortSignal): Promise<boolean> {
  const wanted = intake.forgotten(chunk);
  const upTo = intake.position?.lsn;
  if (wanted.size === 0 || upTo === undefined) return true;
  for (const ready of intake.takeReady()) flusher.add(ready);
  await flusher.drain();
  for (const [table, keys] of wanted) {
    const found = await earlier({ table, keys, upTo }, signal);
    if (signal.aborted) return false;
    intake.recall(table, keys, found);
    log.debug({ event: 'recalled', table: table.relation.table, wanted: keys.size, found: found.size }, 'large values looked up in the archive');
  }
  return true;
}
