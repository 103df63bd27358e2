/**
 * The newest prune intents, read from the end of the receipts: those that the archive may not hold as changes yet. Reads only. The reader's rule is that of receipts.ts: what is no whole line of JSON
 * counts for nothing.
 */
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { archivePaths } from './layout.js';
import { storageError } from './put.js';
import { receiptFiles } from './receipt-lines.js';
import type { IntentReceipt } from './receipts.js';

/** `xid`: 64 bits; `digests`: decimal. */
export type LateIntent = { readonly xid: bigint; readonly oid: number; readonly at: string; readonly digests: readonly string[] };

const BLOCK_BYTES = 1024 * 1024;

/**
 * Intents of these tables whose transaction id is not below `horizon`. One pruner at a time writes them, each before its COMMIT, so they stand in the order of their ids: reading ends at the first
 * that is below. Those from before a person had the archive begin anew (resync, adopt) are of no account: another server may have given out their ids.
 */
export async function lateIntents(dir: string, horizon: bigint, oids: ReadonlySet<number>): Promise<LateIntent[]> {
  const { receipts } = archivePaths(dir);
  const since = await newEpochAt(dir);
  const found: LateIntent[] = [];
  for (const name of await receiptFiles(receipts, '')) {
    for await (const line of linesFromTheEnd(path.join(receipts, name))) {
      const xid = /^\{"type":"intent",.{0,400}?"xid":"(\d+)"/.exec(line)?.[1];
      if (xid === undefined) continue;
      if (BigInt(xid) < horizon) return found;
      const intent = parsed(line);
      if (intent === undefined || !oids.has(intent.oid)) continue;
      if (intent.at < since) return found;
      found.push({ xid: BigInt(xid), oid: intent.oid, at: intent.at, digests: intent.digests });
    }
  }
  return found;
}

function parsed(line: string): IntentReceipt | undefined {
  try {
    return JSON.parse(line) as IntentReceipt;
  } catch {
    return undefined;
  }
}

/** Whole lines, the last first. */
async function* linesFromTheEnd(file: string): AsyncGenerator<string> {
  const handle = await open(file, 'r');
  try {
    let end = (await handle.stat()).size;
    let rest: Buffer[] = []; // pieces of a line whose beginning was not read yet
    while (end > 0) {
      const from = Math.max(0, end - BLOCK_BYTES);
      const block = Buffer.alloc(end - from);
      const { bytesRead } = await handle.read(block, 0, block.length, from);
      if (bytesRead !== block.length) return; // cut short under us: not a file of ours any more
      end = from;
      let until = block.length;
      for (let newline = block.lastIndexOf(0x0a, until - 1); newline >= 0 && until > 0; newline = until > 0 ? block.lastIndexOf(0x0a, until - 1) : -1) {
        const line = Buffer.concat([block.subarray(newline + 1, until), ...rest]).toString('utf8');
        rest = [];
        until = newline;
        if (line !== '') yield line;
      }
      rest = [block.subarray(0, until), ...rest];
    }
    const first = Buffer.concat(rest).toString('utf8');
    if (first !== '') yield first;
  } finally {
    await handle.close();
  }
}

/** When a person last had the archive begin anew, ISO; empty: never. */
async function newEpochAt(dir: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(archivePaths(dir).operations, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw storageError(error);
  }
  const times = [...text.matchAll(/^\{"type":"(?:resync|adopt)","at":"([^"]+)"/gm)].map((match) => match[1] as string);
  return times.at(-1) ?? '';
}
