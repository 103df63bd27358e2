/** Parts of archived rows → batches into one table. Decides which of them the archive knows as they stand; each batch is batch.ts's. */
import { randomUUID } from 'node:crypto';
import { digestOfTexts } from '../segment/digest.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { type BatchContext, restoreBatch } from './batch.js';
import { RowForm } from './form.js';
import type { ChosenPart } from './parts.js';
import type { StagedRow } from './stage.js';
import { type Tally, Waiting } from './tally.js';

export class Feed {
  readonly #context: BatchContext;
  readonly #tally: Tally;
  readonly #forms = new Map<SegmentMetadata, RowForm>();
  /** Without a key: how many equal rows came so far, by digest. */
  readonly #equal = new Map<bigint, number>();
  /** Rows that refer to what is not there. */
  readonly waiting = new Waiting();

  constructor(context: BatchContext, tally: Tally) {
    this.#context = context;
    this.#tally = tally;
  }

  /** Restores a part. Throws what restoreBatch does. */
  async take({ metadata, rows }: ChosenPart): Promise<void> {
    const form = this.#form(metadata);
    const staged: StagedRow[] = [];
    let living = 0;
    for (const row of rows) {
      const texts = form.row(row.texts);
      const copies = this.#copies(texts);
      if (row.living) living += 1;
      else staged.push({ texts, copies, archived: row.texts });
    }
    this.#tally.leave('living', living);
    if (form.known !== 'ask') return await this.#restore(staged, form, form.known === 'yes');
    const same = await this.#printTheSame(staged);
    await this.#restore(
      staged.filter((_, i) => same[i]),
      form,
      true,
    );
    await this.#restore(
      staged.filter((_, i) => !same[i]),
      form,
      false,
    );
  }

  #form(metadata: SegmentMetadata): RowForm {
    let form = this.#forms.get(metadata);
    if (form === undefined) {
      form = new RowForm(metadata, this.#context.stage.target);
      this.#forms.set(metadata, form);
      for (const name of form.lost) this.#tally.lost.add(name);
    }
    return form;
  }

  /** Of equal rows of a table without a key, the how-manieth this is. */
  #copies(texts: readonly (string | null)[]): number {
    if (this.#context.stage.target.key.length > 0) return 1;
    const digest = digestOfTexts(texts);
    const copies = (this.#equal.get(digest) ?? 0) + 1;
    this.#equal.set(digest, copies);
    return copies;
  }

  async #restore(rows: readonly StagedRow[], form: RowForm, known: boolean): Promise<void> {
    if (rows.length === 0) return;
    const result = await restoreBatch(this.#context, { batch: randomUUID(), rows, known, columns: form.columns });
    this.#tally.add(result, known);
    const { target } = this.#context.stage;
    const keyAt = target.key.map(({ name }) => target.columns.findIndex((column) => column.name === name));
    for (const [number, reason] of result.orphans) {
      const { texts, archived } = rows[number] as StagedRow;
      this.waiting.add(
        digestOfTexts(archived),
        reason,
        keyAt.map((index) => texts[index] ?? ''),
      );
    }
  }

  /** Whether Postgres prints each row, brought into the columns of today, as the archive has it. */
  async #printTheSame(rows: readonly StagedRow[]): Promise<boolean[]> {
    const { client, stage } = this.#context;
    if (rows.length === 0) return [];
    await client.query('BEGIN READ ONLY');
    try {
      await stage.fill(rows);
      const printed = await stage.texts();
      return rows.map(({ texts }, i) => texts.every((text, c) => text === printed[i]?.[c]));
    } finally {
      await client.query('ROLLBACK').catch(() => undefined);
    }
  }
}
