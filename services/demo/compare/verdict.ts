/** What became of the rows under the old script, and why: its journal against Postgres and its files. Pure; the causes are told apart by what is left of a row. */
import type { TableView } from '../archive-view.js';
import type { TableJournal } from '../journal.js';

export type OldVerdict = {
  /** Rows in its files. */
  readonly archived: number;
  readonly lost: number;
  /** Keys that its files have more than once. */
  readonly doubled: number;
  readonly wrongDay: number;
  /** Of the lost ones: nothing is left of them anywhere. */
  readonly lostLate: number;
  /** The file has what they were before. */
  readonly lostChanged: number;
  /** By table: nothing can be read of a file that was being written when the script was killed. */
  readonly lostTorn: Readonly<Record<string, number>>;
};

export type OldTable = {
  readonly journal: TableJournal;
  readonly hot: ReadonlyMap<string, string>;
  readonly view: TableView /** A file of it cannot be read. */;
  readonly torn: boolean;
};

export function judgeOld(tables: readonly OldTable[]): OldVerdict {
  let [archived, doubled, wrongDay, lostLate, lostChanged] = [0, 0, 0, 0, 0];
  const lostTorn: Record<string, number> = {};
  for (const { journal, hot, view, torn } of tables) {
    wrongDay += view.wrongDay;
    for (const prints of view.rows.values()) {
      archived += prints.length;
      if (prints.length > 1) doubled += 1;
    }
    let gone = 0;
    for (const [key, expected] of journal.live) {
      const there = view.rows.get(key) ?? [];
      if (hot.get(key) === expected || there.includes(expected)) continue;
      if (there.length > 0) lostChanged += 1;
      else gone += 1;
    }
    if (torn) lostTorn[journal.table.name] = gone;
    else lostLate += gone;
  }
  const lost = lostLate + lostChanged + Object.values(lostTorn).reduce((sum, rows) => sum + rows, 0);
  return { archived, lost, doubled, wrongDay, lostLate, lostChanged, lostTorn };
}

/** One sentence for each cause that was met. */
export function causesOf(verdict: OldVerdict): string[] {
  const { lostLate, lostChanged, lostTorn, doubled, wrongDay } = verdict;
  const sentences: string[] = [];
  if (lostLate > 0) sentences.push(`${lostLate} lost: they came, older than the cutoff, between the SELECT and the DELETE, which took them unread.`);
  if (lostChanged > 0) sentences.push(`${lostChanged} lost: they changed between the SELECT and the DELETE; the file has what they were before.`);
  for (const [table, rows] of Object.entries(lostTorn))
    if (rows > 0)
      sentences.push(
        `${rows} lost: the script was killed while it wrote the file of ${table} in its place; nobody can read it, and every later run fails for this table.`,
      );
  if (doubled > 0) sentences.push(`${doubled} doubled: the script was killed behind the file and before its DELETE; the next run wrote them again.`);
  if (wrongDay > 0) sentences.push(`${wrongDay} in a file of the wrong day: it is named after the day on which the script ran.`);
  return sentences;
}
