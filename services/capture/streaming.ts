/**
 * Capture at work: one walsender session, the framer, the publisher, fences and confirmations. Owns the order in which a message passes them, and the back-pressure from
 * the stream to the socket. Never confirms anything itself but what src/wal/confirm.ts allows.
 */
import type pg from 'pg';
import type { ChunkHeader, ForkFound } from '../../src/change/chunk.js';
import { fenceEvery } from '../../src/change/fence.js';
import { TAG } from '../../src/change/pgoutput.js';
import { type Epoch, sameEpoch } from '../../src/position/epoch.js';
import { formatLsn, type Lsn } from '../../src/position/lsn.js';
import { boundary, formatPosition, type Position } from '../../src/position/position.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import { sleep } from '../../src/runtime/service.js';
import type { ChunkPublisher } from '../../src/stream/publish.js';
import type { AnchorCheck } from '../../src/wal/anchor.js';
import { type ArchivedState, confirmable } from '../../src/wal/confirm.js';
import { describeTable } from '../../src/wal/describe.js';
import { FenceClock } from '../../src/wal/fence-clock.js';
import { type FramedChunk, Framer } from '../../src/wal/framer.js';
import { ReplicationStream } from '../../src/wal/replication.js';
import type { CaptureMetrics } from './metrics.js';

/** W is read this often. */
const TICK_MS = 200;
/** While nothing is published the archive is looked at this often: each look is half a dozen calls to its volume. */
const IDLE_CONFIRM_MS = 1000;
/** Without new data for this long what there is goes out; and at the latest after LATEST_MS. */
const IDLE_FLUSH_MS = 20;
const LATEST_MS = 200;
/** A stop waits this long for what is in flight; what does not make it is sent again by the slot. */
export const LAST_WORDS_MS = 3000;
/** Bytes that may wait between socket and framer before the socket is paused. */
const QUEUE_BYTES = 4 * 1024 * 1024;

export type StreamingParts = {
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly control: pg.Client;
  readonly publisher: ChunkPublisher;
  readonly anchor: AnchorCheck;
  readonly key: Buffer;
  readonly archive: string;
  /** How often the archive flushes. */
  readonly flushMs: number;
  readonly epoch: Epoch;
  readonly resumeAt: Position;
  readonly slotAt: Lsn;
  /** To be said in the stream before anything else, once the server is proved. */
  readonly fork: ForkFound | undefined;
  readonly replication: {
    readonly url: string;
    readonly applicationName: string;
    readonly slot: string;
    readonly publication: string;
    readonly server: { systemId: string; timeline: number };
  };
  /** The archive's newest durable state. */
  readonly archived: () => Promise<ArchivedState | undefined>;
  /** Called once a second with the connection that may be asked: slot health. */
  readonly watch: () => Promise<void>;
  readonly metrics: CaptureMetrics;
};

export class Streaming {
  readonly #parts: StreamingParts;
  readonly #framer: Framer;
  readonly #replication: ReplicationStream;
  readonly #fences: FenceClock;
  readonly #queue: Buffer[] = [];
  readonly #ready: FramedChunk[] = [];
  #queuedBytes = 0;
  #pumping = false;
  #failure: unknown;
  #flushTimer: NodeJS.Timeout | undefined;
  #oldestAt = 0;
  #confirmed: Lsn;
  /** End of the last whole transaction handed to the publisher. */
  #boundary: Position;
  #forkSaid: Promise<void> | undefined;

  constructor(parts: StreamingParts) {
    this.#parts = parts;
    this.#confirmed = parts.slotAt;
    this.#boundary = parts.resumeAt.k === 0 ? parts.resumeAt : boundary(parts.slotAt);
    this.#framer = new Framer(parts.resumeAt, (chunk) => this.#ready.push(chunk));
    this.#fences = new FenceClock(parts.control, parts.key, { generation: parts.epoch.generation, archive: parts.archive }, fenceEvery(parts.flushMs));
    this.#replication = new ReplicationStream({
      ...parts.replication,
      onMessage: (message) => this.#onMessage(message),
      onKeepalive: (walEnd) => {
        if (this.#queue.length === 0 && !this.#pumping) parts.anchor.passed(walEnd);
      },
    });
  }

  /** Bytes read and not yet in a chunk that was handed to the publisher. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Everything that committed below it is in the stream, or on its way there. */
  get reached(): Lsn {
    const idle = this.#queue.length === 0 && !this.#pumping && !this.#framer.pending && this.#parts.publisher.inFlight === 0;
    return idle && this.#replication.received > this.#boundary.lsn ? this.#replication.received : this.#boundary.lsn;
  }

  /** Streams until the signal aborts (then publishes what it has) or something fails. `beside`: other work with this connection, until its signal aborts. */
  async run(healthy: () => void, firstFence: boolean, beside: (until: AbortSignal) => Promise<void>): Promise<void> {
    const { log, signal } = this.#parts;
    const lost = new Promise<never>((_, reject) => {
      this.#parts.control.once('error', reject);
      this.#parts.control.once('end', () => reject(Object.assign(new Error('the control connection ended'), { code: '08006' })));
    });
    lost.catch(() => undefined);
    const stop = new AbortController();
    let other: Promise<void> | undefined;
    try {
      await this.#replication.start();
      if (firstFence) await this.#fences.emit();
      log.info({ event: 'streaming', from: formatPosition(this.#parts.resumeAt), slot: formatLsn(this.#parts.slotAt) }, 'streaming');
      const ticks = this.#ticks(healthy, () => {
        if (other !== undefined) return;
        this.#fences.owe();
        other = beside(stop.signal);
        other.catch((error: unknown) => {
          this.#failure ??= error;
        });
      });
      await Promise.race([ticks, this.#replication.ended, lost]);
      if (signal.aborted) await this.#finish();
    } finally {
      stop.abort();
      await other?.catch(() => undefined);
      clearTimeout(this.#flushTimer);
      await this.#replication.stop();
    }
  }

  /** Last words: what was read whole is published, and what is archived confirmed. */
  async #finish(): Promise<void> {
    this.#replication.pause();
    if (!this.#pumping) {
      this.#framer.flush();
      const stored = this.#publishReady().then(() => this.#parts.publisher.drain());
      stored.catch(() => undefined);
      await Promise.race([stored, sleep(LAST_WORDS_MS)]);
    }
    await this.#confirm();
  }

  /** Publishes a chunk that is no part of the streamed changes. It carries the last boundary, from which a reader of the stream's end goes on; resolves with it. */
  async publishBeside(chunk: Pick<ChunkHeader, 'kind' | 'recopy'> & { readonly payload: Buffer }): Promise<Position> {
    const { publisher, epoch } = this.#parts;
    const { payload, ...header } = chunk;
    const at = this.#boundary;
    await publisher.publish({ ...header, epoch, prev: at, end: at, fragment: { n: 1, of: 1 } }, payload);
    if (chunk.kind === 'recopy-end') this.#fences.owe(); // nothing may have been written since
    return at;
  }

  async #ticks(healthy: () => void, proved: () => void): Promise<void> {
    const { signal, anchor, metrics } = this.#parts;
    let watchAt = 0;
    let confirmAt = 0;
    let seen = this.#boundary;
    while (!signal.aborted) {
      if (this.#failure !== undefined) throw this.#failure;
      const moved = seen !== this.#boundary;
      seen = this.#boundary;
      if (moved || performance.now() >= confirmAt) {
        await this.#confirm();
        confirmAt = performance.now() + IDLE_CONFIRM_MS; // monotonic: a clock set back must not end confirming
      }
      metrics.turned(anchor.proved);
      if (!anchor.proved) this.#replication.askKeepalive();
      else {
        await this.#sayFork();
        healthy();
        proved();
      }
      await this.#fences.tick();
      if (performance.now() >= watchAt) {
        watchAt = performance.now() + 5000;
        await this.#parts.watch();
      }
      await sleep(TICK_MS, signal);
    }
  }

  async #confirm(): Promise<void> {
    const { archive, epoch, anchor, log } = this.#parts;
    const archived = await this.#parts.archived();
    this.#parts.metrics.archived(archived?.position ?? null);
    const ours = archived?.epoch != null && sameEpoch(archived.epoch, epoch) ? { ...archived, fences: anchor.sent(archived.fences) } : undefined;
    const lsn = confirmable({ archive, epoch, archived: ours, received: this.#replication.received, confirmed: this.#confirmed, anchored: anchor.proved });
    if (lsn === undefined) return;
    faultPoint('C6');
    this.#replication.confirm(lsn);
    faultPoint('C7');
    this.#confirmed = lsn;
    log.debug({ event: 'confirmed', lsn: formatLsn(lsn), archived: archived?.position }, 'confirmed');
  }

  #onMessage(message: Buffer): void {
    this.#queue.push(message);
    this.#queuedBytes += message.length;
    if (this.#pumping) {
      if (this.#queuedBytes >= QUEUE_BYTES) this.#replication.pause();
      return;
    }
    this.#drainQueue();
  }

  /** Runs at once and without a promise as long as nothing is to be waited for. */
  #drainQueue(): void {
    const relation = this.#pushQueued();
    if (relation === undefined && this.#ready.length === 0) return this.#armFlush();
    this.#pumping = true;
    this.#pump(relation).then(
      () => {
        this.#pumping = false;
        this.#replication.resume();
        this.#armFlush();
      },
      (error: unknown) => {
        this.#failure ??= error; // #ticks throws it
        this.#replication.pause();
      },
    );
  }

  async #pump(first: ReturnType<Framer['push']>): Promise<void> {
    let relation = first;
    for (;;) {
      if (relation !== undefined) this.#framer.describe(relation.oid, await describeTable(this.#parts.control, relation));
      await this.#publishReady();
      if (this.#queue.length === 0) return;
      relation = this.#pushQueued();
    }
  }

  /** Pushes what is queued until a description is wanted or a chunk is ready. */
  #pushQueued(): ReturnType<Framer['push']> {
    let done = 0;
    let relation: ReturnType<Framer['push']>;
    while (done < this.#queue.length && relation === undefined && this.#ready.length === 0) {
      const message = this.#queue[done++] as Buffer;
      this.#queuedBytes -= message.length;
      this.#parts.anchor.observe(message);
      relation = this.#framer.push(message);
      this.#count(message[0] as number);
    }
    this.#queue.splice(0, done);
    if (this.#framer.pending && this.#oldestAt === 0) this.#oldestAt = performance.now();
    return relation;
  }

  #count(tag: number): void {
    if (tag === TAG.commit) return faultPoint('C3');
    if (tag !== TAG.insert && tag !== TAG.update && tag !== TAG.delete && tag !== TAG.truncate) return;
    faultPoint('C2');
    this.#fences.rows += 1;
    this.#parts.metrics.changed();
  }

  async #publishReady(): Promise<void> {
    const { publisher, epoch } = this.#parts;
    if (this.#ready.length > 0) await this.#sayFork();
    for (let chunk = this.#ready.shift(); chunk !== undefined; chunk = this.#ready.shift()) {
      this.#oldestAt = 0;
      if (publisher.full) this.#replication.pause();
      if (chunk.end.k === 0) this.#boundary = chunk.end;
      await publisher.publish({ kind: 'changes', epoch, prev: chunk.prev, end: chunk.end, fragment: { n: 1, of: 1 } }, chunk.payload);
      faultPoint('C4');
    }
  }

  /** The first chunk of an epoch that came by a switchover. Everything that is published behind it lies behind all archived fences, so by then they have come again or halted. */
  #sayFork(): Promise<void> {
    const { fork, anchor, publisher, epoch, resumeAt, log } = this.#parts;
    if (fork === undefined) return Promise.resolve();
    this.#forkSaid ??= (async () => {
      if (!anchor.proved) throw new Error('changes came before the server was proved');
      await publisher.publish({ kind: 'fork', epoch, prev: resumeAt, end: resumeAt, fragment: { n: 1, of: 1 } }, Buffer.from(JSON.stringify(fork)));
      log.info({ event: 'fork', from: fork.from, at: fork.at, seen: fork.seen }, 'a new epoch by a planned switchover');
    })();
    return this.#forkSaid;
  }

  /** Quiet for a moment: what there is goes out. Under a trickle it goes out anyway. */
  #armFlush(): void {
    if (!this.#framer.pending) return;
    if (this.#oldestAt !== 0 && performance.now() - this.#oldestAt >= LATEST_MS) return this.#flushNow();
    if (this.#flushTimer === undefined) {
      this.#flushTimer = setTimeout(() => {
        this.#flushTimer = undefined;
        if (!this.#pumping) this.#flushNow();
      }, IDLE_FLUSH_MS);
    } else this.#flushTimer.refresh();
  }

  #flushNow(): void {
    this.#framer.flush();
    if (this.#ready.length > 0) this.#drainQueue();
  }
}
