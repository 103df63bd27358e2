/**
 * One batch: delete and compare in one transaction (design decision 7, protocol P3s, P4, P13). The order of the steps is the safety; read it line by line.
 *   mark → no re-copy at its moment → lock the table → read every obstacle again → delete what may still go → compare each deleted row with the archive → check that this is still the same server
 *   → fsynced intent → COMMIT → outcome.
 * Whatever fails before COMMIT rolls everything back.
 */
import type pg from 'pg';
import type { ReceiptWriter } from '../archive/receipts.js';
import { PRUNE_PREFIX, signMessage } from '../change/fence.js';
import type { Epoch } from '../position/epoch.js';
import type { TableConfig } from '../runtime/config.js';
import { faultPoint } from '../runtime/fault-point.js';
import { quoteIdentifier, slotName } from '../wal/identifier.js';
import { readServerIdentity } from '../wal/identity.js';
import { holdOffRecopy } from '../wal/recopy-lock.js';
import { readSlot, slotFlaw } from '../wal/slot.js';
import { compareRow, type Verdict } from './compare.js';
import { eachRow, type TakenRow } from './each-row.js';
import { type Cutoff, mayGo, tableSql } from './eligible.js';
import type { Nominated } from './nominate.js';
import { type Archived, keyOf } from './proof.js';
import { readTarget, type Target } from './target.js';

export type BatchContext = {
  readonly client: pg.Client;
  readonly source: string;
  readonly archive: string;
  readonly key: Buffer;
  readonly epoch: Epoch;
  readonly run: string;
  readonly receipts: ReceiptWriter;
};

export type BatchInput = {
  /** Random UUID. */
  readonly batch: string;
  readonly config: TableConfig;
  readonly target: Target;
  readonly cutoff: Cutoff;
  readonly horizon: string;
  /** As of notSafe. */
  readonly safe?: readonly string[];
  /** As of TableState.copied: what is as old as this was in the last copy. */
  readonly copiedBefore: string;
  readonly rows: readonly Nominated[];
  readonly archived: ReadonlyMap<string, Archived>;
};

/**
 * committed: these rows are gone · left: nothing was deleted, these rows do not equal the archive (redo without them) · refused: nothing was deleted, the table may not be pruned ·
 * unknown: COMMIT got no answer, settle.ts finds out.
 */
export type BatchResult =
  | { readonly result: 'committed'; readonly deleted: number; readonly skipped: number }
  | { readonly result: 'left'; readonly verdicts: ReadonlyMap<string, Verdict> }
  | { readonly result: 'refused'; readonly reason: string }
  | { readonly result: 'unknown'; readonly batch: string; readonly rows: number; readonly cause: unknown };

/** Deletes a batch, or compares it in a READ ONLY transaction when `dryRun`. Throws what the database or the archive volume says; then nothing is deleted. */
export async function pruneBatch(context: BatchContext, input: BatchInput, dryRun: boolean): Promise<BatchResult> {
  const { client } = context;
  // Said in full: a role's defaults may be serializable or read only, and the conditions on the target row need READ COMMITTED to meet its newest version.
  await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${dryRun ? 'READ ONLY' : 'READ WRITE'}`);
  try {
    const result = await insideTransaction(context, input, dryRun);
    if (result.result === 'left' || result.result === 'refused') await client.query('ROLLBACK');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function insideTransaction(context: BatchContext, input: BatchInput, dryRun: boolean): Promise<BatchResult> {
  const { client } = context;
  await client.query(
    `SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL synchronous_commit = on; SET LOCAL row_security = off`,
  );
  if (!dryRun) {
    const mark = signMessage(context.key, { run: context.run, batch: input.batch, archive: context.archive });
    await client.query('SELECT pg_logical_emit_message(true, $1, $2)', [PRUNE_PREFIX, mark]);
    if (!(await holdOffRecopy(client, context.source, input.target.oid)))
      return { result: 'refused', reason: 'its rows are being copied again: the next run goes on' };
    await client.query(`LOCK TABLE ONLY ${tableSql(input.target)} IN ROW EXCLUSIVE MODE`); // from here no trigger, key, rule, policy or column can change
  }
  const target = await recheck(context, input);
  if (typeof target === 'string') return { result: 'refused', reason: target };

  const judged = new Judgement(input);
  const found = await takeRows(client, input, target, dryRun, (row) => judged.take(row));
  if (!found) return { result: 'refused', reason: 'the name of the table leads to another one now' };
  faultPoint('P4');
  if (judged.verdicts.size > 0) return { result: 'left', verdicts: judged.verdicts };
  const rows = judged.keys.length;
  const skipped = input.rows.length - rows;
  if (rows === 0 || dryRun) {
    await client.query('ROLLBACK');
    return { result: 'committed', deleted: rows, skipped };
  }

  const { systemId, timeline } = context.epoch;
  const server = await readServerIdentity(client);
  if (server.inRecovery || server.systemId !== systemId || server.timeline !== timeline)
    return { result: 'refused', reason: 'this connection leads to another server or timeline than the archive was made from' };
  const { rows: ids } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
  await context.receipts.append({
    type: 'intent',
    run: context.run,
    batch: input.batch,
    xid: (ids[0] as { xid: string }).xid,
    oid: input.target.oid,
    schema: input.target.schema,
    table: input.target.table,
    rows,
    keys: judged.keys,
    digests: judged.digests,
    at: new Date().toISOString(),
  });
  faultPoint('P5');
  try {
    const committing = client.query('COMMIT');
    faultPoint('P6');
    const { command } = await committing;
    if (command !== 'COMMIT') throw new Error(`COMMIT was answered with ${command}`);
  } catch (cause) {
    return { result: 'unknown', batch: input.batch, rows, cause };
  }
  faultPoint('P7');
  await context.receipts.append({ type: 'outcome', run: context.run, batch: input.batch, result: 'committed', at: new Date().toISOString() });
  return { result: 'committed', deleted: rows, skipped };
}

/** Reads the table again, under the lock: as it is now, or the reason to refuse. */
async function recheck(context: BatchContext, input: BatchInput): Promise<Target | string> {
  const now = await readTarget(context.client, context.source, input.config);
  if (now === undefined || now.oid !== input.target.oid) return 'the table was dropped or replaced';
  if (now.obstacles.length > 0) return now.obstacles.map(({ reason }) => reason).join('; ');
  if (now.signature !== input.target.signature || now.key.join() !== input.target.key.join())
    return 'its columns or key changed a moment ago; the next run goes by the new ones';
  return slotFlaw(await readSlot(context.client, slotName(context.source))) ?? now;
}

/**
 * Deletes (or, dry, selects) the rows that may still go: the conditions stand on the target row, locked rows are skipped, nothing ever waits for a row. False: they are rows of
 * another table (a schema can be renamed under the lock).
 */
async function takeRows(client: pg.Client, input: BatchInput, target: Target, dryRun: boolean, take: (row: TakenRow) => void): Promise<boolean> {
  const table = tableSql(target);
  const conditions = mayGo(input.config, target, input.cutoff, input.horizon, input.safe);
  const columns = input.target.columns.map((column) => quoteIdentifier(column.name)).join(', ');
  // COPY takes no parameters. In the statement itself they would make each one another to pg_stat_statements, which has room for few.
  const choose = async (ctids: readonly string[]): Promise<void> => {
    await client.query(`SELECT set_config('tidemark.ctids', $1, true)`, [`{${ctids.map((ctid) => `"${ctid}"`).join(',')}}`]);
  };
  const chosen = `ctid = ANY (current_setting('tidemark.ctids')::tid[]) AND ${conditions}`;
  const lock = `SELECT ctid FROM ONLY ${table} WHERE ${chosen} FOR UPDATE SKIP LOCKED`;
  await choose(input.rows.map((row) => row.ctid));
  if (target.references.length > 0 && !dryRun) {
    // Who refers to a row holds a lock on it until it commits: only a statement that begins when all are ours sees every row that refers to one.
    const locked = await client.query<[string]>({ text: lock, rowMode: 'array' });
    await choose(locked.rows.map(([ctid]) => ctid));
  }
  const statement = dryRun
    ? `SELECT tableoid, xmin, ${columns} FROM ONLY ${table} WHERE ${chosen}`
    : `DELETE FROM ONLY ${table} WHERE ctid = ANY (ARRAY(${lock})) AND ${conditions} RETURNING tableoid, xmin, ${columns}`;
  let ours = true;
  await eachRow(client, statement, input.target.columns.length, (row) => {
    if (row.tableoid === target.oid) take(row);
    else ours = false;
  });
  return ours;
}

/** Compares each row as it comes: what the rows of a batch hold is not kept. */
class Judgement {
  /** Rows that are not equal, by key. */
  readonly verdicts = new Map<string, Verdict>();
  /** For the intent. */
  readonly keys: string[][] = [];
  readonly digests: string[] = [];
  readonly #input: BatchInput;
  readonly #keyAt: readonly number[];

  constructor(input: BatchInput) {
    this.#input = input;
    this.#keyAt = input.target.key.map((name) => input.target.columns.findIndex((column) => column.name === name));
  }

  take(row: TakenRow): void {
    const { target, archived, copiedBefore } = this.#input;
    const texts = this.#keyAt.map((index) => (row.starts[index] === -1 ? '' : row.bytes.toString('utf8', row.starts[index], row.ends[index])));
    const key = keyOf(texts);
    const version = archived.get(key);
    const verdict = compareRow(target, row, version, copiedBefore);
    if (verdict !== 'equal') this.verdicts.set(key, verdict);
    this.keys.push(texts);
    this.digests.push(String(version?.digest ?? ''));
  }
}
