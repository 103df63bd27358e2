/** The brake that a database administrator wants: pruning waits for a physical standby that lags, and says when it cannot see one. On a real standby whose replay is paused. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import pino from 'pino';
import { startPostgres } from '../../services/demo/engines/postgres.js';
import { standbyLag, waitForStandbys } from '../../src/prune/brakes.js';
import { prunePreflight } from '../../src/prune/preflight.js';
import type { Config } from '../../src/runtime/config.js';
import { connectClient } from '../../src/wal/session.js';
import { until } from '../pipeline/pipeline.js';

const log = pino({ level: 'silent' });

test('a standby that lags holds pruning back until it has caught up', async () => {
  await using primary = await startPostgres();
  await using standby = await startPostgres();
  await Promise.all([primary.stop(), standby.stop()]);
  // The copy has the primary's passwords: both let everyone in.
  await writeFile(path.join(primary.dataDir, 'pg_hba.conf'), 'host all,replication all 127.0.0.1/32 trust\n');
  const run = promisify(execFile);
  await run('rm', ['-rf', standby.dataDir]);
  await run('cp', ['-a', primary.dataDir, standby.dataDir]);
  await primary.start();
  const { username, password } = new URL(primary.url);
  const source = `host=${primary.host} port=${primary.port} user=${username} password=${password}`;
  await appendFile(path.join(standby.dataDir, 'postgresql.auto.conf'), `primary_conninfo = '${source}'\n`);
  await writeFile(path.join(standby.dataDir, 'standby.signal'), '');
  await standby.start();
  const there = new URL(primary.url);
  there.port = String(standby.port);

  const client = await connectClient(primary.url, { applicationName: 'test' });
  const replay = await connectClient(there.toString(), { applicationName: 'test' });
  const signal = new AbortController().signal;
  await until(
    'the standby streams',
    async () => (await client.query("SELECT FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL")).rows.length === 1,
  );
  await until('it has caught up', async () => (await standbyLag(client)) === 0);
  assert.equal(await waitForStandbys(client, 0, log, signal), undefined);

  await replay.query('SELECT pg_wal_replay_pause()');
  await client.query("CREATE TABLE public.t AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 2000)");
  await until('it lags', async () => (await standbyLag(client)) > 1_000_000);
  const aborted = AbortSignal.timeout(300);
  assert.match((await waitForStandbys(client, 1_000_000, log, aborted)) ?? '', /stopped/);
  const waiting = waitForStandbys(client, 0, log, signal);
  await replay.query('SELECT pg_wal_replay_resume()');
  assert.equal(await waiting, undefined);

  await client.query("CREATE ROLE blind LOGIN PASSWORD 'p'");
  const blind = new URL(primary.url);
  blind.username = 'blind';
  blind.password = 'p';
  const other = await connectClient(blind.toString(), { applicationName: 'test' });
  const config = { source: { name: 'test', timezone: 'Mars/Olympus' }, tables: [], protected: [] } as unknown as Config;
  const checks = await prunePreflight(other, config);
  assert.match(checks.find((check) => check.name === 'standbys')?.remedy ?? '', /GRANT pg_read_all_stats TO "blind"/);
  assert.match(checks.find((check) => check.name === 'timezone')?.seen ?? '', /does not know/);
  await client.query('GRANT pg_read_all_stats TO blind');
  assert.equal((await prunePreflight(other, config)).find((check) => check.name === 'standbys')?.status, 'ok');
  for (const open of [client, replay, other]) await open.end();
});
