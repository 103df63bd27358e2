import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LargeValues } from '../../../services/archiver/large-values.js';
import { TableBook } from '../../../services/archiver/tables.js';
import { parseConfig } from '../../../src/runtime/config.js';
import { defineTable, insertMessage } from '../../change/pgoutput-writer.js';

const config = parseConfig('source: { url: "postgres://x@localhost/x", name: test }\ntables:\n  prices: { timestamp: at }', { file: '/tidemark.yaml' });
const prices = defineTable();
const book = new TableBook(config.tables, [], () => undefined);
book.describe(prices.description);
book.relate(prices.relation);
const table = book.route(prices.relation.oid) as NonNullable<ReturnType<TableBook['route']>>;

/** The message and the offset of its tuple. */
function tuple(id: number, note: string | undefined): [Buffer, number] {
  return [insertMessage(prices.relation.oid, [String(id), '2026-01-12 10:00:00+00', note]), 6];
}

function seen(values: LargeValues, id: number): string | undefined {
  const [buffer, at] = tuple(id, undefined);
  return values.version(table, buffer, at, at)?.get(2)?.toString();
}

function add(values: LargeValues, id: number, note: string): void {
  const [buffer, at] = tuple(id, note);
  values.version(table, buffer, at, at);
}

test('a value is found as long as the row keeps it, and its memory is bounded: the oldest go first', () => {
  const values = new LargeValues(10_000);
  for (let id = 0; id < 100; id += 1) add(values, id, `${id}`.padEnd(2000, 'x'));
  assert.equal(seen(values, 0), undefined);
  assert.equal(seen(values, 99)?.slice(0, 2), '99');
  assert.equal(seen(values, 99)?.slice(0, 2), '99', 'the version with the unchanged column has it too');
});

test('a row that went, or whose value was replaced, is not found', () => {
  const values = new LargeValues();
  add(values, 1, 'a'.repeat(2000));
  add(values, 2, 'b'.repeat(2000));
  add(values, 3, 'c'.repeat(2000));
  const [gone, at] = tuple(1, '');
  values.gone(table, gone, at);
  add(values, 2, 'short');
  assert.equal(seen(values, 1), undefined);
  assert.equal(seen(values, 2), undefined);
  values.truncated(table);
  assert.equal(seen(values, 3), undefined);
});
