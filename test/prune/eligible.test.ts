/** Law 12 at the edge: what is old enough, by the microsecond, the zone and the kind of column; on a real Postgres. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startPostgres } from '../../services/demo/engines/postgres.js';
import { type Cutoff, notKept, oldEnough, readCutoff } from '../../src/prune/eligible.js';
import { estimateRows } from '../../src/prune/nominate.js';
import { readTarget } from '../../src/prune/target.js';
import type { TableConfig } from '../../src/runtime/config.js';
import { connectClient } from '../../src/wal/session.js';

const table = (change: Partial<TableConfig>): TableConfig => ({
  key: 't', schema: 'public', table: 't', timestamp: 'at', group: 't', retentionMs: 86_400_000, prune: true, keepWhile: undefined, deletes: 'history', history: false, ...change,
}); // biome-ignore format: a table

test('boundary rows, infinities, dates, repeated hours and keepWhile', async () => {
  await using server = await startPostgres();
  const client = await connectClient(await server.createDatabase(), { applicationName: 'test' });
  const old = async (type: string, values: (string | null)[], cutoff: Cutoff, change: Partial<TableConfig> = {}): Promise<string[]> => {
    await client.query('DROP TABLE IF EXISTS public.t');
    await client.query(`CREATE TABLE public.t (id serial PRIMARY KEY, at ${type}, status text)`);
    for (const value of values) await client.query('INSERT INTO public.t (at, status) VALUES ($1, $2)', [value, value === null ? null : 'done']);
    const config = table(change);
    const target = await readTarget(client, 'test', config);
    assert.ok(target);
    const { rows } = await client.query<{ at: string }>(
      `SELECT at::text AS at FROM public.t WHERE ${oldEnough(config, target, cutoff)} AND ${notKept(config)} ORDER BY id`,
    );
    return rows.map((row) => row.at);
  };
  const utc: Cutoff = { instant: '2026-03-10 12:00:00.5+00', local: '2026-03-10 12:00:00.5', timezone: 'UTC' };
  const edge = ['2026-03-10 12:00:00.499999', '2026-03-10 12:00:00.5', '2026-03-10 12:00:00.500001', 'infinity', '-infinity', '0001-12-31 BC', null];
  assert.deepEqual(await old('timestamp', edge, utc), ['2026-03-10 12:00:00.499999']);
  assert.deepEqual(await old('timestamptz', edge, utc), ['2026-03-10 12:00:00.499999+00']);
  assert.deepEqual(
    await old('date', ['0001-12-31 BC', '-infinity', '2026-03-09', '2026-03-10', '2026-03-11', 'infinity'], utc),
    ['2026-03-09'],
    'a date is old when it is over',
  );

  const first = ['0001-12-31 23:59:59.999999+00 BC', '0001-01-01 00:00:00+00'];
  assert.deepEqual((await old('timestamptz', first, utc)).length, 1, 'a day of the archive begins with the year 1 in UTC');
  assert.deepEqual((await old('timestamp', first, utc)).length, 1);
  // Berlin repeats 02:00–03:00 on 2026-10-25: 00:30 UTC is the first 02:30, 01:30 UTC the second.
  const fold: Cutoff = { instant: '2026-10-25 00:30:00+00', local: '2026-10-25 02:30:00', timezone: 'Europe/Berlin' };
  assert.deepEqual(
    await old('timestamp', ['2026-10-25 01:59:59', '2026-10-25 02:20:00'], fold),
    ['2026-10-25 01:59:59'],
    'an hour that stands twice counts as the later one',
  );

  const kept = { keepWhile: "status = 'done'" };
  assert.deepEqual(await old('timestamp', ['2026-03-01 00:00:00', '2026-03-02 00:00:00'], utc, kept), [], 'kept while the condition holds');
  await client.query('UPDATE public.t SET status = NULL WHERE id = 1');
  const target = await readTarget(client, 'test', table(kept));
  assert.ok(target);
  const { rows } = await client.query(`SELECT id FROM public.t WHERE ${oldEnough(table(kept), target, utc)} AND ${notKept(table(kept))}`);
  assert.equal(rows.length, 1, 'an unknown condition does not hold a row back');

  const cutoff = await readCutoff(client, 86_400_000, 'UTC');
  const { rows: ages } = await client.query<{ ok: string }>(
    `SELECT (clock_timestamp() - $1::timestamptz >= interval '24 hours' AND clock_timestamp() - $1::timestamptz < interval '24 hours 1 minute')::text AS ok`,
    [cutoff.instant],
  );
  assert.equal(ages[0]?.ok, 'true');
  await client.end();
});

test('the planner knows about how many rows are old, of every kind of column, without reading them', async () => {
  await using server = await startPostgres();
  const client = await connectClient(await server.createDatabase(), { applicationName: 'test' });
  const estimate = async (config: TableConfig): Promise<number> => {
    const target = await readTarget(client, 'test', config);
    assert.ok(target);
    return await estimateRows(client, config, target, await readCutoff(client, config.retentionMs, 'Europe/Berlin'));
  };
  const about = (rows: number, expected: number): void => assert.ok(Math.abs(rows - expected) < expected / 10, `${rows}, not about ${expected}`);
  for (const type of ['timestamptz', 'timestamp', 'date']) {
    await client.query(`DROP TABLE IF EXISTS public.t; CREATE TABLE public.t (id serial PRIMARY KEY, at ${type}, status text)`);
    await client.query(
      `INSERT INTO public.t (at, status) SELECT now() - i * interval '4 days 36 seconds' / 1000, CASE WHEN i % 4 = 0 THEN 'open' END FROM generate_series(1, 20000) i`,
    );
    assert.ok((await estimate(table({}))) > 0, 'never analyzed: a guess, and more than nothing');
    await client.query('ANALYZE public.t');
    about(await estimate(table({ retentionMs: 40 * 86_400_000 })), 10_000);
    about(await estimate(table({ retentionMs: 40 * 86_400_000, keepWhile: "status = 'open'" })), 7500);
    assert.ok((await estimate(table({ retentionMs: 400 * 86_400_000 }))) < 10);
  }
  await assert.rejects(estimate(table({ keepWhile: "status = 'open'); DROP TABLE public.t; SELECT (true" })), /multiple commands/);
  assert.ok((await estimate(table({}))) > 0);
  await client.end();
});
