/** A prune run taken back: exactly the rows that its receipts name go back to where they were. What has their place meanwhile stays. */
import path from 'node:path';
import type { FileEntry } from '../archive/manifest-format.js';
import { type IntentHead, ReceiptIndex } from '../archive/receipts.js';
import type { RestoreRunReceipt } from '../archive/restores.js';
import type { Config } from '../runtime/config.js';
import { configError, TidemarkError } from '../runtime/errors.js';
import { DailyReader } from '../segment/daily-reader.js';
import { digestOfTexts } from '../segment/digest.js';
import { SegmentReader } from '../segment/reader.js';
import { closeClient } from '../wal/session.js';
import type { BatchContext } from './batch.js';
import { Feed } from './feed.js';
import { newestForm, requireWhole, tableFilesByName } from './files.js';
import { type ChosenPart, Parts } from './parts.js';
import { RestoreRun } from './record.js';
import { openArchive, type RestoreOptions } from './run.js';
import { beginRestore, connectRestore, openTarget } from './session.js';
import { Stage } from './stage.js';
import { Tally } from './tally.js';
import { requireUnprotected, type TableName } from './target.js';
import { WantedDigests } from './wanted-digests.js';

export type UndoOptions = Pick<RestoreOptions, 'config' | 'dryRun' | 'keepMs' | 'signal' | 'progress'> & { readonly run: string };

/** The committed batches of a prune run by table. */
export type PrunedTable = TableName & { readonly rows: number; readonly batches: readonly IntentHead[] };

/** What a prune run deleted. Throws `config` when there is no such run, `failed` when the end of one of its batches is not known. */
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

/** Takes a prune run back. Throws as restoreTable does; nothing is ever replaced. */
export async function undoPrune(options: UndoOptions): Promise<RestoreRunReceipt> {
  const { config, dryRun, keepMs, signal, progress } = options;
  const index = new ReceiptIndex(config.archive.dir);
  const pruned = await prunedBy(config, index, options.run);
  for (const table of pruned) requireUnprotected(config, table);
  const state = await openArchive(config);
  const run = new RestoreRun(config, 'undo-prune', dryRun);
  const client = await connectRestore(config);
  const all = pruned.reduce((sum, { rows }) => sum + rows, 0);
  const receipts: RestoreRunReceipt['tables'][number][] = [];
  let before = 0;
  try {
    const server = await beginRestore(client, config.source.name);
    const record = await run.record(state, server.systemId, client);
    const end = await run.guarded(async () => {
      for (const table of pruned) {
        const tally = new Tally();
        try {
          const files = tableFilesByName(state, table);
          const form = await newestForm(config.archive.dir, files);
          const again = [...state.files.values()].filter((one) => one.kind === 'restored' && one.schema === table.schema && one.table === table.table);
          const wanted = await wantedDigests(index, table);
          if (form === undefined)
            throw new TidemarkError('failed', `the archive has no file of ${table.schema}.${table.table}`, { remedy: 'see `tidemark verify`' });
          const { target } = await openTarget(client, config, { schema: table.schema, table: table.table }, { form, replace: false, dryRun });
          const context: BatchContext = { client, config, stage: await Stage.create(client, target), policy: 'skip', dryRun, record, run: run.id, keepMs };
          const feed = new Feed(context, tally);
          for await (const part of findVersions(config.archive.dir, [...again, ...files], wanted)) {
            if (signal.aborted) return 'stopped before the end: run it again, it goes on';
            await feed.take(part);
            progress(before + tally.done, all);
          }
          tally.leave('missing', wanted.size);
          before += tally.done;
        } finally {
          receipts.push({ schema: table.schema, table: table.table, into: table.table, restored: tally.restored, batches: tally.batches, left: tally.left });
        }
      }
      return null;
    });
    return await run.finish(receipts, end);
  } finally {
    await closeClient(client);
  }
}

async function wantedDigests(index: ReceiptIndex, { batches, rows }: PrunedTable): Promise<WantedDigests> {
  const wanted = new BigInt64Array(rows);
  let at = 0;
  for (const { batch } of batches) for (const digest of (await index.wholeIntent(batch)).digests) wanted[at++] = BigInt(digest);
  return new WantedDigests(wanted.subarray(0, at));
}

/** The archived versions with these digests, each once and taken out of `wanted`: open days first, then sealed ones, the newest first. Stops when all are found. */
async function* findVersions(dir: string, files: readonly FileEntry[], wanted: WantedDigests): AsyncGenerator<ChosenPart> {
  const order = ({ kind, day }: FileEntry): string => `${kind === 'daily' ? 'a' : 'b'} ${day ?? ''}`;
  for (const entry of [...files].sort((a, b) => (order(a) < order(b) ? 1 : -1))) {
    if (wanted.size === 0) return;
    await requireWhole(dir, entry);
    yield* entry.kind === 'daily' ? inDaily(path.join(dir, entry.file), wanted) : inSegment(path.join(dir, entry.file), wanted);
  }
}

async function* inSegment(file: string, wanted: WantedDigests): AsyncGenerator<ChosenPart> {
  const reader = await SegmentReader.open(file);
  try {
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const system = await reader.readRowGroup(group, []);
      const hits = Array.from({ length: system.rowCount }, (_, row) => row).filter((row) => !system.unresolved(row) && wanted.take(system.digest(row)));
      if (hits.length === 0) continue;
      const rows = await reader.readRowGroup(group);
      const parts = new Parts(reader.metadata);
      for (const row of hits) {
        parts.add(
          reader.columns.map((name) => rows.text(name, row)),
          false,
        );
      }
      yield* parts.take();
    }
  } finally {
    await reader.close();
  }
}

async function* inDaily(file: string, wanted: WantedDigests): AsyncGenerator<ChosenPart> {
  const reader = await DailyReader.open(file);
  const parts = new Parts(reader.metadata);
  for (const { start, end } of reader.rowGroups()) {
    await reader.forEachRowOf(start, end, (texts) => {
      if (wanted.take(digestOfTexts(texts))) parts.add([...texts], false);
    });
    yield* parts.take();
  }
}
