/** What the receipts say of one row: which batches meant to delete it, which version, and what became of them. Reads the receipts line by line; a line that is no JSON counts for nothing. */
import path from 'node:path';
import { readLines } from './json-lines.js';
import { archivePaths } from './layout.js';
import { receiptFiles } from './receipt-lines.js';
import type { OutcomeReceipt, Receipt } from './receipts.js';

/** One intent to delete the row. */
export type RowPrune = {
  readonly run: string;
  readonly batch: string;
  /** 64-bit transaction id, decimal. */
  readonly xid: string;
  readonly oid: number;
  /** Digest of the version, decimal. */
  readonly digest: string;
  readonly at: string;
  /** undefined: nobody knows yet, the next run of the pruner finds out. */
  readonly outcome: OutcomeReceipt['result'] | undefined;
};

/** Oldest first. `key`: texts in key order. */
export async function prunesOfRow(dir: string, oids: ReadonlySet<number>, key: readonly string[]): Promise<RowPrune[]> {
  const folder = archivePaths(dir).receipts;
  const found = new Map<string, RowPrune>();
  const printed = JSON.stringify(key);
  const worth = (line: string): boolean => line.includes(printed) || line.includes('"outcome"'); // most lines are of other rows
  for (const name of (await receiptFiles(folder, '')).reverse()) {
    for await (const receipt of readLines<Receipt>(path.join(folder, name), worth)) {
      if (receipt.type === 'outcome') {
        const known = found.get(receipt.batch);
        if (known !== undefined) found.set(receipt.batch, { ...known, outcome: receipt.result });
      } else if (receipt.type === 'intent' && oids.has(receipt.oid)) {
        const at = receipt.keys.findIndex((texts) => JSON.stringify(texts) === printed);
        if (at < 0) continue;
        const { run, batch, xid, oid } = receipt;
        found.set(batch, { run, batch, xid, oid, digest: receipt.digests[at] ?? '', at: receipt.at, outcome: undefined });
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}
