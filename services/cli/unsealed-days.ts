/** Why there is nothing to seal of a day: sealed already, not over, not in the archive, or rows of it are in Postgres, restored ones among them. Reads only. */
import type pg from 'pg';
import { filesOfName } from '../../src/archive/groups.js';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { RestoreIndex, restoredTransactions } from '../../src/archive/restores.js';
import { UNDATED } from '../../src/archive/seal.js';
import { tableSql } from '../../src/prune/eligible.js';
import { isOver, ofDay } from '../../src/prune/empty-days.js';
import type { Target } from '../../src/prune/target.js';
import { daysText, tableFilesByName } from '../../src/restore/files.js';
import type { Config, TableConfig } from '../../src/runtime/config.js';
import { quoteIdentifier } from '../../src/wal/identifier.js';
import { readServerIdentity } from '../../src/wal/identity.js';

/** Rows of a day are counted up to here. */
const COUNTED = 100_000;

/** Days of the table with restored rows that the archive knows of: they are sealed and may hold rows in Postgres again. */
export function restoredDays(state: ArchiveState, table: TableConfig): string[] {
  const days = filesOfName(state, table).flatMap((file) => (file.kind === 'restored' ? (file.day ?? []) : []));
  return [...new Set(days)].sort();
}

type Asked = { readonly state: ArchiveState; readonly table: TableConfig; readonly target: Target; readonly day: string };

/** One line without the table's name. */
export async function whyNotSealed(client: pg.Client, config: Config, asked: Asked): Promise<string> {
  const { state, table, day } = asked;
  const files = filesOfName(state, table).filter(({ kind, day: of }) => kind !== 'keys' && (of ?? UNDATED) === day); // keys are of no day
  const sealed = files.some(({ kind }) => kind === 'daily' || kind === 'history' || kind === 'changes');
  const { rows, restored } = await hotRows(client, config, asked);
  const more = rows >= COUNTED ? ' or more' : '';
  const held =
    restored === rows
      ? `${rows}${more} of its rows are restored in Postgres, until they are pruned again`
      : `Postgres holds ${rows}${more} rows of it${restored > 0 ? `, ${restored} of them restored` : ''}`;
  if (sealed) return `is sealed already; ${rows === 0 ? 'Postgres holds no row of it' : held}`;
  if (!(await isOver(client, day))) return 'is not over yet (days are those of UTC)';
  if (files.length === 0 && rows === 0) return `is not in the archive: it has ${daysText(tableFilesByName(state, table)) || 'no row of the table'}`;
  return rows === 0 ? 'has no open segment' : `is not empty: ${held}`;
}

/** Rows of the day in Postgres, and how many of them are as a restore put them there. */
async function hotRows(client: pg.Client, config: Config, { table, target, day }: Asked): Promise<{ rows: number; restored: number }> {
  const { systemId } = await readServerIdentity(client);
  const { rows: xids } = await client.query<{ next: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next');
  const known = await restoredTransactions(new RestoreIndex(config.archive.dir), { oid: target.oid, systemId, nextXid: xids[0]?.next ?? '0' });
  const { rows } = await client.query<{ rows: string; restored: string }>(
    `SELECT count(*)::text AS rows, count(*) FILTER (WHERE xmin::text = ANY ($1))::text AS restored
       FROM (SELECT xmin FROM ONLY ${tableSql(target)} WHERE ${ofDay(quoteIdentifier(table.timestamp), day)} LIMIT ${COUNTED}) d`,
    [known.map(({ xmin }) => xmin)],
  );
  return { rows: Number(rows[0]?.rows), restored: Number(rows[0]?.restored) };
}
