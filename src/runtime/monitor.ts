/**
 * The small HTTP server of a service: `/metrics` for Prometheus, `/healthz` (200 while the loop turns), `/readyz` (200 while it is ready, else 503 and the reasons). Owns the port and the form of
 * the answers. It reads, and must never change or hold up anything.
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

/** Opens the port that the configuration gives this service; without one nobody looks. Throws `config` when the port is not to be had. */
export async function openMonitor(service: string, config: Config, log: Log): Promise<Monitor> {
  const { metrics: wanted } = config;
  const port = (wanted as Readonly<Record<string, unknown>> | undefined)?.[service];
  if (wanted === undefined || typeof port !== 'number') return unwatched();
  const metrics = await MetricsRegistry.open({ source: config.source.name, service });
  const health = new Health();
  metrics.gauge('tidemark_ready', '1 while the service is ready, as /readyz says.', () => (health.unready().length === 0 ? 1 : 0));
  const server = createServer((request, response) => void answer(request, response, { service, metrics, health, log }));
  await listen(server, { host: wanted.host, port, field: `metrics.${service}` });
  log.info({ event: 'metrics', host: wanted.host, port }, `metrics and health on http://${isIPv6(wanted.host) ? `[${wanted.host}]` : wanted.host}:${port}`);
  return { metrics, health };
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

type Watched = { readonly service: string; readonly metrics: MetricsRegistry; readonly health: Health; readonly log: Log };

async function answer(request: IncomingMessage, response: ServerResponse, { service, metrics, health, log }: Watched): Promise<void> {
  request.resume();
  if (request.method !== 'GET' && request.method !== 'HEAD') return reply(response, 405, 'only GET\n', { allow: 'GET, HEAD' });
  switch (request.url?.split('?')[0]) {
    case '/metrics':
      return await metrics.text().then(
        (text) => reply(response, 200, text, { 'content-type': metrics.contentType }),
        (error: unknown) => {
          log.warn({ event: 'metrics-failed', reason: describeError(error) }, 'the metrics could not be gathered');
          reply(response, 500, 'the metrics could not be gathered\n');
        },
      );
    case '/healthz': {
      const problem = health.stuck();
      return json(response, problem === undefined ? 200 : 503, { service, healthy: problem === undefined, ...(problem === undefined ? {} : { problem }) });
    }
    case '/readyz': {
      const reasons = health.unready();
      return json(response, reasons.length === 0 ? 200 : 503, { service, ready: reasons.length === 0, reasons });
    }
    default:
      return reply(response, 404, 'there are /metrics, /healthz and /readyz\n');
  }
}

function json(response: ServerResponse, status: number, body: unknown): void {
  reply(response, status, `${JSON.stringify(body)}\n`, { 'content-type': 'application/json' });
}

function reply(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store', ...headers }).end(body);
}
