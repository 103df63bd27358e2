/**
 * What users fear on a bad day: NATS away, the archive full, Postgres restarting, an archiver that is far too slow, each while rows keep coming. Measured from outside: memory of
 * the services, how long the application waits for its own inserts, what `status` says meanwhile, and how long it takes to be level again.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { watchMemory } from './memory.js';
import { NetworkProxy } from './proxy.js';
import { Volume } from './volume.js';
import { World, type WorldOptions } from './world.js';

export type Pressure = 'NATS is away' | 'the archive is full' | 'Postgres restarts' | 'the archiver is ten times too slow';

/** Resident memory that no service may exceed, whatever waits. */
const MOST_MB = 400;
const ROWS = 2000;
/** Longer than this the load has a pace: the audit holds every row. */
const UNPACED_S = 60;
const MOST_INSERTS = 700;

/** The load: inserts of 2,000 rows for `seconds`, one after another or, beyond a minute, evenly; milliseconds that each took. */
async function load(world: World, seconds: number): Promise<number[]> {
  const until = Date.now() + seconds * 1000;
  const everyMs = seconds > UNPACED_S ? (seconds * 1000) / MOST_INSERTS : 0;
  const took: number[] = [];
  while (Date.now() < until) {
    const started = performance.now();
    await world.ticks.insert(ROWS, 1);
    took.push(performance.now() - started);
    await pause(Math.max(0, everyMs - (performance.now() - started))); // the pace
  }
  return took;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

/** Puts one pressure on for `seconds` and takes it away. Throws when memory or the application's waiting grows out of bounds, or something is lost. */
export async function underPressure(what: Pressure, seconds: number, major?: number): Promise<string> {
  await using volume = what === 'the archive is full' ? await Volume.create('ext4', 200) : undefined;
  let world: World | undefined;
  await using proxy =
    what === 'the archiver is ten times too slow' ? await NetworkProxy.start({ host: '127.0.0.1', port: () => world?.pipeline.nats.port ?? 0 }) : undefined;
  const options: WorldOptions = {
    ...(major === undefined ? {} : { major }),
    ...(volume === undefined ? {} : { archiveDir: path.join(volume.dir, 'archived_data') }),
    postgres: { max_slot_wal_keep_size: '10GB' },
  };
  if (proxy !== undefined) options.services = (pipeline) => ({ archiver: { env: { TIDEMARK_STREAM_URL: proxy.instead(pipeline.nats.url) } } });
  await using made = await World.start(options);
  world = made;
  const { pipeline } = made;
  await made.archived();
  const before = median(await load(made, 5));
  await made.archived();
  const memory = watchMemory(made);
  const reviving = setInterval(() => made.revive(), 200);
  let during: number[] = [];
  let said = '';
  try {
    if (what === 'NATS is away') await pipeline.nats.kill();
    await volume?.fill();
    proxy?.set({ kind: 'trickle', bytesPerSecond: 20_000 });
    if (what === 'Postgres restarts') {
      for (let i = 0; i < 3; i += 1) {
        during.push(...(await load(made, seconds / 3)));
        await pipeline.sql.end();
        await pipeline.postgres.stop('fast');
        await pipeline.postgres.start();
        await pipeline.reconnect();
      }
    } else during = await load(made, seconds);
    const status = await pipeline.cli(['status', '--json', '-c', pipeline.configFile]);
    said = /"(?:walHeld|retained|held)[A-Za-z]*":\s*"?([\d.]+)/.exec(status.stdout)?.[0] ?? status.stdout.slice(0, 300);
    if (what === 'NATS is away') await pipeline.nats.start();
    await volume?.free();
    proxy?.set({ kind: 'pass' });
    const freed = Date.now();
    await made.archived(600_000);
    const level = Math.round((Date.now() - freed) / 1000);
    const settled = await made.settle(600_000);
    const peaks = memory.requireBelow(MOST_MB);
    assert.ok(median(during) < before * 3 + 20, `an insert took ${median(during)} ms instead of ${before} ms`);
    return `${seconds} s, ${during.length * ROWS} rows meanwhile; inserts ${Math.round(before)} → ${Math.round(median(during))} ms; at most ${peaks}; status ${said}; level after ${level} s; ${settled}`;
  } finally {
    clearInterval(reviving);
    memory.stop();
  }
}
