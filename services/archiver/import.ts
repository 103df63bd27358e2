/**
 * Staged rows of old files → finished daily files, each row under its own day. Owns which of them count, the order (files durable and decoded again, one commit for some days at a time, the
 * record of the originals last) and that nothing is doubled: a row whose key the archive holds came through Postgres. Killed at any step and asked again it adds what is missing.
 */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { keptDay } from '../../src/archive/expire.js';
import { segmentMetadataOf } from '../../src/archive/groups.js';
import {
  CHOSEN_ROWS, chosenRowsSql, type ImportCounts, type ImportPlan, type ImportReply, type ImportRequest, keySql, recordImports, STAGED_ROWS, stagedRowsSql, stagingFolder,
} from '../../src/archive/import.js'; // biome-ignore format: names
import { archivePaths, dailyFile } from '../../src/archive/layout.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { storageError } from '../../src/archive/put.js';
import { nextPart } from '../../src/archive/seal.js';
import { livesMemory, parquet } from '../../src/archive/view.js';
import type { Relation } from '../../src/change/relation.js';
import { formatLsn, LSN_ZERO, parseLsn } from '../../src/position/lsn.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { makeFolder } from '../../src/segment/durable-file.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
import { literal } from '../../src/segment/sql.js';
import type { ArchiverContext } from './context.js';
import { DailyFiles, goneNames } from './daily-file.js';
import { EmptyFiles } from './empty-files.js';
import { BESIDE_MS } from './whole-files.js';

/** Days that one manifest brings: between two of them merging and sealing have their turn. */
const DAYS_AT_ONCE = 16;

/** Takes the staged files of one table over, or says why not. Throws only what also ends the archiver: halts and errors of the volume. */
export async function importStaged(context: ArchiverContext, request: ImportRequest, signal: AbortSignal): Promise<ImportReply> {
  const folder = stagingFolder(context.dir, request.staged);
  const plan = JSON.parse(await readFile(path.join(folder, 'plan.json'), 'utf8')) as ImportPlan;
  if (!(await context.reaches(parseLsn(request.asOf), signal)))
    return { ok: false, reason: `the archive stands at ${context.state.position ?? 'no position'}, before ${request.asOf}: wait until it has caught up` };
  const table = context.state.tables.findLast((one) => one.schema === plan.schema && one.table === plan.table);
  const problem = tableProblem(context, table, plan.oid);
  if (table === undefined || problem !== undefined) return { ok: false, reason: problem ?? 'this table is not archived' };
  const encoder = await context.encoder.beside();
  try {
    return await new TableImport({ context, table, plan, folder, encoder, dryRun: request.dryRun, signal }).run();
  } finally {
    encoder.close();
  }
}

/** Only while every row that Postgres holds is in the archive can a row be told to be none of them. */
function tableProblem(context: ArchiverContext, table: TableState | undefined, oid: number): string | undefined {
  if (table === undefined) return 'this table is not archived: it must be in the configuration and in Postgres, and its rows copied once';
  if (table.oid !== oid) return 'the table was made again under its name, and is not archived yet: import later';
  const { recopy } = context.state;
  if (recopy?.state === 'running' && recopy.oid === table.oid) return 'its rows are being copied again: import later';
  if (table.coverage.state === 'closed') return `${table.coverage.reason}: import when that is done`;
  return undefined;
}

type Parts = {
  readonly context: ArchiverContext;
  readonly table: TableState;
  readonly plan: ImportPlan;
  readonly folder: string;
  readonly encoder: SegmentEncoder;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
};
type Day = { readonly day: string | null; readonly rows: number; readonly files: readonly number[] };

class TableImport {
  readonly #parts: Parts;
  #bytesPerRow = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(): Promise<ImportReply> {
    const { context, encoder, plan, dryRun, signal } = this.#parts;
    const parts = this.#partsOf(plan.originals.map((_, i) => i + 1));
    const [first] = parts;
    if (first === undefined) return await this.#end({ rows: 0, duplicates: 0, olderVersions: 0, archived: 0, expired: 0, imported: 0, days: 0 }, []);
    const metadata = await segmentMetadataOf(first);
    await this.#ensureEmptyFiles(metadata);
    const memory = livesMemory(plan.originals.reduce((sum, { rows }) => sum + rows, 0));
    await encoder.run(stagedRowsSql(parts, metadata), { memory });
    // Under the lock of housework: what is merged or sealed away stays for a while only.
    const held = await context.housework(() => this.#chooseRows(metadata, memory));
    if (held !== undefined) return { ok: false, reason: held };
    const counts = await this.#counts();
    const days = await this.#days();
    const kept = days.filter(({ day }) => this.#isKept(day));
    const sizes = await Promise.all(parts.map((part) => stat(part)));
    this.#bytesPerRow = sizes.reduce((sum, { size }) => sum + size, 0) / Math.max(1, counts.rows);
    const imported = kept.reduce((sum, { rows }) => sum + rows, 0);
    const found = { ...counts, imported, days: kept.length, expired: days.reduce((sum, { rows }) => sum + rows, 0) - imported };
    const files: string[] = [];
    for (let at = 0; !dryRun && at < kept.length; at += DAYS_AT_ONCE) {
      if (signal.aborted) return { ok: false, reason: 'the archiver stops: import again, it goes on where it was' };
      const some = await context.housework(() => this.#importDays(kept.slice(at, at + DAYS_AT_ONCE), metadata));
      if ('reason' in some) return { ok: false, reason: some.reason };
      files.push(...some.files);
    }
    return await this.#end(found, files);
  }

  /** Of a table that had no row yet: views want a file of each kind. */
  async #ensureEmptyFiles({ oid, schema, table, columns, key, timestamp, day, types, columnTypes, ddl, dimensions = {} }: SegmentMetadata): Promise<void> {
    const { context, encoder, table: state } = this.#parts;
    const { open, temporary } = archivePaths(context.dir);
    await makeFolder(path.join(open, state.group), temporary);
    const relation: Relation = { oid, schema, table, identity: 'd', columns };
    const description = { oid, schema, table, primaryKey: key, columnTypes, ddl, types, dimensions };
    const made = new EmptyFiles(context.dir, async () => encoder, `${context.writer.claim}-import`);
    await made.ensure({ kind: 'segment', relation, description, key, timestamp, day }, state.group);
  }

  /** Makes the tables of staged and chosen rows. Returns what is in the way. */
  async #chooseRows(metadata: SegmentMetadata, memory: number): Promise<string | undefined> {
    const { context, encoder, table } = this.#parts;
    const groups = new Map<string, { metadata: SegmentMetadata; text: boolean; files: string[] }>();
    const entries = [...context.state.files.values()].filter((entry) => entry.schema === table.schema && entry.table === table.table);
    const holding = entries.filter(({ kind }) => kind !== 'keys' && kind !== 'changes');
    await context.whole.require(holding, BESIDE_MS); // one bit in a key, and its row would be taken for another
    for (const entry of holding) {
      const file = path.join(context.dir, entry.file);
      const sealed = entry.kind === 'daily' || entry.kind === 'history' ? await DailyReader.open(file) : undefined;
      const form = sealed?.metadata ?? (await segmentMetadataOf(file));
      const lacking = metadata.key.find((name) => !form.columns.some((column) => column.name === name));
      if (lacking !== undefined) return `${entry.file} has no column ${lacking}, which is part of the key now: its rows cannot be told from those of the files`;
      const text = sealed === undefined || sealed.text !== undefined;
      const name = `${sealed === undefined} ${entry.signature} ${text}`;
      const group = groups.get(name) ?? { metadata: form, text, files: [] };
      group.files.push(file);
      groups.set(name, group);
    }
    const held = [...groups.values()].map(({ metadata: form, text, files }) => `SELECT ${keySql(form, metadata.key, text)} AS _key FROM ${parquet(files)}`);
    await encoder.run(chosenRowsSql(held), { memory });
    return undefined;
  }

  async #counts(): Promise<Pick<ImportCounts, 'rows' | 'duplicates' | 'olderVersions' | 'archived'>> {
    const [staged] = await this.#parts.encoder.query<{ rows: number; duplicates: number; older: number }>(
      `SELECT count(*)::INTEGER AS rows, (count(*) FILTER (place > 0 AND _digest = newest))::INTEGER AS duplicates,
        (count(*) FILTER (place > 0 AND _digest <> newest))::INTEGER AS older FROM ${STAGED_ROWS}`,
    );
    const [chosen] = await this.#parts.encoder.query<{ archived: number }>(`SELECT (count(*) FILTER (held))::INTEGER AS archived FROM ${CHOSEN_ROWS}`);
    return { rows: staged?.rows ?? 0, duplicates: staged?.duplicates ?? 0, olderVersions: staged?.older ?? 0, archived: chosen?.archived ?? 0 };
  }

  async #days(): Promise<Day[]> {
    return await this.#parts.encoder.query<Day & { files: number[] }>(
      `SELECT day, count(*)::INTEGER AS rows, list(DISTINCT _lsn::INTEGER ORDER BY _lsn::INTEGER) AS files FROM ${CHOSEN_ROWS} WHERE NOT held GROUP BY day ORDER BY day`,
    );
  }

  #isKept(day: string | null): boolean {
    const { context, table } = this.#parts;
    const configured = context.config.tables.find((one) => one.schema === table.schema && one.table === table.table);
    return keptDay(day, configured?.keepMs, context.state, Date.now());
  }

  /** Staged segments of the originals with these numbers. */
  #partsOf(numbers: readonly number[]): string[] {
    const { plan, folder } = this.#parts;
    return numbers.flatMap((number) => plan.originals[number - 1]?.parts ?? []).map((name) => path.join(folder, path.basename(name)));
  }

  async #importDays(days: readonly Day[], metadata: SegmentMetadata): Promise<{ readonly files: readonly string[] } | { readonly reason: string }> {
    const { context, encoder, table } = this.#parts;
    const gone = await goneNames(context);
    const names = days.map(({ day }) =>
      dailyFile(table.group, table.table, day, nextPart(context.state.files, { group: table.group, table: table.table, day }, gone)),
    );
    const files = await DailyFiles.begin(context, encoder, names);
    if (typeof files === 'string') return { reason: `${files} is there already and is not part of the archive: move it away` };
    const add: FileEntry[] = [];
    try {
      for (const [i, day] of days.entries()) add.push(await this.#writeDay(files, day, names[i] as string, metadata));
      faultPoint('K4');
    } catch (error) {
      await files.takeBack();
      throw storageError(error);
    }
    const state = await files.commit(() => ({ reason: 'import', add }));
    faultPoint('K5');
    context.log.info(
      { event: 'import', manifest: state.number, table: table.table, days: add.length, rows: add.reduce((sum, entry) => sum + entry.rows, 0) },
      'imported',
    );
    return { files: names };
  }

  async #writeDay(written: DailyFiles, { day, rows, files }: Day, file: string, metadata: SegmentMetadata): Promise<FileEntry> {
    const { context, plan, table } = this.#parts;
    const facts = await written.write({
      kind: 'daily',
      file,
      day,
      segments: this.#partsOf(files),
      bytes: rows * this.#bytesPerRow,
      metadata: { ...metadata, archive: context.archive, oid: table.oid },
      rows: { these: `SELECT _lsn, _ordinal FROM ${CHOSEN_ROWS} WHERE NOT held AND day IS NOT DISTINCT FROM ${day === null ? 'NULL' : literal(day)}` },
      more: [],
    });
    if (facts === undefined || facts.rows !== rows) throw new Error(`${file}: ${facts?.rows ?? 0} rows were found, ${rows} were counted`);
    const origin = files.map((number) => plan.originals[number - 1]).filter((original) => original !== undefined);
    return {
      ...facts,
      // They never stood in the WAL of this server: before everything that did.
      minLsn: formatLsn(LSN_ZERO),
      maxLsn: formatLsn(LSN_ZERO),
      oid: table.oid,
      schema: table.schema,
      table: table.table,
      signature: metadata.signature,
      pendingCopy: null,
      origin: origin.map(({ file: name, sha256 }) => ({ file: name, sha256 })),
    };
  }

  async #end(counts: ImportCounts, files: readonly string[]): Promise<ImportReply> {
    const { context, plan, dryRun } = this.#parts;
    const at = new Date().toISOString();
    if (!dryRun)
      await recordImports(
        context.dir,
        plan.originals.map(({ file, sha256, rows }) => ({ file, sha256, at, schema: plan.schema, table: plan.table, rows })),
      );
    return { ok: true, files, ...counts };
  }
}
