/** A service is killed at a named step while work flows, started again, and nothing is lost or double: faults F1, F2, F4 of the fault table. */
import assert from 'node:assert/strict';
import { loadConfig } from '../../src/runtime/config.js';
import type { FaultPoint } from '../../src/runtime/fault-point.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, requestSubject } from '../../src/stream/topology.js';
import { sampleLaw3 } from '../pipeline/law3.js';
import { Pipeline, type ServiceName, until } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

export const SERVICE_OF: Record<string, ServiceName> = { C: 'capture', A: 'archiver', P: 'pruner' };

/** Kills the owner of `point` at its `passage`-th time there, restarts it, audits. Throws when a law is broken. */
export async function crashAt(point: FaultPoint, passage: number, major?: number): Promise<string> {
  await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, ...(major === undefined ? {} : { major }) });
  const ticks = new Ticks(pipeline);
  const victim = SERVICE_OF[point[0] as string] as ServiceName;
  const armed = `${point}:kill:${passage}`;
  await ticks.insert(2000, 48);
  await pipeline.doctorFix();
  const law3 = sampleLaw3(pipeline);
  const services = {
    archiver: pipeline.service('archiver', victim === 'archiver' ? armed : undefined),
    capture: pipeline.service('capture', victim === 'capture' ? armed : undefined),
    pruner: pipeline.service('pruner', victim === 'pruner' ? armed : undefined),
  };
  const { connection } = await connectStream(loadConfig(pipeline.configFile), 'test');
  let asked: Promise<unknown> | undefined;
  let work = 0;
  await until(
    `${victim} killed at ${point}`,
    async () => {
      if (!services[victim].running) return true;
      if (work < 40) {
        work += 1;
        await ticks.insert(50, work % 3 === 0 ? 48 : 1);
        await ticks.update(11);
        if (work % 4 === 0) await ticks.remove(97);
        await ticks.rollBack();
      }
      // The pruner itself is asked, once at a time: the command would do the work in its place while it starts.
      if (victim === 'pruner' && (await pipeline.state())?.fences.length)
        asked ??= requestReply(connection, requestSubject('test', 'prune'), {}).then(
          () => (asked = undefined),
          () => (asked = undefined),
        );
      return undefined;
    },
    60_000,
  );
  await connection.close();
  const ending = await services[victim].ended;
  assert.equal(ending.signal, 'SIGKILL', `${victim} ended otherwise (${ending.code}):\n${ending.log.slice(-3000)}`);
  services[victim] = pipeline.service(victim);
  await ticks.insert(100, 30);
  await ticks.update(13);
  await pipeline.archived();
  const pruned = await pipeline.cli(['prune', '--json', '-c', pipeline.configFile]);
  assert.equal(pruned.code, 0, pruned.stderr + pruned.stdout);
  await pipeline.archived();
  const sampled = await law3.stop();
  assert.deepEqual(sampled.violations, []);
  const counted = await ticks.audit();
  assert.ok(counted.pruned > 0, 'the pruner deleted something');
  for (const service of Object.values(services)) await service.stop();
  const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
  return `${counted.hot} hot, ${counted.pruned} pruned, law 3 sampled ${sampled.samples} times`;
}
