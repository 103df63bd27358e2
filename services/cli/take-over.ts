/**
 * The work of `tidemark import`: old files read and staged in the archive's own folder, table by table, then handed to the archiver, which alone writes the archive. Owns what is read and what is
 * refused. Must never change an original, and holds a lock in Postgres so that one import runs at a time.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { NatsConnection } from 'nats';
import type pg from 'pg';
import { noArchive } from '../../src/archive/identity.js';
import {
  type ImportCounts,
  type ImportPlan,
  type ImportReply,
  type ImportRequest,
  importedFiles,
  importName,
  stagingFolder,
} from '../../src/archive/import.js';
import { archivePaths } from '../../src/archive/layout.js';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import { storageError } from '../../src/archive/put.js';
import { archiveHere } from '../../src/archive/which-archive.js';
import { Caster } from '../../src/import/caster.js';
import type { Finding } from '../../src/import/findings.js';
import { type OldFile, sortOldFiles } from '../../src/import/old-file.js';
import { stageFile, type TableForm } from '../../src/import/stage.js';
import type { Config, TableConfig } from '../../src/runtime/config.js';
import { configError, TidemarkError } from '../../src/runtime/errors.js';
import { sleep } from '../../src/runtime/service.js';
import { hashFile } from '../../src/segment/durable-file.js';
import { SegmentEncoder } from '../../src/segment/encoder.js';
import { deniedError } from '../../src/stream/denied.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, requestSubject } from '../../src/stream/topology.js';
import { applicationName } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { readTableForm } from './table-form.js';

export type TakeOverOptions = {
  readonly dir: string;
  /** As in the configuration; every table without it. */
  readonly table?: string | undefined;
  readonly dryRun: boolean;
  /** What cannot be carried exactly becomes what is nearest, or NULL. */
  readonly acceptInexact: boolean;
  /** The zone of what says none; default: source.timezone. */
  readonly timezone?: string | undefined;
  readonly signal: AbortSignal;
  readonly progress: (done: number, all: number) => void;
};

/** What came of one table. `counts`: null when it was refused, for `problem` or its findings. */
export type TakenTable = {
  readonly table: string;
  /** Files that were read, and those that had been imported before. */
  readonly files: number;
  readonly known: number;
  readonly counts: ImportCounts | null;
  readonly daily: readonly string[];
  readonly findings: readonly Finding[];
  /** Columns of the table that a file has not: NULL in its rows. */
  readonly missing: readonly { readonly file: string; readonly columns: readonly string[] }[];
  /** Times without a zone that were read in `timezone`. */
  readonly assumed: number;
  readonly problem: string | null;
};

export type TakeOver = {
  readonly timezone: string;
  readonly tables: readonly TakenTable[] /** Parquet files that are no table's. */;
  readonly others: readonly string[];
};

/** What reading old files may take, bytes: a row group of theirs may be large. */
const MEMORY = 512 * 1024 * 1024;

/** Takes the files over. Throws `config` for a folder or table that is none, `failed` when no archiver answers. */
export async function takeOver(config: Config, options: TakeOverOptions): Promise<TakeOver> {
  const dir = path.resolve(options.dir);
  const tables = chosenTables(config, options.table);
  await requireOldFolder(dir, config.archive.dir);
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw await noArchive(config.archive.dir, 'start the services (tidemark run); they copy what Postgres holds');
  const timezone = options.timezone ?? config.source.timezone;
  const { byTable, others } = await sortOldFiles(dir, tables);
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control'), queryTimeoutMs: 0 });
  try {
    await requireZone(client, timezone);
    await lockImport(client, state);
    const { staging, temporary } = archivePaths(config.archive.dir);
    await rm(staging, { recursive: true, force: true }); // of an import that was killed
    const { connection } = await connectStream(config, `tidemark-${config.source.name}-import`);
    try {
      await requireArchiver(connection, config, options.signal);
      const encoder = await SegmentEncoder.open({ temporaryDir: temporary, memoryLimit: MEMORY });
      try {
        const reader = await encoder.beside();
        const work: Work = { config, options, state, timezone, client, connection, encoder, reader, known: await importedFiles(config.archive.dir) };
        const all = [...byTable.values()].reduce((sum, files) => sum + files.length, 0);
        let done = 0;
        const taken: TakenTable[] = [];
        for (const [table, files] of byTable) taken.push(await takeTable(work, table, files, () => options.progress(++done, all)));
        return { timezone, tables: taken, others };
      } finally {
        encoder.close();
      }
    } finally {
      await connection.close().catch(() => undefined);
      await rm(staging, { recursive: true, force: true });
    }
  } catch (error) {
    throw storageError(error);
  } finally {
    await closeClient(client);
  }
}

function chosenTables(config: Config, name: string | undefined): readonly TableConfig[] {
  if (name === undefined) return config.tables;
  const table = config.tables.find((one) => one.key === name || `${one.schema}.${one.table}` === name);
  if (table === undefined)
    throw configError(`--table: ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map(({ key }) => key).join(', ')}`);
  return [table];
}

async function requireOldFolder(dir: string, archive: string): Promise<void> {
  const found = await stat(dir).catch(() => undefined);
  if (found?.isDirectory() !== true) throw configError(`${dir} is not a folder`, 'name the folder that the old script wrote its files into');
  const inside = (outer: string, inner: string): boolean => inner === outer || inner.startsWith(`${outer}${path.sep}`);
  if (inside(path.resolve(archive), dir)) throw configError(`${dir} is in the archive itself`, 'name the folder that the old script wrote its files into');
  if ((await readdir(dir)).includes('_tidemark'))
    throw configError(`${dir} is an archive of Tidemark`, 'import takes over the files of the script that was there before');
}

async function requireZone(client: pg.Client, zone: string): Promise<void> {
  const { rows } = await client.query('SELECT FROM pg_catalog.pg_timezone_names WHERE name = $1', [zone]);
  if (rows.length === 0) throw configError(`--timezone: ${JSON.stringify(zone)} is no time zone of this Postgres`, 'write for instance UTC or Europe/Berlin');
}

/** Held by the connection: it ends with this process. */
async function lockImport(client: pg.Client, { archive }: ArchiveState): Promise<void> {
  const { rows } = await client.query<{ locked: string }>(`SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))::text AS locked`, [
    `tidemark import ${archive}`,
  ]);
  if (rows[0]?.locked !== 'true') throw new TidemarkError('failed', 'another import into this archive is running', { remedy: 'wait until it has ended' });
}

type Work = {
  readonly config: Config; readonly options: TakeOverOptions; readonly state: ArchiveState; readonly timezone: string;
  readonly client: pg.Client; readonly connection: NatsConnection; readonly encoder: SegmentEncoder; readonly reader: SegmentEncoder; readonly known: ReadonlySet<string>;
}; // biome-ignore format: few lines

async function takeTable(work: Work, table: TableConfig, files: readonly OldFile[], step: () => void): Promise<TakenTable> {
  const result: TakenTable = { table: table.key, files: 0, known: 0, counts: null, daily: [], findings: [], missing: [], assumed: 0, problem: null };
  const form = await readTableForm(work.client, work.config.archive.dir, work.state, table);
  if (form === undefined) return { ...result, problem: 'Postgres has no such table, and the archive has none of its rows' };
  const folder = stagingFolder(work.config.archive.dir, randomUUID());
  await mkdir(folder, { recursive: true, mode: 0o750 });
  try {
    const staged = await stageAll(work, table, files, form, folder, step);
    const read = {
      ...result,
      files: staged.originals.length,
      known: files.length - staged.originals.length,
      findings: staged.findings,
      missing: staged.missing,
      assumed: staged.assumed,
    };
    if (staged.originals.length === 0) return { ...read, counts: { rows: 0, imported: 0, days: 0, duplicates: 0, olderVersions: 0, archived: 0, expired: 0 } };
    if (isRefused(staged.findings, work.options.acceptInexact, form))
      return { ...read, problem: 'not everything can be carried exactly: nothing of this table was imported' };
    const plan: ImportPlan = { schema: table.schema, table: table.table, oid: form.relation.oid, originals: staged.originals };
    await writeFile(path.join(folder, 'plan.json'), JSON.stringify(plan), { mode: 0o640 });
    const reply = await ask(work, path.basename(folder));
    if (!reply.ok) return { ...read, problem: reply.reason };
    const { ok: _ok, files: daily, ...counts } = reply;
    return { ...read, counts, daily };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A row without its key, or without the column that says its day, is no row of the table whatever a person accepts. */
function isRefused(findings: readonly Finding[], accepted: boolean, { key, timestamp }: TableForm): boolean {
  const vital = findings.some(({ column, row }) => column !== null && row === null && (column === timestamp || key.includes(column)));
  return vital || (findings.length > 0 && !accepted);
}

async function stageAll(
  work: Work,
  table: TableConfig,
  files: readonly OldFile[],
  form: TableForm,
  folder: string,
  step: () => void,
): Promise<{ readonly originals: ImportPlan['originals'] } & Pick<TakenTable, 'findings' | 'missing' | 'assumed'>> {
  const { config, encoder, reader, state, timezone } = work;
  const caster = new Caster(work.client, timezone);
  const { rows, bytes } = config.archive.flush;
  const originals: ImportPlan['originals'][number][] = [];
  const findings: Finding[] = [];
  const missing: TakenTable['missing'][number][] = [];
  let assumed = 0;
  for (const old of files) {
    const sha256 = await hashFile(old.path);
    if (!work.known.has(importName(table.schema, table.table, sha256))) {
      const staged = await stageFile(
        { encoder, reader, caster, form, folder, archive: state.archive, limits: { rows, bytes }, utc: timezone === 'UTC', signal: work.options.signal },
        old,
        originals.length + 1,
      );
      originals.push({ file: old.file, sha256, rows: staged.rows, parts: staged.parts.map((part) => path.basename(part)) });
      findings.push(...staged.findings);
      if (staged.missing.length > 0) missing.push({ file: old.file, columns: staged.missing });
      assumed += staged.assumed;
    }
    step();
  }
  return { originals, findings, missing, assumed };
}

/** An archiver that starts again is waited for: a moment before anything is read, longer for what was staged. */
const PATIENCE_MS = { before: 5000, staged: 30_000 };
const AGAIN_MS = 500;
const ALIVE_MS = 5000;

async function requireArchiver(connection: NatsConnection, config: Config, signal: AbortSignal): Promise<void> {
  for (const until = Date.now() + PATIENCE_MS.before; ; await sleep(AGAIN_MS, signal)) {
    try {
      await connection.request(`${requestSubject(config.source.name, 'import')}.alive`, undefined, { timeout: ALIVE_MS });
      return;
    } catch (error) {
      const denied = deniedError(error);
      if (denied !== undefined || Date.now() >= until || signal.aborted) throw denied ?? noArchiver();
    }
  }
}

const noArchiver = (): TidemarkError =>
  new TidemarkError('failed', 'no archiver is running', { remedy: 'start the services (tidemark run), then import again' });

/** What the files hold and Postgres still has was committed before now: it is archived when the archive has reached this. */
async function ask({ client, connection, config, options }: Work, staged: string): Promise<ImportReply> {
  const { rows } = await client.query<{ lsn: string }>(`SELECT pg_catalog.pg_logical_emit_message(true, 'tidemark.seal', '')::text AS lsn`);
  const request: ImportRequest = { staged, asOf: (rows[0] as { lsn: string }).lsn, dryRun: options.dryRun };
  const archive = await archiveHere(config.archive.dir);
  for (const until = Date.now() + PATIENCE_MS.staged; ; await sleep(AGAIN_MS, options.signal)) {
    const reply = await requestReply<ImportReply>(connection, requestSubject(config.source.name, 'import'), request, { archive, signal: options.signal });
    if (reply !== undefined) return reply;
    if (Date.now() >= until || options.signal.aborted) throw noArchiver();
  }
}
