/**
 * Numbers of a process in Prometheus' form. Owns the way in which they are registered and written: counters and histograms are counted up where things happen, gauges are asked when
 * somebody looks. Knows no domain word: names and meanings are given by who registers them. Without a registry (metrics are off) nothing is kept and the library is not loaded.
 */
import { readdirSync } from 'node:fs';
import type { Registry as PrometheusRegistry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;
export type Counter = { inc(by?: number, labels?: Labels): void };
export type Histogram = { observe(value: number, labels?: Labels): void };

/** What a gauge says: a number, one for each set of labels, or (null, undefined) that it is not known: then it is left out. */
export type Reading = number | null | undefined | readonly { readonly labels: Labels; readonly value: number }[];
export type Read = () => Reading | Promise<Reading>;

export interface Metrics {
  /** `labels`: names of its labels. A counter without labels begins at 0. */
  counter(name: string, help: string, labels?: readonly string[]): Counter;
  /** A counter whose sum is kept elsewhere and asked at each scrape: for what is counted often. */
  total(name: string, help: string, read: () => number): void;
  /** A gauge that is asked at each scrape. What `read` throws leaves it out. */
  gauge(name: string, help: string, read: Read, labels?: readonly string[]): void;
  /** `buckets`: upper bounds, ascending. */
  histogram(name: string, help: string, buckets: readonly number[]): Histogram;
}

/** For durations from a hundredth of a second to ten minutes. */
export const SECONDS: readonly number[] = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

const nothing = (): void => undefined;

/** Metrics are off. */
export const NO_METRICS: Metrics = { counter: () => ({ inc: nothing }), total: nothing, gauge: nothing, histogram: () => ({ observe: nothing }) };

type Library = typeof import('prom-client');

/** The numbers of one process. */
export class MetricsRegistry implements Metrics {
  readonly #library: Library;
  readonly #registry: PrometheusRegistry;

  private constructor(library: Library, labels: Labels) {
    this.#library = library;
    this.#registry = new library.Registry();
    this.#registry.setDefaultLabels(labels);
  }

  /** Loads the library. `labels` go to every number. What every process has is registered: CPU, memory, open files, start. */
  static async open(labels: Labels = {}): Promise<MetricsRegistry> {
    const registry = new MetricsRegistry((await import('prom-client')).default, labels);
    registry.#process();
    return registry;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All of them as text, each gauge asked now. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  counter(name: string, help: string, labels: readonly string[] = []): Counter {
    const counter = new this.#library.Counter({ name, help, labelNames: [...labels], registers: [this.#registry] });
    return { inc: (by = 1, values = {}) => counter.inc({ ...values }, by) };
  }

  total(name: string, help: string, read: () => number): void {
    const registers = [this.#registry];
    const collect = (): void => {
      counter.reset();
      counter.inc(read());
    };
    const counter = new this.#library.Counter({ name, help, registers, collect });
  }

  gauge(name: string, help: string, read: Read, labels: readonly string[] = []): void {
    const registers = [this.#registry];
    const gauge: InstanceType<Library['Gauge']> = new this.#library.Gauge({
      name,
      help,
      labelNames: [...labels],
      registers,
      collect: () => show(gauge, read, labels.length === 0),
    });
  }

  histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    const histogram = new this.#library.Histogram({ name, help, buckets: [...buckets], registers: [this.#registry] });
    return { observe: (value) => histogram.observe(value) };
  }

  /** By hand: the library's own set keeps a timer of a hundred beats a second. */
  #process(): void {
    this.total('process_cpu_seconds_total', 'User and system CPU time of this process.', () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    });
    this.gauge('process_resident_memory_bytes', 'Resident memory of this process.', () => process.memoryUsage.rss());
    this.gauge('process_open_fds', 'Open files of this process.', () => readdirSync('/proc/self/fd').length);
    const started = Date.now() / 1000 - process.uptime();
    this.gauge('process_start_time_seconds', 'When this process was started, seconds since 1970.', () => started);
    this.gauge('nodejs_heap_size_used_bytes', 'Memory that JavaScript uses.', () => process.memoryUsage().heapUsed);
  }
}

async function show(gauge: InstanceType<Library['Gauge']>, read: Read, alone: boolean): Promise<void> {
  let reading: Reading;
  try {
    reading = await read();
  } catch {
    reading = undefined; // one number that cannot be had must not take the others away
  }
  gauge.reset();
  if (typeof reading === 'number') return gauge.set(reading);
  if (alone) gauge.remove(); // the library puts 0 there
  for (const { labels, value } of reading ?? []) gauge.set({ ...labels }, value);
}
