/** Processes that stop, starve or come twice: F6, F7. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { type ServiceName, until } from '../pipeline/pipeline.js';
import { NAMES, World } from './world.js';

/** F6: each service is stopped while work goes on, another of its kind is started, and the first goes on. */
export async function stopped(major?: number): Promise<string> {
  await using world = await World.start({ ...(major === undefined ? {} : { major }) });
  await world.archived();
  for (const name of NAMES) {
    const first = world.services[name];
    first.signal('SIGSTOP');
    const second = world.pipeline.service(name);
    await world.work();
    await pause(6000); // the length of the stop is the fault
    first.signal('SIGCONT');
    await world.work();
    if (name === 'archiver') {
      await world.halted('archiver', 'SUPERSEDED');
      world.services.archiver = second;
    } else await second.stop();
    await world.archived();
  }
  return await world.settle();
}

/** F6: the pruner stops inside its transaction while the rows it deletes change, and goes on. */
export async function stoppedPruner(major?: number): Promise<string> {
  await using world = await World.start({ ...(major === undefined ? {} : { major }), faults: { pruner: 'P4:stop:1' } });
  await world.archived();
  const asked = world.pipeline.cli(['prune', '-c', world.pipeline.configFile]);
  await until('the pruner holds rows that it has deleted', async () => {
    const [row] = await world.pipeline.query<{ n: string }>(
      `SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'tidemark_test_pruner'`,
    );
    return row?.n !== '0';
  });
  world.services.capture.signal('SIGSTOP');
  await world.ticks.insert(50, 48);
  await pause(5000);
  world.services.pruner.signal('SIGCONT');
  world.services.capture.signal('SIGCONT');
  const { code, stderr } = await asked;
  assert.equal(code, 0, stderr);
  return await world.settle();
}

/** F7: a service without memory ends with an error, and the next one has everything. */
export async function starved(name: ServiceName, major?: number): Promise<string> {
  await using world = await World.start({ ...(major === undefined ? {} : { major }) });
  await world.archived();
  await world.services[name].stop();
  let heap = 96;
  for (; heap >= 4; heap = Math.floor(heap * 0.7)) {
    const starving = world.start(name, { node: [`--max-old-space-size=${heap}`, '--max-semi-space-size=1'] });
    await world.ticks.insert(3000, 1);
    await world.ticks.update(2);
    const outcome = await Promise.race([
      starving.ended,
      world.pipeline.archived().catch(() => undefined),
      ...(name === 'pruner' ? [world.pruneAndSeal()] : []),
    ]);
    if (outcome !== undefined && 'code' in outcome) {
      assert.notEqual(outcome.code, 0, `${name} ended with 0 for want of memory`);
      break;
    }
    await starving.stop();
  }
  assert.ok(heap >= 4, `${name} never ran out of memory`);
  return `${name} ended at a heap of ${heap} MB; ${await world.settle()}`;
}
