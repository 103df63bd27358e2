/**
 * What was tried and what was committed, written down by the generator alone: every version of every row, and what became of it. The truth of the campaign; nothing of the archive's code is
 * in it. A transaction that a crash of the server took back (asynchronous commit) is taken back here too.
 */
import type { Kind } from './tables.js';

export type Fate = 'live' | 'superseded' | 'deleted' | 'pruned';

export type Version = {
  readonly kind: Kind;
  /** Texts of the key columns. */
  readonly key: readonly string[];
  /** Microseconds since 1970, or 'null', 'infinity'. */
  readonly at: string;
  readonly ver: string;
  readonly big: string | null;
  /** Beyond what a JavaScript number holds. */
  readonly n: bigint;
  readonly lane: number;
  fate: Fate;
  /** WAL positions behind the commits that made and ended it; -1 while it did not happen. */
  made: bigint;
  ended: bigint;
  /** The transaction that made it, once it is committed, and its place among that one's changes. */
  by: Transaction | undefined;
  nth: number;
};

/** Everything of a version in one text. */
export function print(key: readonly string[], at: string, ver: string | null, big: string | null, n: string | null): string {
  return [...key, at, ver ?? '∅', big === null ? '∅' : `${big.length}:${big.slice(0, 40)}`, n ?? '∅'].join('|');
}

export function textOf({ key, at, ver, big, n }: Pick<Version, 'key' | 'at' | 'ver' | 'big' | 'n'>): string {
  return print(key, at, ver, big, String(n));
}

export type Entry = { readonly insert: Version } | { readonly end: Version; readonly as: 'superseded' | 'deleted' };

export type Transaction = {
  /** Also the row in `marks` by which Postgres says whether it is committed. */
  readonly id: string;
  readonly lane: number;
  readonly entries: readonly Entry[];
  /** A crash of the server may lose it. */
  readonly asynchronous: boolean;
};

export class Journal {
  /** Of committed transactions, in the order in which their commits were answered. */
  readonly versions: Version[] = [];
  readonly transactions: Transaction[] = [];
  /** Texts of everything that was ever sent, committed or not. */
  readonly #tried = new Set<string>();
  readonly #live = new Map<string, Set<Version>>();
  /** Columns that ALTER TABLE filled with a value of its own for each row that was there: by version. */
  readonly filled: { readonly kind: Kind; readonly column: string; readonly values: ReadonlyMap<string, string> }[] = [];
  #numbers = 0;

  /** Before the statement is sent. */
  trying(version: Version): void {
    this.#tried.add(textOf(version));
  }

  wasTried(text: string): boolean {
    return this.#tried.has(text);
  }

  /** A name that none had before. */
  name(prefix: string): string {
    this.#numbers += 1;
    return `${prefix}${this.#numbers}`;
  }

  /** A transaction committed; `lsn` lies behind it. */
  commit(transaction: Transaction, lsn: bigint): void {
    this.transactions.push(transaction);
    transaction.entries.forEach((entry, nth) => {
      if ('insert' in entry) {
        Object.assign(entry.insert, { made: lsn, by: transaction, nth });
        this.versions.push(entry.insert);
        if (entry.insert.fate === 'live') this.#liveOf(entry.insert).add(entry.insert);
      } else {
        entry.end.ended = lsn;
        this.#end(entry.end, entry.as);
      }
    });
  }

  /** Transactions that the server lost, in whatever order they are given. */
  takeBack(lost: ReadonlySet<Transaction>): void {
    for (const transaction of this.transactions.filter((one) => lost.has(one)).reverse()) {
      for (const entry of [...transaction.entries].reverse()) {
        const version = 'insert' in entry ? entry.insert : entry.end;
        if ('insert' in entry) {
          this.#liveOf(version).delete(version);
          version.by = undefined;
        } else {
          version.fate = 'live';
          version.ended = -1n;
          this.#liveOf(version).add(version);
        }
      }
    }
    remove(this.transactions, (one) => lost.has(one));
    remove(this.versions, ({ by }) => by === undefined);
  }

  /** It is gone from Postgres, and nobody of ours deleted it. */
  pruned(version: Version): void {
    this.#end(version, 'pruned');
  }

  /** Rows of these lanes that are not `here`, the versions that Postgres shows, are pruned. */
  reconcile(kind: Kind, lanes: readonly number[], here: ReadonlySet<string>): void {
    for (const lane of lanes) for (const version of [...this.live(kind, lane)]) if (!here.has(version.ver)) this.pruned(version);
  }

  #end(version: Version, fate: Fate): void {
    version.fate = fate;
    this.#liveOf(version).delete(version);
  }

  #liveOf({ kind, lane }: Version): Set<Version> {
    const key = `${lane} ${kind.name}`;
    const found = this.#live.get(key) ?? new Set<Version>();
    this.#live.set(key, found);
    return found;
  }

  /** Live rows of a connection. */
  live(kind: Kind, lane: number): ReadonlySet<Version> {
    return this.#live.get(`${lane} ${kind.name}`) ?? new Set();
  }

  of(kind: Kind, ...fates: readonly Fate[]): Version[] {
    return this.versions.filter((version) => version.kind === kind && fates.includes(version.fate));
  }
}

function remove<T>(list: T[], gone: (one: T) => boolean): void {
  const kept = list.filter((one) => !gone(one));
  list.length = 0;
  for (const one of kept) list.push(one);
}

export function dayText({ at }: Pick<Version, 'at'>): string {
  return /^-?\d+$/.test(at) ? new Date(Number(BigInt(at) / 1000n)).toISOString().slice(0, 10) : 'undated';
}

/** How often each text is there. */
export function counted(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}
