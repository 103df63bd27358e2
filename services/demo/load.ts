/** The live load: a seeded mix of inserts, back-dated inserts, updates, the user's deletes, rolled-back savepoints and transactions over all tables, each committed change journalled. */
import type pg from 'pg';
import { sleep } from '../../src/runtime/service.js';
import { quoteIdentifier } from '../../src/wal/identifier.js';
import type { Mirror } from './compare/mirror.js';
import type { TableJournal } from './journal.js';
import { insertSql, NOW_UTC } from './rows.js';

export type LoadOptions = {
  readonly client: pg.Client;
  readonly journals: readonly TableJournal[];
  /** Rows a second. */
  readonly rate: number;
  readonly signal: AbortSignal;
  /** Back-dated rows come only after this: the first prune has been. */
  readonly backdate: () => boolean;
  /** Where everything that is committed is committed a second time. */
  readonly mirror?: Mirror | undefined;
};

const TICK_MS = 100;

export class Load {
  readonly #options: LoadOptions;
  readonly #random: () => number;
  rows = 0;
  backdated = 0;
  updated = 0;
  deleted = 0;
  rolledBack = 0;

  constructor(options: LoadOptions, seed: number) {
    this.#options = options;
    let state = seed >>> 0;
    this.#random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 0x1_0000_0000;
    };
  }

  /** Runs until the signal aborts. Throws what the database says. */
  async run(): Promise<void> {
    const { rate, signal, journals } = this.#options;
    const weights = journals.reduce((sum, journal) => sum + journal.table.weight, 0);
    const started = performance.now();
    let owed = 0;
    for (let tick = 0; !signal.aborted; tick += 1) {
      owed += (rate * TICK_MS) / 1000;
      for (const journal of journals) {
        const share = (owed * journal.table.weight) / weights;
        const count = Math.floor(share) + (this.#random() < share % 1 ? 1 : 0);
        if (count > 0) await this.#insert(journal, count, NOW_UTC);
      }
      owed = 0;
      await this.#mischief(tick);
      await this.#options.mirror?.settled();
      await sleep(started + (tick + 1) * TICK_MS - performance.now(), signal);
    }
  }

  #pick(): TableJournal {
    return this.#options.journals[Math.floor(this.#random() * this.#options.journals.length)] as TableJournal;
  }

  /** Everything that is not a plain insert, each every few ticks and each over all tables. */
  async #mischief(tick: number): Promise<void> {
    if (tick % 3 === 0) await this.#update(this.#pick());
    if (tick % 5 === 1) await this.#delete(this.#pick());
    if (tick % 4 === 2) await this.#savepoint(this.#pick());
    if (tick % 10 === 7) await this.#rollBack(this.#pick());
    if (tick % 2 === 0 && this.#options.backdate()) await this.#late(this.#pick());
  }

  /** Some rows older than the retention into every table. */
  async arriveLate(): Promise<void> {
    for (const journal of this.#options.journals) await this.#late(journal);
  }

  async #late(journal: TableJournal): Promise<void> {
    const count = 1 + Math.floor(this.#random() * 8);
    await this.#insert(journal, count, `${NOW_UTC} - interval '24 hours 5 minutes' - random() * interval '40 hours'`);
    this.backdated += count;
  }

  async #query(text: string): Promise<(string | null)[][]> {
    return (await this.#options.client.query<(string | null)[]>({ text, rowMode: 'array' })).rows;
  }

  #make(journal: TableJournal, count: number, at: string): Promise<(string | null)[][]> {
    const from = journal.next;
    journal.next += count;
    return this.#query(`${insertSql(journal.table, from, from + count - 1, at)} RETURNING *`);
  }

  async #insert(journal: TableJournal, count: number, at: string): Promise<void> {
    const rows = await this.#make(journal, count, at);
    journal.committed(rows);
    this.#options.mirror?.inserted(journal.table, rows);
    this.rows += count;
  }

  /** Some rows anywhere in the table: hot, old, or about to be pruned. */
  #some(journal: TableJournal, count: number): string {
    const name = `public.${quoteIdentifier(journal.table.name)}`;
    return `ctid = ANY (ARRAY(SELECT ctid FROM ${name} TABLESAMPLE SYSTEM (20) LIMIT ${count} FOR UPDATE SKIP LOCKED))`;
  }

  async #update(journal: TableJournal): Promise<void> {
    const name = `public.${quoteIdentifier(journal.table.name)}`;
    const changes = journal.table.columns
      .filter((column) => !journal.table.key.includes(column.name))
      .flatMap(({ name: column, type }) =>
        type === 'double precision'
          ? [`${quoteIdentifier(column)} = random()`]
          : type === 'jsonb'
            ? [`${quoteIdentifier(column)} = jsonb_build_object('changed', random(), 'by', md5(random()::text))`]
            : [],
      );
    if (changes.length === 0)
      changes.push(`${quoteIdentifier(journal.table.timestamp)} = ${quoteIdentifier(journal.table.timestamp)} + interval '1 microsecond'`);
    const rows = await this.#query(`UPDATE ${name} SET ${changes.slice(0, 6).join(', ')} WHERE ${this.#some(journal, 4)} RETURNING *`);
    journal.committed(rows);
    this.#options.mirror?.updated(journal.table, rows);
    this.updated += rows.length;
  }

  async #delete(journal: TableJournal): Promise<void> {
    const rows = await this.#query(`DELETE FROM public.${quoteIdentifier(journal.table.name)} WHERE ${this.#some(journal, 2)} RETURNING *`);
    journal.removed(rows);
    this.#options.mirror?.removed(journal.table, rows);
    this.deleted += rows.length;
  }

  /** Rows before and after a savepoint stay, those inside are rolled back. */
  async #savepoint(journal: TableJournal): Promise<void> {
    await this.#query('BEGIN');
    const before = await this.#make(journal, 1, NOW_UTC);
    await this.#query('SAVEPOINT s');
    this.rolledBack += (await this.#make(journal, 3, NOW_UTC)).length;
    await this.#query('ROLLBACK TO SAVEPOINT s');
    const after = await this.#make(journal, 1, NOW_UTC);
    await this.#query('COMMIT');
    journal.committed([...before, ...after]);
    this.#options.mirror?.inserted(journal.table, [...before, ...after]);
    this.rows += 2;
  }

  async #rollBack(journal: TableJournal): Promise<void> {
    await this.#query('BEGIN');
    this.rolledBack += (await this.#make(journal, 5, NOW_UTC)).length;
    await this.#query('ROLLBACK');
  }
}
