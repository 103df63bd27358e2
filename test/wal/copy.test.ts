/** The initial copy on a real server: every row once, with the text the stream would give it, and a guard that keeps DDL away. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { readTuple, visitFrames } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { parseLsn } from '../../src/position/lsn.js';
import { InitialCopy } from '../../src/wal/copy.js';
import { CopyRows } from '../../src/wal/copy-text.js';
import { describeTable, readRelationFromCatalog } from '../../src/wal/describe.js';
import { TableRecopy } from '../../src/wal/recopy.js';
import { connectClient } from '../../src/wal/session.js';
import { beginAtSnapshot } from '../../src/wal/snapshot.js';
import { until } from '../pipeline/pipeline.js';

let server: PostgresServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

type Row = (string | null | undefined)[];

function decode(payload: Buffer): { rows: Row[]; descriptions: TableDescription[] } {
  const rows: Row[] = [];
  const descriptions: TableDescription[] = [];
  const none = (): void => undefined;
  visitFrames(payload, {
    begin: none,
    commit: none,
    relation: none,
    message: none,
    truncate: none,
    description: (description) => descriptions.push(description),
    row: (change) => rows.push(readTuple(change.buffer, change.newTuple)),
  });
  return { rows, descriptions };
}

test('rows come out the same wherever COPY’s output is cut', () => {
  const text = Buffer.from('1\tplain\t\\N\n2\t\\\\N\ttab\\tnewline\\nback\\\\slash\\r\\b\\f\\v\n3\t\té漢😀\n');
  const expected = [
    ['1', 'plain', null],
    ['2', '\\N', 'tab\tnewline\nback\\slash\r\b\f\v'],
    ['3', '', 'é漢😀'],
  ];
  for (let cut = 0; cut <= text.length; cut += 1) {
    const rows = new CopyRows(7, 3);
    rows.push(text.subarray(0, cut));
    rows.push(text.subarray(cut));
    assert.ok(rows.complete);
    assert.deepEqual(decode(rows.take().frames).rows, expected);
  }
});

test('a row with another number of columns is refused', () => {
  assert.throws(() => new CopyRows(7, 2).push(Buffer.from('1\t2\t3\n')), /3 columns, expected 2/);
});

test('all rows in the snapshot of the slot, exactly; later ones are left to the stream', async () => {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query(`CREATE TABLE public.t (id int PRIMARY KEY, v text, "odd ""name" bytea, g int GENERATED ALWAYS AS (id + 1) STORED); CREATE TABLE public.child () INHERITS (public.t);
    CREATE TYPE public.mood AS ENUM ('ok'); CREATE DOMAIN public.feeling AS public.mood; CREATE TABLE public.u (a public.feeling[], n numeric(10,2) NOT NULL);
    INSERT INTO public.t SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE repeat('x', i % 1000) || E'\\t\\n\\\\' END, decode('00ff', 'hex') FROM generate_series(1, 5000) i;
    INSERT INTO public.child VALUES (6000, 'of the child', NULL); INSERT INTO public.u VALUES ('{ok}', 1.5)`);
  await sql.query("INSERT INTO public.t (id, v) VALUES (5001, repeat('long', 500000))");
  const tables = [
    { schema: 'public', table: 't' },
    { schema: 'public', table: 'u' },
  ];
  await using copy = await InitialCopy.begin({ url, source: 'y', slot: 'tidemark_y', tables });
  await sql.query("INSERT INTO public.t (id, v) VALUES (9000, 'later'); DELETE FROM public.t WHERE id = 1");
  const seen = new Map<string, Row>();
  const descriptions: TableDescription[] = [];
  const others: Row[] = [];
  for await (const part of copy.parts(new AbortController().signal)) {
    const decoded = decode(part.payload);
    assert.equal(decoded.rows.length, part.rows);
    assert.equal(decoded.descriptions.length, 1, 'each part is decodable alone');
    descriptions.push(...decoded.descriptions);
    if (part.oid === copy.relations[0]?.oid) for (const row of decoded.rows) seen.set(row[0] as string, row);
    else others.push(...decoded.rows);
  }
  assert.equal(seen.size, 5001);
  assert.ok(seen.has('1') && !seen.has('9000') && !seen.has('6000'));
  assert.deepEqual(seen.get('3'), ['3', null, '\\x00ff'], 'generated columns are left out, as in the stream');
  assert.equal(seen.get('5001')?.[1]?.length, 2_000_000);
  assert.equal(seen.get('4')?.[1], `xxxx\t\n\\`);
  assert.deepEqual(others, [['{ok}', '1.50']]);
  const u = descriptions.at(-1) as TableDescription;
  assert.equal(u.columnTypes['n'], 'numeric(10,2) NOT NULL');
  const kinds = Object.values(u.types)
    .map((type) => `${type.name} ${type.kind}`)
    .sort();
  assert.deepEqual(kinds, ['public.feeling d', 'public.feeling[] b', 'public.mood e']);
  assert.deepEqual(descriptions[0]?.primaryKey, ['id']);
  await copy[Symbol.asyncDispose]();
  await sql.query("SELECT pg_drop_replication_slot('tidemark_y')");
  await sql.end();
});

test('rows copied again while others write: what committed before their position is in the copy, and nothing else', async () => {
  const url = await server.createDatabase();
  const [sql, writer] = [await connectClient(url, { applicationName: 'test' }), await connectClient(url, { applicationName: 'test' })];
  await sql.query(`CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE PUBLICATION tidemark_z FOR TABLE public.t; INSERT INTO public.t VALUES (1, '0')`);
  await sql.query("SELECT pg_create_logical_replication_slot('judge', 'test_decoding')");
  let going = true;
  let versions = 0;
  const writing = (async () => {
    for (; going; versions += 1) await writer.query(`BEGIN; DELETE FROM public.t; INSERT INTO public.t VALUES (1, '${versions + 1}'); COMMIT`);
  })();
  const copied: { at: bigint; v: string }[] = [];
  for (let i = 0; i < 8; i += 1) {
    const copy = await TableRecopy.begin(
      { url, source: 'z', publication: 'tidemark_z' },
      { schema: 'public', table: 't' },
      new AbortController().signal,
      () => undefined,
    );
    assert.ok(copy);
    await copy.begun();
    for await (const part of copy.parts(new AbortController().signal))
      for (const row of decode(part.payload).rows) copied.push({ at: copy.at, v: row[1] as string });
    await copy[Symbol.asyncDispose]();
  }
  going = false;
  await writing;
  const { rows: told } = await sql.query<{ lsn: string; data: string }>("SELECT lsn::text AS lsn, data FROM pg_logical_slot_get_changes('judge', NULL, NULL)");
  const commits: { at: bigint; v: string }[] = [];
  let version = '';
  for (const { lsn, data } of told) {
    version = /INSERT:.*v\[text\]:'(\d+)'/.exec(data)?.[1] ?? version;
    if (data.startsWith('COMMIT')) commits.push({ at: parseLsn(lsn), v: version });
  }
  assert.ok(commits.length > 100 && copied.length === 8, `${commits.length} commits, ${copied.length} rows`);
  for (const { at, v } of copied) assert.equal(v, commits.findLast((commit) => commit.at < at)?.v ?? '0');
  await Promise.all([sql.query("SELECT pg_drop_replication_slot('judge')").then(() => sql.end()), writer.end()]);
});

test('the guard: nobody can alter or truncate a table between slot and end of the copy, writers go on', async () => {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query('CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)');
  {
    await using copy = await InitialCopy.begin({ url, source: 'z', slot: 'tidemark_z', tables: [{ schema: 'public', table: 't' }] });
    await sql.query("SET lock_timeout = '300ms'");
    await assert.rejects(sql.query('ALTER TABLE public.t ALTER id TYPE bigint'), { code: '55P03' });
    await assert.rejects(sql.query('TRUNCATE public.t'), { code: '55P03' });
    await sql.query('INSERT INTO public.t VALUES (2); UPDATE public.t SET id = 3 WHERE id = 1');
    let rows = 0;
    for await (const part of copy.parts(new AbortController().signal)) rows += part.rows;
    assert.equal(rows, 1);
  }
  await sql.query('ALTER TABLE public.t ALTER id TYPE bigint');
  await sql.query("SELECT pg_drop_replication_slot('tidemark_z')");
  await sql.end();
});

test('a table that is locked makes the copy wait for a moment and fail as something that may pass, before there is a slot', async () => {
  const url = await server.createDatabase();
  const [sql, locker] = [await connectClient(url, { applicationName: 'test' }), await connectClient(url, { applicationName: 'locker' })];
  await sql.query('CREATE TABLE public.t (id int PRIMARY KEY)');
  await locker.query('BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE');
  await assert.rejects(InitialCopy.begin({ url, source: 'w', slot: 'tidemark_w', tables: [{ schema: 'public', table: 't' }] }), { code: '55P03' });
  assert.equal((await sql.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'tidemark_w'")).rowCount, 0);
  await Promise.all([sql.end(), locker.end()]);
});

/** Transactions that the making of a slot waits for one after the other: a third that begins at `second` is not waited for. */
async function waitsFor(sql: pg.Client, writer: pg.Client): Promise<void> {
  const { rows } = await writer.query<{ pid: string }>('SELECT pg_backend_pid()::text AS pid');
  await until('the slot waits for it', async () => {
    const found = await sql.query(
      `SELECT FROM pg_locks w JOIN pg_locks h ON h.transactionid = w.transactionid AND h.granted WHERE w.locktype = 'transactionid' AND NOT w.granted AND h.pid = $1`,
      [rows[0]?.pid],
    );
    return found.rowCount === 1 || undefined;
  });
}

test('a table that gives its name to another between snapshot and lock is not copied as the other', async () => {
  const url = await server.createDatabase();
  const open = (): Promise<pg.Client> => connectClient(url, { applicationName: 'test' });
  const [sql, first, second, swap] = [await open(), await open(), await open(), await open()];
  await sql.query(`CREATE TABLE public.t (id int PRIMARY KEY); CREATE TABLE public.other (LIKE public.t INCLUDING ALL); CREATE TABLE public.busy (id int);
    INSERT INTO public.t VALUES (1); INSERT INTO public.other VALUES (2); CREATE PUBLICATION tidemark_v FOR TABLE public.t, public.other`);
  await first.query('BEGIN; INSERT INTO public.busy VALUES (1)');
  const begun = TableRecopy.begin(
    { url, source: 'v', publication: 'tidemark_v' },
    { schema: 'public', table: 't' },
    new AbortController().signal,
    () => undefined,
  );
  begun.catch(() => undefined);
  await waitsFor(sql, first);
  await second.query('BEGIN; INSERT INTO public.busy VALUES (2)');
  await first.query('COMMIT');
  await waitsFor(sql, second);
  await swap.query('BEGIN; ALTER TABLE public.t RENAME TO old; ALTER TABLE public.other RENAME TO t');
  await second.query('COMMIT');
  await until(
    'the lock waits for the swap',
    async () => (await sql.query("SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'")).rowCount === 1,
  );
  await swap.query('COMMIT');
  await assert.rejects(begun, /renamed, truncated or rewritten a moment ago/);
  await Promise.all([sql, first, second, swap].map((client) => client.end()));
});

test('a stop that came before the slot was asked for waits for no writer', async () => {
  const url = await server.createDatabase();
  const [creator, reader, writer] = [
    await connectClient(url, { applicationName: 'test', replication: true }),
    await connectClient(url, { applicationName: 'test' }),
    await connectClient(url, { applicationName: 'test' }),
  ];
  await writer.query('CREATE TABLE public.t (id int); BEGIN; INSERT INTO public.t VALUES (1)');
  await assert.rejects(
    beginAtSnapshot({ creator, reader, watcher: reader }, { name: 'tidemark_stopped', temporary: true }, { signal: AbortSignal.abort() }),
    /Connection terminated/,
  );
  await Promise.all([reader.end(), writer.end()]);
});

test('rows that row level security hides from our role: the copy fails, it is never without them', async () => {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query(`CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1); ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;
    CREATE PUBLICATION tidemark_r FOR TABLE public.t; CREATE ROLE narrow LOGIN REPLICATION PASSWORD 'p'; GRANT SELECT ON public.t TO narrow`);
  const narrow = new URL(url);
  [narrow.username, narrow.password] = ['narrow', 'p'];
  const copy = await TableRecopy.begin(
    { url: narrow.toString(), source: 'r', publication: 'tidemark_r' },
    { schema: 'public', table: 't' },
    new AbortController().signal,
    () => undefined,
  );
  assert.ok(copy);
  await assert.rejects(copy.parts(new AbortController().signal).next(), /row-level security policy/);
  await copy[Symbol.asyncDispose]();
  await sql.end();
});

test('a relation is described without a primary key that it had not yet', async () => {
  const url = await server.createDatabase();
  const sql = await connectClient(url, { applicationName: 'test' });
  await sql.query('CREATE TABLE public.t (a int, b int, PRIMARY KEY (a, b))');
  const then = (await readRelationFromCatalog(sql, 'public', 't')) as Relation;
  assert.deepEqual((await describeTable(sql, then)).primaryKey, ['a', 'b']);
  await sql.query('ALTER TABLE public.t RENAME b TO c');
  assert.deepEqual((await describeTable(sql, then)).primaryKey, []);
  await sql.end();
});
