/** `tidemark teardown`: removes slot, publication and stream after a typed confirmation. Archive files are never touched; a record is left beside them. */
import { ArchiveFollower, openIdentity } from '../../../src/archive/manifest.js';
import { recordOperation } from '../../../src/archive/operations.js';
import { formatLsn } from '../../../src/position/lsn.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { TidemarkError } from '../../../src/runtime/errors.js';
import { connectStream, findStream } from '../../../src/stream/topology.js';
import { applicationName, quoteIdentifier, slotName } from '../../../src/wal/identifier.js';
import { readServerIdentity } from '../../../src/wal/identity.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { dropSlot, readSlotAtRest } from '../../../src/wal/slot.js';
import { confirm } from '../confirm.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const name = slotName(config.source.name);
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const { connection, manager } = await connectStream(config, `tidemark-${config.source.name}-teardown`);
  try {
    const slot = await readSlotAtRest(client, name);
    const { rows } = await client.query('SELECT FROM pg_catalog.pg_publication WHERE pubname = $1', [name]);
    const stream = await findStream(manager, config.source.name);
    if (slot?.active === true) throw new TidemarkError('failed', `the slot ${name} is in use`, { remedy: 'stop the services first' });
    const doomed = [
      slot ? `replication slot ${name}` : '',
      rows.length > 0 ? `publication ${name}` : '',
      stream ? `stream ${stream.config.name} (${stream.state.messages} messages)` : '',
    ].filter((part) => part !== '');
    if (doomed.length === 0) {
      process.stdout.write('nothing to remove: no slot, no publication, no stream\n');
      return 0;
    }
    process.stdout.write(
      `this removes:\n${doomed.map((part) => `  ${part}\n`).join('')}the archive in ${config.archive.dir} stays as it is; it can only be continued by \`tidemark resync\`, which copies anew\n`,
    );
    await confirm('teardown', config.source.name, options['yes']);
    if (slot) await dropSlot(client, name);
    if (rows.length > 0) await client.query(`DROP PUBLICATION ${quoteIdentifier(name)}`);
    if (stream) await manager.streams.delete(stream.config.name);
    if (await openIdentity(config.archive.dir).catch(() => undefined)) {
      const position = (await new ArchiveFollower(config.archive.dir).refresh().catch(() => undefined))?.position ?? null;
      const gap = { from: position, to: formatLsn((await readServerIdentity(client)).insertLsn) };
      await recordOperation(config.archive.dir, { type: 'teardown', removed: doomed, gap });
    }
    process.stdout.write('removed\n');
    return 0;
  } finally {
    await connection.close().catch(() => undefined);
    await closeClient(client);
  }
}
