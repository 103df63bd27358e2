/** What was committed, written down by the generator alone: every version of every row, and what became of it. The tests' truth; nothing of the archive's code is in it. */
import type { Kind } from './tables.js';

export type Fate = 'live' | 'superseded' | 'deleted' | 'pruned';

export type Version = {
  readonly kind: Kind;
  /** Texts of the key columns. */
  readonly key: readonly string[];
  /** Seconds since 1970, or 'null', 'infinity'. */
  readonly at: string;
  readonly ver: string;
  readonly big: string | null;
  readonly n: number;
  readonly lane: number;
  fate: Fate;
  /** WAL positions behind the commits that made and ended it; -1 while it did not happen. */
  made: bigint;
  ended: bigint;
};

/** Everything of a version in one text. */
export function print(key: readonly string[], at: string, ver: string | null, big: string | null, n: string | null): string {
  return [...key, at, ver ?? '∅', big === null ? '∅' : `${big.length}:${big.slice(0, 40)}`, n ?? '∅'].join('|');
}

export function textOf({ key, at, ver, big, n }: Version): string {
  return print(key, at, ver, big, String(n));
}

export type Entry = { readonly insert: Version } | { readonly end: Version; readonly as: 'superseded' | 'deleted' };

export class Journal {
  readonly versions: Version[] = [];

  /** A transaction committed; `lsn` lies behind it. */
  commit(entries: readonly Entry[], lsn: bigint): void {
    for (const entry of entries) {
      if ('insert' in entry) {
        entry.insert.made = lsn;
        this.versions.push(entry.insert);
      } else {
        entry.end.fate = entry.as;
        entry.end.ended = lsn;
      }
    }
  }

  of(kind: Kind, ...fates: readonly Fate[]): Version[] {
    return this.versions.filter((version) => version.kind === kind && fates.includes(version.fate));
  }
}

export function dayText({ at }: Version): string {
  return /^-?\d+$/.test(at) ? new Date(Number(at) * 1000).toISOString().slice(0, 10) : 'undated';
}

/** How often each text is there. */
export function counted(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}
