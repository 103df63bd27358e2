/** Which columns tell the rows of a table apart: those that old tuples carry, at the time of the Relation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TableBook } from '../../../services/archiver/tables.js';
import type { TableConfig } from '../../../src/runtime/config.js';
import { defineTable, type TableDefinition } from '../../change/pgoutput-writer.js';

const configured = { key: 'prices', schema: 'public', table: 'prices', group: 'prices', timestamp: 'at' } as unknown as TableConfig;
const byId = defineTable({ identity: 'i' });
const byNote = defineTable({ identity: 'i', key: ['note'] });
const primary = defineTable({ key: ['note', 'id'] });
const whole = defineTable({ identity: 'f' });

/** The key after each of these was announced to one archiver. */
function keysOf(...definitions: readonly TableDefinition[]): (readonly string[] | undefined)[] {
  const book = new TableBook([configured], [], () => undefined);
  return definitions.map(({ relation, description }) => {
    book.describe(description);
    book.relate(relation);
    return book.route(relation.oid)?.key;
  });
}

test('another replica identity index, and nothing else: its columns are the key from there on', () => {
  assert.deepEqual(keysOf(byId, { ...byNote, description: byId.description }, byId), [['id'], ['note'], ['id']]);
});

test('a primary key is taken in its own order', () => {
  assert.deepEqual(keysOf(primary), [['note', 'id']]);
});

test('a primary key of a later time than the Relation is none that its old tuples carry', () => {
  const later = { ...defineTable().description, primaryKey: ['note'] };
  assert.deepEqual(keysOf({ ...defineTable(), description: later }, { ...defineTable({ key: ['note'] }), description: later }), [['id'], ['note']]);
});

test('a primary key with a column that the Relation has not names no row', () => {
  const later = { ...whole.description, primaryKey: ['id', 'renamed'] };
  assert.deepEqual(keysOf({ ...whole, description: later }), [[]]);
});
