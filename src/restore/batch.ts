/**
 * One batch of restored rows: inserted and compared in one transaction. The order of the steps is the safety:
 *   mark → lock the table, look at it again → COPY into the stage → which places are taken → which rows refer to nothing → insert → every inserted row prints as it is archived → fsynced receipt → COMMIT → outcome.
 * Whatever fails before COMMIT rolls everything back. A dry run takes the same steps in a READ ONLY transaction, but for the insert.
 */
import type pg from 'pg';
import type { RestoreWriter } from '../archive/restores.js';
import { RESTORE_PREFIX, signMessage } from '../change/fence.js';
import type { Config } from '../runtime/config.js';
import { TidemarkError } from '../runtime/errors.js';
import { faultPoint } from '../runtime/fault-point.js';
import { digestOfTexts } from '../segment/digest.js';
import { quoteIdentifier } from '../wal/identifier.js';
import type { ForeignKeys, Orphans } from './foreign-keys.js';
import type { Stage, StagedRow } from './stage.js';
import { quoted, type RestoreTarget, readTarget, type TableName, textOf } from './target.js';

export type ConflictPolicy = 'skip' | 'replace' | 'fail';

export type BatchContext = {
  readonly client: pg.Client;
  readonly config: Config;
  readonly stage: Stage;
  readonly foreignKeys: ForeignKeys;
  readonly policy: ConflictPolicy;
  readonly dryRun: boolean;
  /** What the archive has to know of it; undefined: it goes into a table that is not the archived one. */
  readonly record: { readonly key: Buffer; readonly archive: string; readonly systemId: string; readonly receipts: RestoreWriter } | undefined;
  readonly run: string;
  /** Milliseconds from COMMIT on that the pruner leaves the rows. */
  readonly keepMs: number;
};

/** `known`: the archive has these very rows, so they must print as given. `columns`: of the target, that are given; the others get their defaults. */
export type BatchInput = { readonly batch: string; readonly rows: readonly StagedRow[]; readonly known: boolean; readonly columns: readonly string[] };

/** restored: inserted, or would be · present: the very row is there · conflict: another row has its place. */
export type BatchCounts = { readonly restored: number; readonly present: number; readonly conflict: number; readonly replaced: number };
/** By column that is NOT NULL: rows that have no value for it. */
export type Missing = ReadonlyMap<string, number>;
/** `orphans`: numbers of rows that were left because they refer to nothing, and why. `missing`: what a dry run found. */
export type BatchResult = BatchCounts & { readonly orphans: Orphans; readonly missing: Missing };

/** Thrown under `fail` when a place is taken: nothing of the batch was restored. */
export class PlaceTaken extends TidemarkError {
  constructor(target: RestoreTarget, rows: number) {
    super('failed', `${rows} rows of ${textOf(target)} have their place taken by others: nothing of this batch was restored`, {
      remedy: '--on-conflict skip leaves what is there, --on-conflict replace puts the archived rows in its place; --dry-run counts them',
    });
  }
}

const REFERENCES_FIRST = 'put back first the rows they refer to (tidemark restore, or undo-prune of the run that took them), then run this again';

function refersToNothing(target: RestoreTarget, rows: number, reason: string): TidemarkError {
  return new TidemarkError('failed', `${rows} of the rows of ${textOf(target)} would lead nowhere, the first ${reason}: nothing of this batch was restored`, {
    remedy: `${REFERENCES_FIRST}; --on-conflict skip restores the others`,
  });
}

/** SQLSTATE foreign_key_violation, not_null_violation. */
const FOREIGN_KEY = '23503';
const NOT_NULL = '23502';

/** What the archived rows do not have: the table's column is newer than they are, was renamed, or was made NOT NULL since. `rows`: as it stands in the text. */
function isMissing(table: TableName, column: string, rows: string, more: { readonly end: string; readonly cause?: unknown }): TidemarkError {
  return new TidemarkError(
    'failed',
    `column ${column} of ${textOf(table)} is NOT NULL, and ${rows} have no value for it (a column that was renamed has another name there): ${more.end}`,
    {
      remedy: `ALTER TABLE ${quoted(table)} ALTER COLUMN ${quoteIdentifier(column)} DROP NOT NULL for the time of the restore; SET DEFAULT will do for a column that the archive does not have`,
      cause: more.cause,
    },
  );
}

/** What a restore would stop with, by what its dry run found; undefined when it would not. `table`: as a person knows it. */
export function wouldStop(table: TableName, missing: Missing, triggers: readonly string[]): TidemarkError | undefined {
  const [[column, rows] = [], ...others] = missing;
  if (column === undefined) return undefined;
  const also = others.length === 0 ? '' : `; the same holds for ${others.map(([name, count]) => `${name} (${count} rows)`).join(', ')}`;
  const unless = triggers.length === 0 ? '' : `, unless a trigger gives one (${triggers.join(', ')})`;
  return isMissing(table, column, `${rows} of the archived rows`, { end: `a restore would stop there${unless}${also}` });
}

/** Restores a batch. Throws PlaceTaken, or what the database or the archive volume says; then nothing of it is restored, or, when COMMIT got no answer, it is not known: run it again. */
export async function restoreBatch(context: BatchContext, input: BatchInput): Promise<BatchResult> {
  const { client, dryRun } = context;
  await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${dryRun ? 'READ ONLY' : 'READ WRITE'}`);
  try {
    return await insideTransaction(context, input);
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    const { code, constraint, column } = error as { code?: string; constraint?: string; column?: string };
    if (code === NOT_NULL && column !== undefined)
      throw isMissing(context.stage.target, column, 'archived rows', { end: 'nothing of this batch was restored', cause: error });
    if (code !== FOREIGN_KEY) throw error;
    throw new TidemarkError(
      'failed',
      `rows of ${textOf(context.stage.target)} refer to rows that are not there (${constraint}): nothing of this batch was restored`,
      {
        remedy: REFERENCES_FIRST,
        cause: error,
      },
    );
  }
}

async function insideTransaction(context: BatchContext, input: BatchInput): Promise<BatchResult> {
  const { client, stage, policy, dryRun, record } = context;
  const { target } = stage;
  await client.query(
    `SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '300s'; SET LOCAL idle_in_transaction_session_timeout = '120s'; SET LOCAL synchronous_commit = on; SET LOCAL row_security = off`,
  );
  if (!dryRun) {
    if (record !== undefined && input.known) {
      const mark = signMessage(record.key, { run: context.run, batch: input.batch, archive: record.archive });
      await client.query('SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)', [RESTORE_PREFIX, mark]);
    }
    await client.query(`LOCK TABLE ONLY ${quoted(target)} IN ROW EXCLUSIVE MODE`);
    await recheck(context);
  }
  await stage.fill(input.rows);
  faultPoint('R1');
  const places = await takenPlaces(client, stage);
  if (places.others.length > 0 && policy === 'fail') throw new PlaceTaken(target, places.others.length);
  const taken = policy === 'replace' ? places.same : [...places.same, ...places.others];
  const orphans = await context.foreignKeys.orphans(stage, taken);
  const [reason] = orphans.values();
  if (reason !== undefined && policy === 'fail') throw refersToNothing(target, orphans.size, reason);
  const replaced = policy === 'replace' ? places.others.filter((number) => !orphans.has(number)) : [];
  const left = [...taken, ...orphans.keys()];
  const wanted = input.rows.length - left.length;
  const conflict = policy === 'replace' ? 0 : places.others.length;
  const missing = dryRun ? withoutValue(target, input, left) : new Map<string, number>();
  const counts = { restored: wanted, present: places.same.length, conflict, replaced: replaced.length, orphans, missing };
  if (dryRun || wanted === 0) {
    if (dryRun) await context.foreignKeys.foretell(stage, left);
    await client.query(dryRun ? 'COMMIT' : 'ROLLBACK');
    return counts;
  }
  if (replaced.length > 0)
    await client.query(`DELETE FROM ONLY ${quoted(target)} t USING ${stage.table} s WHERE s.${stage.number} = ANY ($1::int4[]) AND ${stage.samePlace()}`, [
      replaced,
    ]);
  const before = await changesOf(client, target);
  const inserted = await insert(client, stage, input, left);
  faultPoint('R2');
  // Another unique index, or somebody who was faster.
  const refused = wanted - inserted.digests.length;
  if (refused > 0 && policy !== 'skip') throw new PlaceTaken(target, refused);
  if (inserted.digests.length === 0) {
    await client.query('ROLLBACK');
    return { ...counts, restored: 0, conflict: counts.conflict + refused };
  }
  if (record !== undefined && input.known) await requireAlone(client, target, before, inserted.digests.length);
  await commit(context, input, inserted);
  return { ...counts, restored: inserted.digests.length, conflict: counts.conflict + refused };
}

/** Of the rows that go in, those for which a column that is NOT NULL has no value: none is archived, and no default fills it. */
function withoutValue(target: RestoreTarget, { rows, columns }: BatchInput, left: readonly number[]): Missing {
  const out = new Set(left);
  const going = rows.filter((_, number) => !out.has(number));
  const found = new Map<string, number>();
  for (const [at, { name, notNull, filled }] of target.columns.entries()) {
    if (!notNull || (filled && !columns.includes(name))) continue;
    const count = going.filter(({ texts }) => texts[at] === null).length;
    if (count > 0) found.set(name, count);
  }
  return found;
}

/** Under the lock: is it still the table that was read? */
async function recheck({ client, config, stage, policy }: BatchContext): Promise<void> {
  const { target } = stage;
  const now = await readTarget(client, config, target, target.oid, policy === 'replace');
  const { rows } = await client.query<{ oid: string }>('SELECT pg_catalog.to_regclass($1)::oid::text AS oid', [quoted(target)]);
  if (now.signature !== target.signature || rows[0]?.oid !== String(target.oid))
    throw new TidemarkError('failed', `${textOf(target)} was changed meanwhile`, { remedy: 'run it again: what is restored is found' });
}

/** Numbers of the staged rows whose place is taken: by the very row, or by another. Without a key the nth of equal rows is there when the table has n. */
async function takenPlaces(client: pg.Client, stage: Stage): Promise<{ same: number[]; others: number[] }> {
  const { target } = stage;
  const text =
    target.key.length > 0
      ? `SELECT s.${stage.number} AS n, (${stage.sameValues()})::text AS same FROM ${stage.table} s JOIN ONLY ${quoted(target)} t ON ${stage.samePlace()}`
      : `SELECT s.n, 'true' AS same FROM (SELECT s.${stage.number} AS n, s.${stage.copies} AS copies, ${stage.wholeRow('s')} AS whole FROM ${stage.table} s) s
           JOIN (SELECT ${stage.wholeRow('t')} AS whole, count(*) AS there FROM ONLY ${quoted(target)} t GROUP BY 1) t ON s.whole = t.whole WHERE s.copies <= t.there`;
  const { rows } = await client.query<{ n: string; same: string }>(text);
  const numbers = (same: string): number[] => rows.filter((row) => row.same === same).map(({ n }) => Number(n));
  return { same: numbers('true'), others: numbers('false') };
}

type Inserted = { readonly keys: string[][]; readonly digests: string[] };

/** Inserts all but `left`. Throws when a known row comes back as another than it is archived. */
async function insert(client: pg.Client, stage: Stage, input: BatchInput, left: readonly number[]): Promise<Inserted> {
  const { target } = stage;
  const columns = input.columns.map(quoteIdentifier);
  const { rows } = await client.query<(string | null)[]>({
    text: `INSERT INTO ${quoted(target)} AS t (${columns.join(', ')}) OVERRIDING SYSTEM VALUE
             SELECT ${columns.map((column) => `s.${column}`).join(', ')} FROM ${stage.table} s WHERE s.${stage.number} <> ALL ($1::int4[]) ORDER BY s.${stage.number}
             ON CONFLICT DO NOTHING RETURNING ${stage.columns('t')}`,
    values: [left],
    rowMode: 'array',
  });
  const expected = new Set(input.known ? input.rows.map(({ texts }) => digestOfTexts(texts)) : []);
  const keyAt = target.key.map(({ name }) => target.columns.findIndex((column) => column.name === name));
  const inserted: Inserted = { keys: [], digests: [] };
  for (const texts of rows) {
    const digest = digestOfTexts(texts);
    if (input.known && !expected.has(digest)) throw changedRow(target);
    inserted.keys.push(keyAt.map((index) => texts[index] ?? ''));
    inserted.digests.push(String(digest));
  }
  return inserted;
}

type Changes = { readonly rows: bigint; readonly updates: bigint; readonly counted: boolean };

/** What this session's transactions did to the table and the server has not counted up yet: the difference of two looks in one transaction is that transaction's. */
async function changesOf(client: pg.Client, { oid }: RestoreTarget): Promise<Changes> {
  const { rows } = await client.query<{ rows: string; updates: string; counted: string }>(
    `SELECT (pg_catalog.pg_stat_get_xact_tuples_inserted($1::oid) - pg_catalog.pg_stat_get_xact_tuples_deleted($1::oid))::text AS rows,
       pg_catalog.pg_stat_get_xact_tuples_updated($1::oid)::text AS updates, pg_catalog.current_setting('track_counts') AS counted`,
    [oid],
  );
  const [found] = rows;
  return { rows: BigInt(found?.rows ?? '0'), updates: BigInt(found?.updates ?? '0'), counted: found?.counted === 'on' };
}

/** By its transaction id everyone takes every row of this transaction for one that the archive holds: no trigger may have changed or added one behind the insert, and none may at COMMIT. */
async function requireAlone(client: pg.Client, target: RestoreTarget, before: Changes, inserted: number): Promise<void> {
  await client.query('SET CONSTRAINTS ALL IMMEDIATE');
  const now = await changesOf(client, target);
  const alone = now.counted ? now.updates === before.updates && now.rows === before.rows + BigInt(inserted) : target.triggers.length === 0;
  if (!alone) throw changedRow(target);
}

function changedRow(target: RestoreTarget): TidemarkError {
  const by = target.triggers.length === 0 ? '' : ` (triggers on it: ${target.triggers.join(', ')})`;
  return new TidemarkError('failed', `a row of ${textOf(target)} comes out as another than it is archived${by}: nothing of this batch was restored`, {
    remedy: 'ALTER TABLE … DISABLE TRIGGER for the time of the restore, or --into another table',
  });
}

async function commit(context: BatchContext, input: BatchInput, inserted: Inserted): Promise<void> {
  const { client, stage, record, run, keepMs } = context;
  const { oid, schema, table } = stage.target;
  const { batch, known } = input;
  if (record !== undefined) {
    const { rows } = await client.query<{ xid: string; ms: string }>(
      'SELECT pg_current_xact_id()::text AS xid, (extract(epoch FROM clock_timestamp()) * 1000)::int8::text AS ms',
    );
    const { xid, ms } = rows[0] as { xid: string; ms: string };
    const safeUntil = new Date(Number(ms) + keepMs).toISOString();
    const of = { xid, systemId: record.systemId, oid, schema, table, rows: inserted.digests.length };
    await record.receipts.append({ type: 'restore', run, batch, ...of, ...inserted, known, safeUntil, at: new Date().toISOString() });
  }
  faultPoint('R3');
  const committing = client.query('COMMIT');
  faultPoint('R4');
  const { command } = await committing;
  if (command !== 'COMMIT') throw new TidemarkError('failed', `COMMIT was answered with ${command}`);
  faultPoint('R5');
  await record?.receipts.append({ type: 'outcome', run, batch, result: 'committed', at: new Date().toISOString() });
}
