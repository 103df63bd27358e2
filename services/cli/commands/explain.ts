/** `tidemark explain TABLE [KEY…]`: why a table or a row is not prunable yet, and where the archive holds the row. Reads only. */
import path from 'node:path';
import { ArchiveFollower, type ArchiveState } from '../../../src/archive/manifest.js';
import { describePause, readPause } from '../../../src/archive/operations.js';
import { tableCoverage } from '../../../src/coverage/coverage.js';
import { formatLsn, type Lsn } from '../../../src/position/lsn.js';
import { covered, notKept, oldEnough, readCutoff, tableSql, unreferenced } from '../../../src/prune/eligible.js';
import { readTarget, type Target } from '../../../src/prune/target.js';
import { type Config, loadConfig, type TableConfig } from '../../../src/runtime/config.js';
import { configError, messageOf } from '../../../src/runtime/errors.js';
import { DailyReader } from '../../../src/segment/daily-reader.js';
import { SegmentReader } from '../../../src/segment/reader.js';
import { applicationName, quoteIdentifier } from '../../../src/wal/identifier.js';
import { readServerIdentity } from '../../../src/wal/identity.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';

type Archived = { readonly file: string; readonly op: string; readonly lsn: string; readonly ordinal: string };
type Explanation = {
  readonly table: string;
  readonly reasons: string[];
  row?: { readonly key: readonly string[]; readonly hot: boolean; readonly reasons: string[]; readonly archived: Archived[] };
};

export async function run(args: readonly unknown[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const name = String(args[0]);
  const key = (args[1] as string[] | undefined) ?? [];
  const table = config.tables.find((entry) => entry.key === name || `${entry.schema}.${entry.table}` === name);
  if (table === undefined)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((entry) => entry.key).join(', ')}`);
  const explanation = await explain(config, table, key);
  process.stdout.write(options['json'] === true ? `${JSON.stringify(explanation)}\n` : render(explanation));
  return 0;
}

async function explain(config: Config, table: TableConfig, key: readonly string[]): Promise<Explanation> {
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  try {
    const target = await readTarget(client, config.source.name, table);
    if (target === undefined) return { table: table.key, reasons: ['the table does not exist'] };
    if (key.length > 0 && key.length !== target.key.length)
      throw configError(`the key of ${table.key} has ${target.key.length} columns (${target.key.join(', ')}), ${key.length} were given`);
    const identity = await readServerIdentity(client);
    const { rows } = await client.query<{ next: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next');
    const coverage = tableCoverage(state, target, { ...identity, nextXid: rows[0]?.next ?? '0' });
    const pause = await readPause(config.archive.dir);
    const reasons = [
      ...(pause === undefined ? [] : [`pruning is ${describePause(pause)} → tidemark resume`]),
      ...(config.prune.enabled ? [] : ['pruning is off: prune.enabled is false']),
      ...(table.prune ? [] : ['prune: false']),
      ...target.obstacles.map(({ reason, remedy }) => `${reason} → ${remedy}`),
      ...(coverage.state === 'not' ? [coverage.reason] : []),
    ];
    const explanation: Explanation = { table: table.key, reasons };
    if (key.length === 0) return explanation;
    const cutoff = await readCutoff(client, table.retentionMs, config.source.timezone);
    const horizon = coverage.state === 'covered' ? coverage.fence.horizon : undefined;
    const where = target.key.map((column, i) => `${quoteIdentifier(column)} = $${i + 1}`).join(' AND ');
    const { rows: live } = await client
      .query<{ old: string | null; kept: string | null; free: string | null; covered: string | null }>(
        `SELECT (${oldEnough(table, target, cutoff)})::text AS old, (${notKept(table)})::text AS kept, (${unreferenced(target)})::text AS free, ${horizon === undefined ? 'NULL' : `(${covered(horizon)})::text`} AS covered FROM ONLY ${tableSql(target)} WHERE ${where}`,
        [...key],
      )
      .catch((error: { code?: string; message: string }) => {
        // Class 22: a text that is no value of the column's type.
        if (!error.code?.startsWith('22')) throw error;
        const kept = table.keepWhile === undefined ? '' : ', or keepWhile on this row';
        throw configError(`KEY${kept}: ${messageOf(error)}`, `give the value of ${target.key.join(', ')} as Postgres prints it`);
      });
    const row = live[0];
    const rowReasons = row === undefined ? ['it is not in Postgres'] : [];
    if (row !== undefined && row.old !== 'true') rowReasons.push(`its ${table.timestamp} is not older than ${cutoff.instant} (or has no value that can age)`);
    if (row !== undefined && row.kept !== 'true') rowReasons.push(`keepWhile holds it: ${table.keepWhile}`);
    if (row !== undefined && row.free !== 'true') rowReasons.push(`rows refer to it by ${target.references.map(({ name }) => name).join(', ')}`);
    if (row !== undefined && row.covered === 'false') rowReasons.push('its newest version is not behind an archived fence yet');
    const archived = state === undefined ? [] : await findVersions(config, state, target, key);
    if (row !== undefined && archived.length === 0) rowReasons.push('no version of it is in the archive');
    return { ...explanation, row: { key, hot: row !== undefined, reasons: rowReasons, archived } };
  } finally {
    await closeClient(client);
  }
}

/** Every archived version of a key, oldest first. Reads all files of the table: a key says nothing of its days. */
async function findVersions(config: Config, state: ArchiveState, target: Target, key: readonly string[]): Promise<Archived[]> {
  const found: (Archived & { sort: bigint })[] = [];
  for (const entry of state.files.values()) {
    if (entry.oid !== target.oid || entry.pendingCopy !== null || entry.kind === 'changes') continue;
    const file = path.join(config.archive.dir, entry.file);
    if (entry.kind === 'daily' || entry.kind === 'history') {
      const reader = await DailyReader.open(file);
      const at = target.key.map((column) => reader.columns.indexOf(column));
      await reader.forEachRow((texts) => {
        if (at.every((index, i) => texts[index] === key[i])) found.push({ file: entry.file, op: entry.kind, lsn: '', ordinal: '', sort: 0n });
      });
      continue;
    }
    const reader = await SegmentReader.open(file);
    try {
      for (let group = 0; group < reader.rowGroupCount; group += 1) {
        const rows = await reader.readRowGroup(group, target.key);
        for (let row = 0; row < rows.rowCount; row += 1) {
          if (!target.key.every((column, i) => rows.text(column, row) === key[i])) continue;
          found.push({
            file: entry.file,
            op: rows.op(row),
            lsn: formatLsn(rows.lsn(row) as Lsn),
            ordinal: String(rows.ordinal(row)),
            sort: (rows.lsn(row) << 40n) + rows.ordinal(row),
          });
        }
      }
    } finally {
      await reader.close();
    }
  }
  return found.sort((a, b) => (a.sort < b.sort ? -1 : a.sort > b.sort ? 1 : 0)).map(({ sort: _sort, ...archived }) => archived);
}

function render(explanation: Explanation): string {
  const lines = [
    `table ${explanation.table}: ${explanation.reasons.length === 0 ? 'its old rows are prunable' : 'not prunable'}`,
    ...explanation.reasons.map((reason) => `  ${reason}`),
  ];
  if (explanation.row) {
    const { key, hot, reasons, archived } = explanation.row;
    lines.push(
      `row ${key.join(', ')}: ${hot ? 'in Postgres' : 'not in Postgres'}${hot && reasons.length === 0 ? ', may go with the next run' : ''}`,
      ...reasons.map((reason) => `  ${reason}`),
    );
    lines.push(
      archived.length === 0 ? '  archived nowhere' : '  archived:',
      ...archived.map((version) => `    ${version.op.padEnd(7)} ${version.lsn ? `${version.lsn}:${version.ordinal}  ` : ''}${version.file}`),
    );
  }
  return `${lines.join('\n')}\n`;
}
