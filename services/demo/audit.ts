/** The audit: the journal against (rows in Postgres) ∪ (the archive as an outside reader sees it). Judges, changes nothing. */
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { TableView } from './archive-view.js';
import type { TableJournal } from './journal.js';

export type TableAudit = {
  readonly table: string;
  readonly group: string;
  /** Row versions that were ever committed. */
  readonly written: number;
  /** Rows in Postgres now. */
  readonly hot: number;
  /** Rows in the archive now. */
  readonly archived: number;
  /** Rows that left Postgres by pruning. */
  readonly pruned: number;
  readonly segments: number;
  readonly bytes: number;
  /** Bytes of the rows' text, for the compression ratio. */
  readonly textBytes: number;
  readonly lost: number;
  readonly duplicate: number;
  readonly unexpected: number;
  /** Archived rows in a file of another day than their own. */
  readonly wrongDay: number;
  /** A few keys with what is wrong; a row that the archive does not hold yet is named here and counted nowhere, for it is not lost. */
  readonly examples: readonly string[];
};

/** `hot`: key → fingerprint of every row in Postgres. */
export function auditTable(journal: TableJournal, hot: ReadonlyMap<string, string>, view: TableView): TableAudit {
  let lost = 0;
  let duplicate = 0;
  let unexpected = 0;
  let pruned = 0;
  const examples: string[] = [];
  const say = (key: string, what: string): void => {
    if (examples.length < 5) examples.push(`${journal.table.name} ${key}: ${what}`);
  };
  for (const [key, expected] of journal.live) {
    const here = hot.get(key);
    const there = view.rows.get(key) ?? [];
    if (here === undefined) pruned += 1;
    if (here !== expected && !there.includes(expected)) {
      lost += 1;
      say(
        key,
        here === undefined && there.length === 0
          ? 'lost: neither in Postgres nor in the archive'
          : 'lost: neither Postgres nor the archive holds its last version',
      );
    } else if ((here !== undefined && here !== expected) || there.some((print) => print !== expected)) {
      unexpected += 1;
      say(key, 'unexpected: another version is there');
    } else if (there.length === 0) say(key, 'in Postgres only: after the drain the archive should hold it too');
    if (there.length > 1) {
      duplicate += 1;
      say(key, `duplicate: ${there.length} times in the archive`);
    }
  }
  for (const [where, keys] of [
    ['Postgres', hot.keys()],
    ['the archive', view.rows.keys()],
  ] as const) {
    for (const key of keys) {
      if (journal.live.has(key)) continue;
      unexpected += 1;
      say(key, `unexpected in ${where}: ${journal.deleted.has(key) ? 'the user deleted it' : 'it was never committed'}`);
    }
  }
  const { table } = journal;
  return {
    table: table.name, group: table.group, written: journal.written, hot: hot.size, archived: view.rows.size, pruned, segments: view.segments, bytes: view.bytes, textBytes: journal.textBytes, lost, duplicate, unexpected, wrongDay: view.wrongDay, examples,
  }; // biome-ignore format: one line
}

/** Files outside `_tidemark/` and daily files of the manifest must be the same: what is there beyond or missing. */
export function auditFolder(found: Iterable<string>, files: Iterable<FileEntry>): string[] {
  const named = new Set([...files].filter((file) => file.kind === 'daily').map((file) => file.file));
  const there = new Set(found);
  return [
    ...[...there].filter((file) => !named.has(file)).map((file) => `${file} is in no manifest`),
    ...[...named].filter((file) => !there.has(file)).map((file) => `${file} is missing`),
  ];
}
