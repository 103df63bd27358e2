/** Samples law 3 from outside while a test runs: the slot's confirmed position is never beyond the archived one. */
import { setTimeout as pause } from 'node:timers/promises';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import type { Pipeline } from './pipeline.js';

export type Law3 = { readonly samples: number; readonly violations: readonly string[] };

/** Samples every 50 ms until stopped. S is read before W: W only rises, so S > W is a violation whatever happens between. */
export function sampleLaw3(pipeline: Pipeline, slot = 'tidemark_test'): { stop(): Promise<Law3> } {
  let going = true;
  let samples = 0;
  const violations: string[] = [];
  /** Where the slot stood when it was made: the copy is not a confirmation. */
  let made: Lsn | undefined;
  const loop = (async () => {
    while (going) {
      await pause(50);
      const rows = await pipeline
        .query<{ s: string | null }>(`SELECT confirmed_flush_lsn::text AS s FROM pg_replication_slots WHERE slot_name = '${slot}'`)
        .catch(() => []);
      const confirmed = rows[0]?.s;
      if (!confirmed) continue;
      const s = parseLsn(confirmed);
      const state = await pipeline.state().catch(() => 'unreadable' as const); // a fault has taken the volume away
      if (state === 'unreadable') continue;
      const position = state?.position;
      if (!position) {
        made = s;
        continue;
      }
      samples += 1;
      if (s > parsePosition(position).lsn && s !== made) violations.push(`slot at ${confirmed}, archived ${position}`);
    }
  })();
  return {
    async stop() {
      going = false;
      await loop;
      return { samples, violations };
    },
  };
}
