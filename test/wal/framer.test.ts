/** The framer: positions, resuming, cutting. Pure; messages are made here byte by byte. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChangeVisitor, visitFrames } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { type Lsn, lsn } from '../../src/position/lsn.js';
import { boundary, formatPosition, type Position } from '../../src/position/position.js';
import { relationFrame } from '../../src/wal/describe.js';
import { CHUNK_BYTES, type FramedChunk, Framer, LONG_CHUNK_BYTES } from '../../src/wal/framer.js';

const RELATION: Relation = { oid: 77, schema: 'public', table: 't', identity: 'd', columns: [{ name: 'id', typeOid: 20, typmod: -1, key: true }] };
const DESCRIPTION: TableDescription = { oid: 77, schema: 'public', table: 't', primaryKey: ['id'], columnTypes: { id: 'bigint NOT NULL' }, ddl: '', types: {} };

function begin(commit: bigint, xid = 1): Buffer {
  const message = Buffer.alloc(21);
  message[0] = 0x42;
  message.writeBigUInt64BE(commit, 1);
  message.writeUInt32BE(xid, 17);
  return message;
}

function commit(start: bigint, end: bigint): Buffer {
  const message = Buffer.alloc(26);
  message[0] = 0x43;
  message.writeBigUInt64BE(start, 2);
  message.writeBigUInt64BE(end, 10);
  return message;
}

function insert(text: string): Buffer {
  const message = Buffer.alloc(13 + text.length);
  message.write('I', 0);
  message.writeUInt32BE(77, 1);
  message.write('N', 5);
  message.writeUInt16BE(1, 6);
  message.write('t', 8);
  message.writeUInt32BE(text.length, 9);
  message.write(text, 13);
  return message;
}

function message(prefix: string, content: string, transactional = true): Buffer {
  const head = Buffer.alloc(10);
  head.write('M', 0);
  head[1] = transactional ? 1 : 0;
  const size = Buffer.alloc(4);
  size.writeUInt32BE(content.length);
  return Buffer.concat([head, Buffer.from(`${prefix}\0`), size, Buffer.from(content)]);
}

type Run = { framer: Framer; chunks: FramedChunk[]; push(...messages: Buffer[]): void };

function framerAt(at: Position): Run {
  const chunks: FramedChunk[] = [];
  const framer = new Framer(at, (chunk) => chunks.push(chunk));
  return {
    framer,
    chunks,
    push(...messages) {
      for (const bytes of messages) if (framer.push(bytes) !== undefined) framer.describe(77, DESCRIPTION);
    },
  };
}

/** What a chunk holds, one letter for each frame; rows with their text. */
function shape(chunk: FramedChunk | undefined): string {
  assert.ok(chunk);
  const seen: string[] = [];
  const visitor: ChangeVisitor = {
    begin: () => seen.push('B'),
    commit: () => seen.push('C'),
    relation: () => seen.push('R'),
    description: () => seen.push('d'),
    message: (found) => seen.push(`M(${found.content})`),
    row: (change) => seen.push(change.buffer.toString('utf8', change.newTuple + 7, change.newTuple + 7 + change.buffer.readUInt32BE(change.newTuple + 3))),
    truncate: () => seen.push('T'),
  };
  visitFrames(chunk.payload, visitor);
  return seen.join(' ');
}

const R = relationFrame(RELATION);
const at = (value: bigint): Lsn => lsn(value);

test('a transaction becomes one chunk that ends behind its commit; the next one may start exactly there', () => {
  const run = framerAt(boundary(at(100n)));
  run.push(begin(200n), R, insert('a'), insert('b'), commit(200n, 240n));
  run.framer.flush();
  run.push(begin(240n), insert('c'), commit(240n, 280n));
  run.framer.flush();
  assert.deepEqual(
    run.chunks.map((chunk) => [formatPosition(chunk.prev), formatPosition(chunk.end), chunk.rows]),
    [
      ['0/64:0', '0/F0:0', 2],
      ['0/F0:0', '0/118:0', 1],
    ],
  );
  assert.equal(shape(run.chunks[0]), 'B d R a b C');
  assert.equal(shape(run.chunks[1]), 'B d R c C', 'each chunk is decodable alone');
});

test('resuming inside a transaction sends the rest of it, with its Begin', () => {
  const run = framerAt({ lsn: at(200n), k: 2 });
  run.push(begin(150n), R, insert('old'), commit(150n, 200n), begin(200n), insert('1'), insert('2'), insert('3'), commit(200n, 240n));
  run.framer.flush();
  assert.equal(run.chunks.length, 1);
  assert.equal(shape(run.chunks[0]), 'B d R 3 C');
  assert.equal(formatPosition(run.chunks[0]?.prev as Position), '0/C8:2');
});

test('resuming behind the last row of a transaction sends its commit alone', () => {
  const run = framerAt({ lsn: at(200n), k: 1 });
  run.push(begin(200n), R, insert('1'), commit(200n, 240n));
  run.framer.flush();
  assert.equal(shape(run.chunks[0]), 'B C');
  assert.equal(formatPosition(run.chunks[0]?.end as Position), '0/F0:0');
});

test('empty transactions and other people’s messages leave no trace; ours are kept and not counted', () => {
  const run = framerAt(boundary(at(0n)));
  run.push(begin(10n), commit(10n, 20n), message('other', 'x', false), begin(20n), message('other', 'x'), commit(20n, 30n));
  run.framer.flush();
  assert.equal(run.chunks.length, 0);
  run.push(begin(40n), message('tidemark.prune', 'p'), R, insert('a'), commit(40n, 50n), message('tidemark.fence', 'outside', false));
  run.push(begin(60n), message('tidemark.fence', 'f'), commit(60n, 70n));
  run.framer.flush();
  assert.equal(shape(run.chunks[0]), 'B M(p) d R a C B M(f) C');
  assert.equal(run.chunks[0]?.rows, 1);
});

test('a chunk is never cut between a message and the row behind it: its end would not move and it would be dropped as a duplicate', () => {
  const run = framerAt(boundary(at(0n)));
  run.push(begin(40n), message('tidemark.prune', 'p'));
  run.framer.flush();
  assert.equal(run.chunks.length, 0);
  run.push(R, insert('a'));
  run.framer.flush();
  assert.equal(shape(run.chunks[0]), 'B M(p) d R a');
  run.push(commit(40n, 50n), begin(60n), message('tidemark.fence', 'f'));
  run.framer.flush();
  assert.equal(run.chunks.length, 1, 'the commit waits with the message behind it');
  run.push(commit(60n, 70n));
  run.framer.flush();
  assert.equal(shape(run.chunks[1]), 'B C B M(f) C');
});

test('a message behind the k-th row was not in the chunk that ended with it', () => {
  const run = framerAt({ lsn: at(40n), k: 1 });
  run.push(begin(40n), message('tidemark.a', 'before'), R, insert('1'), message('tidemark.b', 'behind'), insert('2'), commit(40n, 50n));
  run.framer.flush();
  assert.equal(shape(run.chunks[0]), 'B M(behind) d R 2 C');
});

test('a large transaction is cut at about the chunk size, inside it by (commit LSN, k)', () => {
  const run = framerAt(boundary(at(0n)));
  run.push(begin(1000n), R);
  const row = insert('x'.repeat(1000));
  for (let i = 0; i < 1400; i += 1) run.push(row);
  run.push(commit(1000n, 1040n));
  run.framer.flush();
  assert.equal(run.chunks.length, 3);
  for (const chunk of run.chunks.slice(0, 2)) {
    assert.ok(chunk.payload.length < LONG_CHUNK_BYTES + 2000);
    assert.match(shape(chunk), /^B d R x/);
    assert.equal(chunk.end.lsn, 1000n);
  }
  assert.deepEqual(
    run.chunks.slice(1).map((chunk) => formatPosition(chunk.prev)),
    run.chunks.slice(0, -1).map((chunk) => formatPosition(chunk.end)),
  );
  assert.equal(
    run.chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
    1400,
  );
});

test('a transaction that is shorter than a chunk is never cut: the batch of the archiver can end behind each chunk', () => {
  const run = framerAt(boundary(at(0n)));
  run.push(R);
  const row = insert('x'.repeat(1000));
  let position = 1000n;
  for (let t = 0; t < 40; t += 1) {
    run.push(begin(position));
    for (let i = 0; i < 37 * (1 + (t % 6)); i += 1) run.push(row);
    run.push(commit(position, position + 40n));
    position += 100n;
  }
  assert.ok(run.chunks.length > 10);
  for (const chunk of run.chunks) {
    assert.equal(chunk.end.k, 0);
    assert.ok(chunk.payload.length >= CHUNK_BYTES && chunk.payload.length < LONG_CHUNK_BYTES);
  }
});

test('random streams, cut and resumed anywhere: no row is lost, double or out of order', () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const messages: { bytes: Buffer; mark?: string }[] = [];
  let position = 100n;
  for (let t = 0; t < 60; t += 1) {
    const end = position + 40n;
    messages.push({ bytes: begin(position) });
    if (t === 0 || random(5) === 0) messages.push({ bytes: R });
    for (let r = random(6); r > 0; r -= 1) messages.push({ bytes: insert(`${t}.${r}`), mark: `${t}.${r}` });
    if (random(3) === 0) messages.push({ bytes: message('tidemark.fence', 'f') });
    messages.push({ bytes: commit(position, end) });
    position = random(2) === 0 ? end : end + 100n;
  }
  const expected = messages.flatMap(({ mark }) => (mark === undefined ? [] : [mark]));
  const got: string[] = [];
  let resumeAt = boundary(at(100n));
  for (let life = 0; life < 40; life += 1) {
    const run = framerAt(resumeAt);
    run.framer.push(R);
    run.framer.describe(77, DESCRIPTION);
    const stop = life === 39 ? messages.length : random(messages.length);
    for (const { bytes } of messages.slice(0, stop)) {
      run.push(bytes);
      if (random(4) === 0) run.framer.flush();
    }
    if (life === 39) run.framer.flush();
    for (const chunk of run.chunks) {
      assert.equal(formatPosition(chunk.prev), formatPosition(resumeAt), `seed ${seed}`);
      got.push(
        ...shape(chunk)
          .split(' ')
          .filter((word) => word.includes('.')),
      );
      resumeAt = chunk.end;
    }
  }
  assert.deepEqual(got, expected, `seed ${seed}`);
});
