/**
 * What the archiver tells of itself: its numbers for Prometheus, whether its loop turns, and whether it is ready (NATS there, nothing waits for long). Is told what happens by the others; the
 * volume and the manifests are looked at only when somebody asks.
 */

import type { StreamInfo } from 'nats';
import { ArchiveGrowth, archiveBytes, type VolumeForecast } from '../../src/archive/growth.js';
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { Config } from '../../src/runtime/config.js';
import { describeError } from '../../src/runtime/errors.js';
import type { Health } from '../../src/runtime/health.js';
import { type Counter, type Histogram, type Metrics, type Reading, SECONDS } from '../../src/runtime/metrics.js';
import { type Monitor, unwatched } from '../../src/runtime/monitor.js';
import { type StreamForecast, streamForecast } from '../../src/stream/forecast.js';

/** Ready means: what was read waits no longer than this beyond the flush interval. */
const READY_BEYOND_MS = 60_000;
/** A batch that is not archived after this long hangs: a volume that answers no more. */
const FLUSH_MS = 900_000;
/** Volume and growth are looked at no more often than this, however many look here. */
const LOOK_MS = 5000;

/** The work in hand, as far as it is looked at. */
export type IntakeSeen = {
  /** Rows taken in and not archived yet. */
  readonly rows: number;
  /** When the oldest of them came, milliseconds of the monotonic clock; undefined: there is none. */
  readonly since: number | undefined;
  /** True while a batch is being written. */
  readonly busy: boolean;
};

export class ArchiverMetrics {
  readonly #health: Health;
  readonly #flushEveryMs: number;
  readonly #growth: ArchiveGrowth;
  readonly #rows: Counter;
  readonly #bytes: Counter;
  readonly #segments: Counter;
  readonly #flushing: Histogram;
  readonly #merging: Histogram;
  readonly #merged: Counter;
  readonly #sealing: Histogram;
  readonly #sealed: Counter;
  readonly #purged: Counter;
  readonly #retries: Counter;
  #phase: string | undefined;
  /** Undefined while there is no session: then the phase says what is missing, and of NATS nothing is known. */
  #connected: (() => boolean) | undefined;
  #state: () => ArchiveState | undefined = () => undefined;
  #intake: () => IntakeSeen | undefined = () => undefined;
  #pending = 0;
  #storedAt = 0;
  #stream: StreamForecast | undefined;
  #busySince: number | undefined;
  #volume: Promise<VolumeForecast> | undefined;
  #volumeAt = 0;

  constructor(config: Config, { metrics, health }: Monitor = unwatched()) {
    this.#health = health;
    this.#flushEveryMs = config.archive.flush.every;
    this.#growth = new ArchiveGrowth(config.archive.dir);
    this.#rows = metrics.counter('tidemark_archived_rows_total', 'Row versions that became durable in the archive.', ['table']);
    for (const { schema, table } of config.tables) this.#rows.inc(0, { table: `${schema}.${table}` });
    this.#bytes = metrics.counter('tidemark_archived_bytes_total', 'Bytes of the segments written for them, with the keys of updates and deletes.');
    this.#segments = metrics.counter('tidemark_archived_segments_total', 'Segments written for them, files of keys included.');
    this.#flushing = metrics.histogram('tidemark_flush_duration_seconds', 'From the end of a batch to its durable manifest.', SECONDS);
    this.#merging = metrics.histogram('tidemark_merge_duration_seconds', 'Merging small segments into one.', SECONDS);
    this.#merged = metrics.counter('tidemark_merged_segments_total', 'Small segments that were merged into others.');
    this.#sealing = metrics.histogram('tidemark_seal_duration_seconds', 'Sealing a day.', SECONDS);
    this.#sealed = metrics.counter('tidemark_seals_total', 'Days of tables that became daily files.');
    this.#purged = metrics.counter('tidemark_stream_purged_messages_total', 'Archived messages taken out of the stream.');
    this.#retries = metrics.counter('tidemark_archiver_retries_total', 'Failures after which the archiver began again: lost connections, a full volume.');
    this.#archive(metrics);
    this.#room(metrics);
    this.at('starting');
    health.needs('archiving', () => this.#phase);
    health.needs('nats', () => ((this.#connected?.() ?? true) ? undefined : 'there is no connection to NATS'));
    health.needs('lag', () => this.#behind());
  }

  #archive(metrics: Metrics): void {
    const state = (read: (state: ArchiveState) => Reading) => (): Reading => {
      const now = this.#state();
      return now === undefined ? null : read(now);
    };
    metrics.gauge(
      'tidemark_archive_lag_seconds',
      'How long the oldest change that was read waits to be durable; with a backlog: at least the age of the message read last.',
      () => this.#lagSeconds(),
    );
    metrics.gauge('tidemark_archive_pending_messages', 'Messages of the stream that are not read yet.', () => this.#pending);
    metrics.gauge('tidemark_archive_buffered_rows', 'Row versions read and not durable yet.', () => this.#intake()?.rows ?? 0);
    metrics.gauge(
      'tidemark_archive_manifest_number',
      'Number of the newest manifest.',
      state(({ number }) => number),
    );
    metrics.gauge('tidemark_archive_files', 'Live files of the archive, by kind.', state(filesByKind), ['kind']);
    metrics.gauge('tidemark_archive_bytes', 'Bytes of all live files of the archive.', state(archiveBytes));
  }

  #room(metrics: Metrics): void {
    const volume = (read: (seen: VolumeForecast) => number | null) => async (): Promise<Reading> => read(await this.#look());
    const stream = (read: (seen: StreamForecast) => number | null) => (): Reading => (this.#stream === undefined ? null : read(this.#stream));
    metrics.gauge(
      'tidemark_archive_volume_size_bytes',
      'Size of the volume that the archive lies on.',
      volume(({ sizeBytes }) => sizeBytes),
    );
    metrics.gauge(
      'tidemark_archive_volume_free_bytes',
      'Room on it for this user.',
      volume(({ freeBytes }) => freeBytes),
    );
    metrics.gauge(
      'tidemark_archive_full_forecast_seconds',
      'When it is full if the archive grows as in the last day; absent when it does not grow.',
      volume(({ fullInSeconds }) => fullInSeconds),
    );
    metrics.gauge(
      'tidemark_stream_bytes',
      'Bytes in the stream.',
      stream(({ bytes }) => bytes),
    );
    metrics.gauge(
      'tidemark_stream_messages',
      'Messages in the stream.',
      stream(({ messages }) => messages),
    );
    metrics.gauge(
      'tidemark_stream_limit_bytes',
      'What the stream may hold (stream.replay.bytes).',
      stream(({ limitBytes }) => limitBytes),
    );
    metrics.gauge(
      'tidemark_stream_full_forecast_seconds',
      'When it is full if it fills as since its first message and nothing is taken out, as while archiving stands still.',
      stream(({ fullInSeconds }) => fullInSeconds),
    );
  }

  /** What it is at instead of archiving. */
  at(phase: string): void {
    this.#phase = phase;
    this.#busySince = undefined;
    this.#health.turn(FLUSH_MS);
  }

  failed(error: unknown): void {
    this.#retries.inc();
    this.#connected = undefined;
    this.#intake = () => undefined;
    this.at(describeError(error));
  }

  connected(connected: () => boolean): void {
    this.#connected = connected;
  }

  /** It archives from now on. */
  archives(state: () => ArchiveState, intake: () => IntakeSeen): void {
    this.#state = state;
    this.#intake = intake;
    this.#phase = undefined;
  }

  /** A beat of the reader: it turns unless one batch hangs. */
  turned(busy: boolean): void {
    const now = performance.now();
    this.#busySince = busy ? (this.#busySince ?? now) : undefined;
    if (now - (this.#busySince ?? now) < FLUSH_MS) this.#health.turn();
  }

  /** A message was read that was stored at `storedAt`, milliseconds since 1970; so many lie behind it. */
  pending(messages: number, storedAt: number): void {
    this.#pending = messages;
    this.#storedAt = storedAt;
  }

  /** A batch is durable. */
  flushed(files: readonly FileEntry[], ms: number): void {
    this.#busySince = undefined;
    this.#flushing.observe(ms / 1000);
    this.#segments.inc(files.length);
    for (const { kind, schema, table, rows, bytes } of files) {
      if (kind === 'segment') this.#rows.inc(rows, { table: `${schema}.${table}` });
      this.#bytes.inc(bytes);
    }
  }

  merged(files: number, ms: number): void {
    this.#merged.inc(files);
    this.#merging.observe(ms / 1000);
  }

  sealed(ms: number): void {
    this.#sealed.inc();
    this.#sealing.observe(ms / 1000);
  }

  purged(messages: number): void {
    this.#purged.inc(messages);
  }

  /** The stream as it was just found. */
  stream(info: StreamInfo): void {
    this.#stream = streamForecast(info, Date.now());
  }

  #lagSeconds(): number | null {
    const seen = this.#intake();
    if (seen === undefined) return null;
    const waiting = seen.since === undefined ? 0 : (performance.now() - seen.since) / 1000;
    return this.#pending === 0 ? waiting : Math.max(waiting, (Date.now() - this.#storedAt) / 1000);
  }

  #behind(): string | undefined {
    const seconds = this.#lagSeconds() ?? 0;
    if (seconds * 1000 <= this.#flushEveryMs + READY_BEYOND_MS) return undefined;
    return `what was published ${Math.round(seconds)} s ago is not archived yet (${this.#pending} messages are not read)`;
  }

  #look(): Promise<VolumeForecast> {
    const now = performance.now();
    if (this.#volume === undefined || now - this.#volumeAt > LOOK_MS) {
      this.#volumeAt = now;
      this.#volume = this.#growth.forecast(this.#state());
    }
    return this.#volume;
  }
}

function filesByKind({ files }: ArchiveState): Reading {
  const counts = new Map<string, number>(['segment', 'keys', 'daily', 'history', 'changes'].map((kind) => [kind, 0]));
  for (const { kind } of files.values()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, value]) => ({ labels: { kind }, value }));
}
