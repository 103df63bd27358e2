/** Prunes one table: pages of nominated rows, each proved and deleted as a batch. Its failure is its own. */
import { randomUUID } from 'node:crypto';
import type { ArchiveFollower } from '../archive/manifest.js';
import { describePause, readPause } from '../archive/operations.js';
import type { TableReceipt } from '../archive/receipts.js';
import { type RestoreIndex, restoredTransactions } from '../archive/restores.js';
import { tableCoverage } from '../coverage/coverage.js';
import type { Config, TableConfig } from '../runtime/config.js';
import { describeError, Halt } from '../runtime/errors.js';
import { faultPoint } from '../runtime/fault-point.js';
import type { Log } from '../runtime/log.js';
import { slotName } from '../wal/identifier.js';
import { readServerIdentity } from '../wal/identity.js';
import { readSlot, slotFlaw } from '../wal/slot.js';
import { type BatchContext, pruneBatch } from './batch.js';
import { clocksDisagree, databaseClock, waitForStandbys } from './brakes.js';
import type { Verdict } from './compare.js';
import { covered, keepWhileProblem, notKept, notSafe, oldEnough, readCutoff, tableSql, unreferenced } from './eligible.js';
import { LookAhead } from './look-ahead.js';
import { countRows } from './nominate.js';
import type { Pace } from './pace.js';
import { type Page, Pages, type PagesOf } from './pages.js';
import { keyOf } from './proof.js';
import { readTarget, type Target } from './target.js';

export type TableRun = {
  readonly context: BatchContext;
  readonly config: Config;
  readonly follower: ArchiveFollower;
  readonly pace: Pace;
  readonly dryRun: boolean;
  /** Dry run: tables (`schema.table`) of whose rows the run would delete some before this one's. */
  readonly before?: ReadonlySet<string> | undefined;
  /** Why the clock is not believed; where nothing is deleted it does not matter. */
  readonly clock: (() => string | undefined) | undefined;
  /** Rows that were restored stay for a while; undefined: they are compared like others (nothing is deleted then). */
  readonly restores: RestoreIndex | undefined;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Told of every batch. */
  readonly batch?: ((table: TableConfig, rows: number, ms: number, rowsPerSecond: number) => void) | undefined;
};

/** A batch whose COMMIT got no answer: settle.ts finds out on another connection. */
export type UnknownBatch = { readonly batch: string; readonly rows: number };

/** What became of a table. `failed`: something was thrown that is no halt; the connection may be of no use any more, and is not when `unknown` is set. */
export type TableOutcome = {
  readonly receipt: TableReceipt;
  readonly target: Target | undefined;
  readonly halt: Halt | undefined;
  readonly failed: boolean;
  readonly unknown: UnknownBatch | undefined;
  /** Keys of rows that the archive does not hold as they are: to be copied again. */
  readonly unproved: readonly (readonly string[])[];
};

const UNCOVERED_COUNTED = 100_000;
/** More than this are copied with the whole table: their keys are not kept. */
export const MOST_UNPROVED = 10_000;
/** Nobody keeps rows for less: a shorter retention may be compared (dry), never deleted by. */
const SHORTEST_RETENTION_MS = 1000;

class Tally {
  nominated = 0;
  deleted = 0;
  batches = 0;
  readonly left: Record<string, number> = {};
  readonly unproved: (readonly string[])[] = [];

  leave(reason: string, rows: number): void {
    if (rows > 0) this.left[reason] = (this.left[reason] ?? 0) + rows;
  }

  /** One row that has to be copied again before it can go. */
  notProved(reason: string, key: readonly string[]): void {
    this.leave(reason, 1);
    if (this.unproved.length <= MOST_UNPROVED) this.unproved.push(key);
  }
}

export async function pruneTable(run: TableRun, table: TableConfig): Promise<TableOutcome> {
  const tally = new Tally();
  let target: Target | undefined;
  let problem: string | null = null;
  let halt: Halt | undefined;
  let failed = false;
  let unknown: UnknownBatch | undefined;
  try {
    target = await readTarget(run.context.client, run.context.source, table);
    const end = await work(run, table, target, tally);
    if (typeof end === 'object' && end !== null) unknown = end;
    problem = typeof end === 'object' && end !== null ? 'a COMMIT got no answer; what became of it is asked of Postgres' : end;
  } catch (error) {
    problem = describeError(error);
    // A halt of the whole archive is not this table's own.
    if (error instanceof Halt && error.halt !== 'DIGEST') throw error;
    if (error instanceof Halt) halt = error;
    else failed = true;
    run.log[halt ? 'error' : 'warn'](
      { event: halt ? 'halt' : 'table-failed', table: table.key, halt: halt?.halt, reason: problem },
      'pruning of a table stopped',
    );
  }
  const receipt: TableReceipt = {
    oid: target?.oid ?? null,
    schema: table.schema,
    table: table.table,
    nominated: tally.nominated,
    deleted: tally.deleted,
    batches: tally.batches,
    left: tally.left,
    problem,
  };
  return { receipt, target, halt, failed, unknown, unproved: tally.unproved };
}

/** The reason why the table was not (or not wholly) pruned, null when it was, or the batch whose end is not known. */
async function work(run: TableRun, table: TableConfig, target: Target | undefined, tally: Tally): Promise<string | UnknownBatch | null> {
  const { client } = run.context;
  if (target === undefined) return 'the table does not exist';
  if (!table.prune) return 'prune: false';
  const paused = await pauseProblem(run);
  if (paused !== undefined) return paused;
  if (!run.dryRun && table.retentionMs < SHORTEST_RETENTION_MS) throw new RangeError(`a retention of ${table.retentionMs} ms`);
  if (target.obstacles.length > 0) return target.obstacles.map(({ reason, remedy }) => `${reason} → ${remedy}`).join('; ');
  const keepWhile = await keepWhileProblem(client, table, target);
  if (keepWhile !== undefined) return `${keepWhile} → correct tables.${table.key}.keepWhile`;
  const cutoff = await readCutoff(client, table.retentionMs, run.config.source.timezone);
  if ((await countRows(client, `ONLY ${tableSql(target)} WHERE ${oldEnough(table, target, cutoff)}`, 1)) === 0) return null; // nothing to do, whatever is covered
  const slot = await readSlot(client, slotName(run.context.source)); // before the manifest, which it may only be behind
  const state = await run.follower.refresh();
  const { rows } = await client.query<{ next: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next');
  const identity = await readServerIdentity(client);
  const coverage = tableCoverage(state, target, { systemId: identity.systemId, timeline: identity.timeline, nextXid: rows[0]?.next ?? '0' });
  if (coverage.state === 'not' || state === undefined) return coverage.state === 'not' ? coverage.reason : 'the archive has no manifest yet';
  const flaw = slotFlaw(slot, state);
  if (flaw !== undefined) return flaw;
  const { horizon } = coverage.fence;
  const copiedBefore = coverage.table.copied?.snapshotXmax ?? '0';
  const { committedAt } = state;
  const clocks = (database: number): string | undefined =>
    run.clock?.() ?? clocksDisagree({ database, ours: Date.now(), newestCommit: committedAt === null ? undefined : Date.parse(committedAt) });
  const disagree = clocks(cutoff.databaseMs); // the very reading that the cutoff was made from
  if (disagree !== undefined) return disagree;
  faultPoint('P2');
  const waiting = `ONLY ${tableSql(target)} WHERE ${oldEnough(table, target, cutoff)} AND NOT (${covered(horizon)}) AND ${notKept(table)}`;
  tally.leave('not covered yet', await countRows(client, waiting, UNCOVERED_COUNTED));
  if (target.references.length > 0) {
    const needed = `ONLY ${tableSql(target)} WHERE ${oldEnough(table, target, cutoff)} AND ${covered(horizon)} AND ${notKept(table)} AND NOT (${unreferenced(target)})`;
    tally.leave(referredTo(target, run.dryRun ? run.before : undefined), await countRows(client, needed, UNCOVERED_COUNTED));
  }

  const nextXid = rows[0]?.next ?? '0';
  const safe = await safeTransactions(run, { oid: target.oid, systemId: identity.systemId, nextXid }, cutoff.databaseMs);
  if (safe.length > 0) {
    const restored = `ONLY ${tableSql(target)} WHERE ${oldEnough(table, target, cutoff)} AND ${covered(horizon)} AND ${notKept(table)} AND NOT (${notSafe(safe)})`;
    tally.leave('restored', await countRows(client, restored, UNCOVERED_COUNTED));
  }

  const looks = new LookAhead({ dir: run.config.archive.dir, follower: run.follower, state, target, signal: run.signal });
  const parts: PageParts = { table, target, cutoff, horizon, safe, copiedBefore, looks, tally };
  try {
    return await prunePages(run, parts, clocks);
  } finally {
    await looks.settled();
  }
}

const FREED = ' (at most: the run would delete first rows of ';

/** Why rows are left that others refer to. A dry run leaves the others too, and says so (`before` it): a real run would delete more, or the next one. */
function referredTo({ schema, table, references }: Target, before: ReadonlySet<string> | undefined): string {
  const referred = `referred to by ${references.map(({ name }) => name).join(', ')}`;
  if (before === undefined) return referred;
  const shown = (name: string): string => name.replace(/^public\./, '');
  const own = `${schema}.${table}`;
  const all = new Set(references.flatMap(({ from }) => from));
  const gone = [...all].filter((from) => before.has(from)).map(shown);
  const freed = gone.length === 0 ? '' : `${FREED}${gone.join(', ')})`;
  return `${referred}${freed}${all.has(own) ? ` (rows of ${shown(own)} that go free those that they refer to for the next run)` : ''}`;
}

/** Dry run: whether a real one would delete rows of this table. */
export function wouldDelete({ deleted, left }: TableReceipt): boolean {
  return deleted > 0 || Object.keys(left).some((reason) => reason.includes(FREED));
}

/** Page by page, until there is none or something holds it up: as `work`. */
async function prunePages(run: TableRun, parts: PageParts, clocks: (database: number) => string | undefined): Promise<string | UnknownBatch | null> {
  const { client } = run.context;
  const { batch } = run.config.prune;
  const pages = new Pages(client, parts, () => (run.dryRun ? batch : run.pace.batch(batch)));
  while (!run.signal.aborted) {
    const held =
      (await pauseProblem(run)) ??
      clocks(await databaseClock(client)) ??
      (run.dryRun ? undefined : await waitForStandbys(client, run.config.prune.maxStandbyLag, run.log, run.signal));
    if (held !== undefined) return held;
    const page = await pages.next();
    if (page.rows.length === 0) return null;
    faultPoint('P1');
    parts.tally.nominated += page.rows.length;
    await pages.lookAhead(page);
    const done = await prunePage(run, parts, page);
    if (done !== undefined) return done;
  }
  return 'stopped before the end';
}

/** `xmin` of the restores whose time is not over by the database's clock, milliseconds since 1970. */
async function safeTransactions({ restores }: TableRun, table: Parameters<typeof restoredTransactions>[1], now: number): Promise<string[]> {
  if (restores === undefined) return [];
  return (await restoredTransactions(restores, table)).filter(({ safeUntil }) => !(Date.parse(safeUntil) <= now)).map(({ xmin }) => xmin);
}

/** A dry run deletes nothing, so the brake is not for it. */
async function pauseProblem({ dryRun, config }: TableRun): Promise<string | undefined> {
  const pause = dryRun ? undefined : await readPause(config.archive.dir);
  return pause === undefined ? undefined : `${describePause(pause)} → tidemark resume`;
}

type PageParts = PagesOf & { readonly copiedBefore: string; readonly tally: Tally };

/** Why a row is left, as receipts say it. Each is copied again by itself. */
const REASONS: Readonly<Record<Exclude<Verdict, 'equal' | 'differs'>, string>> = {
  absent: 'not found in the archive',
  unresolved: 'archived without a large value that the stream did not carry',
  widened: 'archived before a column was added or renamed',
  'other-schema': 'archived under other columns',
  rewritten: 'rewritten without a row change (ALTER TABLE)',
};

/** Deletes what of a page equals the archive. undefined: done · a batch whose end is not known · else the reason to stop with this table. */
async function prunePage(run: TableRun, parts: PageParts, page: Page): Promise<string | UnknownBatch | undefined> {
  const { target, tally } = parts;
  let rows = [...page.rows];
  const doubted = new Set<string>();
  for (let attempt = 0; rows.length > 0; attempt += 1) {
    const archived = await (attempt === 0 ? parts.looks.proved(rows, page.archived) : parts.looks.look(rows, true));
    faultPoint('P3');
    rows = rows.filter((row) => {
      const found = archived.get(keyOf(row.key));
      if (found === undefined) tally.notProved(REASONS.absent, row.key);
      else if (found.unresolved) tally.notProved(REASONS.unresolved, row.key);
      return found !== undefined && !found.unresolved;
    });
    if (rows.length === 0) return undefined;
    const began = performance.now();
    const outcome = await pruneBatch(
      run.context,
      {
        batch: randomUUID(),
        config: parts.table,
        target,
        cutoff: parts.cutoff,
        horizon: parts.horizon,
        safe: parts.safe,
        copiedBefore: parts.copiedBefore,
        rows,
        archived,
      },
      run.dryRun,
    );
    if (outcome.result === 'unknown') {
      run.log.warn({ event: 'commit-unknown', table: parts.table.key, batch: outcome.batch, reason: describeError(outcome.cause) }, 'COMMIT got no answer');
      return { batch: outcome.batch, rows: outcome.rows };
    }
    if (outcome.result === 'refused') return outcome.reason;
    if (outcome.result === 'committed') {
      tally.batches += 1;
      tally.deleted += outcome.deleted;
      tally.leave('locked or changed meanwhile', outcome.skipped);
      run.batch?.(parts.table, outcome.deleted, performance.now() - began, run.pace.rowsPerSecond);
      run.log.debug({ event: 'batch', table: parts.table.key, deleted: outcome.deleted, dryRun: run.dryRun }, 'batch done');
      if (!run.dryRun) await run.pace.after(parts.table.key, outcome.deleted);
      return undefined;
    }
    const asked = new Set(rows.map((row) => keyOf(row.key)));
    if ([...outcome.verdicts.keys()].some((key) => !asked.has(key))) {
      tally.leave('locked or changed meanwhile', rows.length); // VACUUM FULL or CLUSTER: other rows lie in these places now
      return undefined;
    }
    // Nothing was deleted. The rows that did not equal the archive are taken out and the rest is tried again; one that differs under the same columns gets a second look first.
    rows = rows.filter((row) => {
      const key = keyOf(row.key);
      const verdict = outcome.verdicts.get(key);
      if (verdict === undefined) return true;
      if (verdict === 'differs' && !doubted.has(key)) {
        doubted.add(key);
        parts.looks.forget(); // from the file again
        return true;
      }
      if (verdict === 'differs') throw digestHalt(parts, archived.get(key)?.file);
      if (verdict !== 'equal') tally.notProved(REASONS[verdict], row.key);
      return false;
    });
  }
  return undefined;
}

function digestHalt(parts: PageParts, file: string | undefined): Halt {
  return new Halt('DIGEST', {
    seen: `a row of ${parts.table.key} differs from its archived version in ${file ?? 'the archive'} under the same columns.`,
    safe: 'Nothing of this batch was deleted; the other tables go on.',
    remedy: `run \`tidemark verify\` and find out why; then \`tidemark repair ${parts.table.key}\` copies all its rows again`,
  });
}
