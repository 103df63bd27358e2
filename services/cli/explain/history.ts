/** The archived history of one row, as explain shows it. Reads the archive only. */
import { readExpired } from '../../../src/archive/expire.js';
import type { ArchiveState } from '../../../src/archive/manifest.js';
import type { FileEntry } from '../../../src/archive/manifest-format.js';
import { prunesOfRow, type RowPrune } from '../../../src/archive/row-receipts.js';
import { formatLsn, type Lsn } from '../../../src/position/lsn.js';
import { type Ended, isoOf, type Life, livesOf } from './lives.js';
import { filesOf, readRow, type Sought } from './versions.js';

export type ShownVersion = {
  /** The first is where a reader finds it; the second, if any, is the changes of a table with `history: true`. */
  readonly files: readonly string[];
  readonly kind: FileEntry['kind'];
  readonly day: string | null;
  /** `insert`, `update`, `copy`, `restore`; null where the file does not say. */
  readonly op: string | null;
  readonly lsn: string | null;
  readonly ordinal: number | null;
  readonly committedAt: string | null;
  readonly unresolved: string | null;
  /** Set for a table of that name before this one. */
  readonly earlierTable: number | null;
  readonly ended: Ended | null;
};

export type RowHistory = {
  readonly versions: readonly ShownVersion[];
  /** Receipts that are not done, or whose version no file holds. */
  readonly receipts: readonly Pick<RowPrune, 'run' | 'batch' | 'at' | 'outcome'>[];
  /** Committed receipts whose version no file holds. */
  readonly missing: number;
  /** Days of the table that left the archive by `keep`; null: none did. */
  readonly expired: { readonly days: number; readonly first: string; readonly last: string } | null;
};

export async function rowHistory(dir: string, state: ArchiveState | undefined, sought: Sought): Promise<RowHistory> {
  if (state === undefined) return { versions: [], receipts: [], missing: 0, expired: null };
  const row = await readRow(dir, state, sought);
  const oids = new Set([...filesOf(state, sought).map(({ oid }) => oid), ...(sought.oid === undefined ? [] : [sought.oid])]);
  const prunes = await prunesOfRow(dir, oids, sought.texts);
  const { lives, left } = livesOf(row, prunes);
  const current = sought.oid ?? state.tables.findLast(({ schema, table }) => schema === sought.schema && table === sought.table)?.oid;
  const open = prunes.filter(({ outcome }) => outcome !== 'committed');
  return {
    versions: lives.map((life) => shown(life, current)),
    receipts: [...open, ...left].map(({ run, batch, at, outcome }) => ({ run, batch, at, outcome })),
    missing: left.length,
    expired: await expiredDays(dir, state, sought),
  };
}

async function expiredDays(dir: string, state: ArchiveState, { schema, table }: Sought): Promise<RowHistory['expired']> {
  const receipts = (await readExpired(dir, state)).filter((one) => one.schema === schema && one.table === table);
  const days = [...new Set(receipts.map(({ day }) => day))].sort();
  const [first, last] = [days[0], days.at(-1)];
  return first === undefined || last === undefined ? null : { days: days.length, first, last };
}

function shown({ version, ended }: Life, current: number | undefined): ShownVersion {
  const { files, kind, day, op, moment, unresolved, oid } = version;
  return {
    files,
    kind,
    day,
    op,
    lsn: moment === null ? null : formatLsn(moment.lsn as Lsn),
    ordinal: moment === null ? null : Number(moment.ordinal),
    committedAt: isoOf(moment?.micros ?? null),
    unresolved,
    earlierTable: oid === current ? null : oid,
    ended,
  };
}
