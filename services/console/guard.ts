/**
 * Which requests are answered at all, by what a browser cannot be made to forge: the name it asked for (a page elsewhere may have pointed its own name at us) and the page that it asks from. Pure.
 */
import { isIP } from 'node:net';
import { isLoopback } from '../../src/runtime/loopback.js';

export type Asked = {
  readonly method: string;
  readonly path: string;
  /** Header `Host`: name or address, perhaps with a port. */
  readonly host: string | undefined;
  readonly origin: string | undefined;
  /** Header `Sec-Fetch-Site`. */
  readonly site: string | undefined;
};

export type Refusal = { readonly status: 403 | 405 | 421; readonly reason: string };

const READING = new Set(['GET', 'HEAD']);
const MONITOR = new Set(['/metrics', '/healthz', '/readyz']);

/** Why a request is refused; undefined when it is not. `names`: console.names, besides localhost and addresses; `loopback`: only this machine may ask. */
export function refusal(
  { method, path, host, origin, site }: Asked,
  { names, loopback }: { names: readonly string[]; loopback: boolean },
): Refusal | undefined {
  const name = hostName(host);
  if (name === undefined || !isOurs(name, names, loopback))
    return { status: 421, reason: `this console is not known as ${JSON.stringify(name ?? host ?? '')}; add the name to console.names, or ask for an address` };
  const reading = READING.has(method);
  if (!reading && method !== 'POST') return { status: 405, reason: 'only GET and POST' };
  if (origin === undefined) return reading ? crossSite(path, site) : { status: 403, reason: 'a POST needs an Origin' };
  if (hostOf(origin) !== host?.toLowerCase()) return { status: 403, reason: 'asked from a page of another origin' };
  return reading ? crossSite(path, site) : undefined;
}

/** What programs ask for, and no link leads to. */
export function isForPrograms(path: string): boolean {
  return path.startsWith('/api/') || MONITOR.has(path);
}

/** A link from elsewhere may lead to the page, but nothing else may be asked from there. */
function crossSite(path: string, site: string | undefined): Refusal | undefined {
  if (site === undefined || site === 'same-origin' || site === 'none' || !isForPrograms(path)) return undefined;
  return { status: 403, reason: 'asked from a page of another site' };
}

/** An address cannot be pointed at us by a name of somebody else's. The port does not matter: a tunnel has its own. */
function isOurs(name: string, names: readonly string[], loopback: boolean): boolean {
  return isLoopback(name) || (!loopback && isIP(name) !== 0) || names.some((known) => known.toLowerCase() === name);
}

function hostName(host: string | undefined): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(host ?? '');
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

function hostOf(origin: string): string | undefined {
  try {
    return new URL(origin).host;
  } catch {
    return undefined; // `null` is the origin of a page that hides it
  }
}
