/**
 * Random transactions over tables of every kind, with pruner, merges, seals, kills and changes of the tables beside them, against a journal of the generator's own. A failure names its seed:
 * SEED=… ROUNDS=… MAJOR=… run one again, or a longer one.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Run } from '../campaign/random-run.js';

const { SEED, SEEDS, ROUNDS, MAJOR } = process.env;
const rounds = Number(ROUNDS ?? 8);
const seeds = SEED === undefined ? [1000] : Array.from({ length: Number(SEEDS ?? 1) }, (_, i) => Number(SEED) + i);

for (const major of MAJOR === undefined ? [15, 18] : [Number(MAJOR)]) {
  describe(`Postgres ${major}`, () => {
    for (const seed of seeds) {
      test(`every version of every row is where it belongs (SEED=${seed} ROUNDS=${rounds} MAJOR=${major})`, async (context) => {
        await using run = await Run.start(seed, major);
        try {
          await run.chaos(rounds);
          await run.rest();
          await run.askBoth();
          await run.sealAll();
          await run.audit();
          context.diagnostic(JSON.stringify(run.counts));
        } catch (error) {
          throw new assert.AssertionError({
            message: `SEED=${seed} ROUNDS=${rounds} MAJOR=${major}: ${(error as Error).stack}\n${run.trace.slice(-40).join('\n')}`,
          });
        }
      });
    }
  });
}
