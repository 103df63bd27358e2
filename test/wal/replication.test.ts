/** The walsender session on a real server: each fault of the replication library, and of the protocol, that would lose data has its test here. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { readBegin, readLsn, readTuple, TAG } from '../../src/change/pgoutput.js';
import { LSN_ZERO, type Lsn, parseLsn } from '../../src/position/lsn.js';
import { readRelationFromCatalog, relationFrame } from '../../src/wal/describe.js';
import { FenceClock } from '../../src/wal/fence-clock.js';
import { readServerIdentity } from '../../src/wal/identity.js';
import { ReplicationStream, statusPacket, type Timing } from '../../src/wal/replication.js';
import { connectClient } from '../../src/wal/session.js';
import { until } from '../pipeline/pipeline.js';

let server: PostgresServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

type Session = {
  url: string;
  sql: pg.Client;
  messages: Buffer[];
  keepalives: Lsn[];
  open(options?: { timing?: Timing; url?: string }): Promise<ReplicationStream>;
  slotAt(): Promise<Lsn>;
  rows(): string[];
  commits(): { start: Lsn; end: Lsn }[];
} & AsyncDisposable;

async function session(schema = 'CREATE TABLE public.t (id serial PRIMARY KEY, v text)'): Promise<Session> {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query(`${schema}; CREATE PUBLICATION tidemark_x FOR TABLE public.t`);
  await sql.query("SELECT pg_create_logical_replication_slot('tidemark_x', 'pgoutput')");
  const streams: ReplicationStream[] = [];
  const messages: Buffer[] = [];
  const keepalives: Lsn[] = [];
  return {
    url,
    sql,
    messages,
    keepalives,
    async open(options = {}) {
      const stream = new ReplicationStream({
        url: options.url ?? url,
        applicationName: 'tidemark_x_capture',
        slot: 'tidemark_x',
        publication: 'tidemark_x',
        server: await readServerIdentity(sql),
        onMessage: (message) => messages.push(message),
        onKeepalive: (lsn) => keepalives.push(lsn),
        ...(options.timing === undefined ? {} : { timing: options.timing }),
      });
      streams.push(stream);
      await stream.start();
      return stream;
    },
    async slotAt() {
      const result = await sql.query<{ s: string }>("SELECT confirmed_flush_lsn::text AS s FROM pg_replication_slots WHERE slot_name = 'tidemark_x'");
      return parseLsn(result.rows[0]?.s ?? '');
    },
    rows: () => messages.filter((message) => message[0] === TAG.insert).map((message) => readTuple(message, 6)[1] ?? ''),
    commits: () => messages.filter((message) => message[0] === TAG.commit).map((message) => ({ start: readLsn(message, 2), end: readLsn(message, 10) })),
    async [Symbol.asyncDispose]() {
      for (const stream of streams) await stream.stop();
      await until(
        'the walsender has gone',
        async () => (await sql.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'tidemark_x' AND NOT active")).rowCount === 1,
      );
      await sql.query("SELECT pg_drop_replication_slot('tidemark_x')").catch(() => undefined);
      await sql.end();
    },
  };
}

test('a status packet says exactly the positions it is given', () => {
  const packet = statusPacket({ written: 0x16_ffff_ffffn as Lsn, flushed: 0x16_0000_0001n as Lsn, now: 946_684_800_000 + 1500, askReply: true });
  assert.equal(packet.length, 34);
  assert.equal(packet.toString('latin1', 0, 1), 'r');
  assert.equal(packet.readBigUInt64BE(1), 0x16_ffff_ffffn);
  assert.equal(packet.readBigUInt64BE(9), 0x16_0000_0001n);
  assert.equal(packet.readBigUInt64BE(17), 0x16_0000_0001n);
  assert.equal(packet.readBigInt64BE(25), 1_500_000n);
  assert.equal(packet[33], 1);
  assert.equal(statusPacket({ written: LSN_ZERO, flushed: LSN_ZERO, now: 0, askReply: false })[33], 0);
});

test('the exact end of a commit is confirmed: a commit record that starts there is sent again after a restart', async () => {
  await using s = await session();
  const [a, b] = [await connectClient(s.url, { applicationName: 'a' }), await connectClient(s.url, { applicationName: 'b' })];
  const stream = await s.open();
  // Background writers may slip a record in between: tried until two commits touch.
  const touching = await until('two commits that touch', async () => {
    await a.query("BEGIN; INSERT INTO public.t (v) VALUES ('first')");
    await b.query("BEGIN; INSERT INTO public.t (v) VALUES ('second')");
    await Promise.all([a.query('COMMIT'), b.query('COMMIT')]);
    const count = s.commits().length;
    await until('both came', async () => s.commits().length >= 2 && s.commits().length % 2 === 0 && s.commits().length >= count);
    const [first, second] = s.commits().slice(-2);
    return first !== undefined && first.end === second?.start ? { first, second } : undefined;
  });
  stream.confirm(touching.first.end);
  await until('the slot stands there', async () => (await s.slotAt()) === touching.first.end);
  await stream.stop();
  await Promise.all([a.end(), b.end()]);
  s.messages.length = 0;
  await s.open();
  await until('the second transaction comes again', async () => s.commits()[0]?.start === touching.second.start);
});

test('nothing is confirmed that was not asked for, whatever was received', async () => {
  await using s = await session();
  const before_ = await s.slotAt();
  const stream = await s.open({ timing: { statusMs: 100, askAfterMs: 200, deadAfterMs: 60_000 } });
  await s.sql.query("INSERT INTO public.t (v) SELECT 'x' FROM generate_series(1, 1000)");
  await until('the rows came', async () => s.rows().length === 1000);
  // Longer than the library's own timer of 10 s, which would confirm by itself.
  await new Promise((resolve) => setTimeout(resolve, 11_500));
  assert.equal(await s.slotAt(), before_);
  const written = await s.sql.query<{ w: string; f: string | null }>(
    "SELECT write_lsn::text AS w, flush_lsn::text AS f FROM pg_stat_replication WHERE application_name = 'tidemark_x_capture'",
  );
  assert.ok(parseLsn(written.rows[0]?.w ?? '0/0') >= (s.commits()[0]?.end ?? 0n), 'write follows what was received');
  const end = s.commits()[0]?.end as Lsn;
  stream.confirm(end);
  await until('confirmed', async () => (await s.slotAt()) === end);
});

test('messages are ours to keep: 20,000 of them hold what was written, although the parser uses its buffer again', async () => {
  await using s = await session();
  await s.open();
  await s.sql.query("INSERT INTO public.t (v) SELECT i || repeat('-', i % 200) FROM generate_series(1, 20000) i");
  await until('the rows came', async () => s.rows().length === 20_000);
  assert.deepEqual(
    s.rows(),
    Array.from({ length: 20_000 }, (_, i) => `${i + 1}${'-'.repeat((i + 1) % 200)}`),
  );
});

test('a new session starts at the slot, not at what was received last', async () => {
  await using s = await session();
  const stream = await s.open();
  await s.sql.query("INSERT INTO public.t (v) VALUES ('once')");
  await until('it came', async () => s.rows().length === 1);
  await stream.stop();
  s.messages.length = 0;
  await s.open();
  await until('it comes again', async () => s.rows()[0] === 'once');
});

test('what the slot was confirmed to, a commit’s start, is sent again first', async () => {
  await using s = await session();
  const stream = await s.open();
  for (const v of ['a', 'b', 'c']) await s.sql.query(`INSERT INTO public.t (v) VALUES ('${v}')`);
  await until('they came', async () => s.rows().length === 3);
  const start = s.commits()[1]?.start as Lsn;
  stream.confirm(start);
  await until('confirmed', async () => (await s.slotAt()) === start);
  await stream.stop();
  s.messages.length = 0;
  await s.open();
  await until('the rest comes again', async () => s.rows().length === 2);
  assert.equal(readBegin(s.messages[0] as Buffer, 0).commitLsn, start);
  assert.deepEqual(s.rows(), ['b', 'c']);
});

test('a question of the server is answered, and ours is: the keepalive says how far everything was sent', async () => {
  await using s = await session();
  const stream = await s.open();
  await s.sql.query('CREATE TABLE public.elsewhere AS SELECT 1');
  const end = parseLsn((await s.sql.query<{ l: string }>('SELECT pg_current_wal_flush_lsn()::text AS l')).rows[0]?.l ?? '');
  await until('a keepalive beyond it', async () => {
    stream.askKeepalive();
    return s.keepalives.some((lsn) => lsn >= end);
  });
  assert.ok(stream.received >= end);
});

test('logical messages arrive, transactional and as a transaction of their own', async () => {
  await using s = await session();
  await s.open();
  await s.sql.query("SELECT pg_logical_emit_message(true, 'tidemark.fence', 'hello')");
  await until('it came', async () => s.commits().length === 1);
  assert.deepEqual(
    s.messages.map((message) => String.fromCharCode(message[0] as number)),
    ['B', 'M', 'C'],
  );
});

test('values have one text, whatever the role, the database or the client prefers', async () => {
  await using s = await session('CREATE TABLE public.t (id serial PRIMARY KEY, v text, f float8, b bytea, i interval, d timestamptz, m money)');
  const name = new URL(s.url).pathname.slice(1);
  await s.sql.query(
    `ALTER DATABASE "${name}" SET extra_float_digits = 0; ALTER DATABASE "${name}" SET bytea_output = 'escape'; ALTER DATABASE "${name}" SET IntervalStyle = 'iso_8601'; ALTER DATABASE "${name}" SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE "${name}" SET DateStyle = 'German'`,
  );
  await s.open();
  await s.sql.query("INSERT INTO public.t (v, f, b, i, d, m) VALUES ('x', 0.1::float8 + 0.2, '\\x00ff', '1 day 2 hours', '2026-01-02 03:04:05.678901+00', 5)");
  await until('it came', async () => s.rows().length === 1);
  const insert = s.messages.find((message) => message[0] === TAG.insert) as Buffer;
  assert.deepEqual(readTuple(insert, 6).slice(2), ['0.30000000000000004', '\\x00ff', '1 day 02:00:00', '2026-01-02 03:04:05.678901+00', '$5.00']);
});

test('our Relation message is the server’s, byte for byte, for every replica identity', async () => {
  for (const identity of ['DEFAULT', 'FULL', 'USING INDEX t_v']) {
    await using s = await session(
      `CREATE TYPE public.mood AS ENUM ('a'); CREATE TABLE public.t (id int, gone int, v varchar(20) NOT NULL, n numeric(10,2), m public.mood, g int GENERATED ALWAYS AS (id + 1) STORED, PRIMARY KEY (id, v)); ALTER TABLE public.t DROP COLUMN gone; CREATE UNIQUE INDEX t_v ON public.t (v); ALTER TABLE public.t REPLICA IDENTITY ${identity}`,
    );
    await s.open();
    await s.sql.query("INSERT INTO public.t (id, v) VALUES (1, 'x')");
    await until('it came', async () => s.commits().length === 1);
    const relation = await readRelationFromCatalog(s.sql, 'public', 't');
    assert.ok(relation);
    assert.deepEqual(
      relationFrame(relation),
      s.messages.find((message) => message[0] === TAG.relation),
      identity,
    );
  }
});

test('a connection that falls silent counts as dead', async () => {
  await using s = await session();
  await using proxy = await SilentProxy.before(server);
  const url = new URL(s.url);
  url.port = String(proxy.port);
  const stream = await s.open({ url: url.toString(), timing: { statusMs: 100, askAfterMs: 200, deadAfterMs: 800 } });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.ok(s.keepalives.length > 0, 'while it answers, silence never lasts');
  proxy.silent = true;
  await assert.rejects(stream.ended, /nothing was heard/);
});

test('another server behind the same name is noticed on the replication connection itself', async () => {
  await using s = await session();
  const stream = new ReplicationStream({
    url: s.url,
    applicationName: 'tidemark_x_capture',
    slot: 'tidemark_x',
    publication: 'tidemark_x',
    server: { systemId: '12345', timeline: 1 },
    onMessage: () => undefined,
    onKeepalive: () => undefined,
  });
  await assert.rejects(stream.start(), { halt: 'IDENTITY' });
  await stream.stop();
});

/** A TCP proxy that can stop passing what the server says, without closing. */
class SilentProxy implements AsyncDisposable {
  silent = false;
  readonly #server: Server;
  readonly #sockets: Socket[] = [];

  private constructor(target: PostgresServer) {
    this.#server = createServer((client) => {
      const upstream = connect(target.port, target.host);
      this.#sockets.push(client, upstream);
      client.on('data', (bytes) => upstream.write(bytes));
      upstream.on('data', (bytes) => {
        if (!this.silent) client.write(bytes);
      });
      for (const [one, two] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        one.on('error', () => two.destroy());
        one.on('close', () => two.destroy());
      }
    });
  }

  static async before(target: PostgresServer): Promise<SilentProxy> {
    const proxy = new SilentProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

test('a clock that is set back stops no fences', async (t) => {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  const clock = new FenceClock(sql, Buffer.alloc(32), { generation: 'g', archive: 'a' }, 1);
  clock.rows = 1;
  await clock.tick();
  assert.equal(clock.rows, 0, 'emitted');
  const now = Date.now();
  t.mock.method(Date, 'now', () => now - 48 * 3_600_000);
  clock.rows = 1;
  await until('another one', async () => {
    await clock.tick();
    return clock.rows === 0;
  });
  await sql.end();
});
