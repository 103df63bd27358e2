/** Intents without an outcome: a pruner died, or COMMIT got no answer. What became of them is asked of Postgres, never assumed (law 7). */
import type pg from 'pg';
import type { ReceiptIndex, ReceiptWriter } from '../archive/receipts.js';
import type { Log } from '../runtime/log.js';

/** Settles every open intent whose transaction has ended. Returns how many stay open (still running, or too old for the server to know). */
export async function settleIntents(client: pg.Client, index: ReceiptIndex, receipts: ReceiptWriter, log: Log): Promise<number> {
  let open = 0;
  for (const intent of await index.unresolved()) {
    const status = await statusOf(client, intent.xid);
    if (status === 'committed' || status === 'aborted') {
      await receipts.append({
        type: 'outcome',
        run: intent.run,
        batch: intent.batch,
        result: status === 'committed' ? 'committed' : 'rolled-back',
        at: new Date().toISOString(),
      });
      log.warn(
        { event: 'intent-settled', run: intent.run, batch: intent.batch, table: intent.table, rows: intent.rows, status },
        'a batch whose end was not known is settled',
      );
    } else {
      open += 1;
      log.warn(
        { event: 'intent-open', run: intent.run, batch: intent.batch, xid: intent.xid, status: status ?? 'unknown to the server' },
        'a batch is still open',
      );
    }
  }
  return open;
}

/** pg_xact_status: committed, aborted, in progress; null when the server has forgotten. */
async function statusOf(client: pg.Client, xid: string): Promise<string | null> {
  try {
    const { rows } = await client.query<{ status: string | null }>('SELECT pg_xact_status($1::xid8) AS status', [xid]);
    return rows[0]?.status ?? null;
  } catch (error) {
    if ((error as { code?: string }).code === '22023') return null; // a transaction id of the future: another server
    throw error;
  }
}
