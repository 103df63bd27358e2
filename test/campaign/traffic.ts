/** Lanes that run beside one another, each in its own rhythm and by its own random source, until they are held or the server goes away; the load of a campaign. */
import { setTimeout as pause } from 'node:timers/promises';
import { Random } from './chance.js';
import type { Journal } from './journal.js';
import { Lane } from './lane.js';
import { addCounts, connect, keylessAt } from './load.js';
import { BULK, KINDS, type Kind, PARENT } from './tables.js';

const LANES = 4;
const DAY_S = 86_400;

export type TrafficParts = {
  readonly databaseUrl: string;
  readonly journal: Journal;
  readonly seed: number;
  readonly retentionS: number;
  readonly bulkRows: number;
};

export class Traffic {
  readonly #parts: TrafficParts;
  readonly #lanes: Lane[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #parked = new Set<Lane>();
  /** Of its own: for what one transaction does alone. */
  readonly #single: Lane;
  #holding = false;
  #over = false;
  #open!: () => void;
  #gate!: Promise<void>;
  failure: unknown;
  /** Transactions that crashes of the server took with them. */
  lost = 0;
  readonly children: string[] = [];

  private constructor(parts: TrafficParts) {
    this.#parts = parts;
    for (let index = 0; index < LANES; index += 1) this.#lanes.push(this.#lane(index));
    this.#single = this.#lane(LANES);
    this.#close();
  }

  static async start(parts: TrafficParts): Promise<Traffic> {
    const traffic = new Traffic(parts);
    await Promise.all(traffic.#all.map((lane) => lane.connect()));
    for (const lane of traffic.#lanes) traffic.#loops.push(traffic.#run(lane));
    return traffic;
  }

  get #all(): Lane[] {
    return [...this.#lanes, this.#single];
  }

  #lane(index: number): Lane {
    const { journal, databaseUrl, seed } = this.#parts;
    return new Lane({
      index,
      random: new Random(seed * 1009 + index),
      journal,
      kinds: KINDS,
      connect: () => connect(databaseUrl),
      at: (kind, random) => this.#at(kind, random),
      keys: 300,
      copyRows: 40,
      everyCommit: true,
    });
  }

  /** Half of them now, to grow old by themselves; some a little older, some of days that are over, a few of the future. */
  #at(kind: Kind, random: Random): string {
    const now = Math.floor(Date.now() / 1000);
    if (kind.undated && random.chance(0.3)) return random.pick(['null', 'infinity']);
    if (kind.keyless) return keylessAt(now, random);
    const age = random.pick([0, 0, 0, 0, 0, this.#parts.retentionS - 5, this.#parts.retentionS, DAY_S, 2 * DAY_S, 3 * DAY_S, -30]);
    const older = age >= DAY_S ? random.below(3 * 3600) : random.below(4);
    return String(BigInt(now - age - older) * 1_000_000n + BigInt(random.below(1_000_000)));
  }

  #close(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  async #run(lane: Lane): Promise<void> {
    for (let steps = 0; ; steps += 1) {
      if (lane.broken || (this.#holding && !lane.open)) {
        if (this.#over && !lane.broken) return;
        this.#parked.add(lane);
        await this.#gate;
        this.#parked.delete(lane);
        if (this.#over) return;
        continue;
      }
      try {
        if (this.#holding) await lane.end(true);
        else if (!lane.open && steps % 40 === 0) await lane.reconcile();
        else await lane.step();
      } catch (error) {
        if (!isConnectionLoss(error)) {
          this.failure ??= error;
          return;
        }
        lane.broken = true;
      }
      await pause(8);
    }
  }

  async #hold(): Promise<void> {
    this.#holding = true;
    for (const until = Date.now() + 30_000; this.#parked.size < LANES; await pause(20)) {
      if (this.failure !== undefined) throw this.failure;
      if (Date.now() > until) throw new Error('a lane of the load does not come to its end');
    }
  }

  #release(): void {
    this.#holding = false;
    const open = this.#open;
    this.#close();
    open();
  }

  /** No transaction of the load is open while `body` runs. */
  async quiet<T>(body: () => Promise<T>): Promise<T> {
    await this.#hold();
    try {
      return await body();
    } finally {
      this.#release();
    }
  }

  /** The server is back: what it has of each lane is found out before any goes on. */
  async recover(): Promise<void> {
    for (const lane of this.#all) lane.broken = true;
    await this.quiet(async () => {
      for (const lane of this.#all) this.lost += (await lane.recover()).length;
    });
  }

  /** One transaction of very many rows. */
  async bulk(): Promise<void> {
    await this.#single.bulk(BULK, this.#parts.bulkRows, BigInt(Date.now()) * 1000n);
  }

  /** Old rows that others refer to, and some that nobody does. */
  async parents(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const at = String(BigInt(Date.now() - (2 * DAY_S + i) * 1000) * 1000n);
      const child = await this.#single.parent(PARENT, at, i % 2 === 0);
      if (child !== undefined) this.children.push(child);
    }
  }

  async truncate(kind: Kind): Promise<void> {
    await this.quiet(async () => {
      await this.#single.begin();
      await this.#single.truncate(kind, this.#lanes);
    });
  }

  /** Every transaction ends; what the pruner took is written down. */
  async end(): Promise<void> {
    await this.#hold();
    this.#over = true;
    this.#open();
    await Promise.all(this.#loops);
  }

  async reconcile(): Promise<void> {
    for (const lane of this.#all) await lane.reconcile([...KINDS, BULK, PARENT]);
  }

  get counts(): Record<string, number> {
    return addCounts(this.#all.map(({ counts }) => counts));
  }

  async close(): Promise<void> {
    this.#over = true;
    this.#open();
    await Promise.all(this.#all.map((lane) => lane.close().catch(() => undefined)));
  }
}

export function isConnectionLoss(error: unknown): boolean {
  const code = (error as { code?: string } | null)?.code ?? '';
  return /^(08|57P0)|^E(CONN|PIPE)/.test(code) || /Connection terminated|connection error|not queryable|Client was closed|timeout expired/i.test(String(error));
}
