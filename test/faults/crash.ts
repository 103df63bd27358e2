/**
 * A service is ended at a named step while work flows: by SIGKILL, or by a power cut of the machine or of the archive's volume. Everything is started again, and nothing is
 * lost or double: faults F1 to F5 of the fault table.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { loadConfig } from '../../src/runtime/config.js';
import type { FaultPoint } from '../../src/runtime/fault-point.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, requestSubject } from '../../src/stream/topology.js';
import type { Service, ServiceName } from '../pipeline/pipeline.js';
import { type FileSystemKind, Volume } from './volume.js';
import { NAMES, World } from './world.js';

const execute = promisify(execFile);

export const POINTS: readonly FaultPoint[] = [
  ...(['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C7'] as const),
  ...(['A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8', 'A9'] as const),
  ...(['K1', 'K2', 'K3'] as const),
  ...(['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7'] as const),
];

/** How a step ends: the process is killed; the volume of everything, or the archive's, loses its power. */
export type Ending = 'kill' | { power: 'machine' | 'archive'; fileSystem: FileSystemKind };

export type Passage = 'first' | 'second' | 'last';

const ROUNDS = 5;
const MOST_ROUNDS = 60;
/** SIGUSR2 ends the grace of replaced files, so that K3 is reached. */
const CLOCK = { node: ['--import', new URL('../services/archiver/clock-ahead.js', import.meta.url).href] };

export const serviceOf = (point: FaultPoint): ServiceName =>
  ({ C: 'capture', A: 'archiver', K: 'archiver', P: 'pruner' })[point[0] as 'C' | 'A' | 'K' | 'P'] as ServiceName;

/** One round of work, archived, pruned and sealed. Does not wait for answers of somebody who may be dead by now. */
async function round(world: World, over: () => boolean, graceEnds = true): Promise<void> {
  const { pipeline } = world;
  const { connection } = await connectStream(loadConfig(pipeline.configFile), 'test');
  const signal = AbortSignal.timeout(20_000);
  const unless = async (going: Promise<unknown>): Promise<void> => {
    let done = false;
    void going.catch(() => undefined).finally(() => (done = true));
    while (!done && !over() && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  try {
    await world.work();
    await unless(pipeline.archived(20_000));
    if (!over()) await unless(requestReply(connection, requestSubject('test', 'prune'), {}));
    if (!over()) await unless(pipeline.archived(20_000));
    if (!over()) await unless(pipeline.cli(['seal', 'ticks', '-c', pipeline.configFile]));
    if (!over() && graceEnds && world.services.archiver.running) world.services.archiver.signal('SIGUSR2');
  } finally {
    await connection.close().catch(() => undefined);
  }
}

/** How often the workload passes each point, from a run without faults. */
export async function countPassages(major?: number): Promise<Map<FaultPoint, number>> {
  await using world = await World.start({
    ...(major === undefined ? {} : { major }),
    faults: { archiver: 'count', capture: 'count', pruner: 'count' },
    services: () => ({ archiver: CLOCK }),
  });
  for (let i = 0; i < ROUNDS; i += 1) await round(world, () => false);
  const counts = new Map<FaultPoint, number>();
  for (const name of NAMES)
    for (const [, point] of world.services[name].log.matchAll(/^fault-point (\w+)$/gm))
      counts.set(point as FaultPoint, (counts.get(point as FaultPoint) ?? 0) + 1);
  return counts;
}

const state = async (service: Service): Promise<string> =>
  service.running ? (await execute('ps', ['-o', 'stat=', '-p', String(service.process.pid)]).catch(() => ({ stdout: '' }))).stdout.trim() : '';

/** Ends the owner of `point` at its `passage`-th time there, starts everything again, audits. Throws when a law is broken. */
export async function crashAt(point: FaultPoint, passage: number, ending: Ending, major?: number): Promise<string> {
  await using volume = ending === 'kill' ? undefined : await Volume.create(ending.fileSystem, ending.power === 'machine' ? 700 : 300);
  const victim = serviceOf(point);
  await using world = await World.start({
    ...(major === undefined ? {} : { major }),
    ...(volume === undefined ? {} : { archiveDir: path.join(volume.dir, 'archived_data') }),
    ...(volume !== undefined && ending !== 'kill' && ending.power === 'machine' ? { serversDir: volume.dir } : {}),
    faults: { [victim]: `${point}:${ending === 'kill' ? 'kill' : 'stop'}:${passage}` },
    services: () => (point === 'K3' ? { archiver: CLOCK } : {}),
  });
  const first = world.services[victim];
  let reached = false;
  const watching = setInterval(async () => {
    reached ||= ending === 'kill' ? !first.running : (await state(first)).startsWith('T');
  }, 20);
  try {
    for (let i = 0; i < MOST_ROUNDS && !reached && first.running; i += 1) await round(world, () => reached || !first.running, point === 'K3');
  } finally {
    clearInterval(watching);
  }
  if (ending === 'kill') {
    const { code, signal, log } = await first.ended;
    assert.equal(signal, 'SIGKILL', `${victim} ended otherwise (${code}):\n${log.slice(-3000)}`);
  } else {
    assert.ok(reached, `${victim} did not reach ${point} for the ${passage}. time:\n${first.log.slice(-3000)}`);
    await powerCut(world, volume as Volume, ending.power);
  }
  return await world.settle();
}

/** What a power cut does, and what an operator does afterwards. */
async function powerCut(world: World, volume: Volume, scope: 'machine' | 'archive'): Promise<void> {
  await volume.cutPower();
  for (const name of NAMES) world.services[name].signal('SIGKILL');
  await Promise.all(NAMES.map((name) => world.services[name].ended));
  const { pipeline } = world;
  if (scope === 'machine') {
    await pipeline.sql.end().catch(() => undefined);
    await Promise.all([pipeline.postgres.stop('immediate'), pipeline.nats.kill()]);
  }
  await volume.unmount();
  await volume.mount();
  if (scope === 'archive') return;
  await Promise.all([pipeline.postgres.start(), pipeline.nats.start()]);
  await pipeline.reconnect();
}
