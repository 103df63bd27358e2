/** Lanes stepped one after the other by one random source: statements of transactions that stand open beside one another, repeatable by the seed. What the pruner took is known at each begin and end. */
import pg from 'pg';
import type { Pipeline } from '../pipeline/pipeline.js';
import type { Random } from './chance.js';
import type { Journal } from './journal.js';
import { Lane } from './lane.js';
import { KINDS, type Kind } from './tables.js';

const LANES = 3;
const DAY = 86_400;
const MICROS = 1_000_000n;

export class Load {
  readonly #random: Random;
  readonly #pipeline: Pipeline;
  readonly #journal: Journal;
  readonly #lanes: Lane[] = [];

  private constructor(pipeline: Pipeline, journal: Journal, random: Random) {
    this.#pipeline = pipeline;
    this.#journal = journal;
    this.#random = random;
  }

  static async start(pipeline: Pipeline, journal: Journal, random: Random): Promise<Load> {
    const load = new Load(pipeline, journal, random);
    const base = Math.floor(Date.now() / 1000);
    for (let index = 0; index < LANES; index += 1) {
      const lane = new Lane({
        index,
        random,
        journal,
        kinds: KINDS,
        connect: () => connect(pipeline.databaseUrl),
        at: (kind) => randomAt(kind, random, base),
        keys: 12,
        copyRows: 3,
        everyCommit: true,
      });
      await lane.connect();
      load.#lanes.push(lane);
    }
    return load;
  }

  async close(): Promise<void> {
    for (const lane of this.#lanes) await lane.close();
  }

  /** One statement of one connection, or the begin or end of its transaction. */
  async step(): Promise<void> {
    const lane = this.#random.pick(this.#lanes);
    if (!lane.open) await this.reconcile();
    else if (this.#random.chance(0.02) && this.#lanes.every((other) => other === lane || !other.open)) {
      return await lane.truncate(this.#random.pick(KINDS), this.#others(lane));
    }
    await lane.step();
  }

  #others(lane: Lane): Lane[] {
    return this.#lanes.filter((other) => other !== lane);
  }

  /** Ends every open transaction. */
  async settle(): Promise<void> {
    for (const lane of this.#lanes) if (lane.open) await lane.end(this.#random.chance(0.8));
  }

  async position(): Promise<bigint> {
    const [row] = await this.#pipeline.query<{ lsn: string }>(`SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS lsn`);
    return BigInt(row?.lsn ?? '0');
  }

  /** Marks as pruned what Postgres has lost without anybody's delete. */
  async reconcile(): Promise<void> {
    const lanes = this.#lanes.map(({ index }) => index);
    for (const kind of KINDS) {
      if (kind.keyless) continue;
      const rows = await this.#pipeline.query<{ ver: string }>(`SELECT ver FROM ${kind.name}`);
      this.#journal.reconcile(kind, lanes, new Set(rows.map(({ ver }) => ver)));
    }
  }

  /** How often each thing was done. */
  get counts(): Record<string, number> {
    return addCounts(this.#lanes.map(({ counts }) => counts));
  }
}

export function addCounts(parts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const part of parts) for (const [name, count] of Object.entries(part)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

export async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 10_000 });
  await client.connect();
  return client;
}

/** A person seals rows without a key: a day that is over at the first chance, so what is to stay open is of tomorrow, which midnight does not end. `now`: seconds. */
export function keylessAt(now: number, random: Random): string {
  return String(BigInt((Math.floor(now / DAY) - random.pick([-1, 2, 3])) * DAY) * MICROS + 1n);
}

function randomAt(kind: Kind, random: Random, base: number): string {
  if (kind.undated && random.chance(0.3)) return random.pick(['null', 'infinity']);
  if (kind.keyless) return keylessAt(base, random);
  const age = random.pick([0, 0.9, 1.1, 2.2, 3, 3.3, 4]) * DAY;
  return String(BigInt(Math.floor(base - age - random.below(4 * 3600))) * MICROS + BigInt(random.below(1_000_000)));
}
