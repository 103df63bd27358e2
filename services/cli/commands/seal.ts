/** `tidemark seal [TABLE] [--day D]`: asks the archiver, which is the only writer, to seal days that Postgres holds no row of. */
import type pg from 'pg';
import { noArchive } from '../../../src/archive/identity.js';
import { ArchiveFollower, type ArchiveState } from '../../../src/archive/manifest.js';
import { UNDATED } from '../../../src/archive/seal.js';
import { emptyDays, sealRequests } from '../../../src/prune/empty-days.js';
import { readTarget } from '../../../src/prune/target.js';
import { parseDay } from '../../../src/restore/selection.js';
import { type Config, loadConfig, type TableConfig } from '../../../src/runtime/config.js';
import { configError } from '../../../src/runtime/errors.js';
import { connectStream } from '../../../src/stream/topology.js';
import { applicationName } from '../../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { requestSeal, type SealReply } from '../../pruner/requesters.js';
import { progressBar } from '../progress.js';
import { restoredDays, whyNotSealed } from '../unsealed-days.js';

export async function run([name]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const day = options['day'] === undefined ? undefined : parseDay(String(options['day']));
  const tables = config.tables.filter((table) => name === undefined || table.key === name || `${table.schema}.${table.table}` === name);
  if (tables.length === 0)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((table) => table.key).join(', ')}`);
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw await noArchive(config.archive.dir);
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const { connection } = await connectStream(config, `tidemark-${config.source.name}-seal`);
  const bar = progressBar('seal', 'rows');
  const unsealed: string[] = [];
  let code = 0;
  let sealed = 0;
  let done = 0;
  try {
    const all = await finishedRows(client, config, { state, tables, day });
    for (const table of tables) {
      const target = await readTarget(client, config.source.name, table);
      if (target === undefined) continue;
      const empty = await emptyDays(client, state, table, target, day);
      for (const other of day === undefined ? restoredDays(state, table) : [day]) {
        if (empty.some((one) => one.day === other)) continue;
        unsealed.push(`${table.key} ${other} ${await whyNotSealed(client, config, { state, table, target, day: other })}`);
      }
      for (const request of await sealRequests(client, empty)) {
        bar.update(done, Math.max(done, all));
        const reply = await requestSeal(connection, config, request);
        done += rowsOf(state, target.oid, request.day);
        bar.print(reply.ok ? sealedLine(`${table.key} ${request.day}`, reply) : `not sealed ${table.key} ${request.day}: ${reply.reason}`);
        if (reply.ok) sealed += 1;
        else code = 1;
      }
    }
  } finally {
    bar.stop();
    await connection.close().catch(() => undefined);
    await closeClient(client);
  }
  if (sealed === 0 && code === 0) unsealed.unshift('nothing to seal: no finished day with open segments is empty in Postgres');
  for (const line of unsealed) process.stdout.write(`${line}\n`);
  return code;
}

/** What became of a day, for a person. */
function sealedLine(day: string, { file, rows = 0, history = 0, released = 0, already }: SealReply): string {
  const copies = released > 0 ? `${released} restored copies of its rows, which Postgres holds no more, were let go` : '';
  if (already) return `${day} was sealed already: its sealed files stay${copies === '' ? '' : `; ${copies}`}`;
  const none = `no daily file, for none of its rows was left${history > 0 ? `; ${history} deleted ones are in its history` : ''}`;
  return `sealed ${day}: ${file ? `${rows} rows in ${file}` : none}${copies === '' ? '' : `; ${copies}`}`;
}

/** Versions in the open segments of a day: what sealing it reads. */
function rowsOf(state: ArchiveState, oid: number, day: string): number {
  const files = [...state.files.values()].filter((file) => file.kind === 'segment' && file.oid === oid && (file.day ?? UNDATED) === day);
  return files.reduce((sum, { rows }) => sum + rows, 0);
}

type Asked = { readonly state: ArchiveState; readonly tables: readonly TableConfig[]; readonly day: string | undefined };

/** Of all days that will be sealed, for the progress only; 0 where nobody looks at it. */
async function finishedRows(client: pg.Client, config: Config, { state, tables, day }: Asked): Promise<number> {
  if (process.stderr.isTTY !== true) return 0;
  let all = 0;
  for (const table of tables) {
    const target = await readTarget(client, config.source.name, table);
    if (target === undefined) continue;
    for (const empty of await emptyDays(client, state, table, target, day)) all += rowsOf(state, target.oid, empty.day);
  }
  return all;
}
