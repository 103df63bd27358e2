/** The rows of a table that may go, page by page: nominated, and looked up in the archive, that of the next page while the one before is deleted. */
import type pg from 'pg';
import type { TableConfig } from '../runtime/config.js';
import type { Cutoff } from './eligible.js';
import type { LookAhead } from './look-ahead.js';
import { type Nominated, nominate } from './nominate.js';
import type { Archived } from './proof.js';
import type { Target } from './target.js';

/** Nominated rows, whether there were as many as were asked for, and what the archive holds of them, on its way. */
export type Page = { readonly rows: readonly Nominated[]; readonly full: boolean; readonly archived: Promise<ReadonlyMap<string, Archived>> };

export type PagesOf = {
  readonly table: TableConfig;
  readonly target: Target;
  readonly cutoff: Cutoff;
  readonly horizon: string;
  readonly safe: readonly string[];
  readonly looks: LookAhead;
};

/** Nominating a page took 15 ms where it was measured; it may take minutes where most rows are kept. */
const AHEAD_MS = 2000;

export class Pages {
  readonly #client: pg.Client;
  readonly #of: PagesOf;
  readonly #size: () => number;
  #after: Nominated | undefined;
  #ahead: Page | undefined;
  #looksAhead: boolean;

  /** `size`: rows of the next page. */
  constructor(client: pg.Client, of: PagesOf, size: () => number) {
    this.#client = client;
    this.#of = of;
    this.#size = size;
    this.#looksAhead = of.target.references.length === 0; // a row may be free of them only once the page before has gone
  }

  /** Without rows at the end. Throws what the database says. */
  async next(): Promise<Page> {
    const page = this.#ahead ?? (await this.#nominate());
    this.#ahead = undefined;
    this.#after = page.rows.at(-1);
    return page;
  }

  /** Begins with the page behind this one; no more when that takes long, or fails: this page must not wait for it, and what is wrong shows when its turn comes. */
  async lookAhead(page: Page): Promise<void> {
    this.#looksAhead &&= page.full; // fewer: the last one, or rows so large that their values would lie in memory twice
    if (!this.#looksAhead) return;
    try {
      await this.#client.query(`SET statement_timeout = ${AHEAD_MS}`);
      this.#ahead = await this.#nominate();
    } catch {
      this.#looksAhead = false;
    } finally {
      await this.#client.query('RESET statement_timeout').catch(() => undefined); // a connection that is lost says so to the next statement
    }
  }

  async #nominate(): Promise<Page> {
    const { table, target, cutoff, horizon, safe, looks } = this.#of;
    const size = this.#size();
    const { rows } = await nominate(this.#client, table, target, { cutoff, horizon, safe, rows: size, after: this.#after });
    return { rows, full: rows.length === size, archived: looks.look(rows) };
  }
}
