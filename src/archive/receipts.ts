/** The pruner's receipts, a line each (receipt-lines.ts). Owns what they say, and answers from them. */
import { type LinePlace, ReceiptLines, ReceiptReader } from './receipt-lines.js';

/** Written before COMMIT of a batch: exactly the rows that it deletes. */
export type IntentReceipt = {
  readonly type: 'intent';
  readonly run: string;
  /** Random UUID, also in the transaction's prune message. */
  readonly batch: string;
  /** 64-bit transaction id, decimal. */
  readonly xid: string;
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly rows: number;
  /** Key texts of each row, in key order. */
  readonly keys: readonly (readonly string[])[];
  /** Row digests, decimal, in the order of `keys`. */
  readonly digests: readonly string[];
  readonly at: string;
};

export type OutcomeReceipt = {
  readonly type: 'outcome';
  readonly run: string;
  readonly batch: string;
  readonly result: 'committed' | 'rolled-back';
  readonly at: string;
};

/** What a run did with one table. */
export type TableReceipt = {
  readonly oid: number | null;
  readonly schema: string;
  readonly table: string;
  readonly nominated: number;
  readonly deleted: number;
  readonly batches: number;
  /** Rows that were left, by reason. */
  readonly left: Readonly<Record<string, number>>;
  /** Why the table was not pruned, or stopped; null when it was. */
  readonly problem: string | null;
};

export type RunReceipt = {
  readonly type: 'run';
  readonly run: string;
  readonly at: string;
  readonly finishedAt: string;
  readonly dryRun: boolean;
  readonly trigger?: string;
  readonly tables: readonly TableReceipt[];
  /** Why the whole run did nothing or stopped; null when it went through. */
  readonly problem?: string | null;
};

export type Receipt = IntentReceipt | OutcomeReceipt | RunReceipt;

/** An intent without its rows: what the index keeps in memory. */
export type IntentHead = Omit<IntentReceipt, 'keys' | 'digests'>;

/** Appends receipts; one at a time, in the order of the calls. */
export class ReceiptWriter {
  readonly #lines: ReceiptLines;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#lines = new ReceiptLines(dir, '');
  }

  /** Durable when it resolves. When it throws, nobody may act as if the receipt existed. After a failed fsync it takes nothing more. */
  append(receipt: Receipt): Promise<void> {
    return this.#lines.append(receipt);
  }
}

/** Answers from the receipts; reads newest days first and each byte once, keeps heads only. */
export class ReceiptIndex {
  readonly #reader: ReceiptReader;
  readonly #intents = new Map<string, IntentHead>();
  readonly #places = new Map<string, LinePlace>();
  readonly #outcomes = new Map<string, OutcomeReceipt['result']>();
  readonly #runs: RunReceipt[] = [];
  #broken = 0;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#reader = new ReceiptReader(dir, '', (line, place) => this.#take(line, place));
  }

  /** Lines that were no JSON: torn by a crash, or damaged. */
  get brokenLines(): number {
    return this.#broken;
  }

  async hasIntent(batch: string): Promise<boolean> {
    return (await this.intent(batch)) !== undefined;
  }

  /** The head of the intent of a batch, undefined when there is none. */
  async intent(batch: string): Promise<IntentHead | undefined> {
    for (const file of await this.#reader.files()) {
      const known = this.#intents.get(batch);
      if (known !== undefined) return known;
      await this.#reader.read(file);
    }
    return this.#intents.get(batch);
  }

  /** The intents of a run with what became of them, oldest first. */
  async ofRun(run: string): Promise<{ intent: IntentHead; outcome: OutcomeReceipt['result'] | undefined }[]> {
    return (await this.batches()).filter(({ intent }) => intent.run === run);
  }

  /** The whole intent of a batch whose head was given out: with keys and digests. */
  async wholeIntent(batch: string): Promise<IntentReceipt> {
    const place = this.#places.get(batch);
    if (place === undefined) throw new Error(`there is no intent of batch ${batch}`);
    return JSON.parse(await this.#reader.line(place)) as IntentReceipt;
  }

  /** Intents without an outcome, oldest first: their transactions' fate is to be found out. */
  async unresolved(): Promise<IntentHead[]> {
    await this.#reader.readAll();
    return [...this.#intents.values()].filter((intent) => !this.#outcomes.has(intent.batch)).sort(byTime);
  }

  /** Receipts of finished runs, oldest first. */
  async runs(): Promise<RunReceipt[]> {
    await this.#reader.readAll();
    return [...this.#runs].sort(byTime);
  }

  /** Intents with what became of them, oldest first. */
  async batches(): Promise<{ intent: IntentHead; outcome: OutcomeReceipt['result'] | undefined }[]> {
    await this.#reader.readAll();
    return [...this.#intents.values()].sort(byTime).map((intent) => ({ intent, outcome: this.#outcomes.get(intent.batch) }));
  }

  #take(line: string, place: LinePlace): void {
    let receipt: Receipt;
    try {
      receipt = JSON.parse(line) as Receipt;
    } catch {
      this.#broken += 1;
      return;
    }
    if (receipt.type === 'intent') {
      const { keys: _keys, digests: _digests, ...head } = receipt;
      this.#intents.set(head.batch, head);
      this.#places.set(head.batch, place);
    } else if (receipt.type === 'outcome') this.#outcomes.set(receipt.batch, receipt.result);
    else if (receipt.type === 'run') this.#runs.push(receipt);
    else this.#broken += 1;
  }
}

function byTime(a: { readonly at: string }, b: { readonly at: string }): number {
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}
