/** Keeps what is needed to know when a fence is due, and emits it. Asks the server little: nothing is written while nobody writes. */
import type pg from 'pg';
import type { Lsn } from '../position/lsn.js';
import { emitFence, fenceDue, readHorizon, readInsertLsn } from './fence.js';

/** How often an idle connection is asked for the WAL end or the horizon. */
const ASK_EVERY_MS = 2000;

export class FenceClock {
  /** Row changes read since the last fence was written: counted up by the reader. */
  rows = 0;
  readonly #client: pg.Client;
  readonly #key: Buffer;
  readonly #binding: { generation: string; archive: string };
  readonly #everyMs: number;
  #lastAt = Number.NEGATIVE_INFINITY;
  #lastLsn: Lsn | undefined;
  #askAt = 0;
  /**
   * Rows that were read are below no archived horizon yet: another fence is owed when the horizon has reached this. The walsender sends a transaction as soon as its commit is on disk,
   * which is before it counts as ended (for long, where a synchronous standby is waited for), and a snapshot of that moment need not name it: its xmax is behind the newest that ended.
   */
  #owedAt: bigint | undefined;

  constructor(client: pg.Client, key: Buffer, binding: { generation: string; archive: string }, everyMs: number) {
    this.#everyMs = everyMs;
    this.#client = client;
    this.#key = key;
    this.#binding = binding;
  }

  /** Emits a fence if one is due. `now`: of a clock that never goes back, or fences would stop for as long as it went. */
  async tick(now = performance.now()): Promise<void> {
    let walSince = 0n;
    let owed = false;
    if (this.rows === 0) {
      if (now < this.#askAt) return;
      this.#askAt = now + ASK_EVERY_MS;
      const insert = await readInsertLsn(this.#client);
      this.#lastLsn ??= insert;
      walSince = insert - this.#lastLsn;
      owed = this.#owedAt !== undefined && (await readHorizon(this.#client)) >= this.#owedAt;
    }
    if (fenceDue({ now, everyMs: this.#everyMs, lastFenceAt: this.#lastAt, rowsSince: this.rows, walSince, owed })) await this.emit(now);
  }

  /** Rows that were not counted here are below no archived horizon yet, perhaps: those that a capture before this one read, or that were copied. */
  owe(): void {
    this.rows += 1;
  }

  async emit(now = performance.now()): Promise<void> {
    const withRows = this.rows > 0;
    this.rows = 0;
    this.#lastAt = now;
    const { horizon, xid } = await emitFence(this.#client, this.#key, this.#binding);
    this.#lastLsn = await readInsertLsn(this.#client);
    if (withRows) this.#owedAt = xid;
    if (this.#owedAt !== undefined && horizon >= this.#owedAt) this.#owedAt = undefined;
  }
}
