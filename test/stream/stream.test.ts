/** Publishing and reading chunks on a real nats-server: in order, whole, once, through crashes of the server and behind nobody else's back (laws 4, 6, 8). */
import assert from 'node:assert/strict';
import { cp, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { headers } from 'nats';
import { type NatsServer, startNats } from '../../services/demo/engines/nats.js';
import { type ChunkHeader, encodeChunkHeader } from '../../src/change/chunk.js';
import { lsn } from '../../src/position/lsn.js';
import { type Config, parseConfig } from '../../src/runtime/config.js';
import { readChunks, type StreamChunk } from '../../src/stream/consume.js';
import { ChunkPublisher } from '../../src/stream/publish.js';
import { connectStream, ensureStream, type StreamConnection, streamPreflight } from '../../src/stream/topology.js';
import { until } from '../pipeline/pipeline.js';

const EPOCH = { systemId: '1', timeline: 1, generation: '00000000-0000-0000-0000-000000000001' };

function configOf(url: string, bytes = '1GB'): Config {
  return parseConfig(
    `source: { url: "postgres://x@localhost/x", name: s }\nstream: { url: "${url}", replay: { bytes: ${bytes} } }\ntables: { t: { timestamp: at } }`,
    { file: 't.yaml' },
  );
}

type World = {
  nats: NatsServer;
  config: Config;
  stream: StreamConnection;
  publisher(): Promise<ChunkPublisher>;
  read(count: number, from?: number): Promise<StreamChunk[]>;
} & AsyncDisposable;

async function world(conf = ''): Promise<World> {
  const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-stream-'));
  const nats = await startNats({ dir, conf });
  const config = configOf(nats.url);
  const stream = await connectStream(config, 'test');
  await ensureStream(stream.manager, config);
  const end = new AbortController();
  return {
    nats,
    config,
    stream,
    publisher: () => ChunkPublisher.open(stream, end.signal),
    async read(count, from) {
      const chunks: StreamChunk[] = [];
      const stop = new AbortController();
      const timer = setTimeout(() => stop.abort(), 30_000);
      if (count > 0) {
        for await (const chunk of readChunks(stream, from === undefined ? {} : { sequence: from }, stop.signal)) {
          chunks.push(chunk);
          if (chunks.length === count) break;
        }
      }
      clearTimeout(timer);
      return chunks;
    },
    async [Symbol.asyncDispose]() {
      end.abort();
      await stream.connection.close();
      await nats[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function chunk(n: number): ChunkHeader {
  return { kind: 'changes', epoch: EPOCH, prev: { lsn: lsn(BigInt(n)), k: 0 }, end: { lsn: lsn(BigInt(n + 1)), k: 0 }, fragment: { n: 1, of: 1 } };
}

const ends = (chunks: readonly StreamChunk[]): number[] => chunks.map(({ header }) => Number(header.end.lsn));
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test('chunks come out as they went in, in order, and reading may begin anywhere', async () => {
  await using w = await world();
  const publisher = await w.publisher();
  for (let i = 0; i < 300; i += 1) await publisher.publish(chunk(i), Buffer.alloc(5000, i));
  await publisher.drain();
  const all = await w.read(300);
  assert.deepEqual(ends(all), numbers(1, 300));
  assert.ok(all.every(({ payload }, i) => payload.equals(Buffer.alloc(5000, i))));
  assert.deepEqual(
    all.map(({ sequence }) => sequence),
    numbers(1, 300),
  );
  assert.deepEqual(ends(await w.read(3, 200)), [200, 201, 202]);
  assert.equal(typeof all[0]?.streamCreated, 'string');
});

test('a chunk larger than a message goes as fragments and comes back as one; a group left unfinished is dropped, and the tail says so', async () => {
  await using w = await world('max_payload: 131072');
  const first = await w.publisher();
  const large = Buffer.from(Array.from({ length: 1_000_000 }, (_, i) => i & 255));
  await first.publish(chunk(0), large);
  await first.drain();
  const [whole] = await w.read(1);
  assert.ok(whole?.payload.equals(large));
  assert.deepEqual(whole?.header.fragment, { n: 1, of: 1 });
  assert.ok((whole?.sequence ?? 0) > 1 && whole?.firstSequence === 1);
  // A publisher that dies within a group: the next one sees the tail is not whole and publishes that chunk again.
  const last = whole?.sequence as number;
  const head = headers();
  for (const [name, value] of Object.entries(encodeChunkHeader({ ...chunk(1), fragment: { n: 1, of: 3 } }))) head.set(name, value);
  await w.stream.jetstream.publish(w.stream.subject, Buffer.from('part'), { headers: head });
  const second = await w.publisher();
  assert.equal(second.tail?.whole, false);
  assert.equal(Number(second.tail?.header.prev.lsn), 1);
  assert.equal(second.tail?.sequence, last + 1);
  await second.publish(chunk(1), Buffer.from('again'));
  await second.publish(chunk(2), Buffer.from('next'));
  await second.drain();
  assert.deepEqual(
    (await w.read(3)).map(({ payload }) => (payload.length > 100 ? 'large' : payload.toString())),
    ['large', 'again', 'next'],
  );
});

test('a stale publisher is fenced out by the expected sequence, whichever of the two writes first', async () => {
  await using w = await world();
  const [a, b] = [await w.publisher(), await w.publisher()];
  await b.publish(chunk(0), Buffer.from('b'));
  await b.drain();
  await a.publish(chunk(0), Buffer.from('a'));
  await assert.rejects(a.drain(), { halt: 'SUPERSEDED' });
  await assert.rejects(a.publish(chunk(1), Buffer.from('a')), { halt: 'SUPERSEDED' });
  await b.publish(chunk(1), Buffer.from('b'));
  await b.drain();
  assert.deepEqual(
    (await w.read(2)).map(({ payload }) => payload.toString()),
    ['b', 'b'],
  );
});

test('nats-server killed again and again: nothing lost, nothing double, nothing out of order, and in flight stays bounded', async () => {
  await using w = await world();
  const publisher = await w.publisher();
  const done = (async () => {
    for (let i = 0; i < 600; i += 1) {
      await publisher.publish(chunk(i), Buffer.alloc(20_000, i));
      assert.ok(publisher.inFlight <= 64);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    await publisher.drain();
  })();
  const reading = w.read(600);
  for (let kill = 0; kill < 2; kill += 1) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await w.nats.kill();
    await w.nats.start();
  }
  await done;
  assert.equal((await w.stream.manager.streams.info(w.stream.name)).state.last_seq, 600);
  assert.deepEqual(ends(await reading), numbers(1, 600));
});

test('a full stream refuses the new and keeps the old: publishing waits until there is room', async () => {
  await using w = await world();
  const small = configOf(w.nats.url, '1MB');
  await ensureStream(w.stream.manager, small);
  const publisher = await w.publisher();
  for (let i = 0; i < 20; i += 1) await publisher.publish(chunk(i), Buffer.alloc(100_000, i));
  const first = await w.read(5);
  assert.deepEqual(ends(first), [1, 2, 3, 4, 5]);
  assert.ok(publisher.inFlight > 0, 'not all of it fits');
  await ensureStream(w.stream.manager, w.config);
  await publisher.drain();
  assert.deepEqual(ends(await w.read(20)), numbers(1, 20));
});

test('a stream that lost what it had acknowledged ends the publisher as something to start over from the slot', async () => {
  await using w = await world();
  const publisher = await w.publisher();
  await publisher.publish(chunk(0), Buffer.from('x'));
  await publisher.drain();
  await w.stream.manager.streams.delete(w.stream.name);
  await ensureStream(w.stream.manager, w.config);
  await publisher.publish(chunk(1), Buffer.from('y'));
  await assert.rejects(publisher.drain(), { kind: 'transient' });
});

test('a publisher that has nothing to publish finds out too that its stream was emptied or is gone', async () => {
  await using w = await world();
  const publisher = await w.publisher();
  await publisher.look();
  await publisher.publish(chunk(0), Buffer.from('x'));
  await publisher.drain();
  await publisher.look();
  await w.stream.manager.streams.purge(w.stream.name);
  await publisher.look(); // what was purged had been stored
  await w.stream.manager.streams.delete(w.stream.name);
  await assert.rejects(publisher.look(), { kind: 'transient', message: /is gone/ });
  await ensureStream(w.stream.manager, w.config);
  const second = await w.publisher();
  await second.publish(chunk(1), Buffer.from('y'));
  await second.drain();
  await w.stream.manager.streams.delete(w.stream.name);
  await ensureStream(w.stream.manager, w.config);
  await assert.rejects(second.look(), { kind: 'transient', message: /lost messages 1 to 1/ });
});

test('a reader tells how much lies behind each message, and when it was stored; a publisher how long one waits', async () => {
  await using w = await world();
  const stored: number[] = [];
  const publisher = await ChunkPublisher.open(w.stream, new AbortController().signal, { onStored: (_, ms) => stored.push(ms) });
  const before = Date.now();
  assert.equal(publisher.waitingMs, 0);
  for (let i = 0; i < 3; i += 1) await publisher.publish(chunk(i), Buffer.from('x'));
  assert.ok(publisher.waitingMs > 0);
  await publisher.drain();
  assert.ok(stored.length === 3 && stored.every((ms) => ms > 0 && ms < 60_000), `${stored}`);
  const told: [number, number][] = [];
  const stop = new AbortController();
  const options = { until: 3, pending: (messages: number, at: number) => void told.push([messages, at]) };
  for await (const one of readChunks(w.stream, {}, stop.signal, options)) assert.ok(one.sequence <= 3);
  assert.deepEqual(
    told.map(([messages]) => messages),
    [2, 1, 0],
  );
  for (const [, at] of told) assert.ok(at >= before - 1 && at <= Date.now() + 1, `${at}`);
  await w.stream.manager.streams.purge(w.stream.name);
  const reading = async (): Promise<void> => {
    for await (const one of readChunks(w.stream, {}, AbortSignal.timeout(20_000), options)) assert.fail(`${one.sequence}`);
  };
  await assert.rejects(reading(), /purged beyond message 3 before that was read: it begins at 4/, 'what was purged is not waited for');
});

test('a reader goes on by itself in a stream made anew, from its beginning', async () => {
  await using w = await world();
  const publisher = await w.publisher();
  for (let i = 0; i < 5; i += 1) await publisher.publish(chunk(i), Buffer.from('old'));
  await publisher.drain();
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { header, payload } of readChunks(w.stream, {}, stop.signal)) seen.push(`${payload} ${header.end.lsn}`);
  })();
  await until('the old ones', async () => seen.length === 5);
  await w.stream.manager.streams.delete(w.stream.name);
  await ensureStream(w.stream.manager, w.config);
  const next = await w.publisher();
  await next.publish(chunk(7), Buffer.from('new'));
  await next.drain();
  await until('the new one', async () => seen.at(-1) === 'new 8', 20_000);
  stop.abort();
  await reading;
  const created = (await w.stream.manager.streams.info(w.stream.name)).created;
  const [again] = await (async () => {
    const all: StreamChunk[] = [];
    for await (const one of readChunks(w.stream, { sequence: 4, created: 'another time' }, AbortSignal.timeout(5000))) {
      all.push(one);
      break;
    }
    return all;
  })();
  assert.equal(again?.sequence, 1, 'a sequence of another stream means nothing');
  assert.equal(again?.streamCreated, created);
});

test('a stream that lost its end and was filled again is known by the last message that was read, and read again from its beginning', async () => {
  await using w = await world();
  const publish = async (from: number, to: number, text: string): Promise<void> => {
    const publisher = await w.publisher();
    for (let i = from; i <= to; i += 1) await publisher.publish(chunk(i), Buffer.from(text));
    await publisher.drain();
  };
  await publish(0, 2, 'old');
  await w.nats.stop();
  const older = path.join(path.dirname(w.nats.storeDir), 'older');
  await cp(w.nats.storeDir, older, { recursive: true });
  await w.nats.start();
  await until('connected again', async () => (await w.stream.connection.rtt()) >= 0);
  await publish(3, 4, 'old');
  const { created } = (await w.stream.manager.streams.info(w.stream.name)) as { created: string };
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { sequence, payload } of readChunks(w.stream, {}, stop.signal)) seen.push(`${sequence} ${payload}`);
  })();
  reading.catch(() => undefined);
  await until('all five', async () => seen.length === 5);
  // Before the reader sees it, as much has come again as it had read.
  await w.nats.stop();
  await rm(w.nats.storeDir, { recursive: true });
  await rename(older, w.nats.storeDir);
  {
    await using other = await startNats({ dir: path.dirname(w.nats.storeDir) });
    const stream = await connectStream(configOf(other.url), 'test');
    const publisher = await ChunkPublisher.open(stream, stop.signal);
    for (const n of [3, 4]) await publisher.publish(chunk(n), Buffer.from('new'));
    await publisher.drain();
    await stream.connection.close();
    await other.stop();
    await rename(w.nats.storeDir, older); // else it would be taken away with the server
  }
  await rename(older, w.nats.storeDir);
  await w.nats.start();
  await until('all of the stream again', async () => seen.length === 10, 20_000);
  assert.deepEqual(seen.slice(5), ['1 old', '2 old', '3 old', '4 new', '5 new']);
  stop.abort();
  await reading;
  const first = async (sequence: number): Promise<number | undefined> => {
    for await (const one of readChunks(w.stream, { sequence, created, read: true }, AbortSignal.timeout(5000))) return one.sequence;
    return undefined;
  };
  assert.equal(await first(5), 5, 'what was read is there: nothing tells that it is another one but its positions');
  assert.equal(await first(6), 1, 'what was read is gone, and nothing more has to come for that to be seen');
});

test('a message that is no chunk is a named halt, never skipped', async () => {
  await using w = await world();
  await w.stream.jetstream.publish(w.stream.subject, Buffer.from('garbage'));
  await assert.rejects(w.read(1), { halt: 'POISON' });
  await assert.rejects(w.publisher(), { halt: 'POISON' });
});

test('a stray message under a publisher is POISON, not another capture; what another capture wrote, of whatever version, is SUPERSEDED', async () => {
  for (const [halt, names] of [
    ['POISON', {}],
    ['POISON', { Somebody: 'else' }],
    ['SUPERSEDED', { 'Tidemark-Publisher': 'another', 'Tidemark-Format': '2' }],
  ] as const) {
    await using w = await world();
    const publisher = await w.publisher();
    await publisher.publish(chunk(0), Buffer.from('a'));
    await publisher.drain();
    const head = headers();
    for (const [name, value] of Object.entries(names)) head.set(name, value);
    await w.stream.jetstream.publish(w.stream.subject, Buffer.from('garbage'), { headers: head });
    await publisher.publish(chunk(1), Buffer.from('b'));
    await assert.rejects(publisher.drain(), { halt }, halt);
  }
});

test('settings that could lose chunks are refused by name; the size follows the configuration', async () => {
  await using w = await world();
  const changed = await ensureStream(w.stream.manager, configOf(w.nats.url, '2GB'));
  assert.equal(changed.config.max_bytes, 2 * 1024 ** 3);
  await w.stream.manager.streams.update(w.stream.name, { max_age: 3_600_000_000_000 });
  await assert.rejects(ensureStream(w.stream.manager, w.config), /max_age is 3600000000000, must be 0/);
  const checks = await streamPreflight(w.config);
  assert.match(checks.find((check) => check.status === 'failed')?.seen ?? '', /max_age/);
});

test('doctor says what is wrong with NATS in one line', async () => {
  await using w = await world();
  const checks = await streamPreflight(w.config);
  assert.deepEqual(
    checks.filter((check) => check.status === 'failed'),
    [],
  );
  assert.ok(checks.some((check) => check.name === 'NATS fsync'));
  const [away] = await streamPreflight(configOf('nats://127.0.0.1:1'));
  assert.equal(away?.status, 'failed');
  assert.match(away?.seen ?? '', /127.0.0.1:1 does not answer/);
  await assert.rejects(connectStream(configOf('nats://127.0.0.1:1'), 'x'), { kind: 'transient' });
});

test('doctor foresees that NATS will not promise what the stream is to hold, by the server or by the account, and leaves nothing there', async () => {
  const limits = (dir: string): string[] => [
    `jetstream { store_dir: "${dir}/jetstream", max_file_store: 100MB }`,
    'accounts { A: { jetstream: { max_file: 100MB }, users: [{ user: a, password: x }] } }\nno_auth_user: a',
  ];
  for (const limit of [0, 1]) {
    const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-stream-'));
    const conf = limits(dir)[limit] as string;
    await using nats = await startNats({ dir, conf });
    const storage = async (bytes: string) => (await streamPreflight(configOf(nats.url, bytes))).find(({ name }) => name === 'NATS storage');
    const refused = await storage('1GB');
    assert.equal(refused?.status, 'failed', conf);
    assert.match(refused?.seen ?? '', /^stream\.replay\.bytes: NATS cannot promise 1\.0 GB \(insufficient storage resources available\)$/);
    assert.match(refused?.remedy ?? '', /^lower stream\.replay\.bytes, or raise max_file_store/);
    assert.equal((await storage('80MB'))?.status, 'ok');
    const stream = await connectStream(configOf(nats.url), 'test');
    assert.deepEqual(await stream.manager.streams.names().next(), []);
    // Of a stream that is there only what it lacks is tried: twice 80 MB would not fit.
    await ensureStream(stream.manager, configOf(nats.url, '80MB'));
    assert.equal((await storage('90MB'))?.status, 'ok');
    assert.equal((await storage('1GB'))?.status, 'failed');
    await stream.connection.close();
    await rm(dir, { recursive: true, force: true });
  }
});

test('doctor makes no stream to try with where its login could not take it away again, and says what it lacks', async () => {
  const permissions = 'publish: [ "$JS.API.STREAM.*.TIDEMARK_s", "$JS.API.STREAM.CREATE.TIDEMARK_s_PROBE" ], subscribe: [ "_INBOX.>" ]';
  await using nats = await startNats({
    conf: `no_auth_user: all\nauthorization { users: [ { user: all, password: x }, { user: few, password: x, permissions: { ${permissions} } } ] }`,
  });
  const storage = (await streamPreflight(configOf(nats.url.replace('//', '//few:x@')))).find(({ name }) => name === 'NATS storage');
  assert.deepEqual(storage, {
    name: 'NATS storage',
    status: 'warning',
    seen: 'not known whether there is room for 1.0 GB (stream.replay.bytes): stream.url: this login may not publish to $JS.API.STREAM.DELETE.TIDEMARK_s_PROBE',
    remedy: 'give its user the permissions of docs/security.md',
  });
  const stream = await connectStream(configOf(nats.url), 'test');
  assert.deepEqual(await stream.manager.streams.names().next(), []);
  await stream.connection.close();
});

test('a login is taken from the address, a wrong one is a mistake of the configuration and is not printed', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-stream-'));
  await using nats = await startNats({ dir, conf: 'authorization { user: me, password: "se:cret" }' });
  const login = (password: string): Config => configOf(nats.url.replace('//', `//me:${password}@`));
  const stream = await connectStream(login('se%3Acret'), 'x');
  await stream.connection.close();
  await assert.rejects(connectStream(login('wr0ng'), 'x'), (error: Error & { kind?: string }) => error.kind === 'config' && !error.message.includes('wr0ng'));
  await rm(dir, { recursive: true, force: true });
});
