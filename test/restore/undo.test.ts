/** A prune run of tables that refer to each other, taken back: what is referred to goes first, what refers to nothing is named, and a table that fails takes no other with it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { parseRestoreOptions } from '../../services/cli/restore-options.js';
import { restoreTable } from '../../src/restore/run.js';
import { undoPrune } from '../../src/restore/undo.js';
import { loadConfig } from '../../src/runtime/config.js';
import { Secret } from '../../src/runtime/config-values.js';
import { describeError } from '../../src/runtime/errors.js';
import { FlushAsker } from '../../src/stream/flush-request.js';
import { Pipeline, type Service } from '../pipeline/pipeline.js';
import type { Finished } from '../services/cli/command.js';

const SCHEMA = `
  CREATE TABLE shops (id int PRIMARY KEY);
  CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
  CREATE TABLE items (id bigint PRIMARY KEY, at timestamptz NOT NULL, "order" bigint REFERENCES orders ON DELETE CASCADE, shop int REFERENCES shops);
  CREATE TABLE tree (id bigint PRIMARY KEY, at timestamptz NOT NULL, parent bigint, leaf bigint);
  CREATE TABLE leaves (id bigint PRIMARY KEY, at timestamptz NOT NULL, tree bigint);
  INSERT INTO shops VALUES (1), (2);
  CREATE PUBLICATION tidemark_test FOR TABLE beat, orders, items, tree, leaves;`;
const TABLES = `  items: { timestamp: at }
  orders: { timestamp: at }
  leaves: { timestamp: at }
  tree: { timestamp: at }`;

let pipeline: Pipeline;
let archiver: Service;
before(async () => {
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES, flushEvery: '200ms' });
  archiver = pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

const cli = (...args: string[]): Promise<Finished> => pipeline.cli([...args, '-c', pipeline.configFile]);
/** Prunes what is archived; the run. */
const prune = async (): Promise<string> => {
  await pipeline.archived();
  const { code, stdout, stderr } = await cli('prune', '--json');
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout).run;
};
const undo = async (run: string, ...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await cli('undo-prune', run, '--yes', 'test', '--keep', '1s', ...args);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};
const rows = async (table: string): Promise<(string | null)[]> =>
  (await pipeline.query<{ t: string }>(`SELECT t::text AS t FROM ${table} t ORDER BY id`)).map(({ t }) => t);
const all = async (): Promise<unknown> => [await rows('items'), await rows('orders'), await rows('leaves'), await rows('tree')];
/** Restored rows are the pruner's again: nothing may be left of one test for the next. */
const empty = (): Promise<unknown> => pipeline.query('DELETE FROM items; DELETE FROM orders; DELETE FROM leaves; DELETE FROM tree');

test('parent and child with ON DELETE CASCADE, pruned in one run, go back as they were; the dry run foretells it', async () => {
  await pipeline.query(`INSERT INTO orders SELECT i, now() - (2 + i % 3) * interval '1 day', 'n' || i FROM generate_series(1, 300) i;
    INSERT INTO items SELECT i, now() - (2 + i % 2) * interval '1 day', 1 + i % 300, 1 FROM generate_series(1, 900) i`);
  const before = await all();
  await pipeline.archived();
  const dry = JSON.parse((await cli('prune', '--dry-run', '--json')).stdout).tables.find(({ table }: { table: string }) => table === 'orders');
  const freed = 'referred to by items.items_order_fkey (at most: the run would delete first rows of items)';
  assert.deepEqual([dry.deleted, dry.left], [0, { [freed]: 300 }], 'a dry run says what it cannot know');
  const run = await prune();
  assert.deepEqual([(await rows('orders')).length, (await rows('items')).length], [0, 0]);
  assert.match(await undo(run, '--dry-run'), /orders: 300 rows would go back\nitems: 900 rows would go back\nrun/);
  assert.deepEqual([(await rows('orders')).length, (await rows('items')).length], [0, 0]);
  assert.match(await undo(run), /orders: 300 rows back\nitems: 900 rows back\nrun/);
  assert.deepEqual(await all(), before);
  await empty();
});

test('a row that refers to one that is gone for good is named and left, the others go back', async () => {
  await pipeline.query(`INSERT INTO orders VALUES (1001, now() - interval '2 days', 'a'), (1002, now() - interval '2 days', 'b');
    INSERT INTO items SELECT i, now() - interval '2 days', 1001 + i % 2, CASE i WHEN 1007 THEN 2 ELSE 1 END FROM generate_series(1001, 1010) i`);
  const before = await rows('items');
  const run = await prune();
  await pipeline.query('DELETE FROM shops WHERE id = 2');
  const left = '1 left: refers to a row of shops that is not there \\(items_shop_fkey\\): key 1007\n  → put back the rows they refer to';
  assert.match(await undo(run, '--dry-run'), new RegExp(`orders: 2 rows would go back\nitems: 9 rows would go back\n  ${left}`));
  assert.match(await undo(run), new RegExp(`orders: 2 rows back\nitems: 9 rows back\n  ${left}`));
  assert.deepEqual(
    await rows('items'),
    before.filter((row) => !row?.startsWith('(1007,')),
  );
  const failed = await cli('restore', 'items', '--where', 'id = 1007');
  assert.match(failed.stderr, /refers to a row of shops that is not there \(items_shop_fkey\): nothing of this batch was restored → put back first/);
  assert.match(
    (await cli('restore', 'items', '--where', 'id = 1007', '--on-conflict', 'skip')).stdout,
    /items: 0 rows restored in 0 batches\n {2}1 left: refers/,
  );
  // A role that may not read the parent cannot look before: Postgres refuses, and that is said of the table.
  await pipeline.query(`CREATE ROLE lean LOGIN PASSWORD 'lean'; GRANT SELECT, INSERT ON orders, items TO lean`);
  const url = new URL(pipeline.databaseUrl);
  [url.username, url.password] = ['lean', 'lean'];
  const config = loadConfig(pipeline.configFile);
  const lean = { ...config, source: { ...config.source, restoreUrl: new Secret(url.href) } };
  const { receipt, failure } = await undoPrune({
    config: lean,
    run,
    dryRun: false,
    keepMs: 1,
    signal: new AbortController().signal,
    progress: () => undefined,
  });
  const [orders, items] = receipt.tables;
  assert.deepEqual([orders?.table, orders?.restored, orders?.left], ['orders', 0, { 'there already': 2 }]);
  // How many of the others lie in its file, and so in its batch, is the archiver's.
  const { 'there already': there = 0, 'not looked at': missed = 0 } = items?.left ?? {};
  assert.deepEqual([items?.restored, there + missed, missed > 0], [0, 10, true]);
  assert.match(
    describeError(failure),
    /^rows of items refer to rows that are not there \(items_shop_fkey\): nothing of this batch was restored → put back first/,
  );
  await pipeline.query('INSERT INTO shops VALUES (2)');
  assert.match(await undo(run), /items: 1 rows back\n {2}9 left: there already\nrun/);
  assert.deepEqual(await rows('items'), before);
  await empty();
});

test('rows of one table, and of two that refer to each other, wait for those that they refer to', async () => {
  // Of days of their own, so that no two are in one batch; later days are read first, and later rows refer to earlier ones.
  await pipeline.query(`INSERT INTO tree SELECT i, now() - (10 - i) * interval '1 day', nullif(i - 1, 0), CASE WHEN i = 4 THEN 1 END FROM generate_series(1, 6) i;
    INSERT INTO leaves VALUES (1, now() - interval '2 days', 3), (2, now() - interval '3 days', 6)`);
  const before = await all();
  const run = await prune();
  assert.equal((await rows('tree')).length + (await rows('leaves')).length, 0);
  await pipeline.query(
    'ALTER TABLE tree ADD FOREIGN KEY (parent) REFERENCES tree, ADD FOREIGN KEY (leaf) REFERENCES leaves; ALTER TABLE leaves ADD FOREIGN KEY (tree) REFERENCES tree',
  );
  assert.match(await undo(run, '--dry-run'), /tree: 6 rows would go back\nleaves: 2 rows would go back\nrun/);
  assert.match(await undo(run), /tree: 6 rows back\nleaves: 2 rows back\nrun/);
  assert.deepEqual(await all(), before);
  await pipeline.query('UPDATE tree SET leaf = NULL; UPDATE tree SET parent = NULL; DELETE FROM leaves; DELETE FROM tree');
});

test('a table that fails is said with a remedy, beside what became of the others', async () => {
  await pipeline.query(`INSERT INTO orders VALUES (2001, now() - interval '2 days', 'x');
    INSERT INTO items VALUES (2001, now() - interval '2 days', 2001, 1), (2002, now() - interval '2 days', NULL, 1);
    INSERT INTO leaves VALUES (2001, now() - interval '2 days', NULL)`);
  const before = await all();
  const run = await prune();
  await pipeline.query(`ALTER TABLE orders ADD CONSTRAINT named CHECK (note <> 'x')`);
  const { code, stdout, stderr } = await cli('undo-prune', run, '--yes', 'test', '--keep', '1s');
  assert.equal(code, 1);
  const lines = [
    'leaves: 1 rows back',
    'orders: 0 rows back',
    '  1 left: not looked at',
    '  stopped: orders: new row .* violates .* → mend that, then `tidemark undo-prune',
  ];
  assert.match(stdout, new RegExp(`${lines.join('\n')}.*\nitems: 1 rows back\n  1 left: refers to a row of orders that is not there .*: key 2001\n`));
  assert.match(stderr, /^orders: new row .* violates check constraint "named" → mend that, then `tidemark undo-prune \S+` again/m);
  await pipeline.query('ALTER TABLE orders DROP CONSTRAINT named');
  assert.match(await undo(run), /leaves: 0 rows back\n {2}1 left: there already\norders: 1 rows back\nitems: 1 rows back\n {2}1 left: there already\n/);
  assert.deepEqual(await all(), before);
});

test('rows of a table that has got a column since are said to be new versions', async () => {
  await empty();
  await pipeline.query(`INSERT INTO leaves SELECT i, now() - interval '2 days' FROM generate_series(3001, 3003) i`);
  const run = await prune();
  await pipeline.query('ALTER TABLE leaves ADD COLUMN n int NOT NULL DEFAULT 7');
  assert.match(await undo(run), /leaves: 3 rows back\n {2}3 of them print otherwise than they are archived \(columns were changed since\)/);
});

test('restore waits until what was pruned a moment ago is archived as pruned, and says so; a dry run says that it does not', async () => {
  await pipeline.query(`INSERT INTO orders SELECT i, now() - interval '2 days', 'w' || i FROM generate_series(4001, 4010) i`);
  await pipeline.archived();
  await archiver.stop();
  assert.equal((await cli('prune', 'orders')).code, 0);
  const dry = await cli('restore', 'orders', '--where', 'id > 4000', '--dry-run');
  assert.match(dry.stdout, /orders: 0 rows would be restored\n {2}10 left: still in Postgres, as far as is archived/);
  assert.match(dry.stderr, /the archive stands at .*: what was pruned or deleted in between is taken for living; without --dry-run it is waited for/);
  await using asker = new FlushAsker(loadConfig(pipeline.configFile));
  const said: string[] = [];
  const notice = (text: string): void => {
    said.push(text);
    archiver = pipeline.service('archiver');
  };
  const options = {
    ...parseRestoreOptions({ where: 'id > 4000' }),
    into: undefined,
    dryRun: false,
    signal: new AbortController().signal,
    progress: () => undefined,
    flush: asker.ask,
    notice,
  };
  const { tables } = await restoreTable({ config: loadConfig(pipeline.configFile), table: 'orders', ...options });
  assert.equal(tables[0]?.restored, 10);
  assert.equal(said.length, 1);
  assert.match(
    said[0] as string,
    /^waiting until what was written up to now is archived, 15\.2 s at most: no archiver was reached; one that runs flushes every 0\.2 s/,
  );
});
