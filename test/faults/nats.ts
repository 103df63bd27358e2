/** What happens to the stream and its server: F27 to F34. The slot holds what is not archived, so nothing of it may matter. */
import assert from 'node:assert/strict';
import { cp, open, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { connect, DiscardPolicy, type JetStreamManager, type NatsConnection, type StreamConfig } from 'nats';
import { Random } from '../campaign/chance.js';
import { until } from '../pipeline/pipeline.js';
import { CannotInject, Volume } from './volume.js';
import { World } from './world.js';

type Options = { major?: number };
const options = (major?: number): Options => (major === undefined ? {} : { major });

/** Some work that is archived, and then as much that the archiver has not seen: it lies in the stream alone. */
async function unarchivedWork(world: World): Promise<void> {
  await world.work();
  await world.archived();
  world.services.archiver.signal('SIGKILL');
  await world.services.archiver.ended;
  const before = await streamMessages(world);
  for (let i = 0; i < 3; i += 1) await world.work();
  await until('it is in the stream', async () => (await streamMessages(world)) > before);
}

async function manage<T>(world: World, body: (manager: JetStreamManager, stream: string, connection: NatsConnection) => Promise<T>): Promise<T> {
  const connection = await connect({ servers: world.pipeline.nats.url });
  try {
    const manager = await connection.jetstreamManager();
    const [stream] = await manager.streams.list().next();
    return await body(manager, stream?.config.name as string, connection);
  } finally {
    await connection.close();
  }
}

const streamMessages = (world: World): Promise<number> => manage(world, async (manager, stream) => (await manager.streams.info(stream)).state.messages);

/** F27: killed and started again, again and again while work goes on. */
export async function killed(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  for (let i = 0; i < 5; i += 1) {
    await world.work();
    await world.pipeline.nats.kill();
    await world.work();
    await world.pipeline.nats.start();
  }
  return await world.settle();
}

/** F28: NATS loses what it had not synced: the tail that capture took for acknowledged. */
export async function powerCut(kind: 'ext4' | 'xfs', major?: number): Promise<string> {
  await using volume = await Volume.create(kind, 700);
  await using world = await World.start({ ...options(major), serversDir: volume.dir });
  await unarchivedWork(world);
  const before = await streamMessages(world);
  await volume.cutPower();
  await world.pipeline.sql.end().catch(() => undefined);
  await Promise.all([world.pipeline.postgres.stop('immediate'), world.pipeline.nats.kill()]);
  await volume.unmount();
  await volume.mount();
  await Promise.all([world.pipeline.postgres.start(), world.pipeline.nats.start()]);
  await world.pipeline.reconnect();
  const after = await streamMessages(world).catch(() => 0);
  return `${before} messages before, ${after} after; ${await world.settle()}`;
}

/** F29: the folder of the stream is emptied while it is down. */
export async function wiped(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await unarchivedWork(world);
  await world.pipeline.nats.kill();
  await rm(world.pipeline.nats.storeDir, { recursive: true });
  await world.pipeline.nats.start();
  return await world.settle();
}

/** F30: an older copy of the stream's folder is put back: sequence numbers come a second time. */
export async function rolledBack(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  const { nats } = world.pipeline;
  await world.work();
  await world.archived();
  await nats.stop();
  const older = path.join(world.pipeline.dir, 'older');
  await cp(nats.storeDir, older, { recursive: true });
  await nats.start();
  for (let i = 0; i < 3; i += 1) await world.work();
  await world.archived();
  await unarchivedWork(world);
  await nats.stop();
  await rm(nats.storeDir, { recursive: true });
  await cp(older, nats.storeDir, { recursive: true });
  await nats.start();
  return await world.settle();
}

/** Takes the stream from the slot again when the archiver halted, as the halt says. */
async function repairStream(world: World): Promise<string> {
  // The archiver waits for a minute before it halts: what is missing may still come.
  const { archiver } = world.services;
  const halted = await world.archived(120_000).then(
    () => false,
    (error: unknown) => {
      if (archiver.running) throw error;
      return true;
    },
  );
  if (!halted) return 'went on by itself';
  assert.equal(archiver.process.exitCode, 3, archiver.log.slice(-2000));
  const name = /\b(STREAM_GAP|DIGEST|POISON)\b/.exec(archiver.log)?.[1];
  assert.ok(name, archiver.log.slice(-2000));
  await world.services.capture.stop();
  const { code, stdout, stderr } = await world.pipeline.cli(['repair', '--stream', '--yes', 'test', '-c', world.pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  world.start('archiver');
  world.start('capture');
  return `halted as ${name}, repaired`;
}

/** F31: messages that are not archived yet are purged, or one in their midst is erased. */
export async function purged(how: 'purge' | 'erase', major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await unarchivedWork(world);
  const said = await manage(world, async (manager, stream) => {
    const { state } = await manager.streams.info(stream);
    try {
      if (how === 'purge') await manager.streams.purge(stream);
      else await manager.streams.deleteMessage(stream, state.last_seq - 1);
      return `${state.messages} messages before, ${(await manager.streams.info(stream)).state.messages} after`;
    } catch (error) {
      return `refused by the stream's settings (${(error as Error).message})`;
    }
  });
  world.start('archiver');
  const repaired = await repairStream(world);
  return `${said}, ${repaired}; ${await world.settle()}`;
}

/** F31: somebody publishes copies of our messages, the newest and the oldest, under our subject. */
export async function forged(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await unarchivedWork(world);
  await manage(world, async (manager, stream, connection) => {
    const { state } = await manager.streams.info(stream);
    for (const seq of [state.last_seq - 1, state.first_seq]) {
      const stored = await manager.streams.getMessage(stream, { seq });
      stored.header.delete('Nats-Expected-Last-Sequence');
      await connection.jetstream().publish(stored.subject, stored.data, { headers: stored.header });
    }
  });
  world.start('archiver');
  const repaired = await repairStream(world);
  return `${repaired}; ${await world.settle()}`;
}

/** F32: bits flip in the stream's files while it is down. */
export async function flipped(seed: number, major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await unarchivedWork(world);
  await world.pipeline.nats.stop();
  const random = new Random(seed);
  const files = (await readdir(world.pipeline.nats.storeDir, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith('.blk'))
    .map((entry) => path.join(entry.parentPath, entry.name));
  if (files.length === 0) throw new CannotInject('nats-server keeps no .blk files here');
  let flips = 0;
  for (const file of files) {
    const { size } = await stat(file);
    const handle = await open(file, 'r+');
    for (let i = 0; i < 5 && size > 0; i += 1) {
      const at = Math.floor(size / 2) + random.below(Math.ceil(size / 2));
      const byte = Buffer.alloc(1);
      await handle.read(byte, 0, 1, at);
      byte[0] = (byte[0] as number) ^ (1 << random.below(8));
      await handle.write(byte, 0, 1, at);
      flips += 1;
    }
    await handle.close();
  }
  await world.pipeline.nats.start();
  world.start('archiver');
  const how = await repairStream(world);
  return `${flips} bits in ${files.length} files, ${how}; ${await world.settle()}`;
}

/** F33: the archiver's consumers are deleted under it. */
export async function consumersDeleted(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await world.archived();
  let deleted = 0;
  for (let i = 0; i < 4; i += 1) {
    await world.work();
    await manage(world, async (manager, stream) => {
      for await (const consumer of manager.consumers.list(stream)) deleted += (await manager.consumers.delete(stream, consumer.name)) ? 1 : 0;
    });
  }
  assert.ok(deleted > 0, 'there was a consumer to delete');
  return `${deleted} consumers deleted; ${await world.settle()}`;
}

/** F34: the stream's settings are changed to ones that lose chunks, while it runs: capture stops and names them, and goes on when they are right again. */
export async function settingsEdited(major?: number): Promise<string> {
  await using world = await World.start(options(major));
  await world.work();
  await world.archived();
  const change = (changed: Partial<StreamConfig>): Promise<unknown> =>
    manage(world, async (manager, stream) => manager.streams.update(stream, { ...(await manager.streams.info(stream)).config, ...changed }));
  await change({ discard: DiscardPolicy.Old, max_msgs: 5 });
  for (let i = 0; i < 3; i += 1) await world.work();
  const { code, log } = await until('capture stops', async () => (world.services.capture.running ? undefined : world.services.capture.ended), 120_000);
  assert.equal(code, 2, log.slice(-2000));
  const named = /TIDEMARK_test[^"]{0,200}/.exec(log.slice(-1500))?.[0] ?? '';
  assert.match(named, /discard|max_msgs/);
  await change({ discard: DiscardPolicy.New, max_msgs: -1 });
  return `capture stopped (${named.slice(0, 100)}); ${await world.settle()}`;
}
