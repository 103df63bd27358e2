/** Events are told at most once and disturb nobody: not a login that may not publish them, not a server that is away, not a halt that cannot be told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from 'nats';
import { startNats } from '../../services/demo/engines/nats.js';
import { type Config, parseConfig } from '../../src/runtime/config.js';
import { Halt } from '../../src/runtime/errors.js';
import { watchConnected } from '../../src/stream/connected.js';
import { type SealEvent, tellHalt, tellThrough } from '../../src/stream/events.js';
import { connectStream, ensureStream } from '../../src/stream/topology.js';
import { until } from '../pipeline/pipeline.js';

const configOf = (url: string, login = ''): Config =>
  parseConfig(
    `source: { url: "postgres://x@localhost/x", name: s }\nstream: { url: "${url}"${login}, replay: { bytes: 64MB } }\ntables: { t: { timestamp: at } }`,
    { file: 't.yaml' },
  );
const SEAL: SealEvent = { table: 'public.t', day: '2026-01-12', file: null, rows: 0, history: 0, manifest: 1 };

test('a login that may not publish events is told once, and everything else goes on', async () => {
  await using nats = await startNats({
    conf: 'authorization { users: [ { user: me, password: x, permissions: { publish: { deny: ["tidemark.s.events.>", "tidemark.s.prune"] } } } ] }',
  });
  const config = configOf(nats.url, ', user: me, password: x');
  const said: string[] = [];
  const stream = await connectStream(config, 'test', (error) => said.push(error.message));
  try {
    const tell = tellThrough(stream.connection, 's', stream.connected);
    tell('seal', SEAL);
    tell('seal', SEAL);
    await until('it is told', async () => said.length > 0);
    await ensureStream(stream.manager, config);
    assert.equal(stream.denied(), undefined, 'no call fails for want of an event');
    assert.deepEqual(said, ['stream.url: this login may not publish to tidemark.s.events.seal']);
    stream.connection.publish('tidemark.s.prune');
    await until('other subjects count', async () => stream.denied());
  } finally {
    await stream.connection.close();
  }
});

test('what happens while NATS is away is not told later', async () => {
  await using nats = await startNats();
  const stream = await connectStream(configOf(nats.url), 'test');
  // Back before the other: it would hear what was kept.
  const listener = await connect({ servers: `127.0.0.1:${nats.port}`, maxReconnectAttempts: -1, reconnectTimeWait: 10, reconnectJitter: 0 });
  const listens = watchConnected(listener);
  const heard: number[] = [];
  try {
    listener.subscribe('tidemark.s.events.>', { callback: (_, message) => heard.push(message.json<SealEvent>().manifest) });
    await listener.flush();
    const tell = tellThrough(stream.connection, 's', stream.connected);
    tell('seal', SEAL);
    await until('the first is heard', async () => heard.length === 1);
    await nats.kill();
    await until('both have noticed', async () => !stream.connected() && !listens());
    tell('seal', { ...SEAL, manifest: 2 });
    await nats.start();
    await until('both are back', async () => stream.connected() && listens());
    await listener.flush();
    tell('seal', { ...SEAL, manifest: 3 });
    await until('the third is heard', async () => heard.includes(3));
    assert.deepEqual(heard, [1, 3]);
  } finally {
    await Promise.all([stream.connection.close(), listener.close()]);
  }
  assert.doesNotThrow(() => tellThrough(stream.connection, 's', () => true)('seal', SEAL));
});

test('a halt is thrown on, told or not', async () => {
  const halt = new Halt('POISON', { seen: 'x.', safe: 'y.', remedy: 'z' });
  const nowhere = configOf('nats://127.0.0.1:9');
  await assert.rejects(
    tellHalt(nowhere, 'archiver', () => Promise.reject(halt)),
    (error) => error === halt,
  );
  await assert.rejects(
    tellHalt(nowhere, 'archiver', () => Promise.reject(new Error('other'))),
    /other/,
  );
});
