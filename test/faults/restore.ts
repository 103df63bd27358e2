/** F51, the drill: the archive, read as its users read it, goes into an empty table, which is then equal to what was written. */
import assert from 'node:assert/strict';
import { DuckDBInstance } from '@duckdb/node-api';
import { fingerprint, type Tick } from '../pipeline/ticks.js';
import { World } from './world.js';

export async function drill(major?: number): Promise<string> {
  await using world = await World.start({ ...(major === undefined ? {} : { major }) });
  const { pipeline, ticks } = world;
  for (let i = 0; i < 3; i += 1) await world.work();
  await world.archived();
  await world.pruneAndSeal();
  await world.archived();
  const views = await pipeline.cli(['views', '-c', pipeline.configFile]);
  assert.equal(views.code, 0, views.stderr);
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const rows = (
    await connection.runAndReadAll(`SET TimeZone = 'UTC'; ${views.stdout}; SELECT id::VARCHAR AS id, "at"::VARCHAR AS "at", v, n::VARCHAR AS n FROM ticks`)
  ).getRowObjects();
  connection.closeSync();
  instance.closeSync();
  await pipeline.query('CREATE TABLE restored (LIKE ticks INCLUDING ALL)');
  await pipeline.sql.query('INSERT INTO restored SELECT * FROM json_populate_recordset(NULL::restored, $1::json)', [JSON.stringify(rows)]);
  await pipeline.query('TRUNCATE ticks');
  await pipeline.query('INSERT INTO ticks SELECT * FROM restored');
  const back = await pipeline.query<Tick>('SELECT id, at, v, n FROM ticks');
  assert.equal(back.length, ticks.live.size);
  for (const row of back) assert.equal(fingerprint(row), ticks.live.get(row.id));
  return `${back.length} rows back`;
}
