/**
 * Random transactions on three connections that stand open beside one another: each connection has rows of its own, so none ever waits for another. A transaction works on
 * what is committed and on its own log; a savepoint is a length of that log. What the pruner takes meanwhile is seen by statements that find no row.
 */
import pg from 'pg';
import type { Pipeline } from '../pipeline.js';
import type { Random } from './chance.js';
import type { Entry, Journal, Version } from './journal.js';
import { KINDS, type Kind } from './tables.js';

export const LANES = 3;
const ODD = ['', ' ', '\\', 'ü"q', "it's", 'a\tb', 'x\ny', '{1,2}', 'NULL', '\\N', '0', '-0'];
const DAY = 86_400;

class Lane {
  readonly client: pg.Client;
  open = false;
  log: Entry[] = [];
  readonly savepoints: number[] = [];
  constructor(client: pg.Client) {
    this.client = client;
  }
}

export class Load {
  readonly #random: Random;
  readonly #journal: Journal;
  readonly #pipeline: Pipeline;
  readonly #lanes: Lane[] = [];
  readonly said: string[] = [];
  #next = 1;
  readonly #base: number;

  private constructor(pipeline: Pipeline, journal: Journal, random: Random) {
    this.#pipeline = pipeline;
    this.#journal = journal;
    this.#random = random;
    this.#base = Math.floor(Date.now() / 1000);
  }

  static async start(pipeline: Pipeline, journal: Journal, random: Random): Promise<Load> {
    const load = new Load(pipeline, journal, random);
    for (let i = 0; i < LANES; i += 1) {
      const client = new pg.Client({ connectionString: pipeline.databaseUrl });
      await client.connect();
      await client.query(`SET TimeZone = 'UTC'`);
      load.#lanes.push(new Lane(client));
    }
    return load;
  }

  async close(): Promise<void> {
    for (const { client } of this.#lanes) await client.end();
  }

  get idle(): boolean {
    return this.#lanes.every(({ open }) => !open);
  }

  /** One statement of one connection, or the begin or end of its transaction. */
  async step(): Promise<void> {
    const index = this.#random.below(LANES);
    const lane = this.#lanes[index] as Lane;
    if (!lane.open) {
      await this.reconcile();
      await lane.client.query('BEGIN');
      lane.open = true;
    }
    if (this.#random.chance(0.22)) return await this.#end(lane, this.#random.chance(0.85));
    if (this.#random.chance(0.12)) {
      await lane.client.query(`SAVEPOINT s${lane.savepoints.length}`);
      lane.savepoints.push(lane.log.length);
      return;
    }
    if (lane.savepoints.length > 0 && this.#random.chance(0.15)) {
      const length = lane.savepoints.pop() as number;
      await lane.client.query(`ROLLBACK TO SAVEPOINT s${lane.savepoints.length}`);
      lane.log.length = length;
      return;
    }
    await this.#operation(lane, index);
  }

  /** Ends every open transaction. */
  async settle(): Promise<void> {
    for (const lane of this.#lanes) if (lane.open) await this.#end(lane, this.#random.chance(0.8));
  }

  async #end(lane: Lane, commit: boolean): Promise<void> {
    await this.reconcile();
    await this.#finish(lane, commit);
  }

  async #finish(lane: Lane, commit: boolean): Promise<void> {
    await lane.client.query(commit ? 'COMMIT' : 'ROLLBACK');
    if (commit) this.#journal.commit(lane.log, await this.position());
    lane.log = [];
    lane.savepoints.length = 0;
    lane.open = false;
  }

  async position(): Promise<bigint> {
    const [row] = await this.#pipeline.query<{ lsn: string }>(`SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS lsn`);
    return BigInt(row?.lsn ?? '0');
  }

  /** Marks as pruned what Postgres has lost without anybody's delete. */
  async reconcile(): Promise<void> {
    for (const kind of KINDS) {
      if (kind.keyless) continue;
      const here = new Set((await this.#pipeline.query<{ ver: string }>(`SELECT ver FROM ${kind.name}`)).map(({ ver }) => ver));
      for (const version of this.#journal.of(kind, 'live')) if (!here.has(version.ver)) version.fate = 'pruned';
    }
  }

  /** Rows of a connection as its transaction sees them. */
  #rows(lane: Lane | undefined, index: number, kind: Kind): Version[] {
    const rows = new Set(this.#journal.of(kind, 'live').filter((version) => version.lane === index));
    for (const entry of lane?.log ?? []) {
      if ('insert' in entry) {
        if (entry.insert.kind === kind) rows.add(entry.insert);
      } else rows.delete(entry.end);
    }
    return [...rows];
  }

  async #operation(lane: Lane, index: number): Promise<void> {
    const kind = this.#random.pick(KINDS);
    const rows = this.#rows(lane, index, kind);
    const roll = this.#random.below(100);
    const row = rows.length > 0 ? this.#random.pick(rows) : undefined;
    if (row === undefined || roll < 34) return await this.#insert(lane, this.#fresh(kind, index));
    if (roll < 52) return await this.#update(lane, row, { n: row.n + 1 });
    if (roll < 60) return await this.#update(lane, row, { big: this.#big() });
    if (roll < 69) return await this.#update(lane, row, { key: this.#key(kind, index, row.key) });
    if (roll < 78) return await this.#update(lane, row, { at: this.#at(kind) });
    if (roll < 88) return void (await this.#remove(lane, row));
    if (roll < 97) {
      // One key, deleted and inserted again in one transaction; once in a while with the very same day.
      if (await this.#remove(lane, row))
        await this.#insert(lane, { ...this.#fresh(kind, index), key: row.key, ...(this.#random.chance(0.5) ? { at: row.at } : {}) });
      return;
    }
    if (!this.#lanes.every((other) => other === lane || !other.open)) return;
    // Nobody writes from here on, and what the pruner has taken is known before the rest is.
    await lane.client.query(`LOCK TABLE ${kind.name} IN SHARE MODE`);
    await this.reconcile();
    for (let i = 0; i < LANES; i += 1) for (const gone of this.#rows(i === index ? lane : undefined, i, kind)) lane.log.push({ end: gone, as: 'deleted' });
    await lane.client.query(`TRUNCATE ${kind.name}`);
    await this.#finish(lane, this.#random.chance(0.6));
  }

  #fresh(kind: Kind, lane: number): Version {
    this.#next += 1;
    const ver = kind.keyless ? this.#random.pick(['x', 'y']) : `v${this.#next}`;
    const big = kind.keyless ? this.#random.pick([null, 'B'.repeat(3000)]) : this.#big();
    const n = kind.keyless ? this.#random.below(2) : 0;
    return { kind, key: this.#key(kind, lane), at: this.#at(kind), ver, big, n, lane, fate: 'live', made: -1n, ended: -1n };
  }

  /** A key of this connection's own, which no row that it sees has. Keys of pruned and deleted rows come again. */
  #key(kind: Kind, lane: number, like?: readonly string[]): string[] {
    const taken = new Set(this.#rows(this.#lanes[lane] as Lane, lane, kind).flatMap(({ key }) => key.map((text, i) => `${i}${text}`)));
    if (kind.keyless) return [`${lane}${this.#random.pick(['a', 'b'])}`];
    for (;;) {
      const texts = kind.key.map((_, i) => {
        if (kind.name === 'f_full' && i === 1) return `${lane}.${this.#random.pick(['0', '00', '5'])}`;
        return `${lane}${this.#random.pick(ODD)}${this.#random.below(12)}`;
      });
      // Of two columns that are each unique (id, code) one may stay as it is.
      if (like !== undefined && kind.name === 'f_index') {
        const keep = this.#random.below(2);
        texts[keep] = like[keep] as string;
        texts[1 - keep] = `${lane}${this.#random.pick(ODD)}${this.#random.below(12)}`;
        if (!taken.has(`${1 - keep}${texts[1 - keep]}`)) return texts;
      } else if (texts.every((text, i) => (i > 0 && kind.name === 'f_full' ? true : !taken.has(`${i}${text}`)))) return texts;
    }
  }

  #big(): string | null {
    return this.#random.chance(0.3) ? null : String(this.#random.below(1_000_000)).repeat(this.#random.pick([1, 20, 700, 900]));
  }

  #at(kind: Kind): string {
    if (kind.undated && this.#random.chance(0.3)) return this.#random.pick(['null', 'infinity']);
    if (kind.keyless) return String(Math.floor(this.#base / DAY) * DAY - this.#random.pick([0, 2, 3]) * DAY);
    const age = this.#random.pick([0, 0.9, 1.1, 2.2, 3, 3.3, 4]) * DAY;
    return String(Math.floor(this.#base - age - this.#random.below(4 * 3600)));
  }

  async #insert(lane: Lane, version: Version): Promise<void> {
    const { kind, key, ver, big, n } = version;
    const values = [...key, atSql(version.at), ver, big, n];
    await lane.client.query(
      `INSERT INTO ${kind.name} (${kind.key.join(', ')}, at, ver, big, n) VALUES (${values.map((_, i) => `$${i + 1}`).join(', ')})`,
      values,
    );
    lane.log.push({ insert: version });
  }

  async #update(lane: Lane, row: Version, change: Partial<Pick<Version, 'key' | 'at' | 'big' | 'n'>>): Promise<void> {
    this.#next += 1;
    const next: Version = { ...row, ...change, ver: row.kind.keyless ? row.ver : `v${this.#next}`, fate: 'live', made: -1n, ended: -1n };
    const columns = {
      ver: next.ver,
      ...(change.n === undefined ? {} : { n: next.n }),
      ...(change.big === undefined ? {} : { big: next.big }),
      ...(change.at === undefined ? {} : { at: atSql(next.at) }),
    };
    const sets: [string, unknown][] = [
      ...Object.entries(columns),
      ...(change.key === undefined ? [] : row.kind.key.map((name, i): [string, unknown] => [name, next.key[i]])),
    ];
    const where = this.#where(row, sets.length);
    const done = await lane.client.query(`UPDATE ${row.kind.name} SET ${sets.map(([name], i) => `${name} = $${i + 1}`).join(', ')} WHERE ${where.sql}`, [
      ...sets.map(([, value]) => value),
      ...where.values,
    ]);
    if (done.rowCount !== 1) return this.#missed(row);
    lane.log.push({ end: row, as: 'superseded' }, { insert: next });
  }

  async #remove(lane: Lane, row: Version): Promise<boolean> {
    const where = this.#where(row, 0);
    const done = await lane.client.query(`DELETE FROM ${row.kind.name} WHERE ${where.sql}`, [...where.values]);
    if (done.rowCount !== 1) {
      this.#missed(row);
      return false;
    }
    lane.log.push({ end: row, as: 'deleted' });
    return true;
  }

  #missed(row: Version): void {
    if (row.kind.keyless) throw new Error(`a row of ${row.kind.name} is not there`);
    this.said.push(`${row.kind.name} ${row.ver}: pruned before it was changed`);
  }

  #where(row: Version, from: number): { sql: string; values: unknown[] } {
    if (!row.kind.keyless) return { sql: `ver = $${from + 1}`, values: [row.ver] };
    const values = [row.key[0], atSql(row.at), row.ver, row.big, row.n];
    const equal = ['id', 'at', 'ver', 'big', 'n'].map((name, i) => `${name} IS NOT DISTINCT FROM $${from + 1 + i}`).join(' AND ');
    return { sql: `ctid = (SELECT ctid FROM f_none WHERE ${equal} LIMIT 1)`, values };
  }
}

function atSql(at: string): string | null {
  if (at === 'null') return null;
  return at === 'infinity' ? at : new Date(Number(at) * 1000).toISOString();
}
