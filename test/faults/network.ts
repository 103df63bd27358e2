/** Networks that hold, trickle, cut and refuse, between each service and each server: F47, F48. */
import { setTimeout as pause } from 'node:timers/promises';
import { type Pipeline, type ServiceName, type ServiceOptions, until } from '../pipeline/pipeline.js';
import { type Mode, NetworkProxy } from './proxy.js';
import { World } from './world.js';

type Line = { readonly service: ServiceName; readonly server: 'postgres' | 'nats'; readonly proxy: NetworkProxy };

const LINES = [
  ['capture', 'postgres'],
  ['capture', 'nats'],
  ['archiver', 'nats'],
  ['pruner', 'postgres'],
  ['pruner', 'nats'],
] as const;

/** A world whose services reach their servers through proxies, one for each line. */
async function withLines(major: number | undefined, body: (world: World, lines: readonly Line[]) => Promise<string>): Promise<string> {
  let pipeline: Pipeline | undefined;
  const lines: Line[] = [];
  try {
    for (const [service, server] of LINES) {
      const port = (): number => (pipeline as Pipeline)[server].port;
      lines.push({ service, server, proxy: await NetworkProxy.start({ host: '127.0.0.1', port }) });
    }
    const env = (of: ServiceName, { databaseUrl, nats }: Pipeline): ServiceOptions => ({
      env: Object.fromEntries(
        lines
          .filter(({ service }) => service === of)
          .map(({ server, proxy }) =>
            server === 'postgres' ? ['TIDEMARK_SOURCE_URL', proxy.instead(databaseUrl)] : ['TIDEMARK_STREAM_URL', proxy.instead(nats.url)],
          ),
      ),
    });
    await using world = await World.start({
      ...(major === undefined ? {} : { major }),
      services: (made) => {
        pipeline = made;
        return { archiver: env('archiver', made), capture: env('capture', made), pruner: env('pruner', made) };
      },
    });
    return await body(world, lines);
  } finally {
    for (const { proxy } of lines) await proxy[Symbol.asyncDispose]();
  }
}

/** F47: connections that are there hold for ever, new ones pass: each service must notice by its own deadlines. */
export async function halfOpen(server: 'postgres' | 'nats', major?: number): Promise<string> {
  return await withLines(major, async (world, lines) => {
    await world.work();
    await world.archived();
    const started = Date.now();
    for (const line of lines) if (line.server === server) line.proxy.set({ kind: 'hold' }, 'old');
    await world.work();
    await world.archived(300_000);
    // The pruner hears of it when its own next word gets no answer.
    await until('the pruner answers again', async () => (await world.pipeline.cli(['prune', '-c', world.pipeline.configFile])).code === 0, 120_000);
    const seconds = Math.round((Date.now() - started) / 1000);
    return `everything at work again after ${seconds} s; ${await world.settle()}`;
  });
}

/** F47: everything trickles, then holds for a while, is cut in the middle of messages, and passes again. */
export async function unsteady(major?: number): Promise<string> {
  return await withLines(major, async (world, lines) => {
    const modes: Mode[] = [{ kind: 'trickle', bytesPerSecond: 2000 }, { kind: 'hold' }, { kind: 'cut', afterBytes: 700 }, { kind: 'cut', afterBytes: 20_000 }];
    for (const { proxy } of lines) {
      for (const mode of modes) {
        proxy.set(mode);
        await world.work();
        await pause(1500); // how long the network is bad
        proxy.set({ kind: 'pass' });
        world.revive();
      }
      await world.archived(120_000);
    }
    return await world.settle();
  });
}

/** F48: NATS can be reached by one of capture and archiver and not by the other. */
export async function oneSided(service: 'capture' | 'archiver', major?: number): Promise<string> {
  return await withLines(major, async (world, lines) => {
    await world.archived();
    const { proxy } = lines.find((line) => line.service === service && line.server === 'nats') as Line;
    proxy.set({ kind: 'refuse' });
    for (let i = 0; i < 3; i += 1) await world.work();
    const pruned = await world.pipeline.cli(['prune', '-c', world.pipeline.configFile]);
    await pause(5000); // how long it cannot be reached
    proxy.set({ kind: 'pass' });
    return `prune meanwhile ended with ${pruned.code}; ${await world.settle()}`;
  });
}
