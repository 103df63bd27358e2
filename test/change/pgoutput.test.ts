/** pgoutput is read as the manual says, in place; bytes that are no frames of it are refused, never skipped. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChangeVisitor, type RowChange, readTuple, skipTuple, visitFrames } from '../../src/change/pgoutput.js';
import {
  beginMessage,
  commitMessage,
  defineTable,
  deleteMessage,
  descriptionMessage,
  framed,
  insertMessage,
  logicalMessage,
  relationMessage,
  truncateMessage,
  updateMessage,
  type Values,
} from './pgoutput-writer.js';

type Seen = [what: string, ...details: unknown[]];

/** Everything a visitor hears, copied out of the reused objects. */
function read(payload: Buffer): Seen[] {
  const seen: Seen[] = [];
  const visitor: ChangeVisitor = {
    begin: (begin) => seen.push(['begin', begin]),
    commit: (commit) => seen.push(['commit', commit]),
    relation: (relation) => seen.push(['relation', relation]),
    description: (description) => seen.push(['description', description]),
    message: (message) => seen.push(['message', message]),
    row: (change: RowChange) => {
      const tuple = (offset: number): Values | undefined => (offset < 0 ? undefined : readTuple(change.buffer, offset));
      seen.push([change.op, change.oid, tuple(change.newTuple), change.oldKind, tuple(change.oldTuple)]);
    },
    truncate: (oids, options) => seen.push(['truncate', oids, options]),
  };
  visitFrames(payload, visitor);
  return seen;
}

const AT = 1_768_300_000_123_456n;

test('a transaction with every kind of message', () => {
  const { relation, description } = defineTable();
  const row: Values = ['1', '2026-01-13 10:26:40.123456+00', 'a note, with ünïcode 🌊'];
  const seen = read(
    framed([
      beginMessage(0x16_b374_d848n, 4_294_967_295, AT),
      logicalMessage(0x16_b374_d800n, 'tidemark.fence', 'content.proof'),
      descriptionMessage(description),
      relationMessage(relation),
      insertMessage(relation.oid, row),
      updateMessage(relation.oid, row),
      updateMessage(relation.oid, row, { kind: 'K', values: ['0', null, null] }),
      updateMessage(relation.oid, row, { kind: 'O', values: ['0', 'x', ''] }),
      deleteMessage(relation.oid, ['1', null, null]),
      deleteMessage(relation.oid, row, 'O'),
      truncateMessage([relation.oid, 16_401]),
      commitMessage(0x16_b374_d848n, 0x16_b374_d878n, AT),
    ]),
  );
  assert.deepEqual(seen, [
    ['begin', { commitLsn: 0x16_b374_d848n, committedAtMicros: AT, xid: 4_294_967_295 }],
    ['message', { transactional: true, lsn: 0x16_b374_d800n, prefix: 'tidemark.fence', content: 'content.proof' }],
    ['description', description],
    ['relation', relation],
    ['insert', relation.oid, row, 'none', undefined],
    ['update', relation.oid, row, 'none', undefined],
    ['update', relation.oid, row, 'key', ['0', null, null]],
    ['update', relation.oid, row, 'row', ['0', 'x', '']],
    ['delete', relation.oid, undefined, 'key', ['1', null, null]],
    ['delete', relation.oid, undefined, 'row', row],
    ['truncate', [relation.oid, 16_401], { cascade: false, restartIdentity: false }],
    ['commit', { commitLsn: 0x16_b374_d848n, endLsn: 0x16_b374_d878n }],
  ]);
});

test('NULL, the empty text and unchanged TOAST are three things', () => {
  const [seen] = read(framed([insertMessage(1, [null, '', undefined, '\\N', 'null'])]));
  assert.deepEqual(seen?.[2], [null, '', undefined, '\\N', 'null']);
});

test('transaction ids and OIDs above 2^31 are not negative', () => {
  const seen = read(framed([beginMessage(1n, 3_000_000_000, AT), insertMessage(4_000_000_000, ['1']), truncateMessage([4_000_000_001])]));
  assert.deepEqual(seen[0]?.[1], { commitLsn: 1n, committedAtMicros: AT, xid: 3_000_000_000 });
  assert.equal(seen[1]?.[1], 4_000_000_000);
  assert.deepEqual(seen[2]?.[1], [4_000_000_001]);
});

test('commit times keep their microseconds', () => {
  for (const micros of [946_684_800_000_001n, AT, 253_402_300_799_999_999n]) {
    assert.deepEqual(read(framed([beginMessage(1n, 1, micros)])), [['begin', { commitLsn: 1n, committedAtMicros: micros, xid: 1 }]]);
  }
});

test('typmods and identity of a relation are kept', () => {
  const { relation } = defineTable({ identity: 'f', columns: [['amount', 1700]], key: [] });
  const wide = { ...relation, columns: relation.columns.map((column) => ({ ...column, typmod: ((20 << 16) | 8) + 4 })) };
  assert.deepEqual(read(framed([relationMessage(wide)])), [['relation', wide]]);
});

test('the type and origin messages of Postgres are passed over; others are refused', () => {
  assert.deepEqual(read(framed([Buffer.from('Y...'), Buffer.from('O...')])), []);
  for (const tag of ['S', 'x', '\0', 'i']) assert.throws(() => read(framed([Buffer.from(`${tag}.......`)])), SyntaxError, tag);
});

test('frames that leave their payload, are empty or cut are refused', () => {
  const good = framed([insertMessage(1, ['1', 'text'])]);
  assert.throws(() => read(Buffer.from([0, 0, 0, 0])), SyntaxError, 'an empty frame');
  assert.throws(() => read(Buffer.from([0, 0, 1, 0, 0x49])), SyntaxError, 'a frame longer than its payload');
  for (let length = 1; length < good.length; length += 1) assert.throws(() => read(good.subarray(0, length)), Error, `cut at ${length}`);
});

test('skipTuple finds the end of a tuple without reading its values', () => {
  const message = updateMessage(1, ['new', null], { kind: 'O', values: ['old', undefined, null, ''] });
  const old = 6; // type, oid, O
  assert.equal(message[skipTuple(message, old)], 'N'.charCodeAt(0));
  const next = skipTuple(message, old) + 1;
  assert.equal(skipTuple(message, next), message.length);
  assert.deepEqual(readTuple(message, next), ['new', null]);
});
