/** The console as `tidemark run` starts it, on a real pipeline: who is answered, what they see, what a wish to prune does, and how a halt is told. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { TableDays } from '../../../services/console/calendar.js';
import type { Picture } from '../../../services/console/picture.js';
import type { Wish } from '../../../services/console/prune.js';
import { freePort } from '../../../services/demo/engines/process.js';
import { archivePaths, manifestName } from '../../../src/archive/layout.js';
import type { RunReceipt } from '../../../src/archive/receipts.js';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import { tidemark } from '../cli/command.js';
import { ask, askRaw, Running, Viewer } from './world.js';

const ROW_VALUE = 'row-value-f3b1';
const OLD_ROWS = 40;

let pipeline: Pipeline;
let supervisor: Running;
let port = 0;

before(async () => {
  port = await freePort();
  pipeline = await Pipeline.start({
    schema: 'CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL, note text); CREATE INDEX ON prices (at);',
    tables: '  prices: { timestamp: at }',
    yaml: `console: { port: ${port} }`,
    flushEvery: '200ms',
  });
  await pipeline.query(`INSERT INTO prices (at, note) SELECT now() - interval '2 days', '${ROW_VALUE}' FROM generate_series(1, ${OLD_ROWS})`);
  await pipeline.doctorFix();
  supervisor = new Running(['run', '-c', pipeline.configFile]);
  await pipeline.archived();
});
after(async () => {
  await supervisor?.[Symbol.asyncDispose]();
  await pipeline?.[Symbol.asyncDispose]();
});

const own = { origin: '', 'content-type': 'application/json' };
const hot = async (): Promise<number> => Number((await pipeline.query<{ n: string }>('SELECT count(*) AS n FROM prices'))[0]?.n);

test('names and origins of others are refused, with a strict policy for the page itself', async () => {
  assert.equal((await ask(port, '/', { headers: { host: 'evil.example' } })).status, 421);
  assert.equal((await ask(port, '/api/status', { headers: { origin: 'http://evil.example' } })).status, 403);
  assert.equal((await ask(port, '/api/status', { headers: { 'sec-fetch-site': 'cross-site' } })).status, 403);
  assert.equal((await ask(port, '/api/status', { method: 'PUT', headers: { origin: `http://127.0.0.1:${port}` } })).status, 405);
  const bare = `POST /api/prune HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nOrigin: http://127.0.0.1:${port}\r\nConnection: close\r\n\r\n`;
  assert.equal(await askRaw(port, bare), 'HTTP/1.1 403 Forbidden', 'without a body and without its length');
  const page = await ask(port, '/');
  assert.equal(page.status, 200);
  const policy = page.headers['content-security-policy'] as string;
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*|data:/);
  assert.doesNotMatch(page.text, /<script(?![^>]* src=)|<style| style=| on\w+=|https?:\/\//, 'nothing inline, nothing from elsewhere');
  assert.equal(page.headers['x-content-type-options'], 'nosniff');
  assert.equal(page.headers['access-control-allow-origin'], undefined);
  assert.equal((await ask(port, '/', { headers: { 'if-none-match': page.headers.etag as string } })).status, 304);
  for (const file of [...page.text.matchAll(/(?:src|href)="([\w./]+)"/g)].map((match) => match[1]))
    assert.equal((await ask(port, `/${file}`)).status, 200, file);
  for (const wrong of ['/nothing', '/login.html', '/../package.json', '/%2e%2e/package.json', '/vendor/../app.js%00'])
    assert.equal((await ask(port, wrong)).status, 404, wrong);
});

test('what it shows: stages, tables, days and services; no row value and no secret', async () => {
  const { text } = await ask(port, '/api/status');
  const picture = JSON.parse(text) as Picture;
  assert.equal(picture.status.source, 'test');
  assert.deepEqual(picture.halts, []);
  const prices = picture.status.tables.find(({ table }) => table === 'prices');
  assert.deepEqual([prices?.archivedRows, prices?.prunable], [OLD_ROWS, true]);
  assert.equal(picture.status.tables.find(({ table }) => table === 'beat')?.why, 'prune: false');
  assert.ok((picture.archive?.bytes ?? 0) > 0);
  assert.deepEqual(picture.services?.map(({ service, state }) => `${service} ${state}`).sort(), ['archiver running', 'capture running', 'pruner running']);
  assert.equal(picture.prune.enabled, true);
  assert.ok(Date.parse(picture.prune.nextRun ?? '') > Date.now());
  const days = await ask(port, '/api/days');
  const { month, tables } = JSON.parse(days.text) as { month: string; tables: TableDays[] };
  const old = new Date(Date.now() - 2 * 86_400_000).toISOString().slice(0, 10);
  const other = await ask(port, `/api/days?month=${old.slice(0, 7)}`);
  assert.equal(month, new Date().toISOString().slice(0, 7), 'the newest');
  assert.equal(tables.length, 2);
  const found = (JSON.parse(other.text) as { tables: TableDays[] }).tables.find(({ table }) => table === 'prices')?.days.find(({ day }) => day === old);
  assert.deepEqual([found?.state, found?.rows], ['open', OLD_ROWS]);
  assert.equal((await ask(port, '/api/days?month=2026-13')).status, 400);
  for (const answer of [text, days.text, other.text, (await ask(port, '/api/session')).text]) {
    assert.ok(!answer.includes(ROW_VALUE));
    assert.ok(!answer.includes(pipeline.databaseUrl));
    assert.doesNotMatch(answer, /postgres(ql)?:\/\/|nats:\/\//);
  }
});

test('browsers share one look in two seconds, and nobody is asked while none is there', async () => {
  {
    await using first = new Viewer(port);
    await using second = new Viewer(port);
    const pictures = await until('three pictures', async () => (first.pictures.length >= 3 && second.pictures.length >= 3 ? first.pictures : undefined));
    const at = pictures.map((picture) => Date.parse(picture.at));
    for (const [i, time] of at.entries()) if (i > 0) assert.ok(time - (at[i - 1] as number) >= 1990, 'at most one look in two seconds');
    assert.ok(
      second.pictures.some((picture) => picture.at === pictures[2]?.at),
      'the same look for both',
    );
    assert.ok(first.history?.fields.includes('archivedSeconds'));
  }
  const looks = async (): Promise<number> => {
    const { rows } = JSON.parse((await historyText()) as string) as { rows: unknown[] };
    return rows.length;
  };
  const before_ = await looks();
  await new Promise((resolve) => setTimeout(resolve, 4500)); // that nothing happens can only be waited for
  assert.ok((await looks()) <= before_ + 1, 'the look that this question itself began, and no more');
});

/** The history that a new browser is told. */
async function historyText(): Promise<string> {
  await using viewer = new Viewer(port);
  return await until('the history', async () => (viewer.history === undefined ? undefined : JSON.stringify(viewer.history)));
}

test('a wish to prune needs its token, JSON and an origin; then the running pruner does it, and its receipt is shown', async () => {
  const headers = { ...own, origin: `http://127.0.0.1:${port}` };
  const { wishToken } = JSON.parse((await ask(port, '/api/session')).text) as { wishToken: string };
  const wish = (change: Record<string, string>, body = '{"table":"prices"}') =>
    ask(port, '/api/prune', { method: 'POST', headers: { ...headers, ...change }, body });
  assert.equal((await wish({})).status, 403, 'no token');
  assert.equal((await wish({ 'x-tidemark-wish': `${wishToken}x` })).status, 403);
  assert.equal(
    (await ask(port, '/api/prune', { method: 'POST', headers: { 'x-tidemark-wish': wishToken, 'content-type': 'application/json' }, body: '{}' })).status,
    403,
    'no origin',
  );
  const right = { 'x-tidemark-wish': wishToken };
  assert.equal((await wish({ ...right, 'content-type': 'text/plain' })).status, 415);
  assert.equal((await wish(right, '{"table":"elsewhere"}')).status, 400);
  assert.equal((await wish(right, '{"drop":true}')).status, 400);
  assert.equal((await wish(right, `{"table":"${'x'.repeat(5000)}"}`)).status, 413);
  assert.equal(await hot(), OLD_ROWS, 'none of these did anything');

  await using viewer = new Viewer(port);
  const outcome = async (dryRun: boolean): Promise<Wish> =>
    await until('the wish is answered', async () => {
      const last = viewer.pictures.at(-1)?.prune.wish;
      return last?.endedAt && last.dryRun === dryRun ? last : undefined;
    });
  assert.equal((await wish(right, '{"table":"prices","dryRun":true}')).status, 202);
  assert.equal((await wish(right)).status, 409, 'one at a time');
  const dry = await outcome(true);
  assert.deepEqual([dry.deleted, dry.problems], [OLD_ROWS, []]);
  assert.equal(await hot(), OLD_ROWS);

  assert.equal((await wish(right)).status, 202);
  await until('the rows are gone', async () => (await hot()) === 0);
  const done = await outcome(false);
  assert.deepEqual([done.deleted, done.problems], [OLD_ROWS, []]);
  const { runs } = JSON.parse((await ask(port, '/api/runs')).text) as { runs: RunReceipt[] };
  assert.equal(runs.length, 2, 'each once, however many ask at a time');
  assert.deepEqual([runs[0]?.run, runs[0]?.trigger, runs[0]?.tables[0]?.deleted], [done.run, 'request', OLD_ROWS]);
  assert.ok(!JSON.stringify(viewer.pictures).includes(ROW_VALUE));
});

test('a port that is taken is one clear line, exit 2', async () => {
  const { code, stderr, stdout } = await tidemark(['console', '-c', pipeline.configFile]);
  assert.equal(code, 2);
  assert.match(stderr + stdout, new RegExp(`console\\.port: port ${port} of 127\\.0\\.0\\.1 is taken by another process`));
  const flag = await tidemark(['console', '--port', String(port), '-c', pipeline.configFile]);
  assert.match(flag.stderr, new RegExp(`--port: port ${port} of 127\\.0\\.0\\.1 is taken by another process → stop it, or give --port another port`));
});

test('with a token: by header, or by a form that sets a cookie; without either nothing is told', async () => {
  const token = 'a-token-of-some-length';
  const locked = await freePort();
  await using alone = new Running(['console', '--port', String(locked), '-c', pipeline.configFile], { TIDEMARK_CONSOLE_TOKEN: token });
  await until('it listens', async () => alone.text.includes(`http://127.0.0.1:${locked}`));
  const get = (where: string, headers: Record<string, string> = {}) => ask(locked, where, { headers });
  assert.equal((await get('/api/status')).status, 401);
  assert.equal((await get('/')).headers.location, '/login');
  assert.equal((await get('/app.js')).status, 303);
  assert.equal((await get('/api/session', { authorization: 'Bearer wrong' })).status, 401);
  assert.equal((await get('/api/session', { authorization: `Bearer ${token}` })).status, 200);
  const form = (body: string, origin = `http://127.0.0.1:${locked}`) =>
    ask(locked, '/login', { method: 'POST', headers: { origin, 'content-type': 'application/x-www-form-urlencoded' }, body });
  const wrong = await form('token=wrong');
  assert.deepEqual([wrong.status, wrong.headers['set-cookie']], [403, undefined]);
  assert.match(wrong.text, /not the token/);
  assert.equal((await form(`token=${token}`, 'http://evil.example')).status, 403);
  const cookie = (await form(`token=${token}`)).headers['set-cookie']?.[0] ?? '';
  for (const part of ['HttpOnly', 'SameSite=Strict', 'Path=/', 'Max-Age=']) assert.ok(cookie.includes(part), cookie);
  assert.ok(!cookie.includes(token));
  const session = { cookie: cookie.split(';')[0] as string };
  const status = await get('/api/status', session);
  assert.equal(status.status, 200);
  assert.equal((JSON.parse(status.text) as Picture).services, null, 'nobody supervises it');
  assert.equal((await ask(locked, '/logout', { method: 'POST', headers: { ...session, origin: `http://127.0.0.1:${locked}` } })).status, 303);
  assert.equal((await get('/api/status', session)).status, 401);
  assert.ok(!alone.text.includes(token));
});

test('metrics and health on its own port, for who asks by an address; while a token is needed, metrics ask for it', async () => {
  const health = await ask(port, '/healthz');
  assert.deepEqual([health.status, JSON.parse(health.text)], [200, { service: 'console', healthy: true }]);
  assert.deepEqual(JSON.parse((await ask(port, '/readyz')).text), { service: 'console', ready: true, reasons: [] });
  await ask(port, '/api/status');
  const { status, headers, text } = await ask(port, '/metrics');
  assert.deepEqual([status, headers['cache-control']], [200, 'no-store']);
  assert.match(headers['content-type'] ?? '', /^text\/plain; version=/);
  const own = 'source="test",service="console"';
  assert.match(text, new RegExp(`^tidemark_ready\\{${own}\\} 1$`, 'm'));
  assert.match(text, new RegExp(`^tidemark_console_looks_total\\{result="done",${own}\\} [1-9]`, 'm'));
  assert.match(text, /^process_resident_memory_bytes\{/m);
  assert.equal((await ask(port, '/metrics', { headers: { host: 'evil.example' } })).status, 421);
  const token = 'a-token-of-some-length';
  const locked = await freePort();
  await using alone = new Running(['console', '--port', String(locked), '-c', pipeline.configFile], { TIDEMARK_CONSOLE_TOKEN: token });
  await until('it listens', async () => alone.text.includes(`http://127.0.0.1:${locked}`));
  const get = (where: string, given?: string) => ask(locked, where, given === undefined ? {} : { headers: { authorization: `Bearer ${given}` } });
  assert.deepEqual([(await get('/healthz')).status, (await get('/readyz')).status, (await get('/metrics')).status], [200, 200, 401]);
  assert.equal((await get('/metrics', token)).status, 200);
  for (let i = 0; i < 10; i += 1) assert.equal((await get('/metrics', 'wrong')).status, 401);
  const shut = await get('/metrics', token);
  assert.equal(shut.status, 429, 'the right token too');
  const wait = Number(/^\{"problem":"too many wrong tokens from this address: wait (\d+) s"\}$/.exec(shut.text)?.[1]);
  assert.ok(wait > 30 && wait <= 60, shut.text);
  assert.ok(Number(shut.headers['retry-after']) <= wait + 1);
  const form = {
    method: 'POST',
    headers: { origin: `http://127.0.0.1:${locked}`, 'content-type': 'application/x-www-form-urlencoded' },
    body: `token=${token}`,
  };
  const login = await ask(locked, '/login', form);
  assert.deepEqual([login.status, /Wait \d+ seconds/.test(login.text)], [429, true]);
  assert.equal((await get('/healthz')).status, 200);
});

test('a halt is told with what was seen, what is safe and the remedy, by the service itself and from outside', async () => {
  await using viewer = new Viewer(port);
  const number = (await pipeline.state())?.number ?? 0;
  await writeFile(path.join(archivePaths(pipeline.archiveDir).manifests, manifestName(number + 1)), '{"torn"');
  await pipeline.query('INSERT INTO beat DEFAULT VALUES');
  const halts = await until('the archiver halted', async () => {
    const told = viewer.pictures.at(-1)?.halts.filter(({ where, at }) => where === 'archiver' && at !== null);
    return told?.length === 1 && viewer.pictures.at(-1)?.services?.find(({ service }) => service === 'archiver')?.state === 'halted' ? told : undefined;
  });
  assert.equal(halts[0]?.halt, 'MANIFEST', 'what has the name of its next manifest is none');
  for (const part of ['seen', 'safe', 'remedy'] as const) assert.ok((halts[0]?.[part] ?? '').length > 10, part);
  const alone = await freePort();
  await using outside = new Running(['console', '--port', String(alone), '-c', pipeline.configFile]);
  await until('it listens', async () => outside.text.includes('http://'));
  const seen = (JSON.parse((await ask(alone, '/api/status')).text) as Picture).halts;
  assert.deepEqual(
    seen.map(({ halt, at }) => [halt, at]),
    [['MANIFEST', null]],
  );
  assert.match(seen[0]?.remedy ?? '', /tidemark verify/);
  assert.match((await tidemark(['status', '-c', pipeline.configFile])).stdout, /^HALT {7}MANIFEST \(archive\): .*→ .*tidemark verify/m);
  supervisor.process.kill('SIGTERM');
  assert.equal(await supervisor.ended, 3, supervisor.text);
});
