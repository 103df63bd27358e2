/** Chunk headers, relation signatures and signed messages: read back as written, refused when they are not ours. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { type ChunkHeader, decodeChunkHeader, encodeChunkHeader } from '../../src/change/chunk.js';
import { type FencePayload, openMessage, type PrunePayload, signMessage } from '../../src/change/fence.js';
import { relationSignature } from '../../src/change/relation.js';
import { parsePosition } from '../../src/position/position.js';
import { defineTable } from './pgoutput-writer.js';

const HEADER: ChunkHeader = {
  kind: 'changes',
  epoch: { systemId: '7412345678901234567', timeline: 1, generation: '6f1c2f0e-0b3a-4d7e-9a1a-2f4c5b6d7e8f' },
  prev: parsePosition('0/1924D18:0'),
  end: parsePosition('0/1924D48:7'),
  fragment: { n: 2, of: 3 },
};

const reader = (fields: Record<string, string>) => (name: string) => fields[name];

test('a header survives the wire, for every kind', () => {
  for (const kind of ['changes', 'copy-begin', 'copy', 'copy-end'] as const) {
    assert.deepEqual(decodeChunkHeader(reader(encodeChunkHeader({ ...HEADER, kind }))), { ...HEADER, kind });
  }
});

test('a message of somebody else, or of a newer format, is refused and not guessed at', () => {
  const good = encodeChunkHeader(HEADER);
  assert.throws(() => decodeChunkHeader(reader({})), /chunk format "" is not 1/);
  for (const [name, value] of [
    ['Tidemark-Format', '2'],
    ['Tidemark-Kind', 'watermark'],
    ['Tidemark-Epoch', 'somewhere'],
    ['Tidemark-Prev', '0/0'],
    ['Tidemark-End', ''],
    ['Tidemark-Fragment', '1'],
  ] as const) {
    assert.throws(() => decodeChunkHeader(reader({ ...good, [name]: value })), SyntaxError, `${name}: ${value}`);
    const { [name]: _, ...without } = good;
    assert.throws(() => decodeChunkHeader(reader(without)), SyntaxError, `without ${name}`);
  }
});

test('equal signatures mean the same names, types and typmods in the same order', () => {
  const columns = [
    ['id', 20],
    ['at', 1184],
  ] as const;
  const { relation } = defineTable({ columns });
  const same = (change: Partial<(typeof relation.columns)[number]>): boolean =>
    relationSignature({ columns: relation.columns.map((column, i) => (i === 1 ? { ...column, ...change } : column)) }) === relationSignature(relation);
  assert.ok(same({}));
  assert.ok(same({ key: true }), 'the replica identity is no part of the schema of the rows');
  assert.ok(!same({ name: 'When' }));
  assert.ok(!same({ typeOid: 1114 }));
  assert.ok(!same({ typmod: 3 }));
  assert.notEqual(relationSignature({ columns: [...relation.columns].reverse() }), relationSignature(relation));
  // A name that looks like the separator of two columns is still one column.
  const awkward = defineTable({ columns: [['id":20:-1,"at', 1184]] }).relation;
  assert.notEqual(relationSignature(awkward), relationSignature(relation));
});

const KEY = randomBytes(32);
const FENCE: FencePayload = { nonce: 'n.1', horizon: '734', generation: HEADER.epoch.generation, archive: 'an archive, with "quotes" and ünï' };

test('a signed message is opened with its key only', () => {
  const text = signMessage(KEY, FENCE);
  assert.deepEqual(openMessage<FencePayload>(KEY, text), FENCE);
  assert.equal(openMessage(randomBytes(32), text), undefined);
  const prune: PrunePayload = { run: 'r', batch: 'b', archive: 'a' };
  assert.deepEqual(openMessage<PrunePayload>(KEY, signMessage(KEY, prune)), prune);
});

test('a forged or damaged message is nobody’s', () => {
  const text = signMessage(KEY, FENCE);
  const [json, proof] = [text.slice(0, text.lastIndexOf('.')), text.slice(text.lastIndexOf('.') + 1)];
  const forged = [
    `${json.replace('734', '999')}.${proof}`,
    json,
    `${json}.`,
    `${json}.${proof.slice(1)}`,
    `${json}.${Buffer.alloc(32).toString('base64url')}`,
    '',
    '.',
    'no message at all',
    JSON.stringify(FENCE),
  ];
  for (const each of forged) assert.equal(openMessage(KEY, each), undefined, each);
});
