/** The columns that the archive's files hold beside the table's own, and what they are called there. */

/** In the order of a segment; daily files have `text` only, history files `text` and `deleted_at`, files of changes also what ended a version. */
export const SYSTEM_COLUMNS = ['op', 'lsn', 'ordinal', 'xid', 'committed_at', 'digest', 'unresolved', 'text'] as const;
export type SystemColumn = (typeof SYSTEM_COLUMNS)[number] | 'deleted_at' | 'ended_by' | 'ended_at';

const NAMES: readonly SystemColumn[] = [...SYSTEM_COLUMNS, 'deleted_at', 'ended_by', 'ended_at'];

/** What stands before their names in the files of a table with these columns: `_`, or as many more as it takes. Names that differ in case only count as equal: readers mix them up. */
export function systemPrefix(columns: readonly string[]): string {
  const taken = new Set(columns.map((name) => name.toLowerCase()));
  let prefix = '_';
  while (NAMES.some((name) => taken.has(prefix + name))) prefix += '_';
  return prefix;
}

/** Name of a system column in the files of a table with these columns. */
export function systemName(column: SystemColumn, columns: readonly string[]): string {
  return systemPrefix(columns) + column;
}

/**
 * Why a table's column names cannot stand in one Parquet file, or undefined when they can. DuckDB does not tell names apart that differ in case only, and JavaScript readers cannot
 * hold `__proto__` as a name.
 */
export function nameCollision(names: readonly string[]): string | undefined {
  const seen = new Map<string, string>();
  for (const name of names) {
    if (name === '__proto__') return 'column __proto__ has a name that cannot be read back';
    const lower = name.toLowerCase();
    const other = seen.get(lower);
    if (other !== undefined) return `column ${JSON.stringify(name)} differs from ${other} in case at most`;
    seen.set(lower, JSON.stringify(name));
  }
  return undefined;
}
