/**
 * `tidemark repair TABLE`: has all rows of a table copied again, whatever the archive holds of them. `tidemark repair --stream`: removes a damaged stream, which capture fills again from
 * the slot. Neither loses anything: what is removed or replaced is what the slot or Postgres still holds. `tidemark repair --manifest`: goes back to the last sound manifest of a broken chain.
 */
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { findBreak, moveAside } from '../../../src/archive/mend.js';
import { recordOperation } from '../../../src/archive/operations.js';
import { formatLsn } from '../../../src/position/lsn.js';
import { parsePosition } from '../../../src/position/position.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { configError, TidemarkError } from '../../../src/runtime/errors.js';
import { requestRecopy } from '../../../src/stream/recopy-request.js';
import { connectStream, findStream } from '../../../src/stream/topology.js';
import { applicationName, slotName } from '../../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { readSlotAtRest } from '../../../src/wal/slot.js';
import { confirm } from '../confirm.js';
import { requireStopped } from '../new-epoch.js';

export async function run([name]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const wanted = [name !== undefined, options['stream'] === true, options['manifest'] === true].filter((one) => one).length;
  if (wanted !== 1) throw configError('repair: name a table, or give --stream or --manifest', 'tidemark repair prices');
  if (options['manifest'] === true) await repairManifest(config, options['yes']);
  else if (name === undefined) await repairStream(config, options['yes']);
  else await repairTable(config, name);
  return 0;
}

async function repairTable(config: Config, name: string): Promise<void> {
  const table = config.tables.find((entry) => entry.key === name || `${entry.schema}.${entry.table}` === name);
  if (table === undefined)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map((entry) => entry.key).join(', ')}`);
  const { connection } = await connectStream(config, `tidemark-${config.source.name}-repair`);
  try {
    const taken = await requestRecopy(connection, config.source.name, { schema: table.schema, table: table.table });
    if (!taken)
      throw new TidemarkError('failed', 'no capture is running that could copy the table', { remedy: 'start the services (tidemark run), then ask again' });
  } finally {
    await connection.close().catch(() => undefined);
  }
  await recordOperation(config.archive.dir, { type: 'repair', table: table.key });
  process.stdout.write(`capture copies all rows of ${table.key} again; see recopy-end in its log, then tidemark prune ${table.key} --dry-run\n`);
}

async function repairManifest(config: Config, yes: string | boolean | undefined): Promise<void> {
  const { dir } = config.archive;
  const broken = await findBreak(dir);
  if (broken === undefined) {
    process.stdout.write('every manifest continues the one before: nothing to repair\n');
    return;
  }
  const { state, seen, manifests, strays } = broken;
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const stream = await connectStream(config, `tidemark-${config.source.name}-repair`);
  try {
    await requireStopped(client, config, slotName(config.source.name), await readSlotAtRest(client, slotName(config.source.name)), stream);
    process.stdout.write(
      `${seen}\nthis goes back to manifest ${state.number} (archived position ${state.position ?? 'none'}); moves ${manifests.length} manifests and ${strays.length} files that only they name into _tidemark/damaged, and removes nothing. The archiver then takes what came later from the stream again.\n`,
    );
    await confirm('repair', config.source.name, yes);
    const aside = await moveAside(dir, broken);
    await recordOperation(dir, { type: 'repair', manifest: state.number, position: state.position, seen, manifests, files: strays, aside });
    process.stdout.write(
      `moved to ${aside}; start the services (tidemark run). If capture halts with SLOT_AHEAD, the stream does not hold all that is missing: tidemark resync\n`,
    );
  } finally {
    await stream.connection.close().catch(() => undefined);
    await closeClient(client);
  }
}

async function repairStream(config: Config, yes: string | boolean | undefined): Promise<void> {
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const { connection, manager } = await connectStream(config, `tidemark-${config.source.name}-repair`);
  try {
    const found = await findStream(manager, config.source.name);
    if (found === undefined) {
      process.stdout.write('there is no stream: capture makes it\n');
      return;
    }
    const slot = await readSlotAtRest(client, slotName(config.source.name));
    if (slot?.active === true) throw new TidemarkError('failed', 'capture is running', { remedy: 'stop the services first' });
    const w = state?.position == null ? undefined : parsePosition(state.position).lsn;
    const held = slot !== undefined && slot.walStatus !== 'lost' && (w === undefined || (slot.confirmed !== null && slot.confirmed <= w));
    if (!held) {
      const stands = slot?.confirmed == null ? 'there is none' : `it stands at ${formatLsn(slot.confirmed)}, wal_status ${slot.walStatus ?? 'unknown'}`;
      throw new TidemarkError('failed', `the slot does not hold what the archive lacks (${stands}): the stream may be its only copy`, {
        remedy: 'tidemark resync says what is lost, and starts anew',
      });
    }
    process.stdout.write(
      `this removes stream ${found.config.name} (${found.state.messages} messages); capture fills it again from the slot with what is not archived. What is archived can be rebuilt from the stream only from then on.\n`,
    );
    await confirm('repair', config.source.name, yes);
    await manager.streams.delete(found.config.name);
    await recordOperation(config.archive.dir, { type: 'repair', stream: found.config.name, messages: found.state.messages });
    process.stdout.write('removed; start the services (tidemark run)\n');
  } finally {
    await connection.close().catch(() => undefined);
    await closeClient(client);
  }
}
