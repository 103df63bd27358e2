/**
 * One connection with rows of its own, so that none ever waits for another. A transaction works on what is committed and on its own log; a savepoint is a length of that log. What the
 * pruner takes meanwhile is seen by statements that find no row. After a crash of the server the lane asks Postgres which of its transactions are there.
 */
import type pg from 'pg';
import type { Random } from './chance.js';
import { BEYOND_DOUBLE, type ChangeParts, Changes } from './changes.js';
import type { Entry, Journal, Transaction } from './journal.js';
import type { Kind } from './tables.js';

export type LaneParts = ChangeParts & {
  readonly connect: () => Promise<pg.Client>;
  /** Two-phase commits and asynchronous ones too. */
  readonly everyCommit: boolean;
};

/** What was asked of the server and not answered yet. */
type Doubt = { readonly transaction: Transaction; readonly prepared: boolean; readonly wanted: 'COMMIT' | 'ROLLBACK' };

export class Lane {
  readonly index: number;
  readonly #parts: LaneParts;
  readonly #random: Random;
  readonly #journal: Journal;
  readonly #changes: Changes;
  readonly #savepoints: number[] = [];
  /** Answered since the server last crashed. */
  readonly #answered: Transaction[] = [];
  #doubt: Doubt | undefined;
  open = false;
  /** Its connection was lost. */
  broken = false;
  readonly counts: Record<string, number> = {};

  constructor(parts: LaneParts) {
    this.index = parts.index;
    this.#parts = parts;
    this.#random = parts.random;
    this.#journal = parts.journal;
    this.#changes = new Changes(parts, (what, by) => this.#count(what, by));
  }

  async connect(): Promise<void> {
    this.#changes.client = await this.#parts.connect();
    this.#changes.client.on('error', () => {
      this.broken = true;
    });
    await this.#changes.client.query(`SET TimeZone = 'UTC'`);
  }

  async close(): Promise<void> {
    await this.#changes.client?.end();
  }

  #count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  /** One statement, or the begin or end of a transaction. */
  async step(): Promise<void> {
    if (!this.open) return await this.begin();
    if (this.#random.chance(0.22)) return await this.end(this.#random.chance(0.85));
    if (this.#random.chance(0.12)) {
      await this.#changes.client.query(`SAVEPOINT s${this.#savepoints.length}`);
      this.#savepoints.push(this.#changes.log.length);
      return;
    }
    if (this.#savepoints.length > 0 && this.#random.chance(0.15)) {
      const length = this.#savepoints.pop() as number;
      await this.#changes.client.query(`ROLLBACK TO SAVEPOINT s${this.#savepoints.length}`);
      this.#changes.log.length = length;
      this.#count('savepoints rolled back');
      return;
    }
    await this.#changes.operation();
  }

  async begin(): Promise<void> {
    await this.#changes.client.query('BEGIN');
    this.open = true;
  }

  async end(commit: boolean): Promise<void> {
    const roll = this.#parts.everyCommit ? this.#random.below(100) : 99;
    const transaction: Transaction = {
      id: this.#journal.name('t'),
      lane: this.index,
      entries: this.#changes.log,
      asynchronous: commit && roll >= 12 && roll < 40,
    };
    this.#count(commit ? 'committed' : 'rolled back');
    if (commit || roll < 12) await this.#changes.client.query('INSERT INTO marks VALUES ($1)', [transaction.id]);
    if (roll < 12) await this.#inTwoPhases(transaction, commit ? 'COMMIT' : 'ROLLBACK');
    else if (commit) {
      if (transaction.asynchronous) {
        await this.#changes.client.query('SET LOCAL synchronous_commit = off');
        this.#count('asynchronous');
      }
      this.#doubt = { transaction, prepared: false, wanted: 'COMMIT' };
      await this.#changes.client.query('COMMIT');
      await this.#committed(transaction);
    } else await this.#changes.client.query('ROLLBACK');
    this.#over();
  }

  async #inTwoPhases(transaction: Transaction, wanted: Doubt['wanted']): Promise<void> {
    this.#doubt = { transaction, prepared: true, wanted };
    await this.#changes.client.query(`PREPARE TRANSACTION '${transaction.id}'`);
    this.#count('prepared');
    if (this.#random.chance(0.3)) await new Promise((resolve) => setTimeout(resolve, this.#random.below(1500)));
    await this.#changes.client.query(`${wanted} PREPARED '${transaction.id}'`);
    if (wanted === 'COMMIT') await this.#committed(transaction);
  }

  /** Answered. Its position is asked for behind it; a connection that is lost in between has lost nothing of it. */
  async #committed(transaction: Transaction): Promise<void> {
    this.#doubt = undefined;
    this.#answered.push(transaction);
    const { rows } = await this.#changes.client
      .query<{ lsn: string }>(`SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS lsn`)
      .catch(() => ({ rows: [{ lsn: '9223372036854775807' }] }));
    this.#journal.commit(transaction, BigInt((rows[0] as { lsn: string }).lsn));
  }

  #over(): void {
    this.#doubt = undefined;
    this.#changes.log = [];
    this.#savepoints.length = 0;
    this.open = false;
  }

  /** Connects again after the server was away, and finds out what became of everything since. Returns transactions that it has lost, all asynchronous. */
  async recover(): Promise<Transaction[]> {
    await this.#changes.client.end().catch(() => undefined);
    await this.connect();
    const doubt = this.#doubt;
    if (doubt?.prepared === true) {
      const there = await this.#changes.client.query('SELECT FROM pg_prepared_xacts WHERE gid = $1', [doubt.transaction.id]);
      if (there.rowCount === 1) await this.#changes.client.query(`${doubt.wanted} PREPARED '${doubt.transaction.id}'`);
    }
    const ids = [...this.#answered, ...(doubt === undefined ? [] : [doubt.transaction])].map(({ id }) => id);
    const { rows } = await this.#changes.client.query<{ id: string }>('SELECT id FROM marks WHERE id = ANY ($1)', [ids]);
    const there = new Set(rows.map(({ id }) => id));
    const lost = this.#answered.filter(({ id }) => !there.has(id));
    for (const { id, asynchronous } of lost)
      if (!asynchronous) throw new Error(`the server lost transaction ${id}, whose commit was answered and not asynchronous`);
    this.#journal.takeBack(new Set(lost));
    this.#answered.length = 0;
    if (doubt !== undefined && there.has(doubt.transaction.id)) await this.#committed(doubt.transaction);
    this.#answered.length = 0;
    this.#over();
    this.broken = false;
    return lost;
  }

  /** Marks as pruned what Postgres has lost without anybody's delete. Only between transactions of this lane. */
  async reconcile(kinds: readonly Kind[] = this.#parts.kinds): Promise<void> {
    for (const kind of kinds) if (!kind.keyless) this.#journal.reconcile(kind, [this.index], await this.#versionsOf(kind));
  }

  async #versionsOf(kind: Kind): Promise<Set<string>> {
    const { rows } = await this.#changes.client.query<{ ver: string }>(`SELECT ver FROM ${kind.name}`);
    return new Set(rows.map(({ ver }) => ver));
  }

  /** Empties a table. Nobody else has a transaction open; `others` have rows there too. */
  async truncate(kind: Kind, others: readonly Lane[]): Promise<void> {
    // Nobody writes from here on, and what the pruner has taken is known before the rest is.
    await this.#changes.client.query(`LOCK TABLE ${kind.name} IN SHARE MODE`);
    for (const lane of others) await lane.reconcile([kind]);
    const here = await this.#versionsOf(kind);
    const going = [...this.#changes.rows(kind), ...others.flatMap((lane) => [...this.#journal.live(kind, lane.index)])];
    for (const gone of going) {
      if (kind.keyless || here.has(gone.ver)) this.#changes.log.push({ end: gone, as: 'deleted' });
      else this.#changes.missed(gone);
    }
    await this.#changes.client.query(`TRUNCATE ${kind.name}`);
    this.#count('truncated');
    await this.end(this.#random.chance(0.6));
  }

  /** One transaction of many rows. */
  async bulk(kind: Kind, count: number, at: bigint): Promise<void> {
    await this.begin();
    const name = this.#journal.name('b');
    const entries = Array.from({ length: count }, (_, i): Entry => {
      const text = `${name}.${i + 1}`;
      const version = this.#changes.version(kind, { key: [text], at: String(at - BigInt(i + 1)), ver: text, big: null, n: BEYOND_DOUBLE + BigInt(i + 1) });
      this.#journal.trying(version);
      return { insert: version };
    });
    await this.#changes.client.query(
      `INSERT INTO ${kind.name} (id, at, ver, big, n)
       SELECT $1 || '.' || i, to_timestamp(0) + ($2::int8 - i) * interval '1 microsecond', $1 || '.' || i, NULL, $3::int8 + i FROM generate_series(1, $4::int) i`,
      [name, String(at), String(BEYOND_DOUBLE), count],
    );
    this.#changes.log.push(...entries);
    this.#count('bulk rows', count);
    await this.end(true);
  }

  /** A row that `f_child` refers to, or one that nothing does. */
  async parent(kind: Kind, at: string, child: boolean): Promise<string | undefined> {
    await this.begin();
    const row = this.#changes.fresh(kind, at);
    await this.#changes.insert(row);
    if (child) await this.#changes.client.query('INSERT INTO f_child VALUES ($1, $1)', [row.key[0]]);
    await this.end(true);
    return child && row.by !== undefined ? row.key[0] : undefined;
  }
}
