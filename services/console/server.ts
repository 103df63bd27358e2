/**
 * What the console answers to whom. Every request passes the guard (names, origins), then the session when a token is set; all but a wish to prune reads. Owns routes and headers; no row, key or secret
 * goes through here.
 */
import { getConnInfo } from '@hono/node-server/conninfo';
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';
import { parsePruneRequest } from '../../src/prune/request.js';
import type { TableConfig } from '../../src/runtime/config.js';
import type { Secret } from '../../src/runtime/config-values.js';
import { describeError } from '../../src/runtime/errors.js';
import { isLoopback } from '../../src/runtime/loopback.js';
import { monitorAnswer, type Watched } from '../../src/runtime/monitor.js';
import type { Asset } from './asset.js';
import { daysOfMonth, months } from './calendar.js';
import { isForPrograms, refusal } from './guard.js';
import { live } from './live.js';
import { pictureText } from './picture.js';
import type { Poll } from './poll.js';
import type { PruneWishes } from './prune.js';
import { SESSION_SECONDS, type Sessions } from './session.js';

export type ConsoleParts = {
  readonly source: string;
  readonly tables: readonly TableConfig[];
  readonly wanted: { readonly host: string; readonly token?: Secret | undefined; readonly names: readonly string[] };
  readonly poll: Poll;
  readonly monitor: Watched;
  readonly wishes: PruneWishes;
  readonly sessions: Sessions;
  readonly assets: ReadonlyMap<string, Asset>;
};

const COOKIE = 'tidemark_session';
/** What may be seen without a session: the form, and how it looks. */
const OPEN_PATHS = new Set(['/login', '/login.css', '/base.css', '/theme.js', '/mark.svg']);
const LONGEST_BODY = 4096;
const MOST_RUNS = 50;
const MONTH = /^\d{4}-(0[1-9]|1[0-2])$/;

export function consoleApp(parts: ConsoleParts): Hono {
  const app = new Hono();
  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        formAction: ["'self'"],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
      },
      // With `no-referrer` a form would be sent with `Origin: null`.
      referrerPolicy: 'same-origin',
      xFrameOptions: 'DENY',
      crossOriginResourcePolicy: 'same-origin',
      crossOriginOpenerPolicy: 'same-origin',
      strictTransportSecurity: false, // a proxy that speaks TLS says it for its own name
      permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
    }),
    guard(parts),
    shortBody(),
  );
  for (const where of ['/healthz', '/readyz']) app.get(where, (c) => monitored(c, parts));
  addLogin(app, parts);
  app.use(requireSession(parts.sessions));
  app.get('/metrics', (c) => monitored(c, parts));
  addReading(app, parts);
  addWishes(app, parts);
  app.get('*', (c) => asset(c, parts, c.req.path === '/' ? '/index.html' : c.req.path));
  app.notFound((c) => c.json({ problem: 'there is nothing here' }, 404));
  app.onError((error, c) => c.json({ problem: describeError(error) }, 500));
  return app;
}

function shortBody(): MiddlewareHandler {
  const limit = bodyLimit({ maxSize: LONGEST_BODY, onError: (c) => c.json({ problem: `more than ${LONGEST_BODY} bytes` }, 413) });
  // Who names neither a length nor chunks sends no body; the library fails when it is asked for that.
  return (c, next) => (c.req.header('content-length') === undefined && c.req.header('transfer-encoding') === undefined ? next() : limit(c, next));
}

function guard({ wanted }: ConsoleParts): MiddlewareHandler {
  const rules = { names: wanted.names, loopback: isLoopback(wanted.host) };
  return async (c, next) => {
    const { method, path } = c.req;
    const refused = refusal({ method, path, host: c.req.header('host'), origin: c.req.header('origin'), site: c.req.header('sec-fetch-site') }, rules);
    if (refused !== undefined) return c.json({ problem: refused.reason }, refused.status);
    if (isForPrograms(path)) c.header('Cache-Control', 'no-store');
    return await next();
  };
}

function requireSession(sessions: Sessions): MiddlewareHandler {
  return async (c, next) => {
    const given = /^Bearer (.+)$/.exec(c.req.header('authorization') ?? '')?.[1];
    if (!sessions.needed || sessions.isOpen(getCookie(c, COOKIE))) return await next();
    if (given !== undefined) {
      const wait = sessions.waitSeconds(addressOf(c));
      if (wait > 0) return c.json({ problem: `too many wrong tokens from this address: wait ${wait} s` }, 429, { 'Retry-After': String(wait) });
      if (sessions.tokenIsRight(given, addressOf(c))) return await next();
    }
    if (isForPrograms(c.req.path)) return c.json({ problem: 'log in, or send Authorization: Bearer with the token' }, 401);
    return c.redirect('/login', 303);
  };
}

function addressOf(c: Context): string {
  return getConnInfo(c).remote.address ?? '';
}

function addLogin(app: Hono, parts: ConsoleParts): void {
  const { sessions } = parts;
  const form = (c: Context, message: string, status: 200 | 403 | 429): Response => {
    const page = parts.assets.get('/login.html') as Asset;
    c.header('Cache-Control', 'no-store');
    return c.html(page.body.toString().replace('<!-- message -->', message), status);
  };
  for (const name of OPEN_PATHS) if (name !== '/login') app.get(name, (c) => asset(c, parts, name));
  app.get('/login', (c) => (!sessions.needed || sessions.isOpen(getCookie(c, COOKIE)) ? c.redirect('/', 303) : form(c, '', 200)));
  app.post('/login', async (c) => {
    if (!sessions.needed) return c.redirect('/', 303);
    const wait = sessions.waitSeconds(addressOf(c));
    if (wait > 0) {
      c.header('Retry-After', String(wait));
      return form(c, `Too many wrong tokens. Wait ${wait} seconds.`, 429);
    }
    const { token } = await c.req.parseBody();
    if (typeof token !== 'string' || !sessions.tokenIsRight(token, addressOf(c))) return form(c, 'That is not the token in console.token.', 403);
    const secure = c.req.header('origin')?.startsWith('https:') === true;
    setCookie(c, COOKIE, sessions.open(), { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: SESSION_SECONDS, secure });
    return c.redirect('/', 303);
  });
  app.post('/logout', (c) => {
    sessions.close(getCookie(c, COOKIE));
    deleteCookie(c, COOKIE, { path: '/' });
    return c.redirect('/login', 303);
  });
}

async function monitored(c: Context, { monitor }: ConsoleParts): Promise<Response> {
  const answer = await monitorAnswer(c.req.path, monitor);
  return answer === undefined ? c.notFound() : c.body(answer.body, answer.status as 200, { 'Content-Type': answer.type });
}

function addReading(app: Hono, { source, tables, poll, sessions }: ConsoleParts): void {
  app.get('/api/session', (c) =>
    c.json({ source, tables: tables.map(({ key }) => key), wishToken: sessions.wishToken(getCookie(c, COOKIE)), login: sessions.needed }),
  );
  app.get('/api/status', async (c) => c.body(pictureText(await poll.picture()), 200, { 'Content-Type': 'application/json' }));
  app.get('/api/runs', async (c) => c.json({ runs: await poll.runs(MOST_RUNS) }));
  app.get('/api/days', async (c) => {
    const archive = await poll.archive().catch((error: unknown) => ({ problem: describeError(error) }));
    if (archive === undefined || 'problem' in archive) return c.json({ problem: archive?.problem ?? 'no manifest yet' });
    const known = months(archive.files.values());
    const month = c.req.query('month') ?? known[0] ?? new Date().toISOString().slice(0, 7);
    if (!MONTH.test(month)) return c.json({ problem: 'month: write for instance 2026-11' }, 400);
    return c.json({ month, months: known, manifest: archive.number, tables: daysOfMonth(tables, archive.files.values(), month) });
  });
  // Of HEAD nobody reads the stream: it would never end, and the pipeline be looked at for ever.
  app.get('/api/live', (c) => (c.req.method === 'HEAD' ? c.body(null, 200, { 'Content-Type': 'text/event-stream' }) : live(c, poll)));
}

/** The only thing that is not reading: asks the running pruner, with the token that the page was given. */
function addWishes(app: Hono, { tables, wishes, sessions }: ConsoleParts): void {
  app.post('/api/prune', async (c) => {
    if (!sessions.isWishToken(c.req.header('x-tidemark-wish'), getCookie(c, COOKIE)))
      return c.json({ problem: 'the wish lacks its token: load the page again' }, 403);
    if (c.req.header('content-type') !== 'application/json') return c.json({ problem: 'send JSON' }, 415);
    let request: ReturnType<typeof parsePruneRequest>;
    try {
      request = parsePruneRequest(await c.req.text());
    } catch (error) {
      return c.json({ problem: describeError(error) }, 400);
    }
    const { table } = request;
    if (table !== undefined && !tables.some(({ key }) => key === table))
      return c.json({ problem: `no table is named ${JSON.stringify(table)} in the configuration` }, 400);
    const wish = wishes.begin(request);
    return wish === undefined ? c.json({ problem: 'another wish is on its way: wait for its answer' }, 409) : c.json(wish, 202);
  });
}

function asset(c: Context, { assets }: ConsoleParts, name: string): Response {
  const found = assets.get(name);
  if (found === undefined || name === '/login.html') return c.json({ problem: 'there is nothing here' }, 404);
  c.header('Cache-Control', 'no-cache');
  c.header('ETag', found.etag);
  if (c.req.header('if-none-match') === found.etag) return c.body(null, 304);
  c.header('Content-Type', found.type);
  return c.body(new Uint8Array(found.body));
}
