/** The way of the data from WAL to verified prune, on every Postgres the tests know, and what comes back out of it (laws 1 to 4, 9, 12, 15). */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { availablePostgresMajors } from '../../services/demo/engines/postgres.js';
import { sampleLaw3 } from './law3.js';
import { Pipeline, until } from './pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from './ticks.js';

for (const major of await availablePostgresMajors()) {
  test(`Postgres ${major}: existing and new rows are archived, old ones pruned, days sealed, the stream rebuilds the archive`, async () => {
    await using pipeline = await Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, major });
    const ticks = new Ticks(pipeline);
    await ticks.insert(3000, 72);
    await ticks.insert(500, 1);
    await pipeline.doctorFix();
    const law3 = sampleLaw3(pipeline);
    const services = (['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name));
    await pipeline.archived();
    const pruned = await pipeline.cli(['prune', '-c', pipeline.configFile]);
    assert.equal(pruned.code, 0, pruned.stderr + pruned.stdout);
    assert.equal((await pipeline.query('SELECT id FROM ticks')).length, 500, 'rows within the retention stay');

    await ticks.insert(400, 50); // back-dated, after the first prune
    await ticks.update(9);
    await ticks.remove(50);
    await ticks.rollBack();
    await pipeline.archived();
    const second = await pipeline.cli(['prune', '-c', pipeline.configFile]);
    assert.equal(second.code, 0, second.stderr + second.stdout);
    await pipeline.archived();
    await until('a finished day is sealed', async () =>
      [...((await pipeline.state())?.files.values() ?? [])].some((file) => file.kind === 'daily' && file.table === 'ticks'),
    );
    const counted = await ticks.audit();
    assert.ok(counted.pruned >= 3000, `${counted.pruned} rows pruned`);

    const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
    assert.equal(verified.code, 0, verified.stdout + verified.stderr);
    const rebuilt = await pipeline.cli(['rebuild', '--into', path.join(pipeline.dir, 'rebuilt'), '--check', '-c', pipeline.configFile]);
    assert.equal(rebuilt.code, 0, rebuilt.stdout + rebuilt.stderr);
    const sampled = await law3.stop();
    assert.ok(sampled.samples > 0);
    assert.deepEqual(sampled.violations, []);
    for (const service of services) assert.equal((await service.stop()).code, 0);
  });
}
