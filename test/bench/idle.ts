/** What all services cost while nothing happens: CPU over a minute on an idle database, as a part of one core. */
import { setTimeout as pause } from 'node:timers/promises';
import { CpuWatch } from './cpu-watch.js';
import type { Benchmark, Measured } from './frame.js';
import { MadeRows, TRADES } from './trades.js';

const MINUTE_MS = 60_000;

export const idle: Benchmark = {
  name: 'idle',
  about: 'the three services for a minute on an idle database',
  run: async (_scratch, say) => {
    await using made = await MadeRows.start({ ...TRADES, rows: 10, age: '1 hour' }, { flushEvery: '60s' });
    const { pipeline } = made;
    const services = (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));
    await pipeline.archived(120_000);
    await pause(5000); // what the start still does
    const watch = new CpuWatch(async () => Object.fromEntries([...services.map(({ name, process: { pid } }) => [name, pid]), ['nats', pipeline.nats.pid]]));
    await watch.look();
    const began = performance.now();
    await pause(MINUTE_MS);
    const seconds = (performance.now() - began) / 1000;
    const { cpu, memory } = await watch.end();
    for (const [name, used] of Object.entries(cpu))
      say(`  ${name}: ${((used / seconds) * 100).toFixed(2)} % of a core, ${((memory[name] ?? 0) / 1e6).toFixed(0)} MB at most`);
    const ours = ['archiver', 'capture', 'pruner'].reduce((sum, name) => sum + (cpu[name] ?? 0), 0);
    const measured = (used: number): Measured => ({ seconds: used, rows: 1, bytes: Number.NaN, peakMemory: Math.max(...Object.values(memory)) });
    const runs = [{ baseline: measured(seconds), tidemark: measured(ours) }];
    return [{ what: 'CPU of the services at rest', of: 'seconds', target: 'at most 0.01 of a core', baseline: 'one core for a minute', runs, notes: [] }];
  },
};
