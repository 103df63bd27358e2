/** Which requests are answered at all: names that an attacker can point at us, pages of other origins. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Asked, refusal } from '../../../services/console/guard.js';
import type { Poll } from '../../../services/console/poll.js';
import type { PruneWishes } from '../../../services/console/prune.js';
import { consoleApp } from '../../../services/console/server.js';
import { Sessions } from '../../../services/console/session.js';
import type { Watched } from '../../../src/runtime/monitor.js';

const HERE = { names: ['console.internal'], loopback: true };
const EVERYWHERE = { names: [], loopback: false };
const asked = (change: Partial<Asked>): Asked => ({
  method: 'GET',
  path: '/api/status',
  host: 'localhost:9470',
  origin: undefined,
  site: undefined,
  ...change,
});

test('DNS rebinding: only names of this machine, addresses and those of console.names are answered', () => {
  for (const host of ['localhost:9470', 'LOCALHOST', '127.0.0.1:9470', '127.8.0.1', '[::1]:9470', 'localhost:8080', 'console.internal', 'Console.Internal:443'])
    assert.equal(refusal(asked({ host }), HERE), undefined, host);
  for (const host of [
    undefined,
    '',
    'evil.example',
    'evil.example:9470',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '10.0.0.7:9470',
    'localhost:9470@evil',
    'a b',
    '[::2]',
  ])
    assert.equal(refusal(asked({ host }), HERE)?.status, 421, String(host));
  assert.equal(refusal(asked({ host: '10.0.0.7:9470' }), EVERYWHERE), undefined, 'an address cannot be pointed at us');
  assert.equal(refusal(asked({ host: 'evil.example' }), EVERYWHERE)?.status, 421);
});

test('a page of another origin is refused, and what hides its origin may change nothing', () => {
  assert.equal(refusal(asked({ origin: 'http://localhost:9470' }), HERE), undefined);
  assert.equal(refusal(asked({ host: 'console.internal', origin: 'https://console.internal' }), HERE), undefined, 'behind a proxy that speaks TLS');
  for (const origin of ['http://evil.example', 'http://localhost:9471', 'null', 'http://127.0.0.1:9470', ''])
    assert.equal(refusal(asked({ origin }), HERE)?.status, 403, origin);
  const post = { method: 'POST', path: '/api/prune' };
  assert.equal(refusal(asked({ ...post, origin: 'http://localhost:9470' }), HERE), undefined);
  assert.equal(refusal(asked(post), HERE)?.status, 403, 'a POST without an Origin');
  assert.equal(refusal(asked({ ...post, origin: 'null' }), HERE)?.status, 403);
  assert.equal(refusal(asked({ method: 'DELETE', origin: 'http://localhost:9470' }), HERE)?.status, 405);
});

test('a page of another site may link here, and read nothing', () => {
  for (const site of ['cross-site', 'same-site']) {
    for (const path of ['/api/status', '/metrics', '/readyz']) assert.equal(refusal(asked({ site, path }), HERE)?.status, 403, site);
    assert.equal(refusal(asked({ site, path: '/' }), HERE), undefined, site);
  }
  for (const site of ['same-origin', 'none']) assert.equal(refusal(asked({ site }), HERE), undefined, site);
});

test('HEAD of the stream of events ends, and nobody looks for it', async () => {
  let viewers = 0;
  const watch = (): (() => void) => {
    viewers += 1;
    return () => undefined;
  };
  const poll = { signal: new AbortController().signal, history: { rows: () => [] }, watch } as unknown as Poll;
  const wanted = { host: '127.0.0.1', names: [] };
  const [monitor, wishes, sessions] = [{} as Watched, {} as PruneWishes, new Sessions(undefined)];
  const app = consoleApp({ source: 'x', tables: [], wanted, poll, monitor, wishes, sessions, assets: new Map() });
  assert.equal((await app.request('/api/live', { method: 'HEAD', headers: { host: 'localhost' } })).status, 200);
  assert.equal(viewers, 0);
});
