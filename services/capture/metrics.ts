/**
 * What capture tells of itself: its numbers for Prometheus, whether its loop turns, and whether it is ready (streaming from a proved server, NATS there, caught up). Is told what happens by the
 * others and asks nobody; the database is asked nothing for its sake.
 */
import type { Lsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import { describeError } from '../../src/runtime/errors.js';
import { Rate } from '../../src/runtime/forecast.js';
import type { Health } from '../../src/runtime/health.js';
import { type Counter, type Histogram, type Metrics, SECONDS } from '../../src/runtime/metrics.js';
import type { Monitor } from '../../src/runtime/monitor.js';
import type { SlotReading } from '../../src/wal/slot.js';
import { slotAlarm } from '../../src/wal/slot-health.js';

/** Ready means: what waits to be stored is no older and no more than this. */
const READY_WAITING_MS = 30_000;
const READY_LAG_BYTES = 64 * 1024 ** 2;
/** Connecting, with all its time-outs, takes no longer. */
const STEP_MS = 600_000;

/** The publisher, as far as it is looked at. */
export type PublisherSeen = { readonly inFlight: number; readonly waitingMs: number };
/** The streaming session, as far as it is looked at. `reached`: everything that committed below it is published. */
export type StreamingSeen = { readonly queuedBytes: number; readonly reached: Lsn };

type Lag = { readonly publish: number | null; readonly archive: number | null; readonly confirm: number | null };

export class CaptureMetrics {
  readonly #health: Health;
  readonly #bytes: Counter;
  readonly #chunks: Counter;
  readonly #storing: Histogram;
  readonly #copied: Counter;
  readonly #retries: Counter;
  #changes = 0;
  #phase: string | undefined;
  /** Undefined while there is no session: then the phase says what is missing, and of NATS nothing is known. */
  #connected: (() => boolean) | undefined;
  #publisher: PublisherSeen | undefined;
  #streaming: StreamingSeen | undefined;
  #archived: Lsn | undefined;
  #slot: SlotReading | undefined;
  #lag: Lag = { publish: null, archive: null, confirm: null };
  readonly #writing = new Rate();

  constructor({ metrics, health }: Monitor) {
    this.#health = health;
    this.#bytes = metrics.counter('tidemark_capture_published_bytes_total', 'Bytes that NATS has acknowledged.');
    this.#chunks = metrics.counter('tidemark_capture_published_messages_total', 'Messages that NATS has acknowledged.');
    this.#storing = metrics.histogram('tidemark_capture_store_duration_seconds', 'From handing a message over to its acknowledgement.', SECONDS);
    metrics.total(
      'tidemark_capture_changes_total',
      'Row changes read from the replication slot, those read again after a reconnect included.',
      () => this.#changes,
    );
    this.#copied = metrics.counter('tidemark_capture_copied_rows_total', 'Rows of tables that were copied, the first time or again.');
    this.#retries = metrics.counter('tidemark_capture_retries_total', 'Failures after which capture began again: lost connections, time-outs.');
    this.#gauges(metrics);
    this.at('starting');
    health.needs('streaming', () => this.#phase);
    health.needs('nats', () => ((this.#connected?.() ?? true) ? undefined : 'there is no connection to NATS'));
    health.needs('lag', () => this.#behind());
  }

  #gauges(metrics: Metrics): void {
    const slot = (read: (slot: SlotReading) => number | null) => () => (this.#slot === undefined ? null : read(this.#slot));
    metrics.gauge('tidemark_capture_in_flight_messages', 'Messages handed over and not acknowledged yet.', () => this.#publisher?.inFlight ?? 0);
    metrics.gauge('tidemark_capture_queued_bytes', 'Bytes read from the slot that are not in a message yet.', () => this.#streaming?.queuedBytes ?? 0);
    metrics.gauge('tidemark_publish_lag_bytes', 'WAL that is written and not yet in the stream.', () => this.#lag.publish);
    metrics.gauge('tidemark_archive_lag_bytes', 'WAL that is written and not yet durable in the archive.', () => this.#lag.archive);
    metrics.gauge('tidemark_confirm_lag_bytes', 'WAL that is written and not yet confirmed to the replication slot.', () => this.#lag.confirm);
    metrics.gauge(
      'tidemark_slot_wal_held_bytes',
      'WAL that Postgres keeps for the replication slot.',
      slot(({ heldBytes }) => heldBytes),
    );
    metrics.gauge(
      'tidemark_slot_wal_safe_bytes',
      'WAL that may still be written before the slot is lost; absent without max_slot_wal_keep_size.',
      slot(({ safeBytes }) => safeBytes),
    );
    metrics.gauge(
      'tidemark_slot_alarm_level',
      '0: well, 1 to 3: an alarm that grows (50, 75, 90 % of the bound; 10, 50, 100 GB without one), 4: lost.',
      slot((row) => slotAlarm(row).level),
    );
    metrics.gauge(
      'tidemark_slot_catalog_xmin_age_transactions',
      'Transactions since the oldest catalog rows that the slot keeps vacuum from.',
      slot(({ catalogXminAge }) => catalogXminAge),
    );
    metrics.gauge(
      'tidemark_slot_lost_forecast_seconds',
      'When the slot is lost if archiving stands still and Postgres writes as in the last ten minutes; absent when it is not bounded.',
      slot((row) => this.#lostIn(row)),
    );
  }

  /** What it is at instead of streaming. The loop comes round within `withinMs`; a copy may wait for room in the stream, and would begin anew with the process. */
  at(phase: string, withinMs = STEP_MS): void {
    this.#phase = phase;
    this.#health.turn(withinMs);
  }

  /** It failed and begins again. */
  failed(error: unknown): void {
    this.#retries.inc();
    this.#connected = undefined;
    this.#publisher = this.#streaming = this.#slot = undefined; // what is not looked at is not known
    this.#lag = { publish: null, archive: null, confirm: null };
    this.at(describeError(error));
  }

  connected(connected: () => boolean): void {
    this.#connected = connected;
  }

  publishes(publisher: PublisherSeen): void {
    this.#publisher = publisher;
  }

  streams(streaming: StreamingSeen): void {
    this.#streaming = streaming;
  }

  /** One message is stored. */
  stored(bytes: number, ms: number): void {
    this.#bytes.inc(bytes);
    this.#chunks.inc();
    this.#storing.observe(ms / 1000);
  }

  /** Of every row: nothing but a sum. */
  changed(): void {
    this.#changes += 1;
  }

  copied(rows: number): void {
    this.#copied.inc(rows);
  }

  /** A tick of the streaming session. `proved`: every archived fence has come again. */
  turned(proved: boolean): void {
    this.#phase = proved ? undefined : 'waiting for the fences of the archive to come again';
    this.#health.turn();
  }

  /** W as capture reads it. */
  archived(position: string | null): void {
    this.#archived = position === null ? undefined : parsePosition(position).lsn;
  }

  /** A look at the slot. The lags are those of this moment: the stages go on while nobody looks. */
  seen(slot: SlotReading): void {
    this.#slot = slot;
    const { insertLsn } = slot;
    if (insertLsn === null) return;
    this.#writing.add(performance.now(), Number(insertLsn));
    const behind = (lsn: Lsn | null | undefined): number | null => (lsn == null ? null : Math.max(0, Number(insertLsn - lsn)));
    this.#lag = { publish: behind(this.#streaming?.reached), archive: behind(this.#archived), confirm: behind(slot.confirmed) };
  }

  #behind(): string | undefined {
    const waitingMs = this.#publisher?.waitingMs ?? 0;
    if (waitingMs > READY_WAITING_MS) return `a message waits to be stored for ${Math.round(waitingMs / 1000)} s`;
    const { publish } = this.#lag;
    return publish !== null && publish > READY_LAG_BYTES ? `${Math.round(publish / 1024 ** 2)} MB of WAL are not in the stream yet` : undefined;
  }

  #lostIn({ safeBytes }: SlotReading): number | null {
    const rate = this.#writing.perSecond;
    return safeBytes === null || rate === null || rate <= 0 ? null : Math.max(0, safeBytes) / rate;
  }
}
