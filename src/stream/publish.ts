/**
 * Publishes chunks in order, exactly once: pipelined with the expected last sequence, go-back-N on failure, a bounded amount in flight. Owns the tail.
 * Must never skip a chunk, and never write behind another publisher: whoever finds the stream moved by someone else stops (SUPERSEDED; POISON when it is no capture).
 */
import { randomUUID } from 'node:crypto';
import { headers, type MsgHdrs, NatsError, type StoredMsg } from 'nats';
import { type ChunkHeader, encodeChunkHeader } from '../change/chunk.js';
import { Halt, messageOf, TidemarkError } from '../runtime/errors.js';
import { backoffMs, sleep } from '../runtime/service.js';
import { strayHalt, strayReason } from './stray.js';
import { findMessage, readTail, type StreamTail } from './tail.js';
import { isNotFound, type StreamConnection } from './topology.js';

/** Who wrote a message: a random id of each opened publisher. */
const PUBLISHER = 'Tidemark-Publisher';
const WINDOW_BYTES = 16 * 1024 * 1024;
const WINDOW_MESSAGES = 64;
const ACK_MS = 5000;
/** Room for headers below the server's max_payload. */
const HEADER_ROOM = 8 * 1024;

export type PublisherEvents = {
  /** Publishing stumbles and is tried again: `reason` for the log. */
  readonly onRetry?: (reason: string) => void;
  /** One message was stored, so many milliseconds after it was accepted. */
  readonly onStored?: (bytes: number, ms: number) => void;
};

type Pending = {
  readonly head: MsgHdrs;
  readonly data: Uint8Array;
  readonly sequence: number;
  readonly at: number;
  state: 'flying' | 'stored' | 'failed';
  error?: unknown;
};

export class ChunkPublisher {
  /** What the stream ended with when this publisher was opened; undefined: it is empty. */
  readonly tail: StreamTail | undefined;
  readonly #stream: StreamConnection;
  readonly #signal: AbortSignal;
  readonly #events: PublisherEvents;
  readonly #id = randomUUID();
  readonly #most: number;
  /** Sent or to be sent, oldest first. */
  readonly #window: Pending[] = [];
  #bytes = 0;
  #last: number;
  #repairing = false;
  #failure: unknown;
  #wake: (() => void)[] = [];
  /** The publish() before the next one. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(stream: StreamConnection, last: number, tail: StreamTail | undefined, signal: AbortSignal, events: PublisherEvents) {
    this.#stream = stream;
    this.#last = last;
    this.tail = tail;
    this.#signal = signal;
    this.#events = events;
    this.#most = (stream.connection.info?.max_payload ?? 1024 * 1024) - HEADER_ROOM;
    signal.addEventListener('abort', () => this.#notify(), { once: true });
  }

  /** Reads the tail. From here on no other publisher may write: the first of the two that does so ends the other. */
  static async open(stream: StreamConnection, signal: AbortSignal, events: PublisherEvents = {}): Promise<ChunkPublisher> {
    const info = await stream.manager.streams.info(stream.name);
    const tail = info.state.messages === 0 ? undefined : await readTail(stream, info.state.last_seq);
    return new ChunkPublisher(stream, info.state.last_seq, tail, signal, events);
  }

  /** True while nothing more fits in flight; publish() waits then. */
  get full(): boolean {
    return this.#bytes >= WINDOW_BYTES || this.#window.length >= WINDOW_MESSAGES;
  }

  get inFlight(): number {
    return this.#window.length;
  }

  /** How long the oldest message waits to be stored, milliseconds; 0 when none does. */
  get waitingMs(): number {
    const oldest = this.#window[0];
    return oldest === undefined ? 0 : performance.now() - oldest.at;
  }

  /** Sequence of the last message that is stored or in flight. */
  get lastSequence(): number {
    return this.#last;
  }

  /** Resolves when accepted into the window (not when stored), whole and in the order of the calls. Throws what ended publishing. */
  async publish(header: ChunkHeader, payload: Uint8Array): Promise<void> {
    const before = this.#turn;
    const mine = before.then(() => this.#accept(header, payload));
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  async #accept(header: ChunkHeader, payload: Uint8Array): Promise<void> {
    const of = Math.max(1, Math.ceil(payload.length / this.#most));
    for (let n = 1; n <= of; n += 1) {
      while (this.full && this.#failure === undefined && !this.#signal.aborted) await this.#changed();
      this.#check();
      const data = of === 1 ? payload : payload.subarray((n - 1) * this.#most, n * this.#most);
      this.#send({ ...header, fragment: { n, of } }, data);
    }
  }

  /** Resolves when all accepted chunks are stored. */
  async drain(): Promise<void> {
    while (this.#window.length > 0 && this.#failure === undefined && !this.#signal.aborted) await this.#changed();
    this.#check();
  }

  /**
   * For a database that writes nothing, where no publish() would find it out: throws what ended publishing, and transient when the stream does not hold any more what it
   * had acknowledged, or is gone. A server that does not answer is no finding.
   */
  async look(): Promise<void> {
    this.#check();
    const before = this.#last;
    if (this.#window.length > 0) return;
    const found = await this.#stream.manager.streams.info(this.#stream.name).then(
      ({ state }) => state.last_seq,
      (error: unknown) => (isNotFound(error) ? -1 : undefined),
    );
    if (found !== undefined && found < before) this.#failure ??= lostMessages(this.#stream.name, found + 1, before);
    this.#check();
  }

  /** Throws what ended publishing, if anything did. */
  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#signal.aborted) throw new TidemarkError('transient', 'publishing was stopped');
  }

  #send(header: ChunkHeader, data: Uint8Array): void {
    const head = headers();
    for (const [name, value] of Object.entries(encodeChunkHeader(header))) head.set(name, value);
    head.set(PUBLISHER, this.#id);
    head.set('Nats-Expected-Last-Sequence', String(this.#last));
    this.#last += 1;
    const pending: Pending = { head, data, sequence: this.#last, at: performance.now(), state: 'flying' };
    this.#window.push(pending);
    this.#bytes += data.length;
    // While something before it is to be sent again, it waits its turn.
    if (this.#repairing || this.#window[0]?.state === 'failed') pending.state = 'failed';
    else void this.#fly(pending);
  }

  async #fly(pending: Pending): Promise<void> {
    await this.#store(pending);
    this.#settle();
  }

  /** One try to store one message; the outcome is in its state. */
  async #store(pending: Pending): Promise<void> {
    pending.state = 'flying';
    try {
      const ack = await this.#stream.jetstream.publish(this.#stream.subject, pending.data, { headers: pending.head, timeout: ACK_MS });
      if (ack.seq !== pending.sequence) throw new Error(`stored as message ${ack.seq}, expected ${pending.sequence}`);
      pending.state = 'stored';
    } catch (error) {
      pending.state = 'failed';
      pending.error = error;
    }
  }

  /** Takes stored messages off the front; starts a repair when the oldest has failed and nothing is in flight any more. */
  #settle(): void {
    while (this.#window[0]?.state === 'stored') this.#release(this.#window.shift() as Pending);
    if (this.#repairing || this.#window.length === 0 || this.#window.some((pending) => pending.state === 'flying')) return this.#notify();
    this.#repairing = true;
    void this.#repair().catch((error: unknown) => {
      this.#failure ??= error;
      this.#notify();
    });
  }

  #release(pending: Pending): void {
    this.#bytes -= pending.data.length;
    this.#events.onStored?.(pending.data.length, performance.now() - pending.at);
  }

  /** Go-back-N: asks the stream how far it got, then sends the rest again in order, until one pass succeeds. */
  async #repair(): Promise<void> {
    for (let attempt = 0; !this.#signal.aborted; attempt += 1) {
      const denied = this.#stream.denied();
      if (denied !== undefined) throw denied;
      const error = this.#window.find((pending) => pending.error !== undefined)?.error;
      if (attempt > 0 || !isSequenceError(error)) {
        this.#events.onRetry?.(messageOf(error ?? 'not stored'));
        await sleep(backoffMs(Math.min(attempt, 4)), this.#signal);
      }
      try {
        await this.#dropStored();
      } catch (found) {
        if (found instanceof TidemarkError || isNotFound(found) || this.#stream.connection.isClosed()) throw found;
        continue; // the server does not answer yet
      }
      while (await this.#sendWindow()) {
        // Asked in the same breath: what was accepted since then waits in the window, and nobody else would send it.
        if (this.#window.length > 0) continue;
        this.#repairing = false;
        return this.#notify();
      }
    }
    this.#notify();
  }

  /** Removes from the window what the stream already has. Throws SUPERSEDED when another capture wrote, POISON when somebody else did, transient when stored messages are gone. */
  async #dropStored(): Promise<void> {
    const before = (this.#window[0]?.sequence ?? this.#last + 1) - 1;
    const info = await this.#stream.manager.streams.info(this.#stream.name);
    const last = info.state.last_seq;
    if (last < before) throw lostMessages(this.#stream.name, last + 1, before);
    for (let sequence = before + 1; sequence <= last; sequence += 1) {
      const stored = await findMessage(this.#stream.manager, this.#stream.name, sequence);
      if (stored?.header?.get(PUBLISHER) !== this.#id) throw this.#ofAnother(stored, sequence);
      if (!isSame(stored, this.#window[0]))
        throw new TidemarkError('transient', `message ${sequence} of stream ${this.#stream.name} is a copy that somebody published`);
      this.#release(this.#window.shift() as Pending);
    }
  }

  /** Another capture's name is on everything it publishes, whatever its version; what has none and is no chunk either is a stray message, and there is no other capture to stop. */
  #ofAnother(stored: StoredMsg | undefined, sequence: number): Halt {
    const stray = stored === undefined || stored.header?.has(PUBLISHER) ? undefined : strayReason(stored);
    return stray === undefined ? superseded(this.#stream.name, sequence) : strayHalt(this.#stream, sequence, stray, UNHARMED);
  }

  /** Sends all of the window once more, one after the other; true when all of it was stored. */
  async #sendWindow(): Promise<boolean> {
    while (this.#window.length > 0 && !this.#signal.aborted) {
      const batch = [...this.#window];
      for (const pending of batch) delete pending.error;
      // The first alone proves that the way is free; the rest follows in a pipeline.
      await this.#store(batch[0] as Pending);
      if ((batch[0] as Pending).state !== 'stored') return false;
      await Promise.all(batch.slice(1).map((pending) => this.#store(pending)));
      while (this.#window[0]?.state === 'stored') this.#release(this.#window.shift() as Pending);
      this.#notify();
      if (this.#window.some((pending) => pending.error !== undefined)) return false;
    }
    return this.#window.length === 0;
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #notify(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) wake();
  }
}

/** The message that we published, not a copy of another of ours that somebody else put in its place. */
function isSame(stored: StoredMsg, pending: Pending | undefined): boolean {
  if (pending === undefined || pending.data.length !== stored.data.length) return false;
  return pending.head.keys().every((name) => stored.header.get(name) === pending.head.get(name));
}

const lostMessages = (stream: string, from: number, to: number): TidemarkError =>
  new TidemarkError('transient', `stream ${stream} ${from === 0 ? 'is gone' : `lost messages ${from} to ${to}`}: publishing again from the slot`);

const UNHARMED = 'Nothing of ours went in behind it, and nothing was confirmed to Postgres.';

function superseded(stream: string, sequence: number): Halt {
  return new Halt('SUPERSEDED', {
    seen: `message ${sequence} of stream ${stream} was published by another capture.`,
    safe: UNHARMED,
    remedy: 'run one capture for each source; stop the other one, then start this one again',
  });
}

/** JetStream's "wrong last sequence". */
export function isSequenceError(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === 10071;
}
