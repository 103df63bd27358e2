/** A Relation message that says anything new is told from the one before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSameRelation, type Relation } from '../../src/change/relation.js';

const relation: Relation = {
  oid: 16400,
  schema: 'public',
  table: 'prices',
  identity: 'd',
  columns: [
    { name: 'id', typeOid: 20, typmod: -1, key: true },
    { name: 'price', typeOid: 1700, typmod: 1_310_732, key: false },
  ],
};
const [id, price] = relation.columns as [Relation['columns'][number], Relation['columns'][number]];

test('the same twice is the same, whatever else differs is not', () => {
  assert.ok(isSameRelation(relation, structuredClone(relation)));
  const others: Relation[] = [
    { ...relation, oid: 16401 },
    { ...relation, schema: 'other' },
    { ...relation, table: 'trades' },
    { ...relation, identity: 'f' },
    { ...relation, columns: [id] },
    { ...relation, columns: [id, price, { ...price, name: 'note' }] },
    { ...relation, columns: [price, id] },
    { ...relation, columns: [id, { ...price, name: 'prices' }] },
    { ...relation, columns: [id, { ...price, typeOid: 701 }] },
    { ...relation, columns: [id, { ...price, typmod: -1 }] },
    { ...relation, columns: [id, { ...price, key: true }] },
  ];
  for (const other of others) {
    assert.ok(!isSameRelation(relation, other), JSON.stringify(other));
    assert.ok(!isSameRelation(other, relation), JSON.stringify(other));
  }
});
