/** Re-copies with capture or archiver killed in the middle: a re-copy counts whole or not at all, its rows are there once, and the stream rebuilds the same archive. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { runPrune } from '../../src/prune/run.js';
import { loadConfig } from '../../src/runtime/config.js';
import { archiveView } from './archive-view.js';
import { Pipeline, type Service, type ServiceName, until } from './pipeline.js';

const ROWS = 6000;
/** Wide enough for several chunks and flushes. */
const FILL = (from: number): string =>
  `INSERT INTO big SELECT i, now() - interval '48 hours' - i * interval '1 second', repeat('x', 200) || i FROM generate_series(${from}, ${from + ROWS - 1}) i`;

let pipeline: Pipeline;
const services = new Map<ServiceName, Service>();
before(async () => {
  pipeline = await Pipeline.start({
    schema: 'CREATE TABLE big (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text); CREATE PUBLICATION tidemark_test FOR TABLE beat, big',
    tables: '  big: { timestamp: at }',
    flushEvery: '200ms',
  });
  for (const name of ['archiver', 'capture'] as const) services.set(name, pipeline.service(name));
  await pipeline.archived();
});
after(() => pipeline?.[Symbol.asyncDispose]());

const entry = async (): Promise<{ published: string | undefined; coverage: string | undefined; recopy: string | undefined }> => {
  const state = await pipeline.state();
  const table = state?.tables.find((one) => one.table === 'big');
  return { published: table?.copied?.published, coverage: table?.coverage.state, recopy: state?.recopy?.state };
};

let from = 1;
for (const [name, fault] of [
  ['capture', 'C4:kill:2'],
  ['archiver', 'A1:kill:3'],
  ['archiver', 'A7:kill:1'],
  ['archiver', 'A9:kill:1'],
] as const) {
  test(`${name} killed at ${fault} while a table is copied again`, async () => {
    await pipeline.query(FILL(from));
    await pipeline.archived();
    const before = (await entry()).published;
    assert.equal((await services.get(name)?.stop())?.code, 0);
    await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE big; UPDATE big SET v = v || '!'; ALTER PUBLICATION tidemark_test ADD TABLE big`);
    assert.equal((await pipeline.service(name, fault).ended).signal, 'SIGKILL');
    services.set(name, pipeline.service(name));
    await until('the table is copied', async () => {
      const now = await entry();
      return now.published !== before && now.coverage === 'open' && now.recopy === 'complete';
    });
    await pipeline.archived();
    const view = await archiveView(pipeline, 'big');
    assert.equal([...view.values()].filter((rows) => rows.length !== 1).length, 0, 'every row once');
    assert.equal([...view.values()].filter(([row]) => !String(row?.['v']).endsWith('!')).length, 0, 'as it is now');
    const config = loadConfig(pipeline.configFile);
    const result = await runPrune({
      config,
      log: pino({ level: 'silent' }),
      signal: new AbortController().signal,
      follower: new ArchiveFollower(pipeline.archiveDir),
      trigger: 'command',
      dryRun: false,
      table: 'big',
    });
    assert.deepEqual([result.tables[0]?.deleted, result.tables[0]?.left], [ROWS, {}]);
    from += ROWS;
    assert.equal(view.size, from - 1);
  });
}

test('the stream, with the remains of broken re-copies in it, rebuilds the same archive', async () => {
  await pipeline.archived();
  const { code, stdout, stderr } = await pipeline.cli(['rebuild', '-c', pipeline.configFile, '--into', path.join(pipeline.dir, 'rebuilt'), '--check']);
  assert.equal(code, 0, stdout + stderr);
});
