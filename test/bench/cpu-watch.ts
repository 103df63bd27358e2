/** CPU and memory of processes by name, sampled from outside while they live: of each, the last that was seen. */
import { cpuSeconds, peakMemory } from './frame.js';

const EVERY_MS = 100;

export class CpuWatch {
  readonly #begins = new Map<number, number>();
  readonly #cpu = new Map<string, Map<number, number>>();
  readonly #memory = new Map<string, number>();
  readonly #pids: () => Promise<Readonly<Record<string, number | undefined>>>;
  readonly #timer: NodeJS.Timeout;

  /** `pids`: asked again and again, since processes come and go. Only what a process uses after it was first seen counts. */
  constructor(pids: () => Promise<Readonly<Record<string, number | undefined>>>) {
    this.#pids = pids;
    this.#timer = setInterval(() => void this.look(), EVERY_MS);
  }

  async look(): Promise<void> {
    for (const [name, pid] of Object.entries(await this.#pids().catch(() => ({})))) {
      if (pid === undefined) continue;
      const used = cpuSeconds(pid);
      if (Number.isNaN(used)) continue;
      if (!this.#begins.has(pid)) this.#begins.set(pid, used);
      const of = this.#cpu.get(name) ?? new Map<number, number>();
      this.#cpu.set(name, of.set(pid, used - (this.#begins.get(pid) as number)));
      this.#memory.set(name, Math.max(this.#memory.get(name) ?? 0, peakMemory(pid) || 0));
    }
  }

  /** Looks once more and ends. Seconds of CPU and most bytes of memory by name. */
  async end(): Promise<{ readonly cpu: Readonly<Record<string, number>>; readonly memory: Readonly<Record<string, number>> }> {
    clearInterval(this.#timer);
    await this.look();
    const cpu = [...this.#cpu].map(([name, of]) => [name, [...of.values()].reduce((sum, used) => sum + used, 0)] as const);
    return { cpu: Object.fromEntries(cpu), memory: Object.fromEntries(this.#memory) };
  }
}
