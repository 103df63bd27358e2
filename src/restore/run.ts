/** One restore: choose among the archived rows of a table, and put them back, batch by batch. Killed, it is run again: what is back already is found there. */
import type pg from 'pg';
import { noArchive } from '../archive/identity.js';
import { ArchiveFollower, type ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { type FlushWish, holds, reach } from '../archive/reach.js';
import type { RestoreRunReceipt } from '../archive/restores.js';
import { parseLsn } from '../position/lsn.js';
import type { Config } from '../runtime/config.js';
import { configError, describeError } from '../runtime/errors.js';
import { parseTableKey } from '../runtime/table-key.js';
import { closeClient } from '../wal/session.js';
import { type BatchContext, type ConflictPolicy, wouldStop } from './batch.js';
import { ChosenRows } from './chosen-rows.js';
import { Feed } from './feed.js';
import { daysText, newestForm, tableFilesByName } from './files.js';
import { ForeignKeys, ForetoldRows } from './foreign-keys.js';
import { RestoreRun } from './record.js';
import { isSpan, mayHold, type Selection } from './selection.js';
import { beginRestore, connectRestore, openTarget } from './session.js';
import { Stage } from './stage.js';
import { Tally } from './tally.js';
import { requireUnprotected, type TableName, textOf } from './target.js';

export type RestoreOptions = {
  readonly config: Config;
  /** As a person writes it. */
  readonly table: string;
  readonly selection: Selection;
  /** `schema.table`, when it is another table than the archived one. */
  readonly into?: string | undefined;
  readonly policy: ConflictPolicy;
  readonly dryRun: boolean;
  /** Milliseconds that the pruner leaves the rows. */
  readonly keepMs: number;
  readonly signal: AbortSignal;
  /** Rows looked at, and to be looked at. */
  readonly progress: (done: number, all: number) => void;
  /** Asks for what it waits for; without it, it waits for the archiver's next flush. */
  readonly flush?: FlushWish | undefined;
  /** What a person should know at once. */
  readonly notice: (text: string) => void;
};

export type RestoreResult = RestoreRunReceipt & {
  /** The table was not there. */
  readonly created: boolean;
  /** Rows that are versions of their own to the archive: its columns were retyped since. */
  readonly changed: number;
  readonly replaced: number;
  /** Archived columns that the table has no more. */
  readonly lost: readonly string[];
};

/** Restores. Throws `config` for what cannot be asked, PlaceTaken and what the database says; a receipt of what was done until then is written all the same. */
export async function restoreTable(options: RestoreOptions): Promise<RestoreResult> {
  const { config, policy, dryRun } = options;
  const state = await openArchive(config);
  const name = archivedName(config, state, options.table);
  const into = options.into === undefined ? name : parseTableKey(options.into);
  const own = into.schema === name.schema && into.table === name.table;
  requireUnprotected(config, into);
  if (!own && config.tables.some((one) => one.schema === into.schema && one.table === into.table))
    throw configError(`--into: ${textOf(into)} is archived itself: the rows would be archived as its own`, 'give a table that is not, or leave out --into');
  const all = tableFilesByName(state, name);
  const files = all.filter((entry) => mayHold(entry, options.selection));
  // A day that is not there is a slip of the pen more often than an empty day, and "0 rows restored" would not tell them apart.
  if (options.selection.day !== undefined && files.length === 0 && all.length > 0)
    throw configError(`--day: the archive has no row of ${textOf(name)} of ${options.selection.day}`, `it has ${daysText(all)}`);
  const run = new RestoreRun(options.config, 'restore', dryRun);
  const client = await connectRestore(config);
  const tally = new Tally();
  try {
    const server = await beginRestore(client, config.source.name);
    const form = await newestForm(config.archive.dir, all);
    if (form === undefined) throw configError(`the archive has no row of ${textOf(name)} yet`, 'see tidemark status');
    const { target, created } = await openTarget(client, config, into, { form, replace: policy === 'replace', dryRun });
    const record = own ? await run.record(state, server.systemId, client) : undefined;
    const stage = await Stage.create(client, target);
    const foreignKeys = await ForeignKeys.read(client, target, dryRun ? new ForetoldRows(client) : undefined);
    const context: BatchContext = { client, config, stage, foreignKeys, policy, dryRun, record, run: run.id, keepMs: options.keepMs };
    const end = await run.guarded(async () => {
      await using chosen = await choose(
        options,
        { state, files, client, name, oid: own ? target.oid : undefined, key: target.key.map((one) => one.name) },
        tally,
      );
      const feed = new Feed(context, tally);
      options.progress(0, chosen.rows);
      for await (const part of chosen.source.parts(target.key.length === 0)) {
        if (options.signal.aborted) return 'stopped before the end: run it again, it goes on';
        await feed.take(part);
        options.progress(tally.done, chosen.rows);
      }
      tally.leaveOrphans(feed.waiting);
      if (dryRun && own && tally.living > 0) await sayBehind(options, state, client);
      const stop = wouldStop(into, tally.missing, target.triggers);
      return stop === undefined ? null : describeError(stop);
    });
    const { restored, batches, left, orphans } = tally;
    const receipt = await run.finish([{ ...name, into: textOf(into), restored, batches, left, ...(Object.keys(orphans).length > 0 ? { orphans } : {}) }], end);
    return { ...receipt, created, changed: tally.changed, replaced: tally.replaced, lost: [...tally.lost] };
  } finally {
    await closeClient(client);
  }
}

/** The newest state. Throws noArchive when there is none. */
export async function openArchive(config: Config): Promise<ArchiveState> {
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw await noArchive(config.archive.dir);
  return state;
}

/** The archived table that a name means: of the configuration, or one that was in it. */
function archivedName(config: Config, state: ArchiveState, text: string): TableName {
  const configured = config.tables.find((one) => one.key === text);
  const { schema, table } = configured ?? parseTableKey(text);
  if (configured !== undefined || tableFilesByName(state, { schema, table }).length > 0) return { schema, table };
  const known = new Set([...config.tables.map((one) => one.key), ...state.tables.map((one) => textOf(one))]);
  throw configError(`table ${JSON.stringify(text)} is not in the archive`, `name one of: ${[...known].join(', ')}`);
}

type Choice = {
  readonly state: ArchiveState;
  readonly files: readonly FileEntry[];
  readonly client: pg.Client;
  readonly name: TableName;
  readonly oid: number | undefined;
  readonly key: readonly string[];
};

/** The rows to restore. Of open days they are chosen once more when the archive has come to what was in Postgres at the start: else what was pruned a moment ago would pass for living. */
async function choose(options: RestoreOptions, choice: Choice, tally: Tally): Promise<{ source: ChosenRows; rows: number } & AsyncDisposable> {
  const { config, selection } = options;
  const { client, name, oid, key } = choice;
  let { state, files } = choice;
  if (oid !== undefined && !options.dryRun && files.some((entry) => entry.oid === oid && entry.kind === 'segment')) {
    state = await caughtUp(options, state, client);
    files = tableFilesByName(state, name).filter((entry) => mayHold(entry, selection));
  }
  const deletes = config.tables.find((one) => one.schema === name.schema && one.table === name.table)?.deletes ?? 'history';
  const source = await ChosenRows.open(config.archive.dir);
  try {
    const counts = await source.choose(state, files, { selection, oid, key, deletes });
    tally.leave('older', counts.older);
    tally.leave('unresolved', counts.unresolved);
    if (isSpan(selection) && counts.rows + counts.older + counts.unresolved === 0)
      options.notice(`--from, --to: the archive has no row of ${textOf(name)} in this span; it has ${daysText(tableFilesByName(state, name))}`);
    return { source, rows: counts.rows + counts.older, [Symbol.asyncDispose]: () => source[Symbol.asyncDispose]() };
  } catch (error) {
    await source[Symbol.asyncDispose]();
    throw error;
  }
}

/** A dry run waits for nothing, so that it may call what was pruned a moment ago living. */
async function sayBehind({ notice }: RestoreOptions, state: ArchiveState, client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
  const lsn = rows[0]?.lsn ?? '0/0';
  if (holds(state, parseLsn(lsn))) return;
  notice(
    `the archive stands at ${state.position ?? 'no position'}, Postgres at ${lsn}: what was pruned or deleted in between is taken for living; without --dry-run it is waited for`,
  );
}

/** The state of the archive once it holds everything that Postgres has written up to now; or, when no archiver brings it there, as it is. */
async function caughtUp({ config, signal, notice, flush }: RestoreOptions, state: ArchiveState, client: pg.Client): Promise<ArchiveState> {
  const { rows } = await client.query<{ lsn: string }>(`SELECT pg_logical_emit_message(true, 'tidemark.seal', '')::text AS lsn`);
  const { lsn } = rows[0] as { lsn: string };
  const { every } = config.archive.flush;
  const waiting = (asked: boolean, mostMs: number): void => {
    const archiver = asked ? 'the archiver was asked for it' : `no archiver was reached; one that runs flushes every ${every / 1000} s (archive.flush.every)`;
    notice(`waiting until what was written up to now is archived, ${mostMs / 1000} s at most: ${archiver}`);
  };
  const follower = new ArchiveFollower(config.archive.dir);
  const now = (await reach({ follower, upTo: parseLsn(lsn), flushEveryMs: every, signal, flush, waiting })) ?? state;
  if (!holds(now, parseLsn(lsn)))
    notice(`the archive stands at ${now.position ?? 'no position'}, before ${lsn}: what was pruned or deleted since is taken for living`);
  return now;
}
