/**
 * Replays the stream from its first chunk into an empty archive folder, with the intake and flush of the archiver itself, and compares the two archives. Owns the bounds: what
 * the stream holds at the start, and what both archives have. Never writes to the configured archive, and answers nobody who asks for positions.
 */
import { access, constants, mkdir, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { comparable, dayContent, daysOf, type ReplayWindow, sealedFiles, unresolvedRows } from '../../src/archive/compare.js';
import { readExpired } from '../../src/archive/expire.js';
import { ArchiveFollower, type ArchiveState, createArchive, openIdentity, readKey } from '../../src/archive/manifest.js';
import { formatLsn, LSN_ZERO, type Lsn } from '../../src/position/lsn.js';
import { comparePositions, formatPosition, type Position, parsePosition } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { configError, TidemarkError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { connectStream, findStream } from '../../src/stream/topology.js';
import { consume } from './consume.js';
import { Flusher } from './flush.js';
import { earlierIn, openContext, openIntake } from './loop.js';

export type RebuildOptions = {
  /** An empty or missing folder. */
  readonly into: string;
  /** Compare with the configured archive. */
  readonly check: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Messages read, and to be read. */
  readonly progress?: (done: number, all: number) => void;
  /** Days of tables compared, and to be compared. */
  readonly comparing?: (done: number, all: number) => void;
};

export type Difference = { readonly schema: string; readonly table: string; readonly day: string | null; readonly seen: string };

export type RebuildResult = {
  /** undefined: not compared. The CLI exits with 4 when it is false. */
  readonly equal: boolean | undefined;
  readonly differences: readonly Difference[];
  /** Tables and days that were compared. */
  readonly compared: number;
  /** Days that could not be compared, with the reason. */
  readonly skipped: readonly Difference[];
  /** Where the replay began: null = with the copy, so everything is in it. */
  readonly from: string | null;
  readonly position: string | null;
  readonly rows: number;
};

/** Rebuilds. Throws `config` errors (folder not empty, no stream) and halts (gap, undecodable). */
export async function rebuildArchive(config: Config, options: RebuildOptions): Promise<RebuildResult> {
  const into = path.resolve(options.into);
  await requireEmpty(into, config.archive.dir);
  const original = await openIdentity(config.archive.dir);
  const follower = new ArchiveFollower(config.archive.dir);
  const before = original === undefined ? undefined : await follower.refresh();
  const own = await createArchive(into, config.source.name);
  // Fences and prune marks in the stream are signed for the archive they were made for.
  const key = await readKey(original === undefined ? into : config.archive.dir);
  const context = await openContext(config, into, original?.archive ?? own.archive, key, options.log);
  try {
    const { from, copied } = await replay(context, options);
    const { state } = context;
    const rows = [...state.files.values()].reduce((sum, entry) => sum + (entry.kind === 'keys' || entry.kind === 'restored' ? 0 : entry.rows), 0);
    const result = {
      from: copied ? null : formatLsn(from),
      position: state.position,
      rows,
      differences: [],
      compared: 0,
      skipped: [],
      equal: undefined,
    };
    if (!options.check) return result;
    if (before?.position == null) throw configError(`archive.dir: there is nothing to compare with in ${config.archive.dir}`, 'leave out --check');
    if (state.position === null)
      return { ...result, equal: false, differences: [{ schema: '', table: '', day: null, seen: 'the stream holds no complete copy and no changes' }] };
    const [both] = [parsePosition(before.position), parsePosition(state.position)].sort(comparePositions) as [Position, Position];
    const window: ReplayWindow = { from, before: both.lsn };
    const found = await compareArchives(context, config.archive.dir, before, follower, window, options.comparing);
    return { ...result, ...found, equal: found.differences.length === 0 };
  } finally {
    await context.close();
  }
}

async function requireEmpty(into: string, archiveDir: string): Promise<void> {
  if (into === path.resolve(archiveDir)) throw configError(`--into: ${into} is the archive itself`, 'give an empty folder');
  await makeFolders(into).catch((error: NodeJS.ErrnoException) => {
    const seen = error.code === 'ENOTDIR' || error.code === 'EEXIST' ? 'is a file, or lies in one' : `cannot be made or used (${error.code ?? error.message})`;
    throw configError(`--into: ${into} ${seen}`, 'give an empty folder, or one that can be made');
  });
  if ((await readdir(into)).length > 0) throw configError(`--into: ${into} is not empty`, 'give an empty folder');
}

/** One after the other: where no folder can be made (/proc), Node's own `recursive` tries for ever. */
async function makeFolders(folder: string): Promise<void> {
  const made = await mkdir(folder, { mode: 0o750 }).then(
    () => true,
    async (error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST' && (await stat(folder)).isDirectory()) return true;
      if (error.code !== 'ENOENT' || path.dirname(folder) === folder || (await isFolder(path.dirname(folder)))) throw error;
      return false;
    },
  );
  if (!made) {
    await makeFolders(path.dirname(folder));
    await mkdir(folder, { mode: 0o750 });
  }
  await access(folder, constants.W_OK | constants.X_OK);
}

async function isFolder(folder: string): Promise<boolean> {
  return await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

type Context = Awaited<ReturnType<typeof openContext>>;

/** Reads all that the stream holds now. Returns where it began: with a copy, at the place of its rows; else at the position it continues from. */
async function replay(context: Context, options: RebuildOptions): Promise<{ from: Lsn; copied: boolean }> {
  const { config, log } = context;
  const stream = await connectStream(config, `tidemark_${config.source.name}_rebuild`);
  try {
    const info = await findStream(stream.manager, config.source.name);
    if (info === undefined || info.state.messages === 0)
      throw configError(`stream ${stream.name} holds nothing to rebuild from`, 'start capture, or correct stream.url');
    const intake = openIntake(context, config.archive.dir, { rebase: true });
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    options.signal.addEventListener('abort', abort, { once: true });
    const flusher = new Flusher(context, abort);
    const { first_seq: first, last_seq: last } = info.state;
    let began: { from: Lsn; copied: boolean } | undefined;
    await consume(
      {
        config,
        log,
        earlier: earlierIn(context),
        stream,
        intake,
        flusher,
        from: {},
        until: last,
        taken: (chunk) => {
          const { kind, prev } = chunk.header;
          began ??= kind === 'copy-begin' ? { from: (prev.lsn - 1n) as Lsn, copied: true } : { from: prev.lsn, copied: false };
          options.progress?.(chunk.sequence - first + 1, last - first + 1);
        },
      },
      stop.signal,
    ).finally(() => flusher.settled());
    options.signal.removeEventListener('abort', abort);
    if (options.signal.aborted)
      throw new TidemarkError('failed', 'the rebuild was stopped before it reached the end of the stream', { remedy: 'empty the folder and start it again' });
    log.info(
      {
        event: 'rebuilt',
        from: began === undefined ? null : formatLsn(began.from),
        reached: intake.position === null ? null : formatPosition(intake.position),
      },
      'replayed',
    );
    return began ?? { from: LSN_ZERO, copied: false };
  } finally {
    await stream.connection.close();
  }
}

async function compareArchives(
  context: Context,
  dir: string,
  then: ArchiveState,
  follower: ArchiveFollower,
  window: ReplayWindow,
  comparing: (done: number, all: number) => void = () => undefined,
): Promise<Pick<RebuildResult, 'differences' | 'compared' | 'skipped'>> {
  const differences: Difference[] = [];
  const skipped: Difference[] = [];
  let compared = 0;
  const state = async (): Promise<ArchiveState> => (await follower.refresh()) as ArchiveState;
  const tables = daysOf(await state());
  for (const [name, rebuilt] of daysOf(context.state)) {
    const known = tables.get(name) ?? { oids: new Set<number>(), days: new Set<string | null>() };
    for (const oid of rebuilt.oids) known.oids.add(oid);
    for (const day of rebuilt.days) known.days.add(day);
    tables.set(name, known);
  }
  const expired = new Set((await readExpired(dir, await state())).map(({ schema, table, day }) => `${schema}.${table} ${day}`));
  const encoder = await context.housekeeper();
  const all = [...tables.values()].reduce((sum, { oids, days }) => sum + oids.size * days.size, 0);
  for (const [name, { oids, days }] of tables) {
    const [schema = '', table = ''] = splitName(name);
    for (const oid of oids) {
      for (const day of days) {
        comparing(compared + skipped.length, all);
        if (expired.has(`${name} ${day}`)) {
          skipped.push({ schema, table, day, seen: 'the retention of the archive (keep) has let it go' });
          continue;
        }
        if (!comparable(sealedFiles(await state(), oid, day), then, window)) {
          skipped.push({ schema, table, day, seen: 'sealed from changes that are not all in the replay window' });
          continue;
        }
        const rebuilt = { dir: context.dir, state: async () => context.state };
        const archived = { dir, state };
        const of = { oid, day, window };
        let [mine, theirs] = [await dayContent(rebuilt, encoder, of), await dayContent(archived, encoder, of)];
        if (mine.rows === theirs.rows && mine.digestSum !== theirs.digestSum) {
          const except = new Set([...(await unresolvedRows(rebuilt, encoder, of)), ...(await unresolvedRows(archived, encoder, of))]);
          if (except.size > 0) [mine, theirs] = [await dayContent(rebuilt, encoder, of, except), await dayContent(archived, encoder, of, except)];
        }
        compared += 1;
        if (mine.rows === theirs.rows && mine.digestSum === theirs.digestSum) continue;
        const seen =
          mine.rows === theirs.rows ? `${mine.rows} rows in both, with other contents` : `the archive has ${theirs.rows} rows, the stream gives ${mine.rows}`;
        differences.push({ schema, table, day, seen });
      }
    }
  }
  return { differences, compared, skipped };
}

function splitName(name: string): string[] {
  const dot = name.indexOf('.');
  return [name.slice(0, dot), name.slice(dot + 1)];
}
