import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { consume } from '../../../services/archiver/consume.js';
import { Flusher } from '../../../services/archiver/flush.js';
import type { Large } from '../../../services/archiver/large-values.js';
import { openContext, openIntake } from '../../../services/archiver/loop.js';
import { ReceiptWriter } from '../../../src/archive/receipts.js';
import { Halt } from '../../../src/runtime/errors.js';
import { ensureStream } from '../../../src/stream/topology.js';
import {
  copyChunks,
  defineTable,
  deleteMessage,
  insertMessage,
  truncateMessage,
  updateMessage,
  WalWriter,
  type WrittenChunk,
} from '../../change/pgoutput-writer.js';
import { ArchiverBench, taking, until } from './harness.js';

const prices = defineTable();
const OID = prices.relation.oid;
const DAY = '2026-01-12';
const at = (time: string, day = DAY): string => `${day} ${time}+00`;
const row = (id: number, note = `n${id}`, day = DAY): string[] => [String(id), at('10:00:00', day), note];
const insert = (id: number, note?: string, day?: string): Buffer => insertMessage(OID, row(id, note, day));
const halted = async (running: { ended: Promise<unknown> }, name: string): Promise<void> => {
  const error = await running.ended;
  assert.ok(error instanceof Halt, String(error));
  assert.equal(error.halt, name);
};

test('copy, stream, keys: every version stands in the segment of its own day, at its position', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1), row(2, 'old', '2026-01-10')] }]));
  const first = wal.transaction([prices], [insert(3), updateMessage(OID, row(1, 'new')), deleteMessage(OID, ['2', null, null])]);
  const moved = wal.transaction([prices], [updateMessage(OID, row(30, 'moved'), { kind: 'K', values: ['3', null, null] }), truncateMessage([OID])]);
  await bench.publish(...first, ...moved);
  const state = await bench.archived(moved.at(-1));
  assert.deepEqual(await bench.versions(state), [
    'copy fff:1 1|2026-01-12 10:00:00+00|n1',
    'copy fff:2 2|2026-01-10 10:00:00+00|old',
    'insert 1000:1 3|2026-01-12 10:00:00+00|n3',
    'update 1000:2 1|2026-01-12 10:00:00+00|new',
    'update 1030:1 30|2026-01-12 10:00:00+00|moved',
  ]);
  assert.deepEqual(await bench.keys(state), ['update 1000:2 1', 'delete 1000:3 2', 'update 1030:1 3', 'truncate 1030:2 ∅']);
  assert.deepEqual([...new Set([...state.files.values()].map((entry) => `${entry.kind} ${entry.day}`))].sort(), [
    'keys null',
    'segment 2026-01-10',
    'segment 2026-01-12',
  ]);
  assert.deepEqual(state.tables[0]?.coverage, { state: 'open', since: state.tables[0]?.coverage.state === 'open' ? state.tables[0].coverage.since : -1 });
  assert.equal(state.copy?.state, 'complete');
  assert.ok([...state.files.values()].every((entry) => entry.pendingCopy === null));
  await running.stop();
});

test('law 2: W is only ever a transaction’s end, also when a chunk ends inside one', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const whole = wal.transaction([prices], [insert(1)]);
  const torn = wal.transaction([prices], [insert(2), insert(3), insert(4)], { cuts: [1, 2] });
  await bench.publish(...whole);
  await bench.archived(whole[0]);
  await bench.publish(torn[0] as WrittenChunk, torn[1] as WrittenChunk);
  await new Promise((resolve) => setTimeout(resolve, 300)); // three times flush.every
  assert.deepEqual(await bench.versions(), ['insert 1000:1 1|2026-01-12 10:00:00+00|n1']);
  await running.stop();
  const again = bench.run();
  await bench.publish(torn[2] as WrittenChunk);
  const state = await bench.archived(torn[2]);
  assert.deepEqual(
    (await bench.versions(state)).map((text) => text.split(' ')[1]),
    ['1000:1', '1030:1', '1030:2', '1030:3'],
  );
  await again.stop();
});

test('law 4: what was sent again, whole or in part, is dropped to the row', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(100)] }]));
  const a = wal.transaction([prices], [insert(1), insert(2)]);
  const b = wal.transaction([prices], [insert(3), insert(4), insert(5)], { cuts: [2] });
  const c = wal.transaction([prices], [insert(6)]);
  await bench.publish(...a, ...b);
  await bench.archived(b.at(-1));
  // Two transactions end where the next begins: the fence, the overlap and the first row of the next share an LSN.
  await bench.publish(...a, ...b, WalWriter.join([...b, ...c]));
  const state = await bench.archived(c.at(-1));
  assert.deepEqual(
    (await bench.versions(state)).map((text) => text.split('|')[0]),
    ['copy fff:1 100', 'insert 1000:1 1', 'insert 1000:2 2', 'insert 1030:1 3', 'insert 1030:2 4', 'insert 1030:3 5', 'insert 1060:1 6'],
  );
  await running.stop();
});

test('law 6: a gap is never taken; what was missing may still come', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const [a, b, c] = [wal.transaction([prices], [insert(1)]), wal.transaction([prices], [insert(2)]), wal.transaction([prices], [insert(3)])];
  await bench.publish(...a);
  await bench.archived(a[0]);
  await bench.publish(...c);
  await until('the gap was said', async () => bench.logged.some((line) => line['event'] === 'stream-gap'));
  assert.equal((await bench.state())?.position, '0/1030:0');
  await bench.publish(...b, ...c);
  const state = await bench.archived(c[0]);
  assert.equal((await bench.versions(state)).length, 3);
  await running.stop();
});

test('F29: a stream that was wiped and filled again from the slot is taken up where the archive stands', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(100)] }]));
  const a = wal.transaction([prices], [insert(1)]);
  await bench.publish(...a);
  await bench.archived(a[0]);
  await bench.stream.manager.streams.delete(bench.stream.name);
  await ensureStream(bench.stream.manager, bench.config);
  const b = wal.transaction([prices], [insert(2)]);
  await bench.publish(...a, ...b);
  const state = await bench.archived(b[0]);
  assert.equal((await bench.versions(state)).length, 3);
  await running.stop();
});

test('a copy that starts again leaves nothing of the first one, and nothing double', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const first = { ...bench.epoch, generation: randomUUID() };
  const unfinished = bench.copy([{ definition: prices, rows: [row(1, 'first'), row(2, 'first')] }], { epoch: first }).slice(0, -1);
  await bench.publish(...unfinished);
  await until('rows of the first copy are archived', async () => (await bench.state())?.copy?.rows === 2);
  assert.ok([...((await bench.state())?.files.values() ?? [])].every((entry) => entry.pendingCopy === first.generation));
  assert.equal((await bench.state())?.position, null);
  const wal = bench.wal(0x2000n);
  const a = wal.transaction([prices], [insert(3)]);
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1, 'second'), row(2, 'second')] }], { consistentPoint: 0x2000n }), ...a);
  const state = await bench.archived(a[0]);
  assert.deepEqual(await bench.versions(state), [
    'copy 1fff:1 1|2026-01-12 10:00:00+00|second',
    'copy 1fff:2 2|2026-01-12 10:00:00+00|second',
    'insert 2000:1 3|2026-01-12 10:00:00+00|n3',
  ]);
  await running.stop();
});

test('rows of a copy that are still on their way when the next copy begins are not archived behind its beginning', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ rows: 1000, every: 100ms }' });
  const rows = (note: string, from: number, to: number): ReturnType<typeof row>[] => Array.from({ length: to - from }, (_, i) => row(from + i, note));
  const first = { ...bench.epoch, generation: randomUUID() };
  const unfinished = bench.copy([{ definition: prices, rows: rows('first', 0, 5000) }], { epoch: first }).slice(0, -1);
  await bench.publish(...unfinished);
  const wal = bench.wal(0x2000n);
  const a = wal.transaction([prices], [insert(9000)]);
  await bench.publish(...bench.copy([{ definition: prices, rows: rows('second', 10, 20) }], { consistentPoint: 0x2000n }), ...a);
  const running = bench.run(); // finds all of it at once
  const state = await bench.archived(a[0]);
  assert.equal((await bench.versions(state)).length, 11);
  assert.equal(state.copy?.generation, bench.epoch.generation);
  await running.stop();
});

test('an archiver stopped in the middle of a copy goes on where it was, and counts each row once', async () => {
  await using bench = await ArchiverBench.start();
  const other = defineTable({ oid: 16500, table: 'other' });
  const config = {
    ...bench.config,
    tables: [...bench.config.tables, { ...(bench.config.tables[0] as object), key: 'other', table: 'other', group: 'other' }],
  } as typeof bench.config;
  const chunks = bench.copy([
    { definition: prices, rows: [row(1), row(2)] },
    { definition: other, rows: [row(3)] },
  ]);
  await bench.publish(chunks[0] as WrittenChunk, chunks[1] as WrittenChunk);
  const running = bench.run(config);
  await until('the first table is archived', async () => (await bench.state())?.copy?.rows === 2);
  await running.stop();
  await bench.publish(chunks[2] as WrittenChunk, chunks[3] as WrittenChunk);
  const again = bench.run(config);
  await until('the copy is complete', async () => (await bench.state())?.copy?.state === 'complete');
  assert.deepEqual(
    (await bench.versions()).map((text) => text.split('|')[0]),
    ['copy fff:1 1', 'copy fff:2 2', 'copy fff:3 3'],
  );
  await again.stop();
});

test('law 7: deletes are a prune only with the mark, its signature, and the intent of that very transaction', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  const receipts = new ReceiptWriter(bench.dir);
  const intent = async (batch: string, xid: number): Promise<void> =>
    receipts.append({
      type: 'intent',
      run: 'r',
      batch,
      xid: String((5n << 32n) + BigInt(xid)),
      oid: OID,
      schema: 'public',
      table: 'prices',
      rows: 1,
      keys: [],
      digests: [],
      at: '',
    });
  await bench.publish(...bench.copy([{ definition: prices, rows: [1, 2, 3, 4, 5].map((id) => row(id)) }]));
  const remove = (id: number): Buffer => deleteMessage(OID, [String(id), null, null]);
  await intent('proved', wal.xid + 1);
  const proved = wal.transaction([prices], [remove(1)], { first: wal.pruneMark('r', 'proved'), cuts: [] });
  const without = wal.transaction([prices], [remove(2)], { first: wal.pruneMark('r', 'no-intent') });
  const repeated = wal.transaction([prices], [remove(3)], { first: wal.pruneMark('r', 'proved') });
  await intent('forged', wal.xid + 1);
  const forged = wal.transaction([prices], [remove(4)], { first: wal.pruneMark('r', 'forged', Buffer.alloc(32)) });
  const plain = wal.transaction([prices], [remove(5)]);
  await bench.publish(...proved, ...without, ...repeated, ...forged, ...plain);
  const state = await bench.archived(plain[0]);
  assert.deepEqual(await bench.keys(state), ['prune 1000:1 1', 'delete 1030:1 2', 'delete 1060:1 3', 'delete 1090:1 4', 'delete 10c0:1 5']);
  await running.stop();
});

test('a prune mark holds for all chunks of its transaction', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await new ReceiptWriter(bench.dir).append({
    type: 'intent', run: 'r', batch: 'b', xid: String(wal.xid + 1), oid: OID, schema: 'public', table: 'prices', rows: 2, keys: [], digests: [], at: '',
  }); // biome-ignore format: one receipt
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1), row(2)] }]));
  const chunks = wal.transaction([prices], [deleteMessage(OID, ['1', null, null]), deleteMessage(OID, ['2', null, null])], {
    first: wal.pruneMark('r', 'b'),
    cuts: [1],
  });
  await bench.publish(...chunks);
  const state = await bench.archived(chunks.at(-1));
  assert.deepEqual(await bench.keys(state), ['prune 1000:1 1', 'prune 1000:2 2']);
  await running.stop();
});

test('fences with our signature and generation are archived, with the boundary of their own commit', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const fence = wal.fence('nonce-1');
  const foreign = bench.wal(wal.next, { ...bench.epoch, generation: randomUUID() }).fence('foreign');
  await bench.publish(...fence);
  await bench.publish({ header: { ...(foreign[0] as WrittenChunk).header, epoch: bench.epoch }, payload: (foreign[0] as WrittenChunk).payload });
  const state = await bench.archived(foreign[0]);
  assert.deepEqual(state.fences, [{ lsn: '0/1000', end: '0/1030', nonce: 'nonce-1', horizon: '701' }]);
  await running.stop();
});

test('a chunk of another epoch halts the archiver; it takes nothing of it', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1)] }]));
  await until('the copy is complete', async () => (await bench.state())?.position);
  await bench.publish(...bench.wal(0x1000n, { ...bench.epoch, timeline: 2 }).transaction([prices], [insert(9)]));
  await halted(running, 'IDENTITY');
  assert.equal((await bench.versions()).length, 1);
});

test('a copy for another archive halts', async () => {
  await using bench = await ArchiverBench.start();
  await bench.publish(...copyChunks(bench.epoch, randomUUID(), 0x1000n, [{ definition: prices, rows: [row(1)] }]));
  await halted(bench.run(), 'IDENTITY');
});

test('F36: bytes that cannot be decoded are tried again, then halt with their position; nothing behind them is taken', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const good = wal.transaction([prices], [insert(1)]);
  const [bad] = wal.transaction([prices], [insert(2)]) as [WrittenChunk];
  await bench.publish(...good);
  await bench.archived(good[0]);
  await bench.publish({ ...bad, payload: Buffer.concat([bad.payload.subarray(0, 40), Buffer.from('garbage'), bad.payload.subarray(40)]) });
  const error = await running.ended;
  assert.ok(error instanceof Halt && error.halt === 'POISON', String(error));
  assert.match(error.message, /0\/1030:0 to 0\/1060:0/);
  assert.equal((await bench.state())?.position, '0/1030:0');
});

test('tables that are not configured count in positions and leave no row', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  const other = defineTable({ oid: 16500, table: 'other' });
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const mixed = wal.transaction([prices, other], [insertMessage(16500, row(1)), insert(2)]);
  await bench.publish(...mixed);
  const state = await bench.archived(mixed[0]);
  assert.deepEqual(await bench.versions(state), ['insert 1000:2 2|2026-01-12 10:00:00+00|n2']);
  assert.equal(bench.logged.filter((line) => line['event'] === 'not-configured').length, 1);
  await running.stop();
});

test('a changed column set makes a new segment and the table’s new signature; unchanged TOAST is marked', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  const wider = defineTable({
    columns: [
      ['id', 20],
      ['at', 1184],
      ['note', 25],
      ['extra', 3802],
    ],
  });
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const a = wal.transaction([prices], [insert(1)]);
  const b = wal.transaction([wider], [updateMessage(OID, ['1', at('10:00:00'), undefined, '{"a": 1}'])]);
  await bench.publish(...a, ...b);
  const state = await bench.archived(b[0]);
  assert.deepEqual(await bench.versions(state), ['insert 1000:1 1|2026-01-12 10:00:00+00|n1', 'update 1030:1 1|2026-01-12 10:00:00+00|∅|{"a": 1} unresolved']);
  assert.match(state.tables[0]?.signature ?? '', /extra/);
  assert.equal(state.tables[0]?.coverage.state, 'open');
  await running.stop();
});

test('P11: unchanged TOAST is taken from the newest earlier version of the row, never from another life or an older text', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const big = (letter: string): string => letter.repeat(3000);
  const change = (id: number, note: string | undefined, old?: number): Buffer =>
    updateMessage(OID, [String(id), at('10:00:00'), note], old === undefined ? undefined : { kind: 'K', values: [String(old), null, null] });
  const chunks = [
    ...wal.transaction([prices], [insert(1, big('a')), insert(2, big('b')), insert(3, big('c'))]),
    ...wal.transaction([prices], [change(1, undefined), change(1, big('A')), change(1, undefined), change(20, undefined, 2), change(2, undefined)]),
    ...wal.transaction([prices], [deleteMessage(OID, ['3', null, null]), change(3, undefined), change(1, 'short'), change(1, undefined)]),
    ...wal.transaction([prices], [truncateMessage([OID]), change(20, undefined)]),
  ];
  await bench.publish(...chunks);
  const state = await bench.archived(chunks.at(-1));
  const seen = (await bench.versions(state)).slice(3).map((text) => text.replace(/^\w+ (\w+:\d+) (\d+)\|[^|]*\|(.).*?( unresolved)?$/s, '$1 $2 $3$4'));
  assert.deepEqual(seen, [
    '1030:1 1 a',
    '1030:2 1 A',
    '1030:3 1 A',
    '1030:4 20 b',
    '1030:5 2 ∅ unresolved',
    '1060:2 3 ∅ unresolved',
    '1060:3 1 s',
    '1060:4 1 ∅ unresolved',
    '1090:2 20 ∅ unresolved',
  ]);
  await running.stop();
});

test('nothing is committed when nothing came', async () => {
  await using bench = await ArchiverBench.start();
  const running = bench.run();
  await bench.publish(...bench.copy([{ definition: prices, rows: [row(1)] }]));
  const state = await until('the copy is complete', async () => {
    const found = await bench.state();
    return found?.position ? found : undefined;
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal((await bench.state())?.number, state.number);
  await running.stop();
});

test('a batch that is nearly due is cut behind the next fence, so that what it holds is covered with it', async () => {
  await using bench = await ArchiverBench.start();
  const context = await openContext(bench.config, bench.dir, bench.archive, bench.key, bench.log);
  const intake = openIntake(context, bench.dir);
  const take = taking(intake);
  const wal = bench.wal();
  await take(...bench.copy([{ definition: prices, rows: [] }]));
  assert.deepEqual(await take(...wal.transaction([prices], [insert(1)]), ...wal.fence('a', '10')), [], 'too young');
  intake.cut('behind a fence');
  assert.deepEqual(await take(...wal.transaction([prices], [insert(2)])), [], 'no fence yet');
  const [ready, ...others] = await take(...wal.fence('b', '11'));
  assert.deepEqual([ready?.batch.rows, ready?.batch.fences.map(({ horizon }) => horizon), others.length], [2, ['10', '11'], 0]);
  assert.deepEqual(await take(...wal.transaction([prices], [insert(3)]), ...wal.fence('c', '12')), [], 'once');
  ready?.batch.discard();
  intake.discard();
  await context.close();
});

test('the end of a backlog does not wait for the age of its batch; a few rows do', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 60s }' });
  const running = bench.run();
  const wal = bench.wal();
  await bench.publish(...bench.copy([{ definition: prices, rows: [] }]));
  const backlog = wal.transaction(
    [prices],
    Array.from({ length: 50_000 }, (_, id) => insert(id)),
    { cuts: [10_000, 20_000, 30_000, 40_000] },
  );
  await bench.publish(...backlog);
  const { number } = await bench.archived(backlog.at(-1));
  await bench.publish(...wal.transaction([prices], [insert(50_000)]));
  await new Promise((resolve) => setTimeout(resolve, 2000)); // twice the silence that ends a backlog
  assert.equal((await bench.state())?.number, number);
  await running.stop();
  assert.equal((await bench.state())?.number, number + 1);
});

test('a backlog has not ended while the archiver itself holds it up', async () => {
  await using bench = await ArchiverBench.start({ flush: '{ every: 60s }', tables: '  prices: { timestamp: at }\n  notes: { timestamp: at }' });
  const notes = defineTable({ oid: 2000, table: 'notes' });
  const wal = bench.wal();
  const backlog = [
    ...bench.copy([
      { definition: prices, rows: [] },
      { definition: notes, rows: [] },
    ]),
    ...wal.transaction(
      [prices],
      Array.from({ length: 50_000 }, (_, id) => insert(id)),
      { cuts: [10_000, 20_000, 30_000, 40_000] },
    ),
    ...wal.transaction([notes], [updateMessage(notes.relation.oid, ['1', at('10:00:00'), undefined])]),
  ];
  await bench.publish(...backlog);
  const context = await openContext(bench.config, bench.dir, bench.archive, bench.key, bench.log);
  const stop = new AbortController();
  let release: () => void = () => undefined;
  let asked = false;
  const earlier = async (): Promise<ReadonlyMap<string, Large>> => {
    asked = true;
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return new Map();
  };
  const { config, log } = bench;
  const flusher = new Flusher(context, (error) => assert.fail(String(error)));
  const ended = consume({ config, log, stream: bench.stream, intake: openIntake(context, bench.dir), flusher, from: {}, earlier }, stop.signal);
  await until('a value is looked up', async () => asked);
  const { number } = context.state;
  await new Promise((resolve) => setTimeout(resolve, 2000)); // twice the silence that ends a backlog
  assert.equal(context.state.number, number);
  release();
  await bench.archived(backlog.at(-1));
  assert.equal(context.state.number, number + 1, 'as one batch');
  stop.abort();
  await ended;
  await context.close();
});
