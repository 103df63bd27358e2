/** `tidemark tail` on a running pipeline: what is committed is shown once, whole and in order; what is not is never shown; readers come and go as they like. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { connect, type JetStreamManager, type NatsConnection } from 'nats';
import { configuredTable } from '../../../services/cli/configured-table.js';
import { LineOutput } from '../../../services/cli/tail/output.js';
import { parseFrom } from '../../../services/cli/tail/start.js';
import { tail } from '../../../services/cli/tail/tail.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import { cleanEnvironment, type Finished, MAIN } from './command.js';

const SCHEMA = `
CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), price float8, note text); CREATE INDEX ON prices (at);
CREATE TABLE whole (a int, b text, at timestamptz NOT NULL DEFAULT now()); ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO prices (at, price) SELECT now() - interval '3 days', i FROM generate_series(1, 50) i;`;
const TABLES = `  prices: { timestamp: at }
  whole: { timestamp: at, prune: false }`;

type Line = {
  lsn: string; ordinal: number; xid: number | null; committed: string | null; schema: string; table: string; op: string; key?: Texts; old?: Texts; new?: Texts; unchanged?: string[];
}; // biome-ignore format: one line
type Texts = Record<string, string | null>;

let pipeline: Pipeline;
let nats: NatsConnection;
let manager: JetStreamManager;
before(async () => {
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
  nats = await connect({ servers: pipeline.nats.url });
  manager = await nats.jetstreamManager();
});
after(async () => {
  await nats.close();
  await pipeline[Symbol.asyncDispose]();
});

const cli = (...args: string[]): Promise<Finished> => pipeline.cli(['tail', ...args, '-c', pipeline.configFile]);
const lsn = async (): Promise<string> => (await pipeline.query<{ at: string }>('SELECT pg_current_wal_insert_lsn()::text AS at'))[0]?.at as string;
const linesOf = (text: string): Line[] => (text === '' ? [] : text.trimEnd().split('\n')).map((line) => JSON.parse(line) as Line);

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, 'tail', ...args, '-c', pipeline.configFile], { env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
}

/** What the stream holds from `from` on. */
async function read(from: string, table?: string, all = false, notice: (text: string) => void = (text) => assert.fail(text)): Promise<Line[]> {
  const config = loadConfig(pipeline.configFile, {}, {});
  const stream = new PassThrough();
  const text = collect(stream);
  const named = table === undefined ? undefined : configuredTable(config, table);
  const options = { table: named, from: parseFrom(from, Date.now()), follow: false, all, signal: new AbortController().signal, notice };
  await tail(config, { ...options, output: new LineOutput(stream) });
  stream.end();
  return linesOf(await text);
}

test('every kind of change has its line, in the order of commits; what was rolled back has none', async () => {
  const from = await lsn();
  const large = 'ü'.repeat(5000);
  await pipeline.query(`BEGIN; INSERT INTO prices (id, price, note) VALUES (1001, 1.5, NULL), (1002, 2, E'"quoted"\\n\\\\'); SAVEPOINT s;
    INSERT INTO prices (id) VALUES (1003); ROLLBACK TO SAVEPOINT s; UPDATE prices SET price = 3 WHERE id = 1002; COMMIT`);
  await pipeline.query('BEGIN; INSERT INTO prices (id) VALUES (1004); ROLLBACK');
  await pipeline.query(`ALTER TABLE prices ALTER note SET STORAGE EXTERNAL; UPDATE prices SET note = '${large}' WHERE id = 1001`);
  await pipeline.query('UPDATE prices SET price = 4 WHERE id = 1001');
  await pipeline.query('UPDATE prices SET id = 2001 WHERE id = 1002; DELETE FROM prices WHERE id = 2001');
  await pipeline.query(`INSERT INTO whole (a, b) VALUES (1, ''); UPDATE whole SET b = 'x'; DELETE FROM whole; TRUNCATE whole`);
  await pipeline.archived();
  const lines = await read(from);
  const mine = lines.filter(({ table }) => table !== 'beat');
  const seen = mine.map(({ table, op, key, old }) => [table, op, key?.['id'] ?? null, old?.['id'] ?? old?.['b'] ?? null]);
  assert.deepEqual(seen, [
    ['prices', 'insert', '1001', null],
    ['prices', 'insert', '1002', null],
    ['prices', 'update', '1002', null],
    ['prices', 'update', '1001', null],
    ['prices', 'update', '1001', null],
    ['prices', 'update', '2001', '1002'],
    ['prices', 'delete', '2001', null],
    ['whole', 'insert', null, null],
    ['whole', 'update', null, ''],
    ['whole', 'delete', null, 'x'],
    ['whole', 'truncate', null, null],
  ]);
  const [first, second, third, toasted, untouched] = mine as [Line, Line, Line, Line, Line];
  assert.deepEqual([first.new?.['price'], first.new?.['note'], second.new?.['note'], toasted.new?.['note']], ['1.5', null, '"quoted"\n\\', large]);
  assert.deepEqual([first.ordinal, second.ordinal, third.ordinal, third.xid], [1, 2, 3, first.xid]);
  assert.deepEqual([untouched.unchanged, untouched.new?.['price'], 'note' in (untouched.new ?? {})], [['note'], '4', false]);
  assert.equal(third.lsn, first.lsn);
  assert.ok(Math.abs(Date.parse(first.committed as string) - Date.now()) < 60_000, first.committed ?? '');
  assert.deepEqual((await read(from, 'whole')).map(({ op }) => op), ['insert', 'update', 'delete', 'truncate']); // biome-ignore format: one line
});

test('--from takes an LSN, a time, how long ago and start; fences and copied rows only with --all', async () => {
  const early = await lsn();
  await pipeline.query('INSERT INTO prices (id) VALUES (3001)');
  const { now } = (await pipeline.query<{ now: string }>('SELECT clock_timestamp()::text AS now'))[0] as { now: string };
  const late = await lsn();
  await pipeline.query('INSERT INTO prices (id) VALUES (3002)');
  await pipeline.archived();
  const ids = async (from: string, table: string): Promise<(string | null | undefined)[]> => (await read(from, table)).map(({ key }) => key?.['id']);
  assert.deepEqual(await ids(early, 'prices'), ['3001', '3002']);
  assert.deepEqual(await ids(late, 'prices'), ['3002']);
  assert.deepEqual(await ids(now, 'public.prices'), ['3002']);
  assert.deepEqual(await ids('0s', 'prices'), []);
  assert.deepEqual((await ids('start', 'prices')).slice(-2), ['3001', '3002']);
  const plain = await read('start');
  const all = await read('start', undefined, true);
  assert.ok(plain.every(({ op }) => ['insert', 'update', 'delete', 'truncate'].includes(op)));
  assert.equal(all.filter(({ op, table }) => op === 'copy' && table === 'prices').length, 50);
  const fence = all.find(({ op }) => op === 'fence') as unknown as { content: Record<string, string> };
  assert.deepEqual(Object.keys(fence.content), ['nonce', 'horizon', 'generation', 'archive'], 'without its signature');
});

test('a value that takes several messages comes whole, and so does what is behind it', async () => {
  const from = await lsn();
  await pipeline.query(`INSERT INTO prices (id, note) VALUES (4001, repeat('wörter ', 600000)); INSERT INTO prices (id) VALUES (4002)`);
  await pipeline.archived();
  const [large, behind] = await read(from, 'prices');
  assert.equal(large?.new?.['note'], 'wörter '.repeat(600_000));
  assert.equal(behind?.key?.['id'], '4002');
  const { state } = await manager.streams.info('TIDEMARK_test');
  const last = await manager.streams.getMessage('TIDEMARK_test', { seq: state.last_seq });
  assert.ok(last.data.length < 1_000_000, 'messages stay small');
});

test('follows from now on; Ctrl-C ends it quietly', async () => {
  const child = start('prices');
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  await until('it reads', async () => (await manager.consumers.list('TIDEMARK_test').next()).length >= 2);
  await pipeline.query('INSERT INTO prices (id) VALUES (5001)');
  const line = JSON.parse((await lines.next()).value as string) as Line;
  assert.deepEqual([line.op, line.key?.['id']], ['insert', '5001']);
  child.kill('SIGINT');
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  assert.deepEqual([code, signal], [0, null]);
});

test('a slow reader holds it back, and gets everything in the end; one that leaves ends it quietly', async () => {
  const from = await lsn();
  await pipeline.query(`INSERT INTO prices (id, note) SELECT 10000 + i, repeat(md5(i::text), 200) FROM generate_series(1, 3000) i`);
  await pipeline.archived();
  const child = start('prices', '--from', from, '--no-follow');
  const ours = async (): Promise<number | undefined> =>
    (await manager.consumers.list('TIDEMARK_test').next()).map((consumer) => consumer.num_pending).find((pending) => pending > 0);
  let [before, same] = [0, 0];
  const pending = await until('it has stopped asking', async () => {
    const seen = (await ours()) ?? 0;
    same = seen === before ? same + 1 : 0;
    before = seen;
    return same > 40 && seen;
  });
  assert.ok(pending > 20, `${pending} messages wait in the stream`);
  let count = 0;
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { key } = JSON.parse(line) as Line;
    count += 1;
    assert.equal(key?.['id'], String(10_000 + count));
  }
  assert.equal(count, 3000);
  const leaving = start('prices', '--from', from);
  let stderr = '';
  leaving.stderr?.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  leaving.stdout?.once('data', () => leaving.stdout?.destroy());
  const [code] = (await once(leaving, 'exit')) as [number | null];
  assert.deepEqual([code, stderr], [0, '']);
});

test("our pruner's deletes are told apart from the user's", async () => {
  const from = await lsn();
  await pipeline.query('DELETE FROM prices WHERE id = 1');
  await pipeline.archived();
  const pruned = await pipeline.cli(['prune', 'prices', '-c', pipeline.configFile]);
  assert.equal(pruned.code, 0, pruned.stdout);
  await pipeline.archived();
  const ops = (await read(from, 'prices')).map(({ op, key }) => `${op} ${key?.['id']}`);
  assert.deepEqual(ops.slice(0, 1), ['delete 1']);
  assert.deepEqual(ops.slice(1).sort(), Array.from({ length: 49 }, (_, i) => `prune ${i + 2}`).sort());
});

test('a time before a stream that nothing was taken out of begins where it begins, and says so', async () => {
  const { code, stdout, stderr } = await cli('prices', '--from', '10d', '--no-follow');
  assert.equal(code, 0, stderr);
  assert.match(
    stderr,
    /^--from: \S+ lies before the stream, which begins at [0-9A-F]+\/[0-9A-F]+, 20\S+; nothing was taken out of it, so all of it follows\n$/,
  );
  assert.deepEqual(linesOf(stdout), await read('start', 'prices'));
  const said: string[] = [];
  assert.deepEqual(await read('2020-01-01', 'prices', false, (text) => said.push(text)), linesOf(stdout));
  assert.equal(said.length, 1);
  const place = await cli('--from', '0/1', '--no-follow');
  assert.deepEqual([place.code, /0\/1 lies before the replay window/.test(place.stderr)], [2, true], 'an LSN is a place that is not there');
});

test('what lies before the replay window, is no place, or no table, is refused in one line', async () => {
  const before = await lsn();
  for (const id of [6001, 6002]) {
    await pipeline.query(`INSERT INTO prices (id) VALUES (${id})`);
    await pipeline.archived(); // so that the second one is in a message of its own, which begins behind the first
  }
  const { state } = await manager.streams.info('TIDEMARK_test');
  await manager.streams.purge('TIDEMARK_test', { seq: state.last_seq });
  const old = await cli('--from', before, '--no-follow');
  assert.equal(old.code, 2);
  assert.match(old.stderr, /^--from: \S+ lies before the replay window, which begins at [0-9A-F]+\/[0-9A-F]+, 20.*\n$/);
  await assert.rejects(read('2020-01-01'), /2020-01-01T00:00:00.000Z lies before/);
  await assert.rejects(read('1h'), /lies before the replay window/);
  assert.throws(() => parseFrom('yesterday', 0), /"yesterday" is no place in the stream/);
  assert.deepEqual(parseFrom('2026-01-12 10:00:00.5+01', 0), { kind: 'time', micros: BigInt(Date.UTC(2026, 0, 12, 9, 0, 0, 500)) * 1000n });
  const exact = { kind: 'time', micros: BigInt(Date.UTC(2026, 0, 12)) * 1000n + 123_450n };
  assert.deepEqual(parseFrom('2026-01-12 00:00:00.12345', 0), exact, 'as finely as commit times are');
  assert.deepEqual(parseFrom('90s', 100_000), { kind: 'time', micros: 10_000_000n });
  assert.match((await cli('nothing', '--no-follow')).stderr, /say where to begin/);
});
