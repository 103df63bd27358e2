/** pg_recvlogical reads what a slot holds, to /dev/null: what the walsender can do when nothing is done with the rows. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Pipeline } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import type { Measured } from './frame.js';

export type Decoding = {
  /** The program. */
  readonly tool: string;
  readonly slot: string;
  /** LSN to stop at. */
  readonly end: string;
  readonly rows: number;
  /** Of the plugin, `name=value`. */
  readonly options: readonly string[];
  /** Of the server, for the session: PGOPTIONS. */
  readonly session?: string | undefined;
};

/** Process of the walsender that reads a slot. */
export async function walsenderOf(pipeline: Pipeline, slot: string): Promise<number | undefined> {
  const [found] = await pipeline.query<{ pid: string | null }>(`SELECT active_pid::text AS pid FROM pg_replication_slots WHERE slot_name = '${slot}'`);
  return found?.pid ? Number(found.pid) : undefined;
}

export async function decode(pipeline: Pipeline, { tool, slot, end, rows, options, session }: Decoding): Promise<Measured> {
  const args = ['-d', pipeline.databaseUrl, '-S', slot, '--start', '-f', '/dev/null', '-s', '1', '-E', end, '-n'];
  const env = session === undefined ? process.env : { ...process.env, PGOPTIONS: session };
  const began = performance.now();
  const reader = spawn(tool, [...args, ...options.flatMap((option) => ['-o', option])], { env });
  const watch = new CpuWatch(async () => ({ pg_recvlogical: reader.pid, walsender: await walsenderOf(pipeline, slot) }));
  const [code] = (await once(reader, 'exit')) as [number | null];
  const { cpu, memory } = await watch.end();
  const seconds = (performance.now() - began) / 1000;
  if (code !== 0) throw new Error(`pg_recvlogical ended with ${code}`);
  return { seconds, rows, bytes: Number.NaN, peakMemory: memory['pg_recvlogical'] ?? 0, cpu };
}
