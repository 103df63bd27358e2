/** What the receipts say of one row: which batches meant to delete it, which version, and what became of them. Reads the receipts line by line; a line that is no JSON counts for nothing. */
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { archivePaths } from './layout.js';
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
  for (const name of await dayFiles(folder)) {
    for await (const line of createInterface({ input: createReadStream(path.join(folder, name)), crlfDelay: Number.POSITIVE_INFINITY })) {
      if (!line.includes(printed) && !line.includes('"outcome"')) continue; // most lines are of other rows
      const receipt = parse(line);
      if (receipt?.type === 'outcome') {
        const known = found.get(receipt.batch);
        if (known !== undefined) found.set(receipt.batch, { ...known, outcome: receipt.result });
      } else if (receipt?.type === 'intent' && oids.has(receipt.oid)) {
        const at = receipt.keys.findIndex((texts) => JSON.stringify(texts) === printed);
        if (at < 0) continue;
        const { run, batch, xid, oid } = receipt;
        found.set(batch, { run, batch, xid, oid, digest: receipt.digests[at] ?? '', at: receipt.at, outcome: undefined });
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

async function dayFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => /^\d{4}-\d{2}-\d{2}\.jsonl$/.test(name)).sort();
}

function parse(line: string): Receipt | undefined {
  try {
    return JSON.parse(line) as Receipt;
  } catch {
    return undefined;
  }
}
