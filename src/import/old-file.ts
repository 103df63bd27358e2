/**
 * The old script's files: which of a folder's Parquet files are a table's, and in which order they were written. Reads names and sizes; their content is stage.ts's.
 * The day in a name is the day of a run: it says which of two versions of a row is the newer one, and nothing about the rows' own day.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { RESERVED } from '../archive/layout.js';
import type { TableConfig } from '../runtime/config.js';

export type OldFile = {
  /** Absolute path. */
  readonly path: string;
  /** From the folder that is imported, `/`-separated. */
  readonly file: string;
  /** Day of the run that wrote it, from its name. */
  readonly run: string;
  readonly bytes: number;
  /** Milliseconds since 1970: of two files of one run the later one is the newer. */
  readonly modifiedMs: number;
};

/** Every Parquet file below `dir`, by path. Archives of Tidemark are left alone. */
export async function findOldFiles(dir: string): Promise<{ readonly path: string; readonly file: string }[]> {
  const found: { path: string; file: string }[] = [];
  const walk = async (folder: string): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true });
    if (entries.some((entry) => entry.isDirectory() && entry.name === RESERVED)) return;
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) await walk(file);
      else if (/\.parquet$/i.test(entry.name)) found.push({ path: file, file: path.relative(dir, file).split(path.sep).join('/') });
    }
  };
  await walk(dir);
  return found;
}

/** `prices_2026-01-12.parquet`, `prices_20260112.parquet`, `prices_2026-01-12_2.parquet`: table and day of the run. Undefined: another name. */
export function parseOldName(name: string): { readonly table: string; readonly run: string } | undefined {
  const match = /^(.+?)_(\d{4})-?(\d{2})-?(\d{2})(?:[_.-].*)?\.parquet$/i.exec(name);
  return match ? { table: match[1] as string, run: `${match[2]}-${match[3]}-${match[4]}` } : undefined;
}

/** Of tables of one name the one whose group is the file's folder; undefined: none, or it cannot be told. */
export function tableOfFile(file: string, tables: readonly TableConfig[]): { readonly table: TableConfig; readonly run: string } | undefined {
  const named = parseOldName(path.posix.basename(file));
  if (named === undefined) return undefined;
  const alike = tables.filter(({ table }) => table === named.table);
  const folder = path.posix.basename(path.posix.dirname(file));
  const table = alike.length > 1 ? alike.find(({ group }) => group === folder) : alike[0];
  return table && { table, run: named.run };
}

/** The files of each table, oldest run first, and what is no table's. */
export async function sortOldFiles(
  dir: string,
  tables: readonly TableConfig[],
): Promise<{ readonly byTable: ReadonlyMap<TableConfig, OldFile[]>; readonly others: readonly string[] }> {
  const byTable = new Map<TableConfig, OldFile[]>();
  const others: string[] = [];
  for (const found of await findOldFiles(dir)) {
    const of = tableOfFile(found.file, tables);
    if (of === undefined) {
      others.push(found.file);
      continue;
    }
    const { size, mtimeMs } = await stat(found.path);
    const files = byTable.get(of.table) ?? [];
    files.push({ ...found, run: of.run, bytes: size, modifiedMs: mtimeMs });
    byTable.set(of.table, files);
  }
  for (const files of byTable.values()) files.sort(olderFirst);
  return { byTable, others };
}

function olderFirst(a: OldFile, b: OldFile): number {
  if (a.run !== b.run) return a.run < b.run ? -1 : 1;
  return a.modifiedMs - b.modifiedMs || (a.file < b.file ? -1 : 1);
}
