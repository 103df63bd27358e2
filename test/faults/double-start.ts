/** Two of each service at once (F8): at most one of them has effects, and nothing is lost or double. */
import assert from 'node:assert/strict';
import { sampleLaw3 } from '../pipeline/law3.js';
import { Pipeline } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

export async function doubleStart(major?: number): Promise<string> {
  await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, ...(major === undefined ? {} : { major }) });
  const ticks = new Ticks(pipeline);
  await ticks.insert(2000, 48);
  await pipeline.doctorFix();
  const law3 = sampleLaw3(pipeline);
  const first = (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));
  await pipeline.archived();
  const second = (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));
  for (let i = 0; i < 10; i += 1) {
    await ticks.insert(200, i % 2 === 0 ? 48 : 1);
    await ticks.update(7);
    await ticks.rollBack();
    await pipeline.archived();
  }
  // The second archiver took the archive over: the first one must have stopped, by name.
  const ending = await (first[0] as (typeof first)[number]).ended;
  assert.equal(ending.code, 3, ending.log.slice(-2000));
  assert.match(ending.log, /SUPERSEDED/);
  const runs = await Promise.all([pipeline.cli(['prune', '-c', pipeline.configFile]), pipeline.cli(['prune', '-c', pipeline.configFile])]);
  for (const run of runs) assert.equal(run.code, 0, run.stderr + run.stdout);
  await pipeline.archived();
  const sampled = await law3.stop();
  assert.deepEqual(sampled.violations, []);
  const counted = await ticks.audit();
  assert.ok(counted.pruned > 0, 'something was pruned');
  for (const service of [...first, ...second]) await service.stop();
  return `${counted.hot} hot, ${counted.pruned} pruned, law 3 sampled ${sampled.samples} times`;
}
