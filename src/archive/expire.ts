/**
 * The retention of the archive itself (`keep`): which sealed days are older than a person wants them, and the record of those that went. Decides purely; the archiver acts. Must never choose a
 * day with open segments, one without a date, or a table that is not configured.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { TableConfig } from '../runtime/config.js';
import { nextDay } from '../segment/day.js';
import type { ArchiveState } from './chain.js';
import { appendLines, readLines } from './json-lines.js';
import { archivePaths } from './layout.js';
import type { FileEntry } from './manifest-format.js';
import { replaceFile, storageError } from './put.js';

/** A sealed day of a table with all its files: daily, history and changes. */
export type ExpiredDay = { readonly schema: string; readonly table: string; readonly day: string; readonly files: readonly FileEntry[] };

/**
 * False: the day ended longer ago than `keepMs`, by the earlier of two clocks: ours, and the database's as of the newest archived commit. `keepMs` undefined: kept for ever, as are rows
 * without a day.
 */
export function keptDay(day: string | null, keepMs: number | undefined, { committedAt }: Pick<ArchiveState, 'committedAt'>, nowMs: number): boolean {
  if (day === null || keepMs === undefined || committedAt === null) return true;
  const now = Math.min(nowMs, Date.parse(committedAt));
  return Date.parse(`${nextDay(day)}T00:00:00Z`) + keepMs > now;
}

/** Days that may go, oldest first. */
export function expiredDays(state: Pick<ArchiveState, 'files' | 'committedAt'>, tables: readonly TableConfig[], nowMs: number): ExpiredDay[] {
  const keeps = new Map(tables.map((table) => [`${table.schema}.${table.table}`, table.keepMs]));
  const days = new Map<string, { schema: string; table: string; day: string; files: FileEntry[] }>();
  const open = new Set<string>();
  for (const entry of state.files.values()) {
    const { schema, table, day, kind } = entry;
    if (kind === 'keys' || day === null || keptDay(day, keeps.get(`${schema}.${table}`), state, nowMs)) continue;
    const name = `${schema}.${table} ${day}`;
    if (kind === 'segment' || kind === 'restored')
      open.add(name); // restored rows are proved by those when they are pruned again
    else {
      const known = days.get(name) ?? { schema, table, day, files: [] };
      known.files.push(entry);
      days.set(name, known);
    }
  }
  return [...days]
    .filter(([name]) => !open.has(name))
    .map(([, day]) => day)
    .sort((a, b) => (a.day === b.day ? (a.table < b.table ? -1 : 1) : a.day < b.day ? -1 : 1));
}

/** A line of `_tidemark/expired.jsonl`, written before the manifest that drops the file: it counts once no manifest names the file. */
export type ExpireReceipt = Pick<FileEntry, 'file' | 'kind' | 'schema' | 'table' | 'rows' | 'bytes' | 'sha256'> & {
  readonly day: string;
  readonly at: string;
  /** Who wished it: a person's command, or the archiver by `archive.expire`. */
  readonly by: 'command' | 'schedule';
  readonly keepMs: number;
};

export async function recordExpired(dir: string, receipts: readonly ExpireReceipt[]): Promise<void> {
  await appendLines(archivePaths(dir).expired, receipts);
}

/** Receipts of files that are gone on purpose, each file once. */
export async function readExpired(dir: string, state: Pick<ArchiveState, 'files'>): Promise<ExpireReceipt[]> {
  const found = new Map<string, ExpireReceipt>();
  for await (const receipt of readLines<ExpireReceipt>(archivePaths(dir).expired)) if (!state.files.has(receipt.file)) found.set(receipt.file, receipt);
  return [...found.values()];
}

/** How long each table is kept, milliseconds by `schema.table`, as a person confirmed it last: by itself the archiver takes nothing younger. Nothing confirmed: an empty record. */
export async function readConfirmedKeep(dir: string): Promise<Readonly<Record<string, number>>> {
  try {
    const parsed = JSON.parse(await readFile(archivePaths(dir).keep, 'utf8')) as Record<string, number>;
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return {};
    throw storageError(error);
  }
}

export async function confirmKeep(dir: string, tables: readonly TableConfig[]): Promise<void> {
  const { own, keep } = archivePaths(dir);
  const now = Object.fromEntries(tables.flatMap(({ schema, table, keepMs }) => (keepMs === undefined ? [] : [[`${schema}.${table}`, keepMs]])));
  await replaceFile(own, path.basename(keep), `${JSON.stringify({ ...(await readConfirmedKeep(dir)), ...now }, null, 2)}\n`);
}

/** Tables whose `keep` a person has confirmed, this one or a shorter one. */
export function confirmedTables(tables: readonly TableConfig[], confirmed: Readonly<Record<string, number>>): TableConfig[] {
  return tables.filter(({ schema, table, keepMs }) => {
    const known = confirmed[`${schema}.${table}`];
    return keepMs !== undefined && known !== undefined && keepMs >= known;
  });
}

/** Request on `tidemark.<source>.expire`: exactly these files, which a person has seen and confirmed (or the configuration lets go by itself). */
export type ExpireRequest = { readonly files: readonly string[] };

export type ExpireReply =
  | { readonly ok: true; readonly days: number; readonly files: number; readonly rows: number; readonly bytes: number }
  | { readonly ok: false; readonly reason: string };

/** Reads a request. Throws SyntaxError that says what is wrong. */
export function parseExpireRequest(text: string): ExpireRequest {
  const request = JSON.parse(text) as Partial<ExpireRequest> | null;
  const { files } = request ?? {};
  if (!Array.isArray(files) || !files.every((file) => typeof file === 'string')) throw new SyntaxError('an expire request names files');
  return { files };
}
