/**
 * Reads the chunks of a stream in order: fragments put together, at most ~8 MB asked for ahead, no acknowledgements (the reader's position is its own
 * manifest). Sequence numbers serve to notice messages that got lost on the way here, never to prove continuity: that is done from positions.
 */
import { AckPolicy, createInbox, DeliverPolicy, type Msg, nanos, ReplayPolicy, type StreamInfo, type Subscription } from 'nats';
import { type ChunkHeader, decodeChunkHeader } from '../change/chunk.js';
import { messageOf, TidemarkError } from '../runtime/errors.js';
import { sleep } from '../runtime/service.js';
import { FragmentGroup, type WholeChunk } from './fragments.js';
import { strayHalt } from './stray.js';
import { isNotFound, type StreamConnection } from './topology.js';

/** One whole chunk. `sequence`: of its last message; `firstSequence`: of its first fragment (reading again must start there). */
export type StreamChunk = WholeChunk & {
  /** Creation time of the stream, ISO: a sequence means nothing in another one. */
  readonly streamCreated: string;
};

export type ReadOptions = {
  /** Called when reading stumbles and goes on by itself. */
  readonly notice?: (reason: string) => void;
  /** End when this sequence has been read, instead of waiting for more. Throws `failed` when it was taken out of the stream before. */
  readonly until?: number;
  /** Told with each message how many of the stream lie behind it yet, and when it was stored, milliseconds since 1970. */
  readonly pending?: (messages: number, storedAt: number) => void;
};

/** A pull asks for at most this much; more than 64 MB outstanding makes the server stall. */
const PULL_BYTES = 8 * 1024 * 1024;
const PULL_MESSAGES = 4096;
const PULL_EXPIRES_MS = 3000;
/** Silence for this much longer than a pull lives means that it is lost. */
const PULL_GRACE_MS = 2000;
const CONSUMER_IDLE_MS = 300_000;

/** A place in a stream. `created`: of which stream; `read`: the message was read before, so a stream that ends before it has lost it. */
export type Place = { readonly sequence?: number; readonly created?: string; readonly read?: boolean };

/**
 * Chunks from `from.sequence` on (the beginning without one, or when the stream is not the one `from.created` names, or has lost what was read of it). Waits while the stream does
 * not exist; heals broken connections and vanished consumers by itself. Throws Halt POISON for a message that is no chunk. Ends when `signal` aborts.
 */
export async function* readChunks(stream: StreamConnection, from: Place, signal: AbortSignal, options: ReadOptions = {}): AsyncGenerator<StreamChunk> {
  const reader = new StreamReader(stream, from, signal, options);
  const fragments = new FragmentGroup();
  try {
    for await (const { message, sequence, created } of reader.messages()) {
      const header = readHeader(stream, message, sequence);
      const whole = fragments.add(header, message.data, sequence);
      if (whole !== undefined) yield { ...whole, streamCreated: created };
      if (options.until !== undefined && sequence >= options.until) return;
    }
  } finally {
    reader.close();
  }
}

/** Header of a message of the stream. Throws Halt POISON when it is none of ours. */
function readHeader(stream: StreamConnection, message: Msg, sequence: number): ChunkHeader {
  try {
    return decodeChunkHeader((name) => (message.headers?.has(name) ? message.headers.get(name) : undefined));
  } catch (error) {
    throw strayHalt(stream, sequence, error);
  }
}

type Delivered = { message: Msg; sequence: number; created: string };

/** The pull loop over one ephemeral consumer, made anew whenever something is amiss. */
class StreamReader {
  readonly #stream: StreamConnection;
  readonly #signal: AbortSignal;
  readonly #options: ReadOptions;
  readonly #abort: () => void;
  /** Next sequence to be read; 0 = the first there is. */
  #next: number;
  /** The last message that was read. `storedAt`: nanoseconds since 1970, by which it is known again; undefined for one that another process has read. */
  #read: { readonly sequence: number; readonly storedAt: string | undefined } | undefined;
  #created: string | undefined;
  #consumer: string | undefined;
  #subscription: Subscription | undefined;
  /** True right after a consumer was made: its first message may lie beyond `next` (purged), later ones may not. */
  #fresh = true;

  constructor(stream: StreamConnection, from: Place, signal: AbortSignal, options: ReadOptions) {
    this.#stream = stream;
    this.#signal = signal;
    this.#options = options;
    this.#next = from.sequence ?? 0;
    this.#read = from.read === true && from.sequence !== undefined ? { sequence: from.sequence, storedAt: undefined } : undefined;
    this.#created = from.created;
    this.#abort = () => this.#subscription?.unsubscribe();
    signal.addEventListener('abort', this.#abort);
  }

  async *messages(): AsyncGenerator<Delivered> {
    let failures = 0;
    while (!this.#signal.aborted) {
      try {
        if (this.#consumer === undefined && !(await this.#open())) {
          await sleep(250, this.#signal);
          continue;
        }
        let heard = false;
        for await (const delivered of this.#pull()) {
          failures = 0;
          heard = true;
          yield delivered;
        }
        if (!heard) await this.#requireEnd();
      } catch (error) {
        if (this.#signal.aborted) return;
        if (error instanceof TidemarkError) throw error;
        const denied = this.#stream.denied();
        if (denied !== undefined) throw denied;
        if (this.#stream.connection.isClosed()) throw error;
        failures += 1;
        this.#options.notice?.(messageOf(error));
        this.#forget();
        await sleep(Math.min(2000, 100 * 2 ** Math.min(failures, 5)), this.#signal);
      }
    }
  }

  /** Makes a consumer at the next sequence; false while the stream does not exist. */
  async #open(): Promise<boolean> {
    let info: StreamInfo;
    try {
      info = await this.#stream.manager.streams.info(this.#stream.name);
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
    const another = this.#created !== undefined && this.#created !== info.created;
    // A stream made anew or rolled back to an older copy gives its numbers a second time: read all of it, duplicates are dropped by position.
    const last = info.state.last_seq;
    if (another || this.#next > last + 1 || (this.#read?.sequence ?? 0) > last) this.#startOver();
    this.#created = info.created;
    // Filled again to where we were, or beyond, it is known by the last message that we have read: it is another one.
    const start = this.#read?.storedAt === undefined ? this.#next : this.#read.sequence;
    const consumer = await this.#stream.manager.consumers.add(this.#stream.name, {
      ack_policy: AckPolicy.None,
      replay_policy: ReplayPolicy.Instant,
      mem_storage: true,
      inactive_threshold: nanos(CONSUMER_IDLE_MS),
      ...(start > 0 ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: start } : { deliver_policy: DeliverPolicy.All }),
    });
    this.#consumer = consumer.name;
    this.#fresh = true;
    return true;
  }

  /** What is purged while it is waited for never comes. */
  async #requireEnd(): Promise<void> {
    const { until } = this.#options;
    if (until === undefined || this.#next > until) return;
    const { state } = await this.#stream.manager.streams.info(this.#stream.name);
    if (state.first_seq <= until) return;
    throw new TidemarkError('failed', `the stream was purged beyond message ${until} before that was read: it begins at ${state.first_seq}`, {
      remedy: 'start again; what is archived is read from the archive',
    });
  }

  /** One request: ends when the server has answered it in full or it ran out. Throws when the consumer is of no more use. */
  async *#pull(): AsyncGenerator<Delivered> {
    const { connection } = this.#stream;
    const inbox = createInbox();
    const subscription = connection.subscribe(inbox);
    this.#subscription = subscription;
    let lastHeard = performance.now();
    const watchdog = setInterval(() => {
      if (performance.now() - lastHeard > PULL_EXPIRES_MS + PULL_GRACE_MS) subscription.unsubscribe();
    }, 500);
    try {
      const request = { batch: PULL_MESSAGES, max_bytes: Math.max(PULL_BYTES, 2 * (connection.info?.max_payload ?? 0)), expires: nanos(PULL_EXPIRES_MS) };
      connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#stream.name}.${this.#consumer}`, JSON.stringify(request), { reply: inbox });
      let received = 0;
      for await (const message of subscription) {
        lastHeard = Number.POSITIVE_INFINITY; // while the reader works on a message, silence means nothing
        if (message.subject === inbox) {
          if (endsPull(message)) return;
          lastHeard = performance.now();
          continue;
        }
        const delivered = this.#accept(message);
        if (delivered !== undefined) yield delivered;
        received += 1;
        if (received === PULL_MESSAGES) return;
        lastHeard = performance.now();
      }
      if (!this.#signal.aborted) throw new Error('the stream answers no more');
    } finally {
      clearInterval(watchdog);
      subscription.unsubscribe();
      this.#subscription = undefined;
    }
  }

  #startOver(): void {
    this.#next = 0;
    this.#read = undefined;
  }

  /** undefined for the message that was read last, which only says that the stream is what it was. */
  #accept(message: Msg): Delivered | undefined {
    const { sequence, pending, storedAt } = placeOf(message);
    if (this.#fresh && sequence < this.#next) {
      if (storedAt === this.#read?.storedAt) return undefined;
      this.#startOver();
      throw new Error(`message ${sequence} of the stream is not the one that was read: an older copy of the stream was put in its place`);
    }
    // Nothing is redelivered without acknowledgements, so a message lost with a connection shows as a jump: read on from before it.
    if (!this.#fresh && sequence !== this.#next) throw new Error(`expected message ${this.#next} of the stream, got ${sequence}`);
    this.#fresh = false;
    this.#next = sequence + 1;
    this.#read = { sequence, storedAt };
    this.#options.pending?.(pending, Number(storedAt) / 1e6);
    return { message, sequence, created: this.#created as string };
  }

  #forget(): void {
    const name = this.#consumer;
    this.#consumer = undefined;
    if (name !== undefined && !this.#stream.connection.isClosed()) {
      this.#stream.manager.consumers.delete(this.#stream.name, name).catch(() => undefined); // it also ends by itself
    }
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.#abort);
    this.#forget();
  }
}

/** From the reply subject `$JS.ACK[.domain.account].stream.consumer.delivered.STREAMSEQ.consumerseq.time.pending[.token]`. */
function placeOf(message: Msg): { sequence: number; pending: number; storedAt: string } {
  const parts = (message.reply ?? '').split('.');
  const at = parts.length === 9 ? 5 : 7;
  const sequence = Number(parts[at]);
  if (parts[0] !== '$JS' || !Number.isSafeInteger(sequence)) throw new Error(`a message without its place in the stream: ${message.reply ?? ''}`);
  return { sequence, pending: Number(parts[at + 3] ?? 0), storedAt: parts[at + 2] ?? '' };
}

/** Status messages: 404/408 nothing there in time, 409 asked bytes or messages reached; all else means that the consumer has gone. */
function endsPull(message: Msg): boolean {
  const code = message.headers?.code ?? 0;
  if (code === 100) return false; // heartbeat
  if (code === 404 || code === 408) return true;
  const description = message.headers?.description ?? '';
  if (code === 409 && /exceeds maxbytes|batch completed|maxrequest/i.test(description)) return true;
  throw new Error(`the stream's consumer ended: ${code} ${description}`);
}
