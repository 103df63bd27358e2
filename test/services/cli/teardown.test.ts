/** teardown on a running pipeline: what it asks for, what it removes, what it never touches. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { Pipeline } from '../../pipeline/pipeline.js';

const SCHEMA = 'CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), price float8); CREATE INDEX ON prices (at);';
const TABLES = '  prices: { timestamp: at }';

test('teardown needs the name of the source, refuses while capture runs, and leaves the archive alone', async () => {
  await using pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  const archiver = pipeline.service('archiver');
  const capture = pipeline.service('capture');
  await pipeline.query('INSERT INTO prices (price) SELECT i FROM generate_series(1, 10) i');
  await pipeline.archived();
  const teardown = (...args: string[]) => pipeline.cli(['teardown', ...args, '-c', pipeline.configFile]);
  const slots = async (): Promise<number> => (await pipeline.query('SELECT slot_name FROM pg_replication_slots')).length;

  const running = await teardown('--yes', 'test');
  assert.equal(running.code, 1);
  assert.match(running.stderr, /in use.*stop/s);
  await capture.stop();
  await archiver.stop();
  for (const args of [[], ['--yes', 'goat'], ['--yes', '']]) {
    const refused = await teardown(...args);
    assert.equal(refused.code, 2, refused.stdout + refused.stderr);
    assert.match(refused.stderr, /test/);
    assert.equal(await slots(), 1, 'nothing was removed');
  }
  const files = (await readdir(pipeline.archiveDir, { recursive: true })).filter((file) => file.endsWith('.parquet')).sort();
  assert.ok(files.length > 0);
  const done = await teardown('--yes', 'test');
  assert.equal(done.code, 0, done.stderr);
  assert.equal(await slots(), 0);
  assert.equal((await pipeline.query('SELECT pubname FROM pg_publication')).length, 0);
  assert.deepEqual((await readdir(pipeline.archiveDir, { recursive: true })).filter((file) => file.endsWith('.parquet')).sort(), files);
  assert.equal((await pipeline.query<{ n: string }>('SELECT count(*)::text AS n FROM prices'))[0]?.n, '10');
  const again = await teardown('--yes', 'test');
  assert.equal(again.code, 0);
  assert.match(again.stdout, /nothing to remove/);
});
