/** How many rows a table has, about: by what the server knows of it, also behind a crash, which takes its statistics. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pg from 'pg';
import { availablePostgresMajors, startPostgres } from '../../services/demo/engines/postgres.js';
import { estimatedRows } from '../../src/wal/table-estimate.js';
import { until } from '../pipeline/pipeline.js';

for (const major of await availablePostgresMajors()) {
  test(`Postgres ${major}: a few rows behind a crash are not taken for the whole table`, async () => {
    await using server = await startPostgres({ major, settings: { autovacuum: 'off' } });
    const url = await server.createDatabase();
    const connected = async <T>(use: (client: pg.Client) => Promise<T>): Promise<T> => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      return await use(client).finally(() => client.end());
    };
    const run = (sql: string): Promise<unknown> => connected((client) => client.query(sql));
    const estimate = (): Promise<number> =>
      connected(async (client) => {
        const { rows } = await client.query<{ oid: string }>(`SELECT 't'::regclass::oid::text AS oid`);
        return await estimatedRows(client, [Number(rows[0]?.oid)]);
      });
    const comesTo = (rows: number): Promise<unknown> => until(`${rows} rows`, async () => (await estimate()) === rows || undefined);
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)');
    await comesTo(1000);
    await run('ANALYZE t');
    await run('DELETE FROM t WHERE id > 900');
    await comesTo(900);
    await run('ANALYZE t');
    await server.stop('immediate');
    await server.start();
    assert.equal(await estimate(), 900);
    await run('INSERT INTO t SELECT generate_series(901, 905)');
    await until('the server has counted them', async () => {
      const counted = await connected((client) => client.query(`SELECT n_live_tup::int AS n FROM pg_stat_user_tables WHERE relname = 't'`));
      return counted.rows[0]?.n === 5 || undefined;
    });
    assert.equal(await estimate(), 900);
    await run('VACUUM ANALYZE t');
    await comesTo(905);
    await run('DELETE FROM t');
    await run('VACUUM ANALYZE t');
    await comesTo(0);
  });
}
