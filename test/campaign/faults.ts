/** The faults of a campaign: what each does, and undoes. Which one comes when is drawn by the seed. */
import { rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { NetworkProxy } from '../faults/proxy.js';
import type { Volume } from '../faults/volume.js';
import type { Pipeline, ServiceName } from '../pipeline/pipeline.js';
import type { Random } from './chance.js';
import type { Samplers } from './samplers.js';
import { SERVICES, type Services } from './services.js';
import { KINDS } from './tables.js';
import type { Traffic } from './traffic.js';

export type Scene = {
  readonly pipeline: Pipeline;
  readonly services: Services;
  readonly traffic: Traffic;
  readonly samplers: Samplers;
  readonly volume: Volume | undefined;
  readonly proxies: { readonly postgres: NetworkProxy; readonly nats: NetworkProxy };
  readonly random: Random;
  /** Longest stop of a process or a connection. */
  readonly longestMs: number;
  readonly problems: string[];
};

const POINTS: Readonly<Record<ServiceName, readonly string[]>> = {
  capture: ['C2', 'C3', 'C4', 'C5', 'C6', 'C7'],
  archiver: ['A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8', 'A9', 'A10', 'A11', 'K1', 'K2', 'K3'],
  pruner: ['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7'],
};

type Fault = { readonly weight: number; readonly needs?: 'volume'; readonly run: (scene: Scene) => Promise<void> };

const stop = ({ random, longestMs }: Scene): number => Math.min(longestMs, 2000 + random.below(8000));

async function restartPostgres({ pipeline, traffic }: Scene, mode: 'immediate' | 'fast'): Promise<void> {
  await pipeline.postgres.stop(mode);
  await pipeline.postgres.start();
  await pipeline.reconnect();
  await traffic.recover();
}

async function restartNats({ pipeline, random }: Scene, wiped: boolean): Promise<void> {
  await pipeline.nats.kill();
  if (wiped) await rm(pipeline.nats.storeDir, { recursive: true, force: true });
  await pause(random.below(2000));
  await pipeline.nats.start();
}

const killed = (name: ServiceName): Fault => ({ weight: 3, run: ({ services }) => services.kill(name) });
const frozen = (name: ServiceName): Fault => ({ weight: 1, run: (scene) => scene.services.freeze(name, stop(scene)) });
const armed = (name: ServiceName): Fault => ({
  weight: 4,
  run: ({ services, random }) => {
    const point = random.pick(POINTS[name]);
    const most = /^(C[23]|A1$)/.test(point) ? 60 : /^[AC]/.test(point) ? 6 : 2;
    return services.arm(name, `${point}:${random.chance(0.8) ? 'kill' : 'stop'}:${1 + random.below(most)}`);
  },
});

async function stalled(scene: Scene, proxy: NetworkProxy): Promise<void> {
  proxy.set({ kind: 'hold' });
  await pause(stop(scene));
  proxy.set({ kind: 'pass' });
}

export const FAULTS: Readonly<Record<string, Fault>> = {
  'kill-capture': killed('capture'),
  'kill-archiver': killed('archiver'),
  'kill-pruner': killed('pruner'),
  'point-capture': armed('capture'),
  'point-archiver': armed('archiver'),
  'point-pruner': armed('pruner'),
  'stop-capture': frozen('capture'),
  'stop-archiver': frozen('archiver'),
  'stop-pruner': frozen('pruner'),
  'two-archivers': {
    weight: 2,
    run: async (scene) => {
      const problem = await scene.services.usurp('archiver', stop(scene), scene.random.chance(0.6) ? scene.random.pick(['A3', 'A5', 'A7']) : undefined);
      if (problem !== undefined) scene.problems.push(problem);
    },
  },
  'postgres-immediate': { weight: 3, run: (scene) => restartPostgres(scene, 'immediate') },
  'postgres-fast': { weight: 1, run: (scene) => restartPostgres(scene, 'fast') },
  'walsender-terminated': {
    weight: 2,
    run: async ({ pipeline }) => {
      await pipeline.query(
        `SELECT pg_terminate_backend(active_pid)::text FROM pg_replication_slots WHERE slot_name = 'tidemark_test' AND active_pid IS NOT NULL`,
      );
    },
  },
  'nats-kill': { weight: 2, run: (scene) => restartNats(scene, false) },
  'nats-wiped': { weight: 2, run: (scene) => restartNats(scene, true) },
  'stall-postgres': { weight: 1, run: (scene) => stalled(scene, scene.proxies.postgres) },
  'stall-nats': { weight: 1, run: (scene) => stalled(scene, scene.proxies.nats) },
  'cut-postgres': { weight: 1, run: async ({ proxies, random }) => proxies.postgres.set({ kind: 'cut', afterBytes: random.below(20_000) }, 'old') },
  'cut-nats': { weight: 1, run: async ({ proxies, random }) => proxies.nats.set({ kind: 'cut', afterBytes: random.below(20_000) }, 'old') },
  republish: {
    weight: 1,
    run: async ({ pipeline, traffic, random }) => {
      const { name } = random.pick(KINDS.filter((kind) => !kind.keyless));
      await traffic.quiet(async () => {
        await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE ${name}`);
        await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE ${name}`);
      });
    },
  },
  'full-disk': {
    weight: 2,
    needs: 'volume',
    run: async (scene) => {
      // Room comes back little by little: each writer meets the end of it at some place of its own.
      await scene.volume?.fill(8192 + scene.random.below(8) * 4096);
      for (const until = Date.now() + stop(scene); Date.now() < until; await pause(150)) await scene.volume?.ease(4096);
      await scene.volume?.free();
    },
  },
  'power-cut': {
    weight: 3,
    needs: 'volume',
    run: async ({ services, samplers, volume, random }) => {
      // Half of them soon after a manifest: when the others act on it, and nothing after it has reached the disk.
      if (random.chance(0.5)) {
        const { number } = samplers;
        for (let waited = 0; samplers.number === number && waited < 10_000; waited += 20) await pause(20);
        await pause(random.below(800));
      }
      await samplers.rest(async () => {
        await volume?.cutPower();
        await pause(random.below(600));
        await services.down(async () => {
          await volume?.unmount();
          await volume?.mount();
          await samplers.afterCut();
        });
      });
    },
  },
};

/** Names that can be drawn here; `only`: these. */
export function drawable(volume: Volume | undefined, only: readonly string[] | undefined): string[] {
  return Object.keys(FAULTS).filter((name) => (FAULTS[name]?.needs !== 'volume' || volume !== undefined) && (only === undefined || only.includes(name)));
}

export function draw(random: Random, names: readonly string[]): string {
  const weights = names.map((name) => (FAULTS[name] as Fault).weight);
  let at = random.below(weights.reduce((sum, weight) => sum + weight, 0));
  for (const [i, name] of names.entries()) {
    at -= weights[i] as number;
    if (at < 0) return name;
  }
  throw new Error('there is no fault to draw');
}

/** Everything is as it should be again, by whatever was broken: services unarmed, connections free. */
export async function heal({ services, proxies, volume }: Scene): Promise<void> {
  proxies.postgres.set({ kind: 'pass' });
  proxies.nats.set({ kind: 'pass' });
  await volume?.free();
  for (const name of SERVICES) if (services.get(name).running) services.get(name).signal('SIGCONT');
  await services.down(async () => undefined);
}
