/** A prune run taken back: exactly the rows that its receipts name go back to where they were. What has their place meanwhile stays. */
import type pg from 'pg';
import type { ArchiveState } from '../archive/manifest.js';
import { type IntentHead, ReceiptIndex } from '../archive/receipts.js';
import type { RestoreRunReceipt } from '../archive/restores.js';
import type { Config } from '../runtime/config.js';
import { configError, TidemarkError } from '../runtime/errors.js';
import { closeClient } from '../wal/session.js';
import { ForetoldRows } from './foreign-keys.js';
import { RestoreRun } from './record.js';
import { openArchive, type RestoreOptions } from './run.js';
import { beginRestore, connectRestore } from './session.js';
import { type PrunedTable, TableUndo } from './table-undo.js';
import { requireUnprotected } from './target.js';

export type UndoOptions = Pick<RestoreOptions, 'config' | 'dryRun' | 'keepMs' | 'signal' | 'progress'> & { readonly run: string };

/** What a prune run deleted, in its order. Throws `config` when there is no such run, `failed` when the end of one of its batches is not known. */
export async function prunedBy(config: Config, index: ReceiptIndex, run: string): Promise<PrunedTable[]> {
  const batches = await index.ofRun(run);
  if (batches.length === 0 && !(await index.runs()).some((one) => one.run === run))
    throw configError(
      `there is no prune run ${JSON.stringify(run)} in the receipts of ${config.archive.dir}`,
      'tidemark prune and its receipts name runs by their id',
    );
  if (batches.some(({ outcome }) => outcome === undefined))
    throw new TidemarkError('failed', 'what became of a batch of this run is not known yet', { remedy: 'run `tidemark prune`: it settles that first' });
  const tables = new Map<string, IntentHead[]>();
  for (const { intent, outcome } of batches)
    if (outcome === 'committed') tables.set(`${intent.schema}.${intent.table}`, [...(tables.get(`${intent.schema}.${intent.table}`) ?? []), intent]);
  return [...tables.values()].map((heads) => {
    const { schema, table } = heads[0] as IntentHead;
    return { schema, table, rows: heads.reduce((sum, head) => sum + head.rows, 0), batches: heads };
  });
}

/** By the name that the table has by now. */
function renamed({ tables }: ArchiveState, pruned: PrunedTable): PrunedTable {
  const { schema, table } = tables.find(({ oid }) => oid === pruned.batches[0]?.oid) ?? pruned;
  return { ...pruned, schema, table };
}

/** `failure`: the first that kept a table from going back, undefined when there was none; the receipt says what became of the others. */
export type UndoResult = { readonly receipt: RestoreRunReceipt; readonly failure: unknown };

/**
 * Takes a prune run back. A table's failure is its own, the others go on. Throws as restoreTable does for what cannot be asked; nothing is ever replaced.
 *
 * The tables go back against the order of the run: a row was deleted when nothing referred to it any more, so what it refers to itself went after it. Rows that still come too early (of one table
 * that refer to each other across batches, or by a foreign key that is newer than the run) wait for another pass.
 */
export async function undoPrune(options: UndoOptions): Promise<UndoResult> {
  const { config, dryRun, keepMs, signal, progress } = options;
  const index = new ReceiptIndex(config.archive.dir);
  const state = await openArchive(config);
  const pruned = (await prunedBy(config, index, options.run)).reverse().map((table) => renamed(state, table));
  for (const table of pruned) requireUnprotected(config, table);
  const run = new RestoreRun(config, 'undo-prune', dryRun);
  const client = await connectRestore(config);
  try {
    const server = await beginRestore(client, config.source.name);
    const record = await run.record(state, server.systemId, client);
    const foretold = dryRun ? new ForetoldRows(client) : undefined;
    const all = pruned.reduce((sum, { rows }) => sum + rows, 0);
    const told = (): void =>
      progress(
        tables.reduce((sum, { tally }) => sum + tally.done, 0),
        all,
      );
    const world = { client, config, dryRun, record, run: run.id, keepMs, state, index, foretold, signal, told };
    const tables = pruned.map((table) => new TableUndo(world, table));
    const stopped = await passes(client, tables, signal);
    const failed = tables.find(({ problem }) => problem !== undefined);
    const receipt = await run.finish(
      tables.map((table) => table.receipt()),
      stopped ?? failed?.problem ?? null,
    );
    return { receipt, failure: failed?.failure };
  } finally {
    await closeClient(client);
  }
}

/** Pass after pass over the tables, as long as one puts back a row that another waited for. Why it stopped before the end; undefined when it did not. */
async function passes(client: pg.Client, tables: readonly TableUndo[], signal: AbortSignal): Promise<string | undefined> {
  const restored = (): number => tables.reduce((sum, { tally }) => sum + tally.restored, 0);
  for (let before = -1; before < restored() && tables.some(({ open }) => open); ) {
    before = restored();
    for (const table of tables) {
      await table.pass();
      if (signal.aborted) return 'stopped before the end: run it again, it goes on';
      if (table.failure !== undefined && !(await isUsable(client))) return;
    }
  }
  return undefined;
}

async function isUsable(client: pg.Client): Promise<boolean> {
  return await client.query('SELECT').then(
    () => true,
    () => false,
  );
}
