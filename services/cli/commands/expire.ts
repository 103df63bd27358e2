/** `tidemark expire [TABLE] [--dry-run] [--json]`: sealed days beyond `keep` leave the archive, by the archiver; asks for a typed confirmation unless `archive.expire` lets them go by themselves. */
import Table from 'cli-table3';
import { confirmedTables, type ExpiredDay, type ExpireReply, expiredDays, readConfirmedKeep } from '../../../src/archive/expire.js';
import { noArchive } from '../../../src/archive/identity.js';
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { archiveHere } from '../../../src/archive/which-archive.js';
import { type Config, loadConfig, type TableConfig } from '../../../src/runtime/config.js';
import { configError, TidemarkError } from '../../../src/runtime/errors.js';
import { requestReply } from '../../../src/stream/request.js';
import { connectStream, requestSubject } from '../../../src/stream/topology.js';
import { confirm } from '../confirm.js';
import { bytesText, plainTable } from '../print.js';

/** Files that one request names. */
const FILES_AT_ONCE = 2000;

export async function run([name]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const tables = chosenTables(config, name);
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw await noArchive(config.archive.dir);
  const days = expiredDays(state, tables, Date.now());
  const dryRun = options['dryRun'] === true;
  const json = options['json'] === true;
  if (!json) say(tables, days);
  else if (dryRun || days.length === 0) process.stdout.write(`${JSON.stringify({ dryRun, days: days.map(summary) })}\n`);
  if (dryRun && !json) process.stdout.write('dry run: nothing was dropped\n');
  if (days.length === 0 && !json) process.stdout.write('nothing is beyond keep\n');
  if (dryRun || days.length === 0) return 0;
  const confirmed = confirmedTables(tables, await readConfirmedKeep(config.archive.dir));
  const byItself = config.archive.expire && days.every(({ schema, table }) => confirmed.some((one) => one.schema === schema && one.table === table));
  if (!byItself) await confirm('expire', config.source.name, options['yes']);
  const dropped = await expire(config, days);
  process.stdout.write(
    json
      ? `${JSON.stringify({ dryRun, ...dropped })}\n`
      : `dropped ${dropped.days} days, ${dropped.files} files, ${dropped.rows} rows, ${bytesText(dropped.bytes)}; receipts in _tidemark/expired.jsonl; the files go within some minutes\n`,
  );
  return 0;
}

function chosenTables(config: Config, name: string | undefined): TableConfig[] {
  const tables = config.tables.filter((table) => name === undefined || table.key === name || `${table.schema}.${table.table}` === name);
  if (tables.length === 0)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((table) => table.key).join(', ')}`);
  const kept = tables.filter(({ keepMs }) => keepMs !== undefined);
  if (kept.length === 0)
    throw configError(
      name === undefined ? 'no table has a keep: sealed days stay for ever' : `${name} has no keep: its sealed days stay for ever`,
      'set archive.keep, or keep of a table',
    );
  return kept;
}

const DAY_MS = 86_400_000;

function summary({ schema, table, day, files }: ExpiredDay): { schema: string; table: string; day: string; files: string[]; rows: number; bytes: number } {
  const rows = files.reduce((sum, entry) => sum + (entry.kind === 'changes' ? 0 : entry.rows), 0);
  return { schema, table, day, files: files.map(({ file }) => file), rows, bytes: files.reduce((sum, entry) => sum + entry.bytes, 0) };
}

function say(tables: readonly TableConfig[], days: readonly ExpiredDay[]): void {
  const rows = tables.map(({ key, schema, table, keepMs }) => {
    const own = days.filter((day) => day.schema === schema && day.table === table).map(summary);
    const sum = (of: 'rows' | 'bytes'): number => own.reduce((all, day) => all + day[of], 0);
    return [
      key,
      `${Number(((keepMs ?? 0) / DAY_MS).toFixed(2))} days`,
      String(own.length),
      own[0]?.day ?? '',
      own.at(-1)?.day ?? '',
      String(sum('rows')),
      bytesText(sum('bytes')),
    ];
  });
  process.stdout.write(`${plainTable(Table, ['table', 'keep', 'days beyond it', 'first', 'last', 'rows', 'size'], rows)}\n`);
}

async function expire(config: Config, days: readonly ExpiredDay[]): Promise<{ days: number; files: number; rows: number; bytes: number }> {
  const archive = await archiveHere(config.archive.dir);
  const { connection } = await connectStream(config, `tidemark-${config.source.name}-expire`);
  const all = { days: 0, files: 0, rows: 0, bytes: 0 };
  try {
    for (let at = 0; at < days.length; ) {
      const files: string[] = [];
      for (; at < days.length && files.length < FILES_AT_ONCE; at += 1) files.push(...(days[at] as ExpiredDay).files.map(({ file }) => file));
      const reply = await requestReply<ExpireReply>(connection, requestSubject(config.source.name, 'expire'), { files }, { archive });
      if (reply === undefined) throw new TidemarkError('failed', 'no archiver is running', { remedy: 'start the services (tidemark run), then ask again' });
      if (!reply.ok) throw new TidemarkError('failed', reply.reason);
      for (const what of ['days', 'files', 'rows', 'bytes'] as const) all[what] += reply[what];
    }
  } finally {
    await connection.close().catch(() => undefined);
  }
  return all;
}
