/** The console service: listens until the signal aborts. Owns the port; reads the pipeline only while somebody looks. Must never take the others with it: it ends alone. */
import type { Server } from 'node:http';
import { isIPv6 } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Config } from '../../src/runtime/config.js';
import { configError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { watched } from '../../src/runtime/monitor.js';
import { readReport } from '../../src/runtime/supervision.js';
import { readAssets } from './asset.js';
import { ConsoleMetrics } from './metrics.js';
import { Poll } from './poll.js';
import { PruneWishes } from './prune.js';
import { consoleApp } from './server.js';
import { Sessions } from './session.js';

/** Where it listens when the configuration does not say. */
const DEFAULT = { host: '127.0.0.1', port: 9470, token: undefined, names: [] };
/** Browsers and their streams at a time. */
const MOST_CONNECTIONS = 256;

/** `field`: where the port was given. `listening` hears the address. */
export type ConsoleStart = { readonly field?: string; readonly listening?: (address: string) => void };

/** Until the signal aborts. Throws `config` when the port is not to be had. */
export async function runConsole(config: Config, log: Log, signal: AbortSignal, { field = 'console.port', listening }: ConsoleStart = {}): Promise<void> {
  const wanted = config.console ?? DEFAULT;
  const wishes = new PruneWishes(config, log, signal);
  const poll = new Poll({ config, wishes, log });
  const monitor = await watched('console', config, log);
  const metrics = new ConsoleMetrics(monitor, () => poll.viewers);
  poll.metrics = metrics;
  process.on('message', (message) => {
    const services = readReport(message);
    if (services !== undefined) poll.services = services;
  });
  const app = consoleApp({
    source: config.source.name,
    tables: config.tables,
    wanted,
    poll,
    wishes,
    monitor,
    sessions: new Sessions(wanted.token, () => metrics.wrongToken()),
    assets: await readAssets(),
  });
  const server = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  server.requestTimeout = server.headersTimeout = 10_000;
  server.maxConnections = MOST_CONNECTIONS;
  await listen(server, wanted, field);
  const address = `http://${isIPv6(wanted.host) ? `[${wanted.host}]` : wanted.host}:${wanted.port}`;
  log.info({ event: 'console', host: wanted.host, port: wanted.port, token: wanted.token !== undefined }, `console on ${address}`);
  listening?.(address);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await poll.stop();
  server.close();
  server.closeAllConnections();
  await wishes.ended();
}

async function listen(server: Server, { host, port }: { host: string; port: number }, field: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, resolve);
  }).catch(({ code }: NodeJS.ErrnoException) => {
    throw code === 'EADDRINUSE'
      ? configError(`${field}: port ${port} of ${host} is taken by another process`, `stop it, or give ${field} another port`)
      : configError(
          `console.host: port ${port} of ${host} cannot be listened on (${code ?? 'unknown'})`,
          'give console.host an address of this machine, and a port that this user may use',
        );
  });
}
