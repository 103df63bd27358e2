/** Rows as they were archived → rows as the table has them now. Pure. */
import type { SegmentMetadata } from '../segment/metadata.js';
import type { RestoreTarget } from './target.js';

export class RowForm {
  /** Columns of the target that a row gives: a NOT NULL one that the archive does not know gets its default. */
  readonly columns: readonly string[];
  /** Archived columns that the table has no more. */
  readonly lost: readonly string[];
  /** yes: the rows print in the table as they are archived · no: they have values that the archive does not know · ask: the columns have changed, Postgres has to say. */
  readonly known: 'yes' | 'no' | 'ask';
  readonly #from: readonly number[];

  constructor(metadata: SegmentMetadata, target: RestoreTarget) {
    const archived = metadata.columns.map(({ name }) => name);
    this.#from = target.columns.map(({ name }) => archived.indexOf(name));
    this.columns = target.columns.filter(({ notNull }, i) => !notNull || (this.#from[i] as number) >= 0).map(({ name }) => name);
    this.lost = archived.filter((name) => !target.columns.some((column) => column.name === name));
    this.known = metadata.signature === target.signature ? 'yes' : this.columns.length < target.columns.length ? 'no' : 'ask';
  }

  /** Texts of the target's columns in their order. */
  row(texts: readonly (string | null)[]): (string | null)[] {
    return this.#from.map((index) => (index < 0 ? null : (texts[index] as string | null)));
  }
}
