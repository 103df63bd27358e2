/** Resident memory of a world's services, sampled from outside while they work and are restarted. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { NAMES, type World } from './world.js';

const EVERY_MS = 100;

export type MemoryWatch = {
  /** The greatest sample of each service in words; throws when one is not below `megabytes`. */
  requireBelow(megabytes: number): string;
  stop(): void;
};

export function watchMemory(world: World): MemoryWatch {
  const peaks = new Map<string, number>();
  const sampling = setInterval(async () => {
    for (const name of NAMES) {
      const status = await readFile(`/proc/${world.services[name].process.pid}/status`, 'utf8').catch(() => '');
      peaks.set(name, Math.max(peaks.get(name) ?? 0, Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024));
    }
  }, EVERY_MS);
  return {
    requireBelow: (megabytes) => {
      for (const [name, peak] of peaks) assert.ok(peak > 0 && peak < megabytes, `${name} took ${Math.round(peak)} MB`);
      return [...peaks].map(([name, peak]) => `${name} ${Math.round(peak)} MB`).join(', ');
    },
    stop: () => clearInterval(sampling),
  };
}
