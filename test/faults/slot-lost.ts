/** The server gives the slot up (F14, F15): alarms before it, nothing confirmed early to save it, the halt SLOT_LOST, and `resync` brings the archive on, with the gap on record. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { sampleLaw3 } from '../pipeline/law3.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

type Slot = { wal_status: string; confirmed_flush_lsn: string; safe: string };

const start = (pipeline: Pipeline): Service[] => (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));

async function settled(pipeline: Pipeline, ticks: Ticks): Promise<Service[]> {
  await ticks.insert(60, 48);
  await pipeline.doctorFix();
  const services = start(pipeline);
  await pipeline.archived();
  return services;
}

async function slotOf(pipeline: Pipeline): Promise<Slot> {
  return (await pipeline.query<Slot>('SELECT wal_status, confirmed_flush_lsn, safe_wal_size::text AS safe FROM pg_replication_slots'))[0] as Slot;
}

/** Writes WAL, a segment at a time, until the slot is in this state. */
async function writeUntil(pipeline: Pipeline, reached: (slot: Slot) => boolean): Promise<void> {
  for (let tries = 0; tries < 64 && !reached(await slotOf(pipeline)); tries += 1) {
    await pipeline.query("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000)); SELECT pg_switch_wal()");
  }
  assert.ok(reached(await slotOf(pipeline)), JSON.stringify(await slotOf(pipeline)));
}

async function resynced(pipeline: Pipeline, ticks: Ticks): Promise<number> {
  const archiver = pipeline.service('archiver');
  const ending = await pipeline.service('capture').ended;
  assert.equal(ending.code, 3, ending.log);
  assert.match(ending.log, /"halt":"SLOT_LOST"/);
  assert.match(ending.log, /tidemark resync/);
  await archiver.stop();
  const held = (await pipeline.state())?.position;
  const { code, stdout, stderr } = await pipeline.cli(['resync', '--yes', 'test', '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  const record = (await readFile(path.join(pipeline.archiveDir, '_tidemark/operations.jsonl'), 'utf8')).trim().split('\n').at(-1) ?? '{}';
  assert.equal(JSON.parse(record).gap.from, held, 'the gap is on record');
  const services = start(pipeline);
  await pipeline.archived();
  const pruned = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(pruned.code, 0, pruned.stdout + pruned.stderr);
  await pipeline.archived();
  const counted = await ticks.audit();
  for (const service of services) await service.stop();
  return counted.pruned;
}

export async function slotLost(major?: number): Promise<string> {
  await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, ...(major === undefined ? {} : { major }), flushEvery: '200ms' });
  const ticks = new Ticks(pipeline);
  const services = await settled(pipeline, ticks);
  await pipeline.query("ALTER SYSTEM SET max_wal_size = '32MB'");
  await pipeline.query("ALTER SYSTEM SET max_slot_wal_keep_size = '128MB'");
  await pipeline.query('SELECT pg_reload_conf()');
  const [archiver, capture, pruner] = services as [Service, Service, Service];
  await archiver.stop();
  await ticks.insert(30, 48);
  await ticks.update(4);
  const law3 = sampleLaw3(pipeline);
  const fence = (await pipeline.state())?.fences.at(-1)?.lsn;
  await until('the slot stands where the archive does', async () => (await slotOf(pipeline)).confirmed_flush_lsn === fence);
  await writeUntil(pipeline, ({ wal_status }) => wal_status === 'extended');
  await until('capture says so', async () => capture.log.includes('"walStatus":"extended"'));
  await writeUntil(pipeline, ({ safe }) => Number(safe) < 24 * 1024 ** 2);
  assert.equal((await slotOf(pipeline)).confirmed_flush_lsn, fence, 'nothing is confirmed to save the slot');
  const status = await pipeline.cli(['status', '-c', pipeline.configFile]);
  assert.match(status.stdout, /wal_status extended; is lost after [\d.]+ MB more WAL; at the average rate of writing, in/);
  assert.match(status.stdout, /ALARM +slot: it holds .*, [89]\d % of what max_slot_wal_keep_size allows.*alarms at 50, 75 and 90 %/);
  const doctor = await pipeline.cli(['doctor', '-c', pipeline.configFile]);
  assert.match(doctor.stdout, /warning +slot tidemark_test +it holds .*\n.*tidemark resync/);
  await writeUntil(pipeline, ({ wal_status }) => wal_status === 'unreserved' || wal_status === 'lost');
  await pipeline.query('CHECKPOINT');
  const ending = await capture.ended;
  assert.equal(ending.code, 3, ending.log);
  assert.match(ending.log, /SLOT_LOST/);
  if (pipeline.postgres.major >= 17) assert.match(ending.log, /wal_removed/);
  const lost = await pipeline.cli(['status', '-c', pipeline.configFile]);
  assert.equal(lost.code, 1, lost.stdout);
  assert.match(lost.stdout, /ALARM +slot: the server has given the slot up/);
  assert.doesNotMatch(lost.stdout, /can fill the disk/);
  assert.deepEqual((await law3.stop()).violations, []);
  await pruner.stop();
  return `the slot was lost, the archive goes on; ${await resynced(pipeline, ticks)} pruned afterwards`;
}

/** PostgreSQL 18 gives up a slot that nobody reads. */
export async function slotIdle(major = 18): Promise<string> {
  if (major < 18) return `Postgres ${major} has no idle_replication_slot_timeout`;
  await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, major, flushEvery: '200ms' });
  const ticks = new Ticks(pipeline);
  for (const service of await settled(pipeline, ticks)) await service.stop();
  await pipeline.query("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'");
  await pipeline.query('SELECT pg_reload_conf()');
  await pause(1500);
  await until('the server gives it up', async () => {
    await pipeline.query('CHECKPOINT');
    return (await pipeline.query("SELECT FROM pg_replication_slots WHERE invalidation_reason = 'idle_timeout'")).length === 1;
  });
  const doctor = await pipeline.cli(['doctor', '-c', pipeline.configFile]);
  assert.match(doctor.stdout, /given the slot up \(wal_status lost, idle_timeout\)/);
  assert.match(doctor.stdout, /warning +idle_replication_slot_timeout/);
  await pipeline.query('ALTER SYSTEM RESET idle_replication_slot_timeout');
  await pipeline.query('SELECT pg_reload_conf()');
  return `idle_timeout is named; ${await resynced(pipeline, ticks)} pruned afterwards`;
}
