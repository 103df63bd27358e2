/**
 * A finished day → its daily file. Owns the order: lives computed, files written and checked by a reader that did not write them, one commit that puts them in the
 * place of the segments, and only then the segments go. A note in `_tidemark/tmp` lets the next start remove a daily file whose commit never came.
 */
import { groupFiles, tableFiles } from '../../src/archive/groups.js';
import { changesFile, dailyFile, historyFile } from '../../src/archive/layout.js';
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import {
  type DayCounts,
  dayCountsSql,
  type Fate,
  fateCondition,
  nextPart,
  type SealReply,
  type SealRequest,
  sealProblem,
  spentKeys,
  UNDATED,
} from '../../src/archive/seal.js';
import { type FileGroup, livesMemory, livesSql, wholeTable } from '../../src/archive/view.js';
import type { SystemColumn } from '../../src/change/system-columns.js';
import { parseLsn } from '../../src/position/lsn.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import { systemIdentifier } from '../../src/segment/sql.js';
import type { ArchiverContext } from './context.js';
import { DailyFiles, type DailyRows, goneNames } from './daily-file.js';
import { BESIDE_MS } from './whole-files.js';

const LIVES = 'lives';
/** So many rows that do not belong are kept in memory while a day is sorted. */
const MOST_OTHERS = 500_000;
const COPIED_AGAIN: SealReply = { ok: false, reason: 'its rows are being copied again: seal it later' };

/** Seals a day, or says why not. Throws only what also ends the archiver: halts and errors of the volume. */
export async function sealDay(context: ArchiverContext, request: SealRequest, signal: AbortSignal): Promise<SealReply> {
  const asOf = parseLsn(request.asOf);
  if (!(await context.reaches(asOf, signal)))
    return { ok: false, reason: `the archive stands at ${context.state.position ?? 'no position'}, before ${request.asOf}` };
  const table = context.state.tables.findLast((one) => one.schema === request.schema && one.table === request.table);
  if (table === undefined) return { ok: false, reason: 'this table is not archived' };
  return await context.housework(() => new DaySeal(context, table, request.day === UNDATED ? null : request.day, asOf).run());
}

type Wanted = { readonly deletes: 'history' | 'keep'; readonly changes: boolean };
type Group = FileGroup & { readonly entries: readonly FileEntry[] };

class DaySeal {
  readonly #context: ArchiverContext;
  readonly #table: TableState;
  readonly #day: string | null;
  readonly #asOf: bigint;

  constructor(context: ArchiverContext, table: TableState, day: string | null, asOf: bigint) {
    this.#context = context;
    this.#table = table;
    this.#day = day;
    this.#asOf = asOf;
  }

  async run(): Promise<SealReply> {
    const began = performance.now();
    const reply = await this.#seal();
    if (reply.ok && reply.file !== null) this.#context.metrics.sealed(performance.now() - began);
    return reply;
  }

  async #seal(): Promise<SealReply> {
    const { dir, state, config } = this.#context;
    if (this.#isCopiedAgain(state)) return COPIED_AGAIN;
    const [ofDay, ofKeys] = [tableFiles(state, this.#table.oid, 'segment', this.#day), tableFiles(state, this.#table.oid, 'keys')];
    await this.#context.whole.require(ofDay);
    await this.#context.whole.require(ofKeys, BESIDE_MS);
    const segments = await groupFiles(dir, ofDay);
    const keys = await groupFiles(dir, ofKeys);
    const encoder = await this.#context.housekeeper();
    const restored = await this.#restored(encoder, state, keys);
    if (segments.length === 0 && restored.length > 0) return await this.#commit(this.#context, [], [], restored);
    const configured = config.tables.find((one) => one.schema === this.#table.schema && one.table === this.#table.table);
    const wanted = { deletes: configured?.deletes ?? 'history', changes: configured?.history ?? false } as const;
    try {
      const { copied, truncated } = await wholeTable(encoder, keys);
      const elsewhere = copied ? await this.#elsewhere() : [];
      const moved = elsewhere.length === 0 ? 0 : await this.#copiedHere(encoder, { segments, keys, elsewhere });
      if (moved > 0) return { ok: false, reason: `${moved} rows of other days were copied again into this one: those days are sealed first` };
      const rows = [...segments, ...keys, ...elsewhere].flatMap(({ entries }) => entries).reduce((sum, entry) => sum + entry.rows, 0);
      if (segments.length > 0)
        await encoder.run(`CREATE OR REPLACE TEMP TABLE ${LIVES} AS ${livesSql({ segments, keys, elsewhere, wholeTable: copied || truncated })}`, {
          memory: livesMemory(rows),
        });
      await encoder.release();
      const counts = segments.length === 0 ? undefined : (await encoder.query<DayCounts>(dayCountsSql(LIVES, this.#asOf)))[0];
      const problem = sealProblem(counts ?? { versions: 0, livingBefore: 0, livingSince: 0, unresolved: 0 });
      if (problem !== undefined) return { ok: false, reason: problem };
      return await this.#write(encoder, segments, restored, wanted);
    } finally {
      await encoder.run(`DROP TABLE IF EXISTS ${LIVES}`);
    }
  }

  /** Its rows are in the copy as well, and count from its end on: sealed before, they would be there twice. */
  #isCopiedAgain({ recopy }: ArchiveState): boolean {
    return recopy?.state === 'running' && recopy.oid === this.#table.oid;
  }

  /** Restored rows of the day: they are in the archive already, and Postgres holds them no more. What was restored since the day was found empty stays. */
  async #restored(encoder: SegmentEncoder, state: ArchiveState, keys: readonly Group[]): Promise<readonly FileEntry[]> {
    const { dir } = this.#context;
    const entries = tableFiles(state, this.#table.oid, 'restored', this.#day).filter((entry) => parseLsn(entry.maxLsn) < this.#asOf);
    if (entries.length === 0) return [];
    await this.#context.whole.require(entries);
    const lives = livesSql({ segments: await groupFiles(dir, entries), keys });
    const [found] = await encoder.query<{ living: number }>(`SELECT (count(*) FILTER (ended_by IS NULL))::INTEGER AS living FROM (${lives})`);
    return found?.living === 0 ? entries : [];
  }

  /** Segments of other days matter only where a table began anew (`copied`): a row of this day may have been copied into another. */
  async #elsewhere(): Promise<Group[]> {
    const { dir, state } = this.#context;
    const others = tableFiles(state, this.#table.oid, 'segment').filter(({ day }) => day !== this.#day);
    await this.#context.whole.require(others, BESIDE_MS);
    return await groupFiles(dir, others);
  }

  /** Rows of other open days that only a copy in this one supersedes: sealed first, it would leave them there a second time. */
  async #copiedHere(encoder: SegmentEncoder, { segments, keys, elsewhere }: Record<'segments' | 'keys' | 'elsewhere', readonly Group[]>): Promise<number> {
    const copied = async (beside: readonly Group[]): Promise<number> => {
      const lives = livesSql({ segments: elsewhere, keys, elsewhere: beside });
      return (await encoder.query<{ n: number }>(`SELECT (count(*) FILTER (ended_by = 'copy'))::INTEGER AS n FROM (${lives})`))[0]?.n ?? 0;
    };
    return (await copied(segments)) - (await copied([]));
  }

  async #write(encoder: SegmentEncoder, segments: readonly Group[], restored: readonly FileEntry[], wanted: Wanted): Promise<SealReply> {
    const plan = this.#plan(segments, await goneNames(this.#context));
    const names = plan.flatMap(({ files }) => [...files.values()]);
    const files = await DailyFiles.begin(this.#context, encoder, names);
    if (typeof files === 'string') return { ok: false, reason: `${files} is there already and is not part of the archive: move it away` };
    const add: FileEntry[] = [];
    try {
      for (const { group, part, files: named } of plan) {
        for (const [fate, file] of named) {
          if (fate === 'changes' && !wanted.changes) continue;
          const { rows, count } = await this.#fated(encoder, part, fate, wanted.deletes);
          if (count === 0) continue;
          const entry = await this.#writeFile(files, group, rows, fate, file);
          if (entry?.rows !== count) throw new Error(`${file}: ${entry?.rows ?? 0} rows were found, ${count} were counted`);
          add.push(entry);
        }
      }
      faultPoint('K1');
    } catch (error) {
      await files.takeBack();
      throw storageError(error);
    }
    return await this.#commit(files, segments, add, restored);
  }

  /** One part for each version of the table's columns: a daily file has the columns that its rows were written with. */
  #plan(segments: readonly Group[], gone: ReadonlySet<string>): { readonly group: Group; readonly part: number; readonly files: ReadonlyMap<Fate, string> }[] {
    const { group: folder, table } = this.#table;
    const first = nextPart(this.#context.state.files, { group: folder, table, day: this.#day }, gone);
    return segments.map((group, part) => ({
      group,
      part,
      files: new Map([
        ['daily', dailyFile(folder, table, this.#day, first + part)],
        ['history', historyFile(folder, table, this.#day, first + part)],
        ['changes', changesFile(folder, table, this.#day, first + part)],
      ]),
    }));
  }

  /** Which rows of `part` have this fate, and how many; said by the others where these are few and no column comes from their lives. */
  async #fated(encoder: SegmentEncoder, part: number, fate: Fate, deletes: Wanted['deletes']): Promise<{ readonly rows: DailyRows; readonly count: number }> {
    const condition = fateCondition(fate, deletes);
    const [found] = await encoder.query<{ these: number; others: number }>(
      `SELECT (count(*) FILTER (${condition}))::INTEGER AS these, (count(*) FILTER (NOT ${condition}))::INTEGER AS others FROM ${LIVES} WHERE part = ${part}`,
    );
    const { these, others } = found ?? { these: 0, others: 0 };
    const lives = `SELECT _lsn, _ordinal, ended_by, ended_at FROM ${LIVES} WHERE part = ${part}`;
    const few = fate === 'daily' && others <= Math.min(these, MOST_OTHERS);
    return { rows: few ? { allBut: `${lives} AND NOT ${condition}` } : { these: `${lives} AND ${condition}` }, count: these };
  }

  /** Writes rows of `group`, checked by the other reader. */
  async #writeFile(files: DailyFiles, group: Group, rows: DailyRows, fate: Fate, file: string): Promise<FileEntry | undefined> {
    const { metadata, entries } = group;
    const named = (name: SystemColumn): string => systemIdentifier(name, metadata.columns);
    const more: string[] = [];
    if (fate === 'history') more.push(`l.ended_at AS ${named('deleted_at')}`);
    if (fate === 'changes') {
      more.push(...(['op', 'lsn', 'ordinal', 'xid', 'committed_at'] as const).map((name) => `s.${named(name)}`));
      more.push(...(['ended_by', 'ended_at'] as const).map((name) => `l.${name} AS ${named(name)}`));
    }
    const facts = await files.write({
      kind: fate,
      file,
      day: this.#day,
      segments: group.files,
      bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0),
      metadata,
      rows,
      more,
    });
    return facts && { ...(entries[0] as FileEntry), ...facts };
  }

  async #commit(files: Pick<DailyFiles, 'commit'>, segments: readonly Group[], add: readonly FileEntry[], restored: readonly FileEntry[]): Promise<SealReply> {
    const sealed = new Set([...segments.flatMap((group) => group.entries), ...restored].map((entry) => entry.file));
    const { oid } = this.#table;
    let refused = false;
    const state = await files.commit((before) => {
      refused = this.#isCopiedAgain(before);
      if (refused) return undefined;
      const open = tableFiles(before, oid, 'segment').filter((entry) => !sealed.has(entry.file));
      const spent = spentKeys(open, tableFiles(before, oid, 'keys'), parseLsn);
      return { reason: 'seal', add, drop: [...sealed, ...spent.map((entry) => entry.file)] };
    });
    if (refused) return COPIED_AGAIN;
    faultPoint('K2');
    const count = (kind: FileEntry['kind']): number => add.filter((entry) => entry.kind === kind).reduce((sum, entry) => sum + entry.rows, 0);
    const file = add.find((entry) => entry.kind === 'daily')?.file ?? null;
    const [rows, history, already] = [count('daily'), count('history'), segments.length === 0];
    const released = restored.reduce((sum, entry) => sum + entry.rows, 0);
    const reply: SealReply = { ok: true, file, rows, history, ...(released > 0 ? { released } : {}), ...(already ? { already } : {}) };
    const { schema, table } = this.#table;
    if (!already) this.#context.tell('seal', { table: `${schema}.${table}`, day: this.#day, file, rows, history, manifest: state.number });
    this.#context.log.info({ event: 'seal', manifest: state.number, table: this.#table.table, day: this.#day, ...reply }, 'sealed');
    return reply;
  }
}
