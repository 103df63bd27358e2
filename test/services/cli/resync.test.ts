/** Halts that need a new slot or a new server, brought back to work on a live database: nothing archived is lost or doubled, and what Postgres holds is archived and pruned (laws 1, 3, 4, 11). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Pipeline, type Service, until } from '../../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../../pipeline/ticks.js';

type World = { readonly pipeline: Pipeline; readonly ticks: Ticks };

/** A pipeline that has archived, pruned and updated, with nothing running. */
async function settled(major: number): Promise<World> {
  const pipeline = await Pipeline.start({ major, schema: TICKS_SCHEMA, tables: TICKS_TABLES, flushEvery: '200ms' });
  const ticks = new Ticks(pipeline);
  await ticks.insert(60, 48);
  await pipeline.doctorFix();
  const services = start(pipeline);
  await pipeline.archived();
  await prune(pipeline);
  await ticks.insert(60, 48);
  await ticks.insert(60, 1);
  await ticks.update(5);
  await ticks.remove(7);
  await pipeline.archived();
  await stop(services);
  return { pipeline, ticks };
}

const start = (pipeline: Pipeline): Service[] => (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));

async function archiving(pipeline: Pipeline): Promise<Service> {
  const archiver = pipeline.service('archiver');
  await until('it archives', async () => archiver.log.includes('"event":"archiving"'));
  return archiver;
}

async function stop(services: readonly Service[]): Promise<void> {
  for (const service of services) assert.equal((await service.stop()).code, 0, service.log);
}

async function prune(pipeline: Pipeline): Promise<void> {
  const { code, stdout, stderr } = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
}

/** What nobody sees: rows that change, go, come, and come and go. */
async function unseen({ ticks }: World): Promise<void> {
  await ticks.update(4);
  await ticks.remove(11);
  await ticks.insert(30, 48);
}

/** A copy of the server, without what was archived last, in its place; `promoted`: as a standby that was promoted. */
async function setBack({ pipeline, ticks }: World, { promoted }: { promoted: boolean }): Promise<void> {
  const { dataDir } = pipeline.postgres;
  await pipeline.postgres.stop('fast');
  execFileSync('cp', ['-a', dataDir, `${dataDir}.saved`]);
  await pipeline.postgres.start();
  await pipeline.reconnect();
  const journal = new Map(ticks.live);
  const services = start(pipeline);
  await ticks.insert(500, 48);
  await ticks.update(3);
  await pipeline.archived();
  await stop(services);
  await pipeline.postgres.stop('fast');
  execFileSync('sh', ['-c', 'rm -rf "$1" && mv "$1.saved" "$1"', 'sh', dataDir]);
  if (promoted) writeFileSync(`${dataDir}/standby.signal`, '');
  await pipeline.postgres.start();
  await pipeline.reconnect();
  if (promoted) await pipeline.query('SELECT pg_promote(true)');
  ticks.live.clear();
  for (const [id, row] of journal) ticks.live.set(id, row);
}

/** Capture stops by this name and says which command brings it back. */
async function haltsAs(pipeline: Pipeline, halt: RegExp, remedy: RegExp): Promise<void> {
  const archiver = await archiving(pipeline);
  const ending = await pipeline.service('capture').ended;
  assert.equal(ending.code, 3, ending.log);
  assert.match(ending.log, halt);
  assert.match(ending.log, remedy);
  await stop([archiver]);
}

async function repaired(pipeline: Pipeline, command: 'resync' | 'adopt', word = 'test'): Promise<void> {
  const { code, stdout, stderr } = await pipeline.cli([command, '--yes', word, '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  const records = (await readFile(path.join(pipeline.archiveDir, '_tidemark/operations.jsonl'), 'utf8')).trim().split('\n');
  assert.equal(JSON.parse(records.at(-1) ?? '{}').type, command);
}

/** The services run again; all that is old is archived once, pruned, sealed; the files are whole and the stream replays to the same. */
async function goesOn({ pipeline, ticks }: World): Promise<void> {
  const services = start(pipeline);
  await pipeline.archived();
  await ticks.insert(20, 48);
  await ticks.update(6);
  await ticks.remove(13);
  await pipeline.archived();
  await prune(pipeline);
  await pipeline.archived();
  const { pruned } = await ticks.audit();
  assert.ok(pruned > 60, `${pruned} rows were pruned`);
  await until('finished days are sealed', async () => {
    await pipeline.cli(['seal', '-c', pipeline.configFile]);
    const files = [...((await pipeline.state())?.files.values() ?? [])];
    return files.some((file) => file.kind === 'daily');
  });
  await ticks.audit();
  const rebuilt = await pipeline.cli(['rebuild', '--into', path.join(pipeline.dir, 'rebuilt'), '--check', '-c', pipeline.configFile]);
  assert.equal(rebuilt.code, 0, rebuilt.stdout + rebuilt.stderr);
  await stop(services);
  const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
}

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    const once = { skip: major === 15 ? false : 'tried on Postgres 15: nothing of it depends on the version' };

    test('SLOT_MISSING: asks, refuses while a service runs, then goes on with a new copy', async () => {
      const world = await settled(major);
      await using pipeline = world.pipeline;
      await pipeline.query("SELECT pg_drop_replication_slot('tidemark_test')");
      const hot = (await world.ticks.audit()).hot;
      await pipeline.cli(['prune', '-c', pipeline.configFile]);
      assert.equal((await world.ticks.audit()).hot, hot, 'nothing is deleted that would be taken for deleted by somebody else');
      await unseen(world);
      await haltsAs(pipeline, /SLOT_MISSING/, /tidemark resync/);
      const before = (await pipeline.state())?.number;
      const asked = await pipeline.cli(['resync', '-c', pipeline.configFile]);
      assert.equal(asked.code, 2, asked.stdout + asked.stderr);
      assert.match(asked.stdout, /cannot bring back: versions that came and went/);
      const adopted = await pipeline.cli(['adopt', '--yes', 'test', '-c', pipeline.configFile]);
      assert.equal(adopted.code, 1);
      assert.match(adopted.stderr, /the server that the archive was made from → tidemark resync/);
      assert.equal((await pipeline.state())?.number, before, 'nothing was changed');
      const archiver = await archiving(pipeline);
      await pipeline.cli(['seal', 'ticks', '-c', pipeline.configFile]); // answered: it takes requests
      const running = await pipeline.cli(['resync', '--yes', 'test', '-c', pipeline.configFile]);
      assert.equal(running.code, 1, running.stdout);
      assert.match(running.stderr, /archiver is running → stop the services first/);
      await stop([archiver]);
      await repaired(pipeline, 'resync');
      await goesOn(world);
    });

    test('SLOT_AHEAD, twice: an archive goes on as often as it must', once, async () => {
      const world = await settled(major);
      await using pipeline = world.pipeline;
      for (let time = 1; time <= 2; time += 1) {
        await unseen(world);
        await pipeline.query("SELECT pg_replication_slot_advance('tidemark_test', pg_current_wal_lsn())");
        await haltsAs(pipeline, /SLOT_AHEAD/, /tidemark resync/);
        await repaired(pipeline, 'resync');
        const services = start(pipeline);
        await pipeline.archived();
        await stop(services);
      }
      await goesOn(world);
    });

    test('TIMELINE: a promoted standby that lacked archived changes goes on in the same archive', async () => {
      const world = await settled(major);
      await using pipeline = world.pipeline;
      await setBack(world, { promoted: true });
      await unseen(world);
      await haltsAs(pipeline, /TIMELINE.*left that timeline at .* before the archived position/, /tidemark resync/);
      await repaired(pipeline, 'resync');
      await goesOn(world);
    });

    test(
      'a server restored from a cold copy that ends before W: rows of the lost history go into the history, the server writes on behind them',
      once,
      async () => {
        const world = await settled(major);
        await using pipeline = world.pipeline;
        await setBack(world, { promoted: false });
        await haltsAs(pipeline, /LSN_BACKWARD|IDENTITY/, /tidemark resync/);
        await repaired(pipeline, 'resync');
        await goesOn(world);
      },
    );

    test('IDENTITY: a server with another system identifier and the same tables is adopted, one with other tables is not', once, async (t) => {
      const world = await settled(major);
      await using pipeline = world.pipeline;
      if (!existsSync(`${pipeline.postgres.binDir}/pg_resetwal`)) return t.skip(`Postgres ${major} came without pg_resetwal`);
      await pipeline.query("SELECT pg_drop_replication_slot('tidemark_test')");
      await pipeline.postgres.stop('fast');
      const identifier = giveIdentifier(pipeline);
      await pipeline.postgres.start();
      await pipeline.reconnect();
      await unseen(world);
      await haltsAs(pipeline, /IDENTITY/, /tidemark adopt/);
      const resynced = await pipeline.cli(['resync', '--yes', 'test', '-c', pipeline.configFile]);
      assert.equal(resynced.code, 1, resynced.stdout);
      assert.match(resynced.stderr, /system identifier .*tidemark adopt/);
      await pipeline.query(`CREATE TABLE other (LIKE ticks INCLUDING ALL); ALTER TABLE ticks RENAME TO ticks_; ALTER TABLE other RENAME TO ticks`);
      const refused = await pipeline.cli(['adopt', '--yes', identifier, '-c', pipeline.configFile]);
      assert.equal(refused.code, 1, refused.stdout);
      assert.match(refused.stderr, /other OIDs here: public\.ticks/);
      await pipeline.query('DROP TABLE ticks; ALTER TABLE ticks_ RENAME TO ticks');
      await repaired(pipeline, 'adopt', identifier);
      await goesOn(world);
    });
  });
}

/** Another system identifier, as after pg_upgrade: in pg_control, and in new WAL. Returns it. */
function giveIdentifier(pipeline: Pipeline): string {
  const { dataDir, binDir } = pipeline.postgres;
  const file = `${dataDir}/global/pg_control`;
  const control = readFileSync(file);
  let end = 200;
  while (end < 500 && crc32c(control.subarray(0, end)) !== control.readUInt32LE(end)) end += 4;
  assert.ok(end < 500, 'pg_control has its checksum somewhere');
  const identifier = control.readBigUInt64LE(0) + 1n;
  control.writeBigUInt64LE(identifier, 0);
  control.writeUInt32LE(crc32c(control.subarray(0, end)), end);
  writeFileSync(file, control);
  const owner = execFileSync('stat', ['-c', '%U', dataDir]).toString().trim();
  const command = `'${binDir}/pg_resetwal' -f -D '${dataDir}'`;
  execFileSync('sh', ['-c', owner === process.env['USER'] || process.getuid?.() !== 0 ? command : `su -s /bin/sh ${owner} -c "${command}"`], { stdio: 'pipe' });
  return String(identifier);
}

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
