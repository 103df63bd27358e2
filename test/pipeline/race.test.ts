/** The race that breaks a SELECT-then-DELETE script, on the real pruner stopped between choosing and deleting (laws 1 and 12). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pipeline, until } from './pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from './ticks.js';

test('rows that commit between the choosing and the deleting survive until archived; an update in that gap is not deleted in its old name', async () => {
  await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES });
  const ticks = new Ticks(pipeline);
  await ticks.insert(1000, 48);
  await pipeline.doctorFix();
  const archiver = pipeline.service('archiver');
  const capture = pipeline.service('capture');
  const pruner = pipeline.service('pruner', 'P3:stop:1'); // candidates are chosen and read, nothing is deleted yet
  await pipeline.archived();
  const run = pipeline.cli(['prune', '-c', pipeline.configFile]);
  await until('the pruner stands between choosing and deleting', async () => isStopped(pruner.process.pid));

  // The archive stands still, so what commits now is not provable yet: it must not go, whatever its age.
  archiver.signal('SIGSTOP');
  await ticks.insert(100, 72);
  await ticks.update(10);
  pruner.signal('SIGCONT');
  const first = await run;
  assert.equal(first.code, 0, first.stderr);
  const late = await pipeline.query<{ id: string }>('SELECT id FROM ticks');
  assert.equal(late.filter(({ id }) => Number(id) > 1000).length, 100, 'late rows with old timestamps are still there');
  assert.equal(late.filter(({ id }) => Number(id) <= 1000 && Number(id) % 10 === 0).length, 100, 'updated rows are still there');
  assert.equal(late.length, 200, 'the others, archived and unchanged, went');

  archiver.signal('SIGCONT');
  await pipeline.archived();
  const second = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(second.code, 0, second.stderr);
  assert.equal((await pipeline.query('SELECT id FROM ticks')).length, 0, 'once archived they are pruned too');
  await pipeline.archived();
  await ticks.audit();
  for (const service of [capture, pruner, archiver]) assert.equal((await service.stop()).code, 0);
});

async function isStopped(pid: number | undefined): Promise<boolean> {
  const { execFileSync } = await import('node:child_process');
  return execFileSync('ps', ['-o', 'stat=', '-p', String(pid)])
    .toString()
    .trim()
    .startsWith('T');
}
