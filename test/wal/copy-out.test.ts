/** COPY … TO STDOUT to its very end: deadlines are ours, the server's last word is heard, and nothing goes on behind it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { eachRow } from '../../src/prune/each-row.js';
import { CopyOut } from '../../src/wal/copy-out.js';
import { closeClient, connectClient } from '../../src/wal/session.js';

let server: PostgresServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** `queryMs`: what pg gives any query. */
async function connected(queryMs: number, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = await connectClient(server.url, { applicationName: 'copy-out', queryTimeoutMs: queryMs });
  try {
    await work(client);
  } finally {
    await closeClient(client);
  }
}

async function read(copy: CopyOut): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const data of copy) pieces.push(data);
  return Buffer.concat(pieces).toString();
}

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

test('rows and their number; no timer is left behind', () =>
  connected(60_000, async (client) => {
    const before = timers();
    for (let round = 0; round < 20; round += 1) {
      const copy = new CopyOut(client, 'COPY (SELECT i FROM generate_series(1, 3) i) TO STDOUT', 60_000);
      assert.equal(await read(copy), '1\n2\n3\n');
      assert.equal(copy.rows, 3);
    }
    assert.equal(timers(), before);
    assert.equal((await client.query('SELECT 1 AS one')).rows[0].one, '1', 'the connection goes on');
  }));

test('a COPY may take longer than any query may, as long as the server is heard', () =>
  connected(300, async (client) => {
    assert.equal(
      await read(new CopyOut(client, `COPY (SELECT i, pg_sleep(0.2), repeat('x', 20000) FROM generate_series(1, 5) i) TO STDOUT`, 5000)).then(
        (text) => text.split('\n').length,
      ),
      6,
    );
  }));

test('a server that says nothing is left: the connection is cut, the reader hears of it, and what comes late harms nobody', () =>
  connected(60_000, async (client) => {
    const began = performance.now();
    await assert.rejects(read(new CopyOut(client, 'COPY (SELECT pg_sleep(3)) TO STDOUT', 400)), /terminated|ended|closed/i);
    assert.ok(performance.now() - began < 2500);
    await assert.rejects(client.query('SELECT 1'));
  }));

test('who stops before the end loses the connection, and only that', () =>
  connected(60_000, async (client) => {
    for await (const _ of new CopyOut(client, 'COPY (SELECT i FROM generate_series(1, 1000000) i) TO STDOUT', 60_000)) break;
    await assert.rejects(client.query('SELECT 1'));
  }));

test('what fails behind the last row has failed', () =>
  connected(60_000, async (client) => {
    await client.query(`CREATE TABLE public.late (id int);
      CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'the rows have gone'; RAISE 'too late'; END $$;
      CREATE TRIGGER refuse AFTER DELETE ON public.late FOR EACH STATEMENT EXECUTE FUNCTION public.refuse();
      INSERT INTO public.late SELECT generate_series(1, 100)`);
    await client.query('BEGIN');
    await assert.rejects(
      eachRow(client, 'DELETE FROM public.late RETURNING tableoid, xmin, id', 1, () => undefined),
      /too late/,
    );
    await client.query('ROLLBACK');
    assert.equal((await client.query('SELECT count(*) AS n FROM public.late')).rows[0].n, '100');
  }));

test('an error in the middle leaves the connection usable', () =>
  connected(60_000, async (client) => {
    await assert.rejects(
      read(new CopyOut(client, `COPY (SELECT 1 / (i - 3), repeat('x', 100000) FROM generate_series(1, 5) i) TO STDOUT`, 60_000)),
      /division by zero/,
    );
    assert.equal((await client.query('SELECT 1 AS one')).rows[0].one, '1');
  }));

test('a stop cuts a COPY that is silent, at once', () =>
  connected(60_000, async (client) => {
    const stop = new AbortController();
    const began = performance.now();
    setTimeout(() => stop.abort(), 200);
    await assert.rejects(read(new CopyOut(client, 'COPY (SELECT pg_sleep(5)) TO STDOUT', 60_000, stop.signal)), /terminated|ended|closed/i);
    assert.ok(performance.now() - began < 3000);
  }));

test('where it was us who stood still for longer than the server may be silent, what it has sent is read', () =>
  connected(60_000, async (client) => {
    const copy = new CopyOut(client, `COPY (SELECT i, pg_sleep(0.3), repeat('x', 20000) FROM generate_series(1, 3) i) TO STDOUT`, 700);
    const reading = read(copy);
    setTimeout(() => {
      for (const until = performance.now() + 2000; performance.now() < until; );
    }, 100);
    assert.equal((await reading).split('\n').length, 4);
  }));
