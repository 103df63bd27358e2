/**
 * What the pruner tells of itself: its numbers for Prometheus, whether its loop turns, and whether it is ready (its last run went through, no table halted, NATS there for requests). Is told
 * what happens by the others; only the brake (`tidemark pause`) is looked at when somebody asks.
 */
import { readPause } from '../../src/archive/operations.js';
import type { PruneResult } from '../../src/prune/run.js';
import type { Config, TableConfig } from '../../src/runtime/config.js';
import type { Health } from '../../src/runtime/health.js';
import { type Counter, type Histogram, type Metrics, type Reading, SECONDS } from '../../src/runtime/metrics.js';
import type { Monitor } from '../../src/runtime/monitor.js';

/** A batch takes no longer, with the tables before it that had none and were read whole for want of an index. */
const BATCH_MS = 3_600_000;
/** Waiting for the schedule, or for days to be sealed. */
const ANY_TIME = Number.POSITIVE_INFINITY;

const named = ({ schema, table }: { readonly schema: string; readonly table: string }): string => `${schema}.${table}`;

export class PrunerMetrics {
  readonly #health: Health;
  readonly #rows: Counter;
  readonly #batches: Counter;
  readonly #batching: Histogram;
  readonly #runs: Counter;
  readonly #running: Histogram;
  readonly #halts: Counter;
  readonly #retries: Counter;
  #phase: string | undefined = 'starting';
  #connected: () => boolean = () => false;
  #last: PruneResult | undefined;
  #failure: string | undefined;
  /** Rows a second that the run under way keeps to. */
  #pace = 0;
  /** Rows counted of each table in this run, batch by batch. */
  readonly #counted = new Map<string, number>();

  constructor(config: Config, { metrics, health }: Monitor) {
    this.#health = health;
    this.#rows = metrics.counter('tidemark_pruned_rows_total', 'Rows deleted from Postgres, each proved to be archived.', ['table']);
    this.#batches = metrics.counter('tidemark_prune_batches_total', 'Transactions that deleted them.', ['table']);
    for (const table of config.tables.filter(({ prune }) => prune)) {
      this.#rows.inc(0, { table: named(table) });
      this.#batches.inc(0, { table: named(table) });
    }
    this.#batching = metrics.histogram('tidemark_prune_batch_duration_seconds', 'One transaction: deleting, comparing, receipt and COMMIT.', SECONDS);
    this.#runs = metrics.counter('tidemark_prune_runs_total', 'Runs, by how they ended: done, partial (a table has a problem), failed.', ['result']);
    for (const result of ['done', 'partial', 'failed']) this.#runs.inc(0, { result });
    this.#running = metrics.histogram('tidemark_prune_run_duration_seconds', 'A run over all tables.', [...SECONDS, 1800, 3600]);
    this.#halts = metrics.counter('tidemark_halts_total', 'Tables halted by a run of this process (a halt of the service ends it: up is 0 then).', ['halt']);
    this.#halts.inc(0, { halt: 'DIGEST' });
    this.#retries = metrics.counter('tidemark_pruner_retries_total', 'Lost connections to NATS after which the pruner began again.');
    this.#gauges(config, metrics);
    health.turn(ANY_TIME);
    health.needs('pruner', () => this.#phase);
    health.needs('nats', () => (this.#connected() ? undefined : 'there is no connection to NATS: the schedule goes on, requests are not heard'));
    health.needs('run', () => this.#failure);
    health.needs('halt', () => this.#halted());
  }

  #gauges(config: Config, metrics: Metrics): void {
    const last = (read: (last: PruneResult) => Reading) => (): Reading => (this.#last === undefined ? null : read(this.#last));
    const { enabled, dryRun } = config.prune;
    metrics.gauge('tidemark_prune_enabled', '1 when rows are deleted by schedule (prune.enabled, not prune.dryRun).', () => (enabled && !dryRun ? 1 : 0));
    metrics.gauge('tidemark_prune_paused', '1 while `tidemark pause` holds pruning back.', async () =>
      (await readPause(config.archive.dir)) === undefined ? 0 : 1,
    );
    metrics.gauge(
      'tidemark_prune_pace_rows_per_second',
      'Rows a second that the run under way keeps to (prune.spread, prune.maxRowsPerSecond); 0 between runs.',
      () => this.#pace,
    );
    metrics.gauge(
      'tidemark_prune_last_run_timestamp_seconds',
      'When the last run of this process ended, seconds since 1970.',
      last(({ finishedAt }) => Date.parse(finishedAt) / 1000),
    );
    metrics.gauge(
      'tidemark_prune_left_rows',
      'Old rows that the last run left, by reason.',
      last(({ tables }) =>
        tables.flatMap((table) => Object.entries(table.left).map(([reason, value]) => ({ labels: { table: named(table), reason }, value }))),
      ),
      ['table', 'reason'],
    );
    metrics.gauge(
      'tidemark_prune_table_problem',
      '1 for each table that the last run could not prune, or not wholly; why is in the log and in `tidemark status`.',
      last(({ tables }) =>
        tables.map((table) => ({ labels: { table: named(table) }, value: table.problem === null || table.problem === 'prune: false' ? 0 : 1 })),
      ),
      ['table'],
    );
  }

  /** It waits for its schedule and for requests. */
  waits(): void {
    this.#phase = undefined;
  }

  failed(): void {
    this.#retries.inc();
  }

  connected(connected: () => boolean): void {
    this.#connected = connected;
  }

  begins(): void {
    this.#counted.clear();
    this.#health.turn(BATCH_MS);
  }

  batch(table: TableConfig, { rows, ms, rowsPerSecond }: { rows: number; ms: number; rowsPerSecond: number }, dryRun: boolean): void {
    this.#health.turn(BATCH_MS);
    if (dryRun) return;
    this.#pace = rowsPerSecond;
    const name = named(table);
    this.#counted.set(name, (this.#counted.get(name) ?? 0) + rows);
    this.#rows.inc(rows, { table: name });
    this.#batches.inc(1, { table: name });
    this.#batching.observe(ms / 1000);
  }

  /** A run stands; days may still be sealed after it. */
  ran(result: PruneResult): void {
    this.#health.turn(ANY_TIME);
    this.#pace = 0;
    if (!result.ran || result.dryRun) return;
    // A batch whose COMMIT got no answer is known to be deleted only by now.
    for (const table of result.tables) {
      const more = table.deleted - (this.#counted.get(named(table)) ?? 0);
      if (more > 0) this.#rows.inc(more, { table: named(table) });
    }
    const whole = (result.problem ?? null) === null && result.tables.every(({ problem }) => problem === null || problem === 'prune: false');
    this.#runs.inc(1, { result: whole ? 'done' : 'partial' });
    this.#running.observe((Date.parse(result.finishedAt) - Date.parse(result.at)) / 1000);
    for (const { halt } of result.halted) this.#halts.inc(1, { halt });
    this.#last = result;
    this.#failure = undefined;
  }

  /** A run that could not be: the database is not there, say. */
  couldNot(reason: string): void {
    this.#health.turn(ANY_TIME);
    this.#pace = 0;
    this.#runs.inc(1, { result: 'failed' });
    this.#failure = `the last run failed: ${reason}`;
  }

  #halted(): string | undefined {
    const halted = this.#last?.halted ?? [];
    return halted.length === 0 ? undefined : halted.map(({ table, halt }) => `${table} stands still: ${halt}`).join('; ');
  }
}
