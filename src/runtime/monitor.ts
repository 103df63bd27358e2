/**
 * The small HTTP server of a service: `/metrics` for Prometheus, `/healthz` (200 while the loop turns), `/readyz` (200 while it is ready, else 503 and the reasons). Owns the port and the form of
 * the answers (the console gives them on a port of its own). It reads, and must never change or hold up anything.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import type { Config } from './config.js';
import { configError, describeError } from './errors.js';
import { Health } from './health.js';
import type { Log } from './log.js';
import { type Metrics, MetricsRegistry, NO_METRICS } from './metrics.js';

/** What a service tells the outside through. */
export type Monitor = { readonly metrics: Metrics; readonly health: Health };

/** Nobody looks. */
export function unwatched(): Monitor {
  return { metrics: NO_METRICS, health: new Health() };
}

/** The numbers and the health of a service that somebody looks at. */
export type Watched = { readonly service: string; readonly metrics: MetricsRegistry; readonly health: Health; readonly log: Log };

/** Loads the library, and registers what every service has. */
export async function watched(service: string, config: Config, log: Log): Promise<Watched> {
  const metrics = await MetricsRegistry.open({ source: config.source.name, service });
  const health = new Health();
  metrics.gauge('tidemark_ready', '1 while the service is ready, as /readyz says.', () => (health.unready().length === 0 ? 1 : 0));
  return { service, metrics, health, log };
}

/** Opens the port that the configuration gives this service; without one nobody looks. Throws `config` when the port is not to be had. */
export async function openMonitor(service: string, config: Config, log: Log): Promise<Monitor> {
  const { metrics: wanted } = config;
  const port = (wanted as Readonly<Record<string, unknown>> | undefined)?.[service];
  if (wanted === undefined || typeof port !== 'number') return unwatched();
  const mine = await watched(service, config, log);
  const server = createServer((request, response) => void answer(request, response, mine));
  await listen(server, { host: wanted.host, port, field: `metrics.${service}` });
  log.info({ event: 'metrics', host: wanted.host, port }, `metrics and health on http://${isIPv6(wanted.host) ? `[${wanted.host}]` : wanted.host}:${port}`);
  return mine;
}

async function listen(server: Server, { host, port, field }: { host: string; port: number; field: string }): Promise<void> {
  server.requestTimeout = 10_000;
  server.keepAliveTimeout = 75_000; // whoever asks every minute keeps its connection
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, resolve);
  }).catch(({ code }: NodeJS.ErrnoException) => {
    throw code === 'EADDRINUSE'
      ? configError(`${field}: port ${port} of ${host} is taken by another process`, `stop it, or give ${field} another port`)
      : configError(
          `${field}: port ${port} of ${host} cannot be listened on (${code})`,
          'give metrics.host an address of this machine, and a port that this user may use',
        );
  });
  server.on('error', () => undefined);
  server.unref(); // it ends with its process, and keeps none alive
}

async function answer(request: IncomingMessage, response: ServerResponse, of: Watched): Promise<void> {
  request.resume();
  if (request.method !== 'GET' && request.method !== 'HEAD') return reply(response, { ...text(405, 'only GET\n'), allow: 'GET, HEAD' });
  reply(response, (await monitorAnswer(request.url?.split('?')[0] ?? '', of)) ?? text(404, 'there are /metrics, /healthz and /readyz\n'));
}

/** An answer, whoever gives it. */
export type MonitorAnswer = { readonly status: 200 | 404 | 405 | 500 | 503; readonly type: string; readonly body: string };

/** What a service answers at `path`; undefined: nothing of this is there. */
export async function monitorAnswer(path: string, { service, metrics, health, log }: Watched): Promise<MonitorAnswer | undefined> {
  switch (path) {
    case '/metrics':
      return await metrics.text().then(
        (body): MonitorAnswer => ({ status: 200, type: metrics.contentType, body }),
        (error: unknown) => {
          log.warn({ event: 'metrics-failed', reason: describeError(error) }, 'the metrics could not be gathered');
          return text(500, 'the metrics could not be gathered\n');
        },
      );
    case '/healthz': {
      const problem = health.stuck();
      return json(problem === undefined ? 200 : 503, { service, healthy: problem === undefined, ...(problem === undefined ? {} : { problem }) });
    }
    case '/readyz': {
      const reasons = health.unready();
      return json(reasons.length === 0 ? 200 : 503, { service, ready: reasons.length === 0, reasons });
    }
    default:
      return undefined;
  }
}

function json(status: MonitorAnswer['status'], body: unknown): MonitorAnswer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}

function text(status: MonitorAnswer['status'], body: string): MonitorAnswer {
  return { status, type: 'text/plain; charset=utf-8', body };
}

function reply(response: ServerResponse, { status, type, body, allow }: MonitorAnswer & { readonly allow?: string }): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...(allow === undefined ? {} : { allow }) }).end(body);
}
