/** Days of the archive, as its manifest lists their files. Pure. */
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { TableConfig } from '../../src/runtime/config.js';

/** `open`: in segments only · `sealed`: in daily files only · `late`: sealed, and rows came after that. */
export type DayState = 'open' | 'sealed' | 'late';

/** `day`: UTC day, null for rows whose timestamp is none. `rows`: row versions while open, rows once sealed. `history`: versions set apart when it was sealed. */
export type ArchivedDay = {
  readonly day: string | null;
  readonly state: DayState;
  readonly rows: number;
  readonly bytes: number;
  readonly segments: number;
  readonly dailies: readonly string[];
  readonly history: number;
};

export type TableDays = { readonly table: string; readonly days: readonly ArchivedDay[] };

/** `month`: `2026-11`. Days of it, in order; those without a day belong to every month. */
export function daysOfMonth(tables: readonly TableConfig[], files: Iterable<FileEntry>, month: string): TableDays[] {
  const found = new Map<string, Map<string | null, FileEntry[]>>(tables.map(({ schema, table }) => [`${schema}.${table}`, new Map()]));
  for (const file of files) {
    if (file.kind === 'keys' || (file.day !== null && !file.day.startsWith(`${month}-`))) continue;
    const days = found.get(`${file.schema}.${file.table}`);
    if (days === undefined) continue;
    const day = days.get(file.day);
    if (day === undefined) days.set(file.day, [file]);
    else day.push(file);
  }
  return tables.map(({ key, schema, table }) => ({
    table: key,
    days: [...(found.get(`${schema}.${table}`) ?? [])]
      .map(([day, entries]) => archivedDay(day, entries))
      .sort((a, b) => ((a.day ?? '') < (b.day ?? '') ? -1 : 1)),
  }));
}

function archivedDay(day: string | null, files: readonly FileEntry[]): ArchivedDay {
  const of = (kind: FileEntry['kind']): FileEntry[] => files.filter((file) => file.kind === kind);
  const [segments, dailies] = [of('segment'), of('daily')];
  const shown = [...segments, ...dailies];
  return {
    day,
    state: dailies.length === 0 && of('history').length === 0 ? 'open' : segments.length === 0 ? 'sealed' : 'late',
    rows: shown.reduce((sum, { rows }) => sum + rows, 0),
    bytes: shown.reduce((sum, { bytes }) => sum + bytes, 0),
    segments: segments.length,
    dailies: dailies.map(({ file }) => file).sort(),
    history: of('history').reduce((sum, { rows }) => sum + rows, 0),
  };
}

/** The months that have days, newest first. */
export function months(files: Iterable<FileEntry>): string[] {
  const found = new Set<string>();
  for (const { day } of files) if (day !== null) found.add(day.slice(0, 7));
  return [...found].sort().reverse();
}
