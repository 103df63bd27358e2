/**
 * One walsender session: handshake by pg-logical-replication, everything it gets wrong done here (facts of 2.5.0, each with a test): it confirms end + 1, confirms
 * by itself, reuses its buffers, never answers, never notices silence. Owns the status packets. Must never put anything but `confirm()`'s value into flush.
 */
import type { Socket } from 'node:net';
import type pg from 'pg';
import { LogicalReplicationService, PgoutputPlugin } from 'pg-logical-replication';
import { LSN_ZERO, type Lsn, parseLsn } from '../position/lsn.js';
import { Halt, TidemarkError } from '../runtime/errors.js';
import { quoteIdentifier, quoteLiteral } from './identifier.js';
import { checkSession, clientConfig, explainConnectError } from './session.js';

const SERVER_TIMEOUT_MS = 60_000;
const TIMING: Timing = { statusMs: 3000, askAfterMs: 10_000, deadAfterMs: 30_000 };
const POSTGRES_EPOCH_MS = 946_684_800_000;

export type Timing = {
  /** A status packet goes out at least this often, also while the socket is paused: the server's own time-out is a minute. */
  readonly statusMs: number;
  /** Silence after which an answer is asked for, and after which the connection counts as dead. */
  readonly askAfterMs: number;
  readonly deadAfterMs: number;
};

export type ReplicationOptions = {
  readonly url: string;
  readonly applicationName: string;
  readonly slot: string;
  readonly publication: string;
  /** The server that must answer here too: the name may resolve to another one by now. */
  readonly server: { readonly systemId: string; readonly timeline: number };
  /** One pgoutput message; the bytes are the callee's to keep. */
  readonly onMessage: (message: Buffer) => void;
  /** All that committed below `walEnd` has been sent. */
  readonly onKeepalive: (walEnd: Lsn) => void;
  readonly timing?: Timing;
};

/** `r`: write = received, flush and apply exact or 0/0, which leaves the slot alone. Source: manual, "Standby status update". */
export function statusPacket(status: { written: Lsn; flushed: Lsn; now: number; askReply: boolean }): Buffer {
  const packet = Buffer.alloc(34);
  packet[0] = 0x72;
  packet.writeBigUInt64BE(status.written, 1);
  packet.writeBigUInt64BE(status.flushed, 9);
  packet.writeBigUInt64BE(status.flushed, 17);
  packet.writeBigInt64BE(BigInt(status.now - POSTGRES_EPOCH_MS) * 1000n, 25);
  packet[33] = status.askReply ? 1 : 0;
  return packet;
}

type Handshake = { readonly sql: (slot: string) => string; readonly prepare: (client: pg.Client) => Promise<void> };

/** Hands the bytes through, copied at once: the parser reuses its buffer for the next read. */
class RawPgoutput extends PgoutputPlugin {
  readonly #handshake: Handshake;

  constructor(handshake: Handshake) {
    super({ protoVersion: 1, publicationNames: [] });
    this.#handshake = handshake;
  }

  // The library types the result as a parsed message; nothing of it but our own listener ever looks at it.
  override parse(buffer: Buffer): never {
    return Buffer.from(buffer) as never;
  }

  override async start(client: pg.Client, slotName: string): Promise<unknown> {
    await this.#handshake.prepare(client);
    return client.query(this.#handshake.sql(slotName));
  }
}

type Wire = { readonly stream: Socket; sendCopyFromChunk(packet: Buffer): void };

export class ReplicationStream {
  readonly #options: ReplicationOptions;
  readonly #service: LogicalReplicationService;
  #wire: Wire | undefined;
  #received: Lsn = LSN_ZERO;
  #timer: NodeJS.Timeout | undefined;
  /** Monotonic: of a clock that was set back silence would not be noticed for as long. */
  #lastHeard = performance.now();
  #paused = false;
  #stopped = false;
  #fail!: (error: unknown) => void;
  /** Rejects when the session ends for any reason but stop(); resolves after stop(). */
  readonly ended: Promise<void>;
  #finish!: () => void;

  constructor(options: ReplicationOptions) {
    this.#options = options;
    const config = clientConfig(options.url, { applicationName: options.applicationName, replication: true });
    config.options = `${config.options} -c wal_sender_timeout=${SERVER_TIMEOUT_MS}`;
    this.#service = new LogicalReplicationService(config, { acknowledge: { auto: false, timeoutSeconds: 0 } });
    this.ended = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.ended.catch(() => undefined);
  }

  /** Newest WAL position heard of: what `write` says. */
  get received(): Lsn {
    const seen = parseLsn(this.#service.lastLsn());
    if (seen > this.#received) this.#received = seen;
    return this.#received;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Resolves when the server has begun to stream. From the slot's own position: what lies before it the server skips. */
  async start(): Promise<void> {
    const service = this.#service;
    const { slot, publication } = this.#options;
    const plugin = new RawPgoutput({
      prepare: (client) => this.#prepare(client),
      sql: (name) =>
        `START_REPLICATION SLOT ${quoteIdentifier(name)} LOGICAL 0/0 (proto_version '1', publication_names ${quoteLiteral(quoteIdentifier(publication))}, messages 'true')`,
    });
    service.on('error', (error) => this.#end(explainConnectError(error)));
    service.on('data', (_lsn: string, message: Buffer) => this.#onData(message));
    service.on('heartbeat', (walEnd: string, _time: number, asked: boolean) => this.#onKeepalive(parseLsn(walEnd), asked));
    const started = new Promise<void>((resolve) => service.on('start', resolve));
    service.subscribe(plugin, slot, '0/0').then(
      () => this.#end(new TidemarkError('transient', 'the server ended the replication stream')),
      (error: unknown) => this.#end(explainConnectError(error)),
    );
    await Promise.race([started, this.ended]);
    if (this.#stopped) return;
    this.#wire = (service as unknown as { _connection: Wire })._connection;
    this.#lastHeard = performance.now();
    this.#timer = setInterval(() => this.#beat(), (this.#options.timing ?? TIMING).statusMs);
  }

  /** Settings read back, and the right server: checked on this very connection. */
  async #prepare(client: pg.Client): Promise<void> {
    await checkSession(client);
    const result = await client.query<{ systemid: string; timeline: string }>('IDENTIFY_SYSTEM');
    const row = result.rows[0];
    const { systemId, timeline } = this.#options.server;
    if (row?.systemid !== systemId || Number(row.timeline) !== timeline) {
      throw new Halt('IDENTITY', {
        seen: `the replication connection reached server ${row?.systemid}/${row?.timeline}, the other one ${systemId}/${timeline}.`,
        safe: 'Nothing was read and nothing confirmed.',
        remedy: 'let source.url name one single server',
      });
    }
  }

  #onData(message: Buffer): void {
    this.#lastHeard = performance.now();
    try {
      this.#options.onMessage(message);
    } catch (error) {
      this.#end(error);
    }
  }

  #onKeepalive(walEnd: Lsn, asked: boolean): void {
    this.#lastHeard = performance.now();
    if (walEnd > this.#received) this.#received = walEnd;
    try {
      this.#options.onKeepalive(walEnd);
    } catch (error) {
      this.#end(error);
    }
    if (asked) this.#send(LSN_ZERO);
  }

  /** Tells the slot that everything before `position` is archived. Sent once; later packets carry 0/0, so that a server that stops does not wait for us. */
  confirm(position: Lsn): void {
    this.#send(position);
  }

  /** Asks for a keepalive: its WAL end says how far everything has been sent. */
  askKeepalive(): void {
    this.#send(LSN_ZERO, true);
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#wire?.stream.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#lastHeard = performance.now();
    this.#wire?.stream.resume();
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#timer);
    // end() waits for the server's goodbye, which a paused or dead socket never brings.
    const wire = this.#wire;
    const hard = setTimeout(() => wire?.stream.destroy(), 500);
    wire?.stream.resume();
    await this.#service.stop().catch(() => undefined);
    clearTimeout(hard);
    this.#wire = undefined;
    this.#finish();
  }

  #beat(): void {
    const { askAfterMs, deadAfterMs } = this.#options.timing ?? TIMING;
    const silent = this.#paused ? 0 : performance.now() - this.#lastHeard;
    if (silent > deadAfterMs) return this.#end(new TidemarkError('transient', `nothing was heard from the server for ${Math.round(silent / 1000)} s`));
    this.#send(LSN_ZERO, silent > askAfterMs);
  }

  #send(flushed: Lsn, askReply = false): void {
    if (this.#stopped || this.#wire === undefined) return;
    this.#wire.sendCopyFromChunk(statusPacket({ written: this.received, flushed, now: Date.now(), askReply }));
  }

  #end(error: unknown): void {
    if (this.#stopped) return;
    this.#fail(error);
    void this.stop();
  }
}
