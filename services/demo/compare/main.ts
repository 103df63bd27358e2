/** The old script as a process: `main.js CONFIG [once]`. Runs at every multiple of its interval until SIGTERM; says each table as a line of JSON. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DuckDBInstance } from '@duckdb/node-api';
import { connectClient } from '../../../src/wal/session.js';
import { type OldScriptConfig, runOldScript } from './old-script.js';

const config = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as OldScriptConfig;
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const client = await connectClient(config.url, { applicationName: 'old_script', queryTimeoutMs: 0 });
const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
const duckdb = await instance.connect();
const run = (): Promise<void> => runOldScript(config, client, duckdb, (said) => process.stdout.write(`${JSON.stringify(said)}\n`));
if (process.argv[3] === 'once') await run();
else {
  while (!stop.signal.aborted) {
    await sleep(config.everyMs - (Date.now() % config.everyMs), undefined, { signal: stop.signal }).catch(() => undefined);
    if (!stop.signal.aborted) await run();
  }
}
await client.end();
duckdb.closeSync();
