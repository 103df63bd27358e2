/** One table of a prune run on its way back: finds the versions that its receipts name, and feeds them to the table. Its failure is its own. */
import path from 'node:path';
import type pg from 'pg';
import { filesOfName } from '../archive/groups.js';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import type { IntentHead, ReceiptIndex } from '../archive/receipts.js';
import type { RestoreRunReceipt } from '../archive/restores.js';
import { describeError, TidemarkError } from '../runtime/errors.js';
import { DailyReader } from '../segment/daily-reader.js';
import { digestOfTexts } from '../segment/digest.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { SegmentReader } from '../segment/reader.js';
import { type BatchContext, wouldStop } from './batch.js';
import { Feed } from './feed.js';
import { newestForm, requireWhole, tableFilesByName } from './files.js';
import { ForeignKeys, type ForetoldRows } from './foreign-keys.js';
import { type ChosenPart, Parts } from './parts.js';
import { explain } from './record.js';
import { openTarget } from './session.js';
import { Stage } from './stage.js';
import { Tally, type Waiting } from './tally.js';
import { type RestoreTarget, type TableName, textOf } from './target.js';
import { WantedDigests } from './wanted-digests.js';

/** The committed batches of a prune run by table. */
export type PrunedTable = TableName & { readonly rows: number; readonly batches: readonly IntentHead[] };

/** What the tables of a run have in common. */
export type UndoWorld = Pick<BatchContext, 'config' | 'dryRun' | 'record' | 'run' | 'keepMs'> & {
  readonly client: pg.Client;
  readonly state: ArchiveState;
  readonly index: ReceiptIndex;
  readonly foretold: ForetoldRows | undefined;
  readonly signal: AbortSignal;
  /** Told when rows were looked at. */
  readonly told: () => void;
};

export class TableUndo {
  readonly tally = new Tally();
  /** What kept it from going back, undefined as long as nothing did. */
  failure: unknown;
  readonly #world: UndoWorld;
  readonly #pruned: PrunedTable;
  /** Of the pass before; undefined before the first. */
  #waiting: Waiting | undefined;
  #into: { readonly target: RestoreTarget; readonly foreignKeys: ForeignKeys } | undefined;

  constructor(world: UndoWorld, pruned: PrunedTable) {
    this.#world = world;
    this.#pruned = pruned;
  }

  /** Has rows that another pass may put back. */
  get open(): boolean {
    return this.failure === undefined && (this.#waiting === undefined || this.#waiting.size > 0);
  }

  get problem(): string | undefined {
    return this.failure === undefined ? undefined : describeError(this.failure);
  }

  /** Puts back what of its rows can go, all at first, then those that waited. Never throws. */
  async pass(): Promise<void> {
    if (!this.open) return;
    try {
      await this.#feed(this.#waiting === undefined ? await this.#wanted() : new WantedDigests(this.#waiting.digests()));
    } catch (error) {
      const explained = explain(error);
      this.failure = explained instanceof TidemarkError ? explained : this.#failed(describeError(explained), explained);
    }
  }

  #failed(reason: string, cause?: unknown): TidemarkError {
    const again = `tidemark undo-prune ${this.#pruned.batches[0]?.run}`;
    return new TidemarkError('failed', `${textOf(this.#pruned)}: ${reason}`, { remedy: `mend that, then \`${again}\` again: what went back is found`, cause });
  }

  async #feed(wanted: WantedDigests): Promise<void> {
    const { client, config, dryRun, record, run, keepMs, state, signal, told } = this.#world;
    const { schema, table } = this.#pruned;
    const files = tableFilesByName(state, { schema, table });
    const form = await newestForm(config.archive.dir, files);
    const again = filesOfName(state, { schema, table }).filter(({ kind }) => kind === 'restored');
    if (form === undefined) throw new TidemarkError('failed', `the archive has no file of ${schema}.${table}`, { remedy: 'see `tidemark verify`' });
    this.#into ??= await this.#open(form);
    const { target, foreignKeys } = this.#into;
    const stage = await Stage.create(client, target);
    const feed = new Feed({ client, config, stage, foreignKeys, policy: 'skip', dryRun, record, run, keepMs }, this.tally);
    this.#waiting = feed.waiting;
    for await (const part of findVersions(config.archive.dir, [...again, ...files], wanted)) {
      if (signal.aborted) return;
      await feed.take(part);
      told();
    }
    this.tally.leave('missing', wanted.size);
    const stop = wouldStop({ schema, table }, this.tally.missing, target.triggers);
    if (stop !== undefined) throw stop;
  }

  async #open(form: SegmentMetadata): Promise<{ target: RestoreTarget; foreignKeys: ForeignKeys }> {
    const { client, config, dryRun, foretold } = this.#world;
    const { schema, table } = this.#pruned;
    const { target } = await openTarget(client, config, { schema, table }, { form, replace: false, dryRun });
    return { target, foreignKeys: await ForeignKeys.read(client, target, foretold) };
  }

  async #wanted(): Promise<WantedDigests> {
    const { batches, rows } = this.#pruned;
    const wanted = new BigInt64Array(rows);
    let at = 0;
    for (const { batch } of batches) for (const digest of (await this.#world.index.wholeIntent(batch)).digests) wanted[at++] = BigInt(digest);
    return new WantedDigests(wanted.subarray(0, at));
  }

  /** What became of it. Once, at the end. */
  receipt(): RestoreRunReceipt['tables'][number] {
    const { schema, table, rows } = this.#pruned;
    if (this.#waiting !== undefined) this.tally.leaveOrphans(this.#waiting);
    this.tally.leave('unreached', rows - this.tally.done);
    const { restored, batches, left, orphans, changed } = this.tally;
    return {
      ...{ schema, table, into: table, restored, batches, left },
      ...(Object.keys(orphans).length > 0 ? { orphans } : {}),
      ...(changed > 0 ? { changed } : {}),
      ...(this.problem === undefined ? {} : { problem: this.problem }),
    };
  }
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
