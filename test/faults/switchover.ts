/** A standby takes over (F11): behind everything archived it is a new epoch that opens by itself, with nothing lost or double; before it, it is the halt TIMELINE (laws 1, 3, 4, 10, 11). */
import assert from 'node:assert/strict';
import { Pipeline, type Service } from '../pipeline/pipeline.js';
import { Standby } from '../pipeline/standby.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

const NEWEST = 18;

const begin = (major: number): Promise<Pipeline> => Pipeline.start({ major, schema: TICKS_SCHEMA, tables: TICKS_TABLES, flushEvery: '200ms' });

/** Everything runs, something is pruned, the standby has the slot. */
async function settled(pipeline: Pipeline, ticks: Ticks, standby: Standby): Promise<Service[]> {
  await ticks.insert(60, 48);
  await pipeline.doctorFix();
  const services = (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));
  await pipeline.archived();
  await prune(pipeline);
  if (pipeline.postgres.major >= 17) await standby.slotSynchronised();
  return services;
}

async function prune(pipeline: Pipeline): Promise<void> {
  const { code, stdout, stderr } = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
}

/** The primary is stopped cleanly under load of all three services, the standby promoted. Needs failover slots: 17 or newer. */
export async function plannedSwitchover(major = NEWEST): Promise<string> {
  if (major < 17) return `Postgres ${major} has no failover slots`;
  await using pipeline = await begin(major);
  await using standby = await Standby.of(pipeline, { waitedFor: true });
  const ticks = new Ticks(pipeline);
  const services = await settled(pipeline, ticks, standby);
  assert.match((await pipeline.cli(['doctor', '-c', pipeline.configFile])).stdout, /ok +synchronized_standby_slots +standby1/);
  await ticks.insert(60, 48);
  await ticks.insert(60, 1);
  await ticks.update(5);
  const before = await pipeline.archived();
  await ticks.remove(7);
  await standby.takeOver();
  await ticks.insert(40, 48);
  await ticks.update(4);
  const after = await pipeline.archived();
  for (const service of services) assert.ok(service.running, service.log.slice(-2000));
  assert.equal(after.epoch?.timeline, 2);
  assert.equal(after.epoch?.generation, before.epoch?.generation);
  assert.deepEqual(after.forked?.from, before.epoch);
  assert.match(after.forked?.seen ?? '', /timeline 2 left timeline 1 at .* came again from it/);
  await prune(pipeline);
  await ticks.remove(11);
  await pipeline.archived();
  const { hot, pruned } = await ticks.audit();
  assert.ok(pruned > 100, `${pruned} rows were pruned, those of before the switchover among them`);
  // The stream holds both epochs: a replay from its first chunk, and services that begin anew.
  const rebuilt = await pipeline.cli(['rebuild', '--into', `${pipeline.dir}/rebuilt`, '--check', '-c', pipeline.configFile]);
  assert.equal(rebuilt.code, 0, rebuilt.stdout + rebuilt.stderr);
  for (const service of services) assert.equal((await service.stop()).code, 0, service.log.slice(-2000));
  const again = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
  await ticks.update(3);
  await pipeline.archived();
  await ticks.audit();
  for (const service of again) assert.equal((await service.stop()).code, 0, service.log.slice(-2000));
  const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
  assert.equal(verified.code, 0, verified.stdout);
  return `a new epoch at ${after.forked?.at}; ${hot} hot, ${pruned} pruned, nothing lost or double`;
}

/** The standby was cut off before the last archived changes. */
export async function laggingStandby(major = NEWEST): Promise<string> {
  await using pipeline = await begin(major);
  await using standby = await Standby.of(pipeline, { waitedFor: false });
  const ticks = new Ticks(pipeline);
  const services = await settled(pipeline, ticks, standby);
  const doctor = (await pipeline.cli(['doctor', '-c', pipeline.configFile])).stdout;
  if (major >= 17)
    assert.match(
      doctor,
      /warning +synchronized_standby_slots +capture does not wait for standby1: .*\n.*ALTER SYSTEM SET synchronized_standby_slots = 'standby1'/,
    );
  await standby.cutOff();
  await ticks.insert(60, 48);
  await pipeline.archived();
  await standby.takeOver();
  const ending = await (services[1] as Service).ended;
  assert.equal(ending.code, 3, ending.log.slice(-2000));
  assert.match(ending.log, /"halt":"TIMELINE"/);
  assert.match(ending.log, /its history left that timeline at [^,]+, before the archived position/);
  const left = await pipeline.query<{ n: string }>('SELECT count(*)::text AS n FROM ticks');
  await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.deepEqual(await pipeline.query('SELECT count(*)::text AS n FROM ticks'), left, 'nothing is pruned');
  assert.equal((await pipeline.state())?.epoch?.timeline, 1);
  return /its history left that timeline at [^:]+/.exec(ending.log)?.[0] ?? '';
}
