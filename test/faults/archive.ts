/** What happens to the archive's volume and files: F37 to F40. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findExecutable } from '../../services/demo/engines/process.js';
import { Random } from '../campaign/chance.js';
import { readRows } from '../pipeline/archive-view.js';
import { until } from '../pipeline/pipeline.js';
import { CannotInject, Volume } from './volume.js';
import { NAMES, World } from './world.js';

const execute = promisify(execFile);

const options = (major?: number): { major?: number } => (major === undefined ? {} : { major });

/** F37: the volume fills up while rows come, several times; each time room comes back. */
export async function full(kind: 'ext4' | 'xfs', major?: number): Promise<string> {
  await using volume = await Volume.create(kind, kind === 'xfs' ? 320 : 64);
  await using world = await World.start({ ...options(major), archiveDir: path.join(volume.dir, 'archived_data') });
  await world.archived();
  let full = 0;
  for (let i = 0; i < 3; i += 1) {
    await volume.fill();
    const before = (await world.pipeline.state())?.position;
    for (let k = 0; k < 3; k += 1) await world.ticks.insert(2000, 48);
    await until('the archiver says that the volume is full', async () => /volume is full/.test(world.services.archiver.log.slice(-5000)));
    if ((await world.pipeline.state())?.position === before) full += 1;
    const pruned = await world.pipeline.cli(['prune', '-c', world.pipeline.configFile]);
    assert.notEqual(pruned.code, null);
    await volume.free();
    await world.archived(120_000);
  }
  return `W stood still ${full} of 3 times; ${await world.settle()}`;
}

/** F39: the volume is taken away while everything runs, and comes back: nothing is written below the bare mount point. */
export async function unmounted(major?: number): Promise<string> {
  await using volume = await Volume.create('ext4', 200);
  await using world = await World.start({ ...options(major), archiveDir: path.join(volume.dir, 'archived_data') });
  await world.work();
  await world.archived();
  for (const name of NAMES) world.services[name].signal('SIGSTOP');
  for (const name of NAMES) world.services[name].signal('SIGKILL');
  await Promise.all(NAMES.map((name) => world.services[name].ended));
  await volume.unmount();
  const names = NAMES.map((name) => world.start(name));
  await world.work();
  const endings = await Promise.all(names.map((service) => Promise.race([service.ended, pause(6000, undefined)])));
  const said = endings.map((ending, i) => (ending === undefined ? `${names[i]?.name} waits` : `${names[i]?.name} ended with ${ending.code}`));
  await assert.rejects(stat(world.pipeline.archiveDir), 'something was written below the bare mount point');
  for (const name of NAMES) await world.services[name].stop();
  await volume.mount();
  for (const name of NAMES) world.start(name);
  return `${said.join(', ')}; ${await world.settle()}`;
}

/** errno by kind of call (failing-calls.c); a short write is no error. */
const CALLS = { open: 5, read: 5, write: 28, short: 0, fsync: 5, link: 5, unlink: 5, close: 5 } as const;
/** From here on not every N is tried: most calls are of a kind that came before. */
const EVERY_UNTIL = 40;
const MOST_CALLS = 5000;

/** F38: each kind of call of the archiver on the archive's files fails at the Nth, N = 1, 2, … until it starts, writes and publishes without reaching it. */
export async function failingCall(call: keyof typeof CALLS, major?: number): Promise<string> {
  if (findExecutable('cc') === undefined || process.platform !== 'linux') throw new CannotInject('needs Linux and a C compiler');
  await using world = await World.start({ ...options(major), rows: 50 });
  const { archiveDir, dir } = world.pipeline;
  await world.archived();
  await world.services.archiver.stop();
  const library = path.join(dir, 'failing-calls.so');
  await execute('cc', ['-shared', '-fPIC', '-O1', '-o', library, fileURLToPath(new URL('../../../test/faults/failing-calls.c', import.meta.url)), '-ldl']);
  let last = 0;
  let tried = 0;
  let ended = 0;
  for (let n = 1; ; n = n < EVERY_UNTIL ? n + 1 : Math.ceil(n * 1.15)) {
    const log = path.join(dir, `failed-${n}`);
    const env = { LD_PRELOAD: library, FAIL_DIR: archiveDir, FAIL_CALL: call, FAIL_ERRNO: String(CALLS[call]), FAIL_AT: String(n), FAIL_LOG: log };
    const injured = world.pipeline.service('archiver', undefined, { env });
    await world.ticks.insert(5, 48);
    await world.ticks.update(7);
    const ending = await Promise.race([injured.ended, world.pipeline.archived(60_000).then(() => undefined)]);
    if (ending !== undefined) {
      assert.equal(
        ending.code,
        1, // no halt: nobody has to come, the next start goes on
        `a failed ${call} ended the archiver with ${ending.code ?? ending.signal}:\n${ending.log.slice(-2000)}`,
      );
      ended += 1;
    }
    await injured.stop();
    if ((await stat(log).catch(() => undefined)) === undefined) break;
    [last, tried] = [n, tried + 1];
    assert.ok(n < MOST_CALLS, 'the calls never end');
  }
  assert.ok(tried > 0, `no call failed: nothing was injected into ${call}`);
  world.start('archiver');
  return `${tried} of at least ${last} calls failed (${ended} times the archiver ended with an error); ${await world.settle()}`;
}

/** F40: ways in which a segment that a prune needs can be damaged. */
const DAMAGES: Readonly<Record<string, (file: string, other: string, random: Random) => Promise<void>>> = {
  truncated: async (file) => truncate(file, Math.floor((await stat(file)).size / 2)),
  'one bit flipped': async (file, _other, random) => {
    const bytes = await readFile(file);
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    await writeFile(file, bytes);
  },
  'filled with zeros': async (file) => writeFile(file, Buffer.alloc((await stat(file)).size)),
  'in the place of another': async (file, other) => cp(other, file),
  deleted: (file) => rm(file),
};

/** F40: a prune over a damaged segment deletes nothing of it, verify names the file, and the table is copied again on request. */
export async function damagedSegments(seed: number, major?: number): Promise<string> {
  const random = new Random(seed);
  await using world = await World.start(options(major));
  const { pipeline } = world;
  await world.archived();
  for (const [what, damage] of Object.entries(DAMAGES)) {
    await world.ticks.insert(100, 48);
    await world.archived();
    const fresh = new Set([...world.ticks.live.keys()].slice(-100));
    const segments = [...((await pipeline.state())?.files.values() ?? [])].filter((entry) => entry.table === 'ticks' && entry.kind === 'segment');
    const victim = segments.at(-1);
    assert.ok(victim && segments.length > 1, 'there are two segments');
    const inVictim = (await readRows(pipeline, victim)).map((row) => String(row['id'])).filter((id) => fresh.has(id));
    assert.ok(inVictim.length > 0, 'the newest segment holds fresh rows');
    const file = path.join(pipeline.archiveDir, victim.file);
    const kept = `${file}.kept`;
    await cp(file, kept);
    await damage(file, path.join(pipeline.archiveDir, (segments[0] as typeof victim).file), random);
    const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
    assert.equal(verified.code, 4, `${what}: ${verified.stdout}${verified.stderr}`);
    assert.ok(`${verified.stdout}${verified.stderr}`.includes(path.basename(victim.file)), `${what}: verify does not name ${victim.file}: ${verified.stdout}`);
    await pipeline.cli(['prune', '-c', pipeline.configFile]);
    const left = new Set((await pipeline.query<{ id: string }>('SELECT id FROM ticks')).map(({ id }) => id));
    assert.deepEqual(
      inVictim.filter((id) => !left.has(id)),
      [],
      `${what}: rows went that only the damaged file held`,
    );
    await rm(file, { force: true });
    await rename(kept, file);
  }
  const touched = [...((await pipeline.state())?.files.values() ?? [])][0];
  if (touched) await utimes(path.join(pipeline.archiveDir, touched.file), new Date(0), new Date(0));
  return `${Object.keys(DAMAGES).length} kinds of damage named; ${await world.settle()}`;
}
