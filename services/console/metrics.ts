/** What the console tells of itself: its numbers for Prometheus, whether its looks at the pipeline come to an end, and whether they succeed. Is told what happens by the others. */
import { type Counter, type Histogram, SECONDS } from '../../src/runtime/metrics.js';
import type { Monitor } from '../../src/runtime/monitor.js';

/** Nobody looks. */
const ANY_TIME = Number.POSITIVE_INFINITY;

export class ConsoleMetrics {
  readonly #health: Monitor['health'];
  readonly #looks: Counter;
  readonly #looking: Histogram;
  readonly #wrongTokens: Counter;
  #failed = false;

  /** `viewers`: how many watch now. */
  constructor({ metrics, health }: Monitor, viewers: () => number) {
    this.#health = health;
    this.#looks = metrics.counter('tidemark_console_looks_total', 'Looks at the pipeline, by how they ended: done, failed.', ['result']);
    for (const result of ['done', 'failed']) this.#looks.inc(0, { result });
    this.#looking = metrics.histogram('tidemark_console_look_duration_seconds', 'One look at Postgres, NATS and the archive.', SECONDS);
    metrics.gauge('tidemark_console_viewers', 'Pages that are open, and questions on their way.', viewers);
    this.#wrongTokens = metrics.counter('tidemark_console_wrong_tokens_total', 'Wrong tokens, in the form and in headers.');
    health.turn(ANY_TIME);
    // Anybody may ask: what failed says names of hosts, and is in the log.
    health.needs('look', () => (this.#failed ? 'the pipeline could not be looked at; why is in the log' : undefined));
  }

  /** A look begins. */
  begins(): void {
    this.#health.turn();
  }

  /** It has ended after `ms`. */
  looked(ms: number, result: 'done' | 'failed'): void {
    this.#looks.inc(1, { result });
    if (result === 'done') this.#looking.observe(ms / 1000);
    this.#failed = result === 'failed';
  }

  /** The last viewer is gone: nobody is kept waiting, and nothing is known. */
  rests(): void {
    this.#health.turn(ANY_TIME);
    this.#failed = false;
  }

  wrongToken(): void {
    this.#wrongTokens.inc();
  }
}
