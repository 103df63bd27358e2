/**
 * What was restored into Postgres, a line each (receipt-lines.ts): written before COMMIT of a batch of restored rows. By it the archiver tells that the very rows are in the archive already, the
 * pruner how long it leaves them alone, and a reader of hot and archived rows together which of the hot ones it has seen. Owns what the lines say.
 */
import { type LinePlace, ReceiptLines, ReceiptReader } from './receipt-lines.js';
import type { OutcomeReceipt } from './receipts.js';

/** Written before COMMIT: exactly the rows that the transaction inserts. */
export type RestoreReceipt = {
  readonly type: 'restore';
  readonly run: string;
  /** Random UUID, also in the transaction's restore message. */
  readonly batch: string;
  /** 64-bit transaction id, decimal; of the server `systemId`. */
  readonly xid: string;
  readonly systemId: string;
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly rows: number;
  /** Key texts of each row, in key order; an empty list for a table without a key. */
  readonly keys: readonly (readonly string[])[];
  /** Row digests, decimal, of the columns that the table had then, in the order of `keys`. */
  readonly digests: readonly string[];
  /** True: the archive holds these very rows. False: they print otherwise than they are archived (a column was retyped since), and are versions of their own. */
  readonly known: boolean;
  /** ISO, by the clock of Postgres: until then the pruner leaves them. */
  readonly safeUntil: string;
  readonly at: string;
};

/** One `restore` or `undo-prune`, when it ended. */
export type RestoreRunReceipt = {
  readonly type: 'run';
  readonly run: string;
  readonly command: 'restore' | 'undo-prune';
  readonly at: string;
  readonly finishedAt: string;
  readonly dryRun: boolean;
  readonly tables: readonly {
    readonly schema: string;
    readonly table: string;
    readonly into: string;
    readonly restored: number;
    readonly batches: number;
    readonly left: Readonly<Record<string, number>>;
    /** Keys of the first rows that were left because they refer to a row that is not there, by the reason in `left`. */
    readonly orphans?: Readonly<Record<string, readonly (readonly string[])[]>>;
    /** Rows that print otherwise than they are archived, since columns were changed: new versions to the archive. */
    readonly changed?: number;
    /** Why not all of its rows were looked at; `undo-prune` goes on with the other tables. */
    readonly problem?: string;
  }[];
  /** Why it stopped; null when it went through. */
  readonly problem: string | null;
};

/** A receipt without its rows. */
export type RestoreHead = Omit<RestoreReceipt, 'keys' | 'digests'>;

export class RestoreWriter {
  readonly #lines: ReceiptLines;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#lines = new ReceiptLines(dir, 'restore-');
  }

  /** Durable when it resolves. When it throws, nobody may act as if the receipt existed. */
  append(receipt: RestoreReceipt | OutcomeReceipt | RestoreRunReceipt): Promise<void> {
    return this.#lines.append(receipt);
  }
}

/** Answers from the receipts of restores; reads each byte once, keeps heads only. */
export class RestoreIndex {
  readonly #reader: ReceiptReader;
  readonly #heads = new Map<string, { readonly head: RestoreHead; readonly place: LinePlace }>();
  readonly #outcomes = new Map<string, OutcomeReceipt['result']>();

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#reader = new ReceiptReader(dir, 'restore-', (line, place) => this.#take(line, place));
  }

  /** The whole receipt of a batch, undefined when there is none. */
  async receipt(batch: string): Promise<RestoreReceipt | undefined> {
    if (!this.#heads.has(batch)) await this.#reader.readAll();
    const found = this.#heads.get(batch);
    return found === undefined ? undefined : (JSON.parse(await this.#reader.line(found.place)) as RestoreReceipt);
  }

  /** All of them, oldest first; those whose transaction is known to be rolled back are not among them. */
  async heads(): Promise<RestoreHead[]> {
    await this.#reader.readAll();
    return [...this.#heads.values()].map(({ head }) => head).filter(({ batch }) => this.#outcomes.get(batch) !== 'rolled-back');
  }

  /** Those whose transaction's fate nobody has written down. */
  async unresolved(): Promise<RestoreHead[]> {
    return (await this.heads()).filter(({ batch }) => !this.#outcomes.has(batch));
  }

  /** Sorted digests of all rows of the receipts that `wanted` takes, whatever became of them: what a receipt says is archived is. */
  async digests(wanted: (head: RestoreHead) => boolean): Promise<BigInt64Array> {
    await this.#reader.readAll();
    const heads = [...this.#heads.values()].filter(({ head }) => wanted(head));
    const digests = new BigInt64Array(heads.reduce((sum, { head }) => sum + head.rows, 0));
    let at = 0;
    for (const { place } of heads) {
      const receipt = JSON.parse(await this.#reader.line(place)) as RestoreReceipt;
      for (const digest of receipt.digests) digests[at++] = BigInt(digest);
    }
    return digests.subarray(0, at).sort();
  }

  #take(line: string, place: LinePlace): void {
    let receipt: RestoreReceipt | OutcomeReceipt | RestoreRunReceipt;
    try {
      receipt = JSON.parse(line) as typeof receipt;
    } catch {
      return; // torn by a crash: it was never acknowledged
    }
    if (receipt.type === 'restore') {
      const { keys: _keys, digests: _digests, ...head } = receipt;
      this.#heads.set(head.batch, { head, place });
    } else if (receipt.type === 'outcome') this.#outcomes.set(receipt.batch, receipt.result);
  }
}

/** True when the sorted `digests` have one of `some`. */
export function hasDigest(digests: BigInt64Array, some: Iterable<bigint>): boolean {
  for (const digest of some) {
    let [low, high] = [0, digests.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((digests[middle] as bigint) < digest) low = middle + 1;
      else high = middle;
    }
    if (low < digests.length && digests[low] === digest) return true;
  }
  return false;
}

/** A transaction of restored rows, as hot rows show it. */
export type RestoredTransaction = RestoreHead & {
  /** `xmin` of its rows, as Postgres prints it. */
  readonly xmin: string;
};

/** `xmin` says nothing any more when so many transactions have come since, and nothing of a transaction that this history of the server has not come to. */
const isPast = (age: bigint): boolean => age > 0n && age < 2n ** 31n;

/**
 * The transactions whose rows, as long as nobody changes them, are in Postgres and in the archive: a hot row of `table` (by OID) whose `xmin` is among them is a restored one. `known` ones only are
 * archived as they stand; the keys and digests of a transaction's rows are in RestoreIndex.receipt(batch). `nextXid`: pg_snapshot_xmax(pg_current_snapshot()) of the server `systemId`.
 */
export async function restoredTransactions(
  index: RestoreIndex,
  table: { readonly oid: number; readonly systemId: string; readonly nextXid: string },
): Promise<RestoredTransaction[]> {
  return (await index.heads())
    .filter(({ oid, systemId, xid }) => oid === table.oid && systemId === table.systemId && isPast(BigInt(table.nextXid) - BigInt(xid)))
    .map((head) => ({ ...head, xmin: String(BigInt.asUintN(32, BigInt(head.xid))) }));
}
