/** Chunks as they may come: overlapping, cut within a transaction, from the middle, of another slot. Each change is shown once and whole transactions only, or reading fails. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { type Change, TailedChanges, type TailScope } from '../../../../services/cli/tail/changes.js';
import { changeLine } from '../../../../services/cli/tail/line.js';
import type { IntentHead } from '../../../../src/archive/receipts.js';
import type { Lsn } from '../../../../src/position/lsn.js';
import type { StreamChunk } from '../../../../src/stream/consume.js';
import { defineTable, deleteMessage, insertMessage, WalWriter, type WrittenChunk } from '../../../change/pgoutput-writer.js';

const prices = defineTable();
const OID = prices.relation.oid;
const key = randomBytes(32);
const insert = (id: number, note: string | null = null): Buffer => insertMessage(OID, [String(id), '2026-01-12 10:00:00+00', note]);
const writer = (start?: bigint): WalWriter =>
  new WalWriter({ epoch: { systemId: '7', timeline: 1, generation: randomUUID() }, key, archive: 'a', ...(start === undefined ? {} : { start }) });
const chunk = (written: WrittenChunk): StreamChunk => ({ ...written, sequence: 1, firstSequence: 1, streamCreated: '' });
const textOf = (change: Change): Record<string, unknown> => JSON.parse([...changeLine(change)].join('')) as Record<string, unknown>;
const ids = (changes: readonly Change[]): string[] =>
  changes.flatMap((change) => ('prefix' in change ? [] : [`${change.op} ${(textOf(change)['key'] as { id: string }).id}`]));

function reader(scope: Partial<TailScope> = {}, intents: ReadonlyMap<string, IntentHead> = new Map()): (written: WrittenChunk) => string[] {
  const changes = new TailedChanges({ key, ...scope }, intents);
  return (written) => ids(changes.read(chunk(written)));
}

test('what comes twice is shown once, whatever the cuts; what is missing is never passed over', () => {
  const wal = writer();
  const [a, b, c] = [
    wal.transaction([prices], [insert(1)]),
    wal.transaction([prices], [insert(2), insert(3), insert(4)]),
    wal.transaction([prices], [insert(5)]),
  ];
  const read = reader();
  assert.deepEqual(read(WalWriter.join([...a, ...b])), ['insert 1', 'insert 2', 'insert 3', 'insert 4']);
  assert.deepEqual([...b, ...a].flatMap(read), []);
  assert.deepEqual(c.flatMap(read), ['insert 5'], 'an old one does not set it back');
  const overlapped = reader();
  overlapped(WalWriter.join([...a, ...b]));
  assert.deepEqual(overlapped(WalWriter.join([...b, ...c])), ['insert 5']);
  const gap = reader();
  gap(a[0] as WrittenChunk);
  assert.throws(() => gap(c[0] as WrittenChunk), /taken out before it was read/);
});

test('a transaction over several chunks is shown from its beginning, or not at all', () => {
  const wal = writer();
  const long = wal.transaction([prices], [insert(1), insert(2), insert(3)], { cuts: [1, 2] });
  const next = wal.transaction([prices], [insert(4)]);
  const whole = reader();
  assert.deepEqual([...long, ...next].flatMap(whole), ['insert 1', 'insert 2', 'insert 3', 'insert 4']);
  const late = reader();
  assert.deepEqual([...long.slice(1), ...next].flatMap(late), ['insert 4']);
});

test('an LSN and a time leave out what committed before', () => {
  const wal = writer();
  const first = wal.transaction([prices], [insert(1)]);
  const at = wal.next;
  const second = wal.transaction([prices], [insert(2)]);
  const committed = new TailedChanges({ key }, new Map()).read(chunk(second[0] as WrittenChunk))[0]?.committedAtMicros as bigint;
  for (const scope of [{ sinceLsn: at as Lsn }, { sinceMicros: committed }]) assert.deepEqual([...first, ...second].flatMap(reader(scope)), ['insert 2']);
});

test('another slot begins anew', () => {
  const read = reader();
  const [old, other] = [writer(0x9000n), writer(0x2000n)];
  assert.deepEqual(read(old.transaction([prices], [insert(1)])[0] as WrittenChunk), ['insert 1']);
  assert.deepEqual(read(other.transaction([prices], [insert(2)])[0] as WrittenChunk), ['insert 2']);
});

test('a delete is a prune only with its mark, the key and the intent of that very transaction, on all its chunks', () => {
  const intent = (xid: number): ReadonlyMap<string, IntentHead> =>
    new Map([['b', { type: 'intent', run: 'r', batch: 'b', xid: String(xid), oid: OID, schema: 'public', table: 'prices', rows: 2, at: '' } as IntentHead]]);
  const wal = writer();
  const rows = [1, 2].map((id) => deleteMessage(OID, [String(id), null, null]));
  const chunks = wal.transaction([prices], rows, { first: wal.pruneMark('r', 'b'), cuts: [1] });
  assert.deepEqual(chunks.flatMap(reader({}, intent(wal.xid))), ['prune 1', 'prune 2']);
  assert.deepEqual(chunks.flatMap(reader({}, intent(wal.xid + 1))), ['delete 1', 'delete 2']);
  assert.deepEqual(chunks.flatMap(reader({ key: undefined }, intent(wal.xid))), ['delete 1', 'delete 2']);
  assert.deepEqual(chunks.flatMap(reader({ key: randomBytes(32) }, intent(wal.xid))), ['delete 1', 'delete 2']);
});

test('a large value is given in pieces that end with its characters', () => {
  for (const shift of ['', 'x', 'xx', 'xxx']) {
    const note = `${shift}${'🐐"\n'.repeat(100_000)}`;
    const [change] = new TailedChanges({ key }, new Map()).read(chunk(writer().transaction([prices], [insert(1, note)])[0] as WrittenChunk));
    assert.ok(change);
    assert.equal((textOf(change)['new'] as { note: string }).note === note, true, `shifted by ${shift.length}`);
    assert.ok(Math.max(...[...changeLine(change)].map((piece) => piece.length)) < 400_000);
  }
});
