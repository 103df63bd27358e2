/**
 * The pruner's receipts: one JSON line each, in one file per UTC day, appended and fsynced. Owns their form and the reader's rule: what is not a whole
 * line of JSON was never acknowledged as written, and counts for nothing. Must never rewrite a line.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError } from '../runtime/errors.js';
import { archivePaths } from './layout.js';
import { storageError, syncFolder, writeFully } from './put.js';

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
  readonly #dir: string;
  /** The file whose name this writer has made durable: who created it may have died before that. */
  #named = '';
  #failed = false;
  #tail: Promise<void> = Promise.resolve();

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#dir = archivePaths(dir).receipts;
  }

  /** Durable when it resolves. When it throws, nobody may act as if the receipt existed. After a failed fsync it takes nothing more. */
  append(receipt: Receipt): Promise<void> {
    const done = this.#tail.then(() => this.#append(receipt));
    this.#tail = done.catch(() => undefined);
    return done;
  }

  async #append(receipt: Receipt): Promise<void> {
    if (this.#failed)
      throw new TidemarkError('transient', 'an fsync of the receipts failed before', { remedy: 'check the archive volume; the next run begins anew' });
    const file = path.join(this.#dir, `${new Date().toISOString().slice(0, 10)}.jsonl`);
    try {
      const handle = await open(file, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o640);
      try {
        const { size } = await handle.stat();
        const last = Buffer.alloc(1);
        if (size > 0) await handle.read(last, 0, 1, size - 1);
        const glue = size > 0 && last[0] !== 0x0a ? '\n' : ''; // ends a torn line, so that ours is a line of its own
        await writeFully(handle, Buffer.from(`${glue}${JSON.stringify(receipt)}\n`));
        this.#failed = true;
        await handle.sync();
        if (this.#named !== file) await syncFolder(this.#dir);
        this.#named = file;
        this.#failed = false;
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw storageError(error);
    }
  }
}

const DAY_FILE = /^\d{4}-\d{2}-\d{2}\.jsonl$/;
const READ_BYTES = 4 * 1024 * 1024;

/** Answers from the receipts; reads newest days first and each byte once, keeps heads only. */
export class ReceiptIndex {
  readonly #dir: string;
  readonly #intents = new Map<string, IntentHead>();
  readonly #outcomes = new Map<string, OutcomeReceipt['result']>();
  readonly #runs: RunReceipt[] = [];
  /** Bytes read of each file, up to the end of its last whole line. */
  readonly #offsets = new Map<string, number>();
  #broken = 0;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#dir = archivePaths(dir).receipts;
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
    for (const file of await this.#files()) {
      const known = this.#intents.get(batch);
      if (known !== undefined) return known;
      await this.#read(file);
    }
    return this.#intents.get(batch);
  }

  /** Intents without an outcome, oldest first: their transactions' fate is to be found out. */
  async unresolved(): Promise<IntentHead[]> {
    await this.#readAll();
    return [...this.#intents.values()].filter((intent) => !this.#outcomes.has(intent.batch)).sort(byTime);
  }

  /** Receipts of finished runs, oldest first. */
  async runs(): Promise<RunReceipt[]> {
    await this.#readAll();
    return [...this.#runs].sort(byTime);
  }

  /** Intents with what became of them, oldest first. */
  async batches(): Promise<{ intent: IntentHead; outcome: OutcomeReceipt['result'] | undefined }[]> {
    await this.#readAll();
    return [...this.#intents.values()].sort(byTime).map((intent) => ({ intent, outcome: this.#outcomes.get(intent.batch) }));
  }

  async #readAll(): Promise<void> {
    for (const file of await this.#files()) await this.#read(file);
  }

  /** Newest first. */
  async #files(): Promise<string[]> {
    try {
      return (await readdir(this.#dir))
        .filter((name) => DAY_FILE.test(name))
        .sort()
        .reverse();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw storageError(error);
    }
  }

  async #read(name: string): Promise<void> {
    const handle = await open(path.join(this.#dir, name), 'r');
    try {
      let offset = this.#offsets.get(name) ?? 0;
      let rest = Buffer.alloc(0);
      for (;;) {
        const chunk = Buffer.alloc(READ_BYTES);
        const { bytesRead } = await handle.read(chunk, 0, READ_BYTES, offset + rest.length);
        if (bytesRead === 0) return;
        const bytes = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
        const end = bytes.lastIndexOf(0x0a) + 1;
        for (const line of bytes.toString('utf8', 0, end).split('\n')) if (line !== '') this.#take(line);
        offset += end;
        rest = bytes.subarray(end);
        this.#offsets.set(name, offset);
      }
    } finally {
      await handle.close();
    }
  }

  #take(line: string): void {
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
    } else if (receipt.type === 'outcome') this.#outcomes.set(receipt.batch, receipt.result);
    else if (receipt.type === 'run') this.#runs.push(receipt);
    else this.#broken += 1;
  }
}

function byTime(a: { readonly at: string }, b: { readonly at: string }): number {
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}
