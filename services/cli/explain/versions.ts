/**
 * Every archived version of a row, and every event that names it, from all files that the manifest names: open segments, keys, sealed days, history and changes. Reads only; decides
 * nothing of lives.
 */
import path from 'node:path';
import type { ArchiveState } from '../../../src/archive/manifest.js';
import type { FileEntry } from '../../../src/archive/manifest-format.js';
import { parseLsn } from '../../../src/position/lsn.js';
import { DailyReader } from '../../../src/segment/daily-reader.js';
import type { RawValue } from '../../../src/segment/raw-value.js';
import { SegmentReader } from '../../../src/segment/reader.js';

/** The table whose row is looked for. `key`: names and texts in key order. */
export type Sought = {
  readonly schema: string;
  readonly table: string;
  readonly oid: number | undefined;
  readonly key: readonly string[];
  readonly texts: readonly string[];
};

/** A place in the stream. `order` compares places of different transactions. */
export type Moment = { readonly lsn: bigint; readonly ordinal: bigint; readonly xid: number; readonly micros: bigint };

export type Version = {
  /** A sealed day of a table with `history: true` has it twice: in the changes too. */
  readonly files: string[];
  readonly kind: FileEntry['kind'];
  readonly oid: number;
  readonly day: string | null;
  /** `insert`, `update`, `copy` or `restore`; null where the file does not say: daily files and history. */
  readonly op: string | null;
  readonly moment: Moment | null;
  /** Sorts versions whose moment is not known. */
  readonly fileLsn: bigint;
  readonly digest: bigint;
  /** Columns whose values the stream did not carry. */
  readonly unresolved: string | null;
  /** Texts of every column that a key of the table ever had. */
  readonly identity: ReadonlyMap<string, string | null>;
  /** What the file itself says of its end. */
  readonly ended: { readonly by: string | null; readonly micros: bigint | null } | undefined;
};

/** `columns`: of the key by which it names the row; empty for truncates and copies of whole tables. */
export type Event = {
  readonly op: string;
  readonly oid: number;
  readonly moment: Moment;
  readonly columns: readonly string[];
  readonly texts: readonly (string | null)[];
};

export type RowFiles = { readonly versions: Version[]; readonly events: Event[] };

/** Tables of that name, also earlier ones, and this table under another name. */
export function filesOf(state: ArchiveState, sought: Pick<Sought, 'schema' | 'table' | 'oid'>): FileEntry[] {
  return [...state.files.values()].filter(
    (entry) => entry.pendingCopy === null && (entry.oid === sought.oid || (entry.schema === sought.schema && entry.table === sought.table)),
  );
}

export async function readRow(dir: string, state: ArchiveState, sought: Sought): Promise<RowFiles> {
  const entries = filesOf(state, sought);
  const versions: Version[] = [];
  const keys: FileEntry[] = [];
  const identities = new Set<string>(sought.key);
  for (const entry of entries) {
    if (entry.kind !== 'keys') continue;
    keys.push(entry);
    const reader = await SegmentReader.open(path.join(dir, entry.file));
    for (const name of reader.metadata.key) identities.add(name);
    await reader.close();
  }
  for (const entry of entries) {
    if (entry.kind === 'segment' || entry.kind === 'restored') versions.push(...(await versionsOfSegment(dir, entry, sought, [...identities])));
    else if (entry.kind !== 'keys') versions.push(...(await versionsOfDay(dir, entry, sought)));
  }
  const events: Event[] = [];
  for (const entry of keys) events.push(...(await eventsOf(dir, entry, sought, versions)));
  return { versions: mergeChanges(versions), events };
}

async function versionsOfSegment(dir: string, entry: FileEntry, { key, texts }: Sought, identities: readonly string[]): Promise<Version[]> {
  const reader = await SegmentReader.open(path.join(dir, entry.file));
  const found: Version[] = [];
  try {
    if (key.some((name) => !reader.columns.includes(name))) return [];
    const columns = identities.filter((name) => reader.columns.includes(name));
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const rows = await reader.readRowGroup(group, columns);
      for (let row = 0; row < rows.rowCount; row += 1) {
        if (!key.every((name, i) => rows.text(name, row) === texts[i])) continue;
        found.push({
          ...placeOf(entry),
          op: rows.op(row),
          moment: { lsn: rows.lsn(row), ordinal: rows.ordinal(row), xid: rows.xid(row), micros: rows.committedAtMicros(row) },
          digest: rows.digest(row),
          unresolved: rows.unresolvedColumns(row),
          identity: new Map(columns.map((name) => [name, rows.text(name, row)])),
          ended: undefined,
        });
      }
    }
  } finally {
    await reader.close();
  }
  return found;
}

async function versionsOfDay(dir: string, entry: FileEntry, { key, texts }: Sought): Promise<Version[]> {
  const reader = await DailyReader.open(path.join(dir, entry.file));
  if (key.some((name) => !reader.columns.includes(name))) return [];
  return (await reader.findRows(key, texts)).map(({ texts: row, digest, system }) => ({
    ...placeOf(entry),
    op: textOf(system('op')),
    moment:
      entry.kind === 'changes'
        ? { lsn: system('lsn') as bigint, ordinal: system('ordinal') as bigint, xid: Number(system('xid')), micros: system('committed_at') as bigint }
        : null,
    digest,
    unresolved: textOf(system('unresolved')),
    identity: new Map(reader.columns.map((name, i) => [name, row[i] ?? null])),
    ended: endOf(entry.kind, system),
  }));
}

function endOf(kind: FileEntry['kind'], system: (name: 'deleted_at' | 'ended_by' | 'ended_at') => RawValue | null): Version['ended'] {
  if (kind === 'changes') return { by: textOf(system('ended_by')), micros: system('ended_at') as bigint | null };
  return kind === 'history' ? { by: 'delete', micros: system('deleted_at') as bigint | null } : undefined;
}

const placeOf = ({ file, kind, oid, day, maxLsn }: FileEntry): Pick<Version, 'files' | 'kind' | 'oid' | 'day' | 'fileLsn'> => ({
  files: [file],
  kind,
  oid,
  day,
  fileLsn: parseLsn(maxLsn),
});

const textOf = (raw: RawValue | null): string | null => (raw === null ? null : (raw as Buffer).toString('utf8'));

/** Events that name the row by the key that the file goes by, and those of the whole table. */
async function eventsOf(dir: string, entry: FileEntry, sought: Sought, versions: readonly Version[]): Promise<Event[]> {
  const reader = await SegmentReader.open(path.join(dir, entry.file));
  const found: Event[] = [];
  try {
    const columns = reader.metadata.key;
    const named = (texts: readonly (string | null)[]): string => JSON.stringify(texts);
    const wanted = new Set(versions.map(({ identity }) => named(columns.map((name) => identity.get(name) ?? null))));
    if (columns.join('\n') === sought.key.join('\n')) wanted.add(named(sought.texts));
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const rows = await reader.readRowGroup(group, columns);
      for (let row = 0; row < rows.rowCount; row += 1) {
        const op = rows.op(row);
        const whole = op === 'truncate' || op === 'copied';
        const texts = columns.map((name) => rows.text(name, row));
        if (!whole && (columns.length === 0 || !wanted.has(named(texts)))) continue;
        const moment = { lsn: rows.lsn(row), ordinal: rows.ordinal(row), xid: rows.xid(row), micros: rows.committedAtMicros(row) };
        found.push({ op, oid: entry.oid, moment, columns: whole ? [] : columns, texts: whole ? [] : texts });
      }
    }
  } finally {
    await reader.close();
  }
  return found;
}

/** A version of a sealed day that lies in the changes and in the daily file or the history is one version. */
function mergeChanges(versions: readonly Version[]): Version[] {
  const changes = versions.filter(({ kind }) => kind === 'changes');
  return versions.filter((version) => {
    if (version.kind !== 'daily' && version.kind !== 'history') return true;
    const same = changes.findLast((one) => one.files.length === 1 && one.oid === version.oid && one.day === version.day && one.digest === version.digest);
    same?.files.unshift(...version.files);
    return same === undefined;
  });
}
