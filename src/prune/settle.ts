/** Intents without an outcome: a pruner died, or COMMIT got no answer. What became of them is asked of Postgres, never assumed (law 7). */
import type pg from 'pg';
import type { OutcomeReceipt, ReceiptIndex, ReceiptWriter } from '../archive/receipts.js';
import type { Log } from '../runtime/log.js';

/** What was found out, by batch. */
export type Settled = ReadonlyMap<string, OutcomeReceipt['result']>;

/**
 * Settles every open intent whose transaction has ended. Others stay open: still running, or too old for the server to know. The caller has made sure that this is the
 * server of the archive's epoch: another one numbers its transactions by itself.
 */
export async function settleIntents(client: pg.Client, index: ReceiptIndex, receipts: ReceiptWriter, log: Log): Promise<Settled> {
  const settled = new Map<string, OutcomeReceipt['result']>();
  for (const intent of await index.unresolved()) {
    const status = await statusOf(client, intent.xid);
    const about = { run: intent.run, batch: intent.batch, table: intent.table, rows: intent.rows, xid: intent.xid, status: status ?? 'unknown to the server' };
    if (status !== 'committed' && status !== 'aborted') {
      log.warn({ event: 'intent-open', ...about }, 'a batch is still open');
      continue;
    }
    const result = status === 'committed' ? 'committed' : 'rolled-back';
    await receipts.append({ type: 'outcome', run: intent.run, batch: intent.batch, result, at: new Date().toISOString() });
    settled.set(intent.batch, result);
    log.warn({ event: 'intent-settled', ...about }, 'a batch whose end was not known is settled');
  }
  return settled;
}

/** pg_xact_status: committed, aborted, in progress; null when the server has forgotten it or never gave it out. */
async function statusOf(client: pg.Client, xid: string): Promise<string | null> {
  try {
    const { rows } = await client.query<{ status: string | null }>('SELECT pg_xact_status($1::xid8) AS status', [xid]);
    return rows[0]?.status ?? null;
  } catch (error) {
    if ((error as { code?: string }).code === '22023') return null; // a transaction id of the future
    throw error;
  }
}
