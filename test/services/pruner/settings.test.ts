/** The configuration is another than what the archive knows (F49): what would delete more than before waits for a person, what is safe is said, what belongs to somebody else is refused (laws 1, 8, 10, 12). */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { settingsDifferences } from '../../../src/archive/settings.js';
import { type Boot, thisBoot } from '../../../src/prune/clock.js';
import { Pipeline, type Service, until } from '../../pipeline/pipeline.js';
import { TICKS_SCHEMA, Ticks } from '../../pipeline/ticks.js';

const SCHEMA = `${TICKS_SCHEMA} ALTER TABLE ticks ADD made timestamptz NOT NULL DEFAULT now() - interval '150 hours';`;

test('what differs is named, and only what deletes more is destructive', () => {
  const table = { timestamp: 'at', retentionMs: 86_400_000, keepWhile: null, prune: true };
  const before = { timezone: 'UTC', tables: { 'public.t': table, 'public.gone': table } };
  const seen = (change: Partial<typeof table | { keepWhile: string }>, was = table) =>
    settingsDifferences({ ...before, tables: { 'public.t': was } }, { ...before, tables: { 'public.t': { ...table, ...change } } }).map(
      (one) => `${one.destructive ? '!' : ''}${one.seen}`,
    );
  assert.deepEqual(settingsDifferences(before, before), []);
  assert.deepEqual(seen({ retentionMs: 5_400_000 }), ['!public.t: retention 1d → 90min']);
  assert.deepEqual(seen({ retentionMs: 172_800_000 }), ['public.t: retention 1d → 2d']);
  assert.deepEqual(seen({ timestamp: 'made' }), ['!public.t: timestamp at → made']);
  assert.deepEqual(seen({ keepWhile: 'open' }), ['public.t: keepWhile none → open']);
  assert.deepEqual(seen({}, { ...table, keepWhile: 'open' } as never), ['!public.t: keepWhile open → none']);
  assert.deepEqual(
    settingsDifferences(before, { ...before, timezone: 'Asia/Tokyo' }).map((one) => one.destructive),
    [true],
  );
  assert.deepEqual(
    settingsDifferences({ ...before, tables: {} }, before).map((one) => one.seen),
    ['public.t is new', 'public.gone is new'],
  );
});

test('a shorter retention, another timestamp column, a table that comes back with less: each waits for --accept', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: '  ticks: { timestamp: at }', flushEvery: '200ms', retention: '96h' });
  // Days of their own, and over: a day waits for those that its rows moved from.
  const original = await readFile(pipeline.configFile, 'utf8');
  const configured = (from: string, to: string): Promise<void> => {
    assert.ok(original.includes(from));
    return writeFile(pipeline.configFile, original.replace(from, to));
  };
  const cli = (...args: string[]) => pipeline.cli([...args, '-c', pipeline.configFile]);
  const refused = async (seen: RegExp): Promise<void> => {
    const { code, stderr, stdout } = await cli('prune');
    assert.equal(code, 2, stdout + stderr);
    assert.match(stderr, seen);
    assert.match(stderr, /tidemark doctor --accept/);
  };
  const accepted = async (seen: RegExp): Promise<void> => {
    const { code, stdout } = await cli('doctor', '--accept');
    assert.equal(code, 0, stdout);
    assert.match(stdout, seen);
  };
  const prune = async (): Promise<string> => {
    const { code, stdout, stderr } = await cli('prune');
    assert.equal(code, 0, stdout + stderr);
    return stdout;
  };
  const start = (): Service[] => (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
  const stop = async (services: readonly Service[]): Promise<void> => {
    for (const service of services) assert.equal((await service.stop()).code, 0, service.log.slice(-2000));
  };
  const ticks = new Ticks(pipeline);
  await ticks.insert(30, 120);
  await ticks.insert(30, 48);
  await pipeline.doctorFix();
  let services = start();
  await pipeline.archived();
  await prune();
  assert.equal((await ticks.audit()).pruned, 30);

  await configured('retention: 96h', 'retention: 1h');
  await refused(/would prune more than before: public\.beat: retention 4d → 1h; public\.ticks: retention 4d → 1h/);
  const service = await pipeline.service('pruner').ended;
  assert.equal(service.code, 2, service.log);
  const doctor = await cli('doctor');
  assert.equal(doctor.code, 1);
  assert.match(doctor.stdout, /FAILED +settings +would prune more than before/);
  assert.equal((await cli('prune', '--dry-run')).code, 0, 'looking is free');
  assert.equal((await ticks.audit()).pruned, 30);
  await accepted(/accepted +public\.ticks: retention 4d → 1h/);
  const operations = (): Promise<string> => readFile(path.join(pipeline.archiveDir, '_tidemark/operations.jsonl'), 'utf8');
  assert.match(await operations(), /"type":"accept".*retention 4d → 1h/);
  if (thisBoot() !== undefined) {
    // As if the clock had been an hour behind at the last prune.
    const file = path.join(pipeline.archiveDir, '_tidemark/clock.json');
    const believed = JSON.parse(await readFile(file, 'utf8')) as Boot;
    await writeFile(file, JSON.stringify({ ...believed, at: believed.at - 3_600_000 }));
    const held = await cli('prune');
    assert.equal(held.code, 1);
    assert.match(held.stdout, /the clock of this machine was set forward by 36\d\d s since .*tidemark doctor --accept/);
    assert.equal((await ticks.audit()).pruned, 30);
    assert.match((await cli('doctor')).stdout, /FAILED +clock +the clock of this machine was set forward/);
    await accepted(/accepted +the clock of this machine was set forward/);
    assert.match(await operations(), /"type":"accept".*set forward/);
  }
  await prune();
  assert.equal((await ticks.audit()).pruned, 60);

  await writeFile(pipeline.configFile, original);
  await prune(); // longer again: nothing to accept
  await ticks.insert(30, 48);
  await pipeline.archived();

  // Gone from the configuration for a while: what was recorded of it still counts.
  await configured('  ticks: { timestamp: at }', '');
  await prune();
  await configured('  ticks: { timestamp: at }', '  ticks: { timestamp: at, retention: 2h }');
  await refused(/public\.ticks: retention 4d → 2h/);

  await configured('timestamp: at }', 'timestamp: made }');
  await refused(/public\.ticks: timestamp at → made/);
  await accepted(/timestamp at → made/);
  assert.match((await cli('prune')).stdout, /ticks .*timestamp column was at when it was archived last: its rows are not copied again yet/);
  await stop(services);
  services = start();
  await ticks.update(4);
  await until('the table is copied again', async () => {
    await pipeline.archived();
    const state = (await pipeline.state())?.tables.find((table) => table.table === 'ticks');
    return state?.timestamp === 'made' && state.coverage.state === 'open';
  });
  await prune();
  assert.equal((await ticks.audit()).pruned, 90, 'all are old by the other column');
  await pipeline.archived();
  const today = new Date().toISOString().slice(0, 10);
  await until('all days that are over are sealed', async () => {
    const { stdout, stderr } = await cli('seal', 'ticks');
    const open = [...((await pipeline.state())?.files.values() ?? [])].filter((file) => file.table === 'ticks' && file.kind === 'segment');
    if (open.every(({ day }) => day !== null && day >= today)) return true;
    throw new Error(`${stdout}${stderr}${open.map(({ file }) => file).join(' ')}`);
  });
  await ticks.audit();

  // Somebody else's: another name, another folder, another database under the same name.
  await configured('name: test', 'name: other');
  const named = await pipeline.service('archiver').ended;
  assert.equal(named.code, 2, named.log);
  assert.match(named.log, /is the archive of source \\"test\\", source\.name is \\"other\\"/);
  await stop(services);
  const elsewhere = path.join(pipeline.dir, 'elsewhere');
  await mkdir(elsewhere);
  await configured(`dir: "${pipeline.archiveDir}"`, `dir: "${elsewhere}"`);
  const archiver = pipeline.service('archiver');
  const moved = await pipeline.service('capture').ended;
  assert.equal(moved.code, 3, moved.log);
  assert.match(moved.log, /IDENTITY: the slot tidemark_test was confirmed by archive/);
  await archiver.stop();
  const url = await pipeline.postgres.createDatabase();
  await configured(pipeline.databaseUrl, url);
  const shared = await pipeline.service('capture').ended;
  assert.equal(shared.code, 2, shared.log);
  assert.match(shared.log, /there is no table public|exists already and is a slot of pgoutput in database/);
});
