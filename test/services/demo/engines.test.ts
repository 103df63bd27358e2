/** The engines themselves: each Postgres the tests know comes up logical, NATS comes up with JetStream, both start again on their data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from 'nats';
import pg from 'pg';
import { startNats } from '../../../services/demo/engines/nats.js';
import { availablePostgresMajors, startPostgres } from '../../../services/demo/engines/postgres.js';

test('two majors at least, 18 among them', async () => {
  const majors = await availablePostgresMajors();
  assert.ok(majors.includes(18) && majors.length >= 1, `found ${majors.join(', ')}`);
});

for (const major of await availablePostgresMajors()) {
  test(`Postgres ${major} is logical and keeps its data over a crash`, async () => {
    await using server = await startPostgres({ major });
    const url = await server.createDatabase('some "name"');
    const query = async (text: string): Promise<unknown> => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      const { rows } = await client.query({ text, rowMode: 'array' });
      await client.end();
      return rows[0]?.[0];
    };
    assert.equal(await query('SHOW wal_level'), 'logical');
    assert.match(String(await query('SHOW server_version')), new RegExp(`^${major}\\.`));
    await query('CREATE TABLE t AS SELECT 1 AS x');
    await server.stop('immediate');
    await server.start();
    assert.equal(await query('SELECT x FROM t'), 1);
  });
}

test('nats-server has JetStream and keeps its streams over a kill', async () => {
  await using server = await startNats();
  const withManager = async <T>(use: (manager: Awaited<ReturnType<Awaited<ReturnType<typeof connect>>['jetstreamManager']>>) => Promise<T>): Promise<T> => {
    const connection = await connect({ servers: server.url });
    const result = await use(await connection.jetstreamManager());
    await connection.close();
    return result;
  };
  await withManager((manager) => manager.streams.add({ name: 'S', subjects: ['s'] }));
  await server.kill();
  await server.start();
  assert.equal(await withManager(async (manager) => (await manager.streams.info('S')).config.name), 'S');
});
