/** Requests that take long, on a real nats-server: waited for while somebody has them, given up when nobody does. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, headers, type NatsConnection } from 'nats';
import { type NatsServer, startNats } from '../../services/demo/engines/nats.js';
import { type Asked, requestReply, takeRequests } from '../../src/stream/request.js';

let nats: NatsServer;
const open: NatsConnection[] = [];
before(async () => {
  nats = await startNats();
});
after(async () => {
  await Promise.all(open.map((connection) => connection.close()));
  await nats?.[Symbol.asyncDispose]();
});

const connection = async (): Promise<NatsConnection> => {
  const made = await connect({ servers: nats.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  open.push(made);
  return made;
};

/** Listens on `subject`; resolves with the first request that arrives. */
async function first(answerer: NatsConnection, subject: string): Promise<{ asked: Promise<Asked> }> {
  const arrived = takeRequests(answerer, subject, { queue: 'q' })[Symbol.asyncIterator]();
  await answerer.flush();
  return { asked: arrived.next().then(({ value }) => value as Asked) };
}

test('nobody listens: undefined', async () => {
  assert.equal(await requestReply(await connection(), 'nobody', {}), undefined);
});

test('a plain request without a name is answered', async () => {
  const answerer = await connection();
  const requests = takeRequests(answerer, 'plain');
  await answerer.flush();
  void (async () => {
    for await (const asked of requests) asked.answer({ body: asked.body });
  })();
  const reply = await (await connection()).request('plain', undefined, { timeout: 10_000 });
  assert.deepEqual(reply.json(), { body: '' });
});

test('an answerer that goes away with a request is not taken for alive because another one is: that one is asked', { timeout: 60_000 }, async () => {
  const [asker, gone, other] = [await connection(), await connection(), await connection()];
  const taken = await first(gone, 'lost');
  const asked = requestReply<{ by: string }>(asker, 'lost', { day: 1 });
  asked.catch(() => undefined);
  assert.equal((await taken.asked).body, '{"day":1}');
  const others = takeRequests(other, 'lost', { queue: 'q' });
  await other.flush();
  await gone.close();
  const seen: string[] = [];
  void (async () => {
    for await (const again of others) {
      seen.push(again.body);
      again.answer({ by: 'the other' });
    }
  })();
  assert.deepEqual(await asked, { by: 'the other' });
  assert.deepEqual(seen, ['{"day":1}']);
  others.unsubscribe();
});

test('a request that nobody has any more is given up', { timeout: 60_000 }, async () => {
  const [asker, gone] = [await connection(), await connection()];
  const taken = await first(gone, 'given-up');
  const asked = requestReply(asker, 'given-up', {});
  asked.catch(() => undefined);
  await taken.asked;
  await gone.close();
  await assert.rejects(asked, { kind: 'transient' });
});

test('a request that is asked again while somebody is at work on it is done once, and every asking answered', { timeout: 60_000 }, async () => {
  const [asker, answerer] = [await connection(), await connection()];
  const taken = await first(answerer, 'twice');
  const named = headers();
  named.set('Tidemark-Request', 'the same');
  const ask = () => asker.request('twice', undefined, { timeout: 10_000, headers: named, noMux: true });
  const asked = [ask(), ask()];
  const { answer } = await taken.asked;
  await asker.flush();
  await answerer.flush();
  answer({ n: 1 });
  assert.deepEqual(
    (await Promise.all(asked)).map((reply) => reply.json()),
    [{ n: 1 }, { n: 1 }],
  );
});

test('work that takes longer than silence is borne is waited for, also while NATS restarts', { timeout: 90_000 }, async () => {
  const [asker, answerer] = [await connection(), await connection()];
  const taken = await first(answerer, 'long');
  const asked = requestReply<{ done: boolean }>(asker, 'long', {});
  asked.catch(() => undefined);
  const { answer } = await taken.asked;
  await nats.kill();
  await nats.start();
  setTimeout(() => answer({ done: true }), 25_000);
  assert.deepEqual(await asked, { done: true });
});
