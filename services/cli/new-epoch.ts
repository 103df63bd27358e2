/**
 * Ends the epoch of an archive and clears the way for a new one: what `resync` and `adopt` share. Owns the order: shown and confirmed, the manifest that covers nothing any more, then slot
 * and stream, then the record. Killed in between, the same command goes on. Never touches an archived file; capture and archiver do the rest when they are started.
 */
import type pg from 'pg';
import { noArchive } from '../../src/archive/identity.js';
import { ArchiveFollower, type ArchiveState, ManifestWriter } from '../../src/archive/manifest.js';
import { recordOperation } from '../../src/archive/operations.js';
import { endOfEpoch, newestLsn } from '../../src/archive/resync.js';
import { formatEpoch } from '../../src/position/epoch.js';
import { formatLsn, type Lsn } from '../../src/position/lsn.js';
import type { Config } from '../../src/runtime/config.js';
import { TidemarkError } from '../../src/runtime/errors.js';
import { connectStream, findStream, requestSubject, type StreamConnection } from '../../src/stream/topology.js';
import { readInsertLsn } from '../../src/wal/fence.js';
import { applicationName, slotName } from '../../src/wal/identifier.js';
import { readServerIdentity, type ServerIdentity } from '../../src/wal/identity.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { dropSlot, readSlotAtRest, refuseForeignSlot, type SlotRow } from '../../src/wal/slot.js';
import { confirm } from './confirm.js';

/** A server that went back is made to write on to where the archive ends; further than this it is another database. */
const MOST_ADVANCED = 1024n ** 3n;
const MESSAGE_BYTES = 1_000_000;
const ALIVE_MS = 1000;

export type NewEpoch = {
  readonly command: 'resync' | 'adopt';
  /** Refuses the server, or not; returns what the person is asked to type. */
  readonly judge: (found: { client: pg.Client; server: ServerIdentity; state: ArchiveState }) => Promise<string>;
  /** --yes. */
  readonly yes: string | boolean | undefined;
};

export async function beginNewEpoch(config: Config, { command, judge, yes }: NewEpoch): Promise<void> {
  const { dir } = config.archive;
  const state = await new ArchiveFollower(dir).refresh();
  if (state === undefined) throw await noArchive(dir, 'start the services: the first start needs no other command');
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
  const stream = await connectStream(config, `tidemark-${config.source.name}-${command}`);
  try {
    const name = slotName(config.source.name);
    const slot = await readSlotAtRest(client, name);
    await requireStopped(client, config, name, slot, stream);
    const server = await readServerIdentity(client);
    if (server.inRecovery)
      throw new TidemarkError('failed', 'the server is a standby in recovery', { remedy: 'let source.url name the primary, or promote this one' });
    const word = await judge({ client, server, state });
    const newest = newestLsn(state);
    const missing = newest - server.insertLsn;
    if (missing > MOST_ADVANCED) {
      throw new TidemarkError(
        'failed',
        `the server writes at ${formatLsn(server.insertLsn)}, more than 1 GB before the newest archived change (${formatLsn(newest)})`,
        {
          remedy: 'use a new archive folder (archive.dir) for this server: the old archive stays readable as it is',
        },
      );
    }
    const found = await findStream(stream.manager, config.source.name);
    say(config, state, slot, found === undefined ? undefined : `stream ${found.config.name} (${found.state.messages} messages)`);
    await confirm(command, word, yes);
    const writer = await ManifestWriter.claim(dir, config.source.name);
    if (writer.state.epoch !== null || writer.state.position !== null) await writer.commit(endOfEpoch(writer.state));
    if (slot !== undefined) await dropSlot(client, name);
    if (found !== undefined) await stream.manager.streams.delete(found.config.name);
    await advance(client, newest);
    await recordOperation(dir, {
      type: command,
      epoch: state.epoch === null ? null : formatEpoch(state.epoch),
      position: state.position,
      slot:
        slot === undefined
          ? null
          : { confirmed: slot.confirmed === null ? null : formatLsn(slot.confirmed), walStatus: slot.walStatus, heldBytes: slot.heldBytes },
      // What was written between the two and is no more when it is copied again is in no archive.
      gap: { from: state.position, to: formatLsn(server.insertLsn) },
      server: { systemId: server.systemId, timeline: server.timeline, insertLsn: formatLsn(server.insertLsn) },
    });
  } finally {
    await stream.connection.close().catch(() => undefined);
    await closeClient(client);
  }
  process.stdout.write('done; start the services: they copy what Postgres holds and go on from there (tidemark run)\n');
}

/** Throws when capture or an archiver of this source is running, or the slot is somebody else's. */
export async function requireStopped(client: pg.Client, config: Config, name: string, slot: SlotRow | undefined, stream: StreamConnection): Promise<void> {
  const { rows } = await client.query<{ name: string }>('SELECT pg_catalog.current_database()::text AS name');
  refuseForeignSlot(name, slot, rows[0]?.name ?? '');
  const running = (what: string): TidemarkError => new TidemarkError('failed', `${what} is running`, { remedy: 'stop the services first' });
  if (slot?.active === true) throw running('capture');
  const answered = await stream.connection.request(`${requestSubject(config.source.name, 'seal')}.alive`, undefined, { timeout: ALIVE_MS }).then(
    () => true,
    () => false,
  );
  if (answered) throw running('an archiver');
}

function say(config: Config, state: ArchiveState, slot: SlotRow | undefined, stream: string | undefined): void {
  const doomed = [slot === undefined ? undefined : `replication slot ${slotName(config.source.name)} (wal_status ${slot.walStatus ?? 'unknown'})`, stream];
  const removed = doomed.filter((one) => one !== undefined).map((one) => `  removes ${one}\n`);
  process.stdout.write(
    [
      `the archive in ${config.archive.dir} (${state.position === null ? 'between two epochs' : `everything up to ${state.position} of epoch ${state.epoch === null ? '?' : formatEpoch(state.epoch)}`}):\n`,
      ...removed,
      '  keeps every archived file; nothing is pruned until everything that Postgres holds is copied again\n',
      '  cannot bring back: versions that came and went after that position and before the new copy; rows that were deleted then go into the history without a time\n',
    ].join(''),
  );
}

/** Has the server write on until its WAL is behind `newest`: rows of a copy before it would pass for older ones. Any role may. */
async function advance(client: pg.Client, newest: Lsn): Promise<void> {
  while ((await readInsertLsn(client)) <= newest + 1n) {
    await client.query(`SELECT pg_catalog.pg_logical_emit_message(false, 'tidemark.resync', repeat('x', ${MESSAGE_BYTES}))`);
  }
}
