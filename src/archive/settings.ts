/**
 * What the configuration said when rows were pruned last: `_tidemark/settings.json`. A change that would delete more than before is not taken from a file that somebody edited: a person accepts
 * it (`tidemark doctor --accept`). Owns the record and what differs from it; the pruner asks.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Config } from '../runtime/config.js';
import { configError } from '../runtime/errors.js';
import { archivePaths } from './layout.js';
import { replaceFile, storageError } from './put.js';

export type TableSettings = { readonly timestamp: string; readonly retentionMs: number; readonly keepWhile: string | null; readonly prune: boolean };

/** By `schema.table`; a table that left the configuration keeps its entry. */
export type Settings = { readonly timezone: string; readonly tables: Readonly<Record<string, TableSettings>> };

/** One line each. `destructive`: rows would be deleted that the recorded settings keep. */
export type SettingsDifference = { readonly seen: string; readonly destructive: boolean };

export function settingsOf({ source, tables }: Pick<Config, 'source' | 'tables'>): Settings {
  const entries = tables.map(
    ({ schema, table, timestamp, retentionMs, keepWhile, prune }) =>
      [`${schema}.${table}`, { timestamp, retentionMs, keepWhile: keepWhile ?? null, prune }] as const,
  );
  return { timezone: source.timezone, tables: Object.fromEntries(entries) };
}

/** Pure: from the recorded settings to the ones of now. */
export function settingsDifferences(before: Settings, now: Settings): SettingsDifference[] {
  const found: SettingsDifference[] = [];
  const add = (seen: string, destructive: boolean): void => void found.push({ seen, destructive });
  if (before.timezone !== now.timezone) add(`source.timezone ${before.timezone} → ${now.timezone}`, true);
  for (const [name, table] of Object.entries(now.tables)) {
    const was = before.tables[name];
    if (was === undefined) {
      add(`${name} is new`, false);
      continue;
    }
    if (was.timestamp !== table.timestamp) add(`${name}: timestamp ${was.timestamp} → ${table.timestamp}`, true);
    if (was.retentionMs !== table.retentionMs)
      add(`${name}: retention ${duration(was.retentionMs)} → ${duration(table.retentionMs)}`, table.retentionMs < was.retentionMs);
    if (was.keepWhile !== table.keepWhile) add(`${name}: keepWhile ${was.keepWhile ?? 'none'} → ${table.keepWhile ?? 'none'}`, was.keepWhile !== null);
    if (was.prune !== table.prune) add(`${name}: prune ${was.prune} → ${table.prune}`, false);
  }
  return found;
}

/** `36h`, `90s`: the largest unit that is exact. */
function duration(ms: number): string {
  for (const [unit, size] of [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000]] as const) if (ms % size === 0) return `${ms / size}${unit}`; // biome-ignore format: a table
  return `${ms}ms`;
}

/** What is recorded; undefined: nothing yet. Throws `config` when it cannot be read: then nothing is known of what was. */
export async function readSettings(dir: string): Promise<Settings | undefined> {
  const file = archivePaths(dir).settings;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw storageError(error);
  }
  try {
    const { timezone, tables } = JSON.parse(text) as Settings;
    if (typeof timezone === 'string' && typeof tables === 'object' && tables !== null) return { timezone, tables };
  } catch {
    // falls through
  }
  throw configError(`${file} cannot be read`, 'look at the retention of every table, then `tidemark doctor --accept`');
}

/** Records the settings of now over those of before, durable when it resolves. */
export async function putSettings(dir: string, before: Settings | undefined, now: Settings): Promise<void> {
  const { settings, own } = archivePaths(dir);
  const merged: Settings = { ...now, tables: { ...before?.tables, ...now.tables } };
  await replaceFile(own, path.basename(settings), `${JSON.stringify(merged, null, 2)}\n`);
}

/**
 * Before rows are deleted: what differs from the record, each in one line, recorded from now on. Throws `config` when a person has to accept it first; then nothing is recorded.
 */
export async function takeSettings(dir: string, config: Pick<Config, 'source' | 'tables'>): Promise<readonly string[]> {
  const before = await readSettings(dir);
  const now = settingsOf(config);
  const found = before === undefined ? [] : settingsDifferences(before, now);
  const destructive = found.filter((one) => one.destructive).map((one) => one.seen);
  if (destructive.length > 0) {
    throw configError(
      `the configuration would prune more than before: ${destructive.join('; ')}`,
      'if that is meant: `tidemark doctor --accept`, then start again',
    );
  }
  if (before === undefined || found.length > 0) await putSettings(dir, before, now);
  return found.map((one) => one.seen);
}
