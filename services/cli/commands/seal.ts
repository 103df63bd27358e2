/** `tidemark seal [TABLE] [--day D]`: asks the archiver, which is the only writer, to seal days that Postgres holds no row of. */
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { UNDATED } from '../../../src/archive/seal.js';
import { emptyDays, sealRequests } from '../../../src/prune/empty-days.js';
import { readTarget } from '../../../src/prune/target.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { configError, TidemarkError } from '../../../src/runtime/errors.js';
import { connectStream } from '../../../src/stream/topology.js';
import { applicationName } from '../../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { requestSeal } from '../../pruner/requesters.js';

export async function run([name]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const day = options['day'] === undefined ? undefined : String(options['day']);
  if (day !== undefined && day !== UNDATED && !/^\d{4}-\d{2}-\d{2}$/.test(day))
    throw configError(`--day: ${JSON.stringify(day)} is not a day`, 'write it as 2026-01-12, or undated');
  const tables = config.tables.filter((table) => name === undefined || table.key === name || `${table.schema}.${table.table}` === name);
  if (tables.length === 0)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((table) => table.key).join(', ')}`);
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw new TidemarkError('failed', `there is no archive in ${config.archive.dir} yet`, { remedy: 'start the archiver' });
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const { connection } = await connectStream(config, `tidemark-${config.source.name}-seal`);
  let code = 0;
  let sealed = 0;
  try {
    for (const table of tables) {
      const target = await readTarget(client, config.source.name, table);
      if (target === undefined) continue;
      for (const request of await sealRequests(client, await emptyDays(client, state, table, target, day))) {
        const reply = await requestSeal(connection, config, request);
        process.stdout.write(
          reply.ok
            ? `sealed ${table.key} ${request.day}: ${reply.rows ?? 0} rows in ${reply.file ?? 'no file (none was left)'}\n`
            : `not sealed ${table.key} ${request.day}: ${reply.reason}\n`,
        );
        if (reply.ok) sealed += 1;
        else code = 1;
      }
    }
  } finally {
    await connection.close().catch(() => undefined);
    await closeClient(client);
  }
  if (sealed === 0 && code === 0) process.stdout.write('nothing to seal: no finished day with open segments is empty in Postgres\n');
  return code;
}
