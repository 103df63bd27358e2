/** Foreign keys that refer to a pruned table: rows that another row needs stay, so that no action of a key ever happens by our delete. On Postgres 15 and 18. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { prunePreflight } from '../../src/prune/preflight.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { Secret } from '../../src/runtime/config-values.js';
import { connectClient } from '../../src/wal/session.js';
import { Pipeline } from '../pipeline/pipeline.js';

const SCHEMA = `
  CREATE TABLE orders (id bigint, part int, at timestamptz NOT NULL, parent bigint, grandparent int, PRIMARY KEY (id, part),
    FOREIGN KEY (parent, grandparent) REFERENCES orders ON DELETE CASCADE);
  CREATE SCHEMA shop;
  CREATE TABLE shop."Fill s" (at timestamptz, id int, "the order" bigint, part int, FOREIGN KEY ("the order", part) REFERENCES orders ON DELETE SET NULL);
  CREATE TABLE fills (n int, "order" bigint, part int, FOREIGN KEY ("order", part) REFERENCES orders ON DELETE CASCADE) PARTITION BY LIST (n);
  CREATE TABLE fills_1 PARTITION OF fills FOR VALUES IN (1);
  CREATE TABLE fills_2 PARTITION OF fills FOR VALUES IN (2);
  CREATE TABLE roots (id bigint PRIMARY KEY, at timestamptz NOT NULL);
  CREATE TABLE kids (id bigint, n int, at timestamptz NOT NULL, root bigint REFERENCES roots, PRIMARY KEY (id, n)) PARTITION BY LIST (n);
  CREATE TABLE kids_1 PARTITION OF kids FOR VALUES IN (1);
  CREATE TABLE kids_2 PARTITION OF kids FOR VALUES IN (2);
  CREATE PUBLICATION tidemark_test FOR TABLE beat, orders, roots, kids_1;`;
const TABLES = `  orders: { timestamp: at }
  kids_1: { timestamp: at }
  roots: { timestamp: at }`;

for (const version of [15, 18]) {
  test(`Postgres ${version}`, async (t) => {
    let pipeline: Pipeline;
    let config: Config;
    const prune = (change: { dryRun?: boolean; config?: Config } = {}): Promise<PruneResult> =>
      runPrune({
        config,
        log: pino({ level: 'silent' }),
        signal: new AbortController().signal,
        follower: new ArchiveFollower(pipeline.archiveDir),
        trigger: 'command',
        dryRun: false,
        ...change,
      });
    const orders = (result: PruneResult) => result.tables.find(({ table }) => table === 'orders');
    const ids = async (): Promise<string[]> => (await pipeline.query<{ id: string }>('SELECT id FROM orders ORDER BY id')).map(({ id }) => id);
    before(async () => {
      pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES, flushEvery: '200ms', major: version });
      config = loadConfig(pipeline.configFile);
      pipeline.service('archiver');
      pipeline.service('capture');
      await pipeline.archived();
    });
    after(() => pipeline?.[Symbol.asyncDispose]());

    await t.test('rows that others refer to stay and are counted, the others go; no action happens', async () => {
      await pipeline.query(
        `INSERT INTO orders SELECT i, 0, now() - interval '2 days', CASE WHEN i = 2 THEN 1 END, CASE WHEN i = 2 THEN 0 END FROM generate_series(1, 10) i`,
      );
      await pipeline.query(`INSERT INTO shop."Fill s" VALUES (now(), 1, 3, 0), (now(), 2, 4, NULL); INSERT INTO fills VALUES (1, 5, 0), (2, 6, 0)`);
      await pipeline.archived();
      const reason = 'referred to by orders.orders_parent_grandparent_fkey, shop.Fill s.Fill s_the order_part_fkey, fills.fills_order_part_fkey';
      const dry = orders(await prune({ dryRun: true }));
      const later = ' (rows of orders that go free those that they refer to for the next run)';
      assert.deepEqual([dry?.deleted, dry?.left, dry?.problem], [6, { [`${reason}${later}`]: 4 }, null]);
      const first = orders(await prune());
      assert.deepEqual([first?.deleted, first?.left, first?.problem], [6, { [reason]: 4 }, null]);
      assert.deepEqual(await ids(), ['1', '3', '5', '6'], '2 went, so 1 may go the next time');
      assert.equal(orders(await prune())?.deleted, 1);
      assert.deepEqual(await ids(), ['3', '5', '6']);
      const rows = await pipeline.query(`SELECT "the order" AS o FROM shop."Fill s" UNION ALL SELECT "order" FROM fills ORDER BY 1`);
      assert.deepEqual(rows, [{ o: '3' }, { o: '4' }, { o: '5' }, { o: '6' }]);
      await pipeline.query(`DELETE FROM fills; UPDATE shop."Fill s" SET part = NULL`);
      assert.equal(orders(await prune())?.deleted, 3);
    });

    await t.test('a dry run says that partitions which go first free rows', async () => {
      await pipeline.query(`INSERT INTO roots SELECT i, now() - interval '2 days' FROM generate_series(1, 3) i;
        INSERT INTO kids VALUES (1, 1, now() - interval '2 days', 1), (2, 2, now() - interval '2 days', 2)`);
      await pipeline.archived();
      const roots = (result: PruneResult): unknown => {
        const found = result.tables.find(({ table }) => table === 'roots');
        return [found?.deleted, found?.left];
      };
      assert.deepEqual(roots(await prune({ dryRun: true })), [
        1,
        { 'referred to by kids.kids_root_fkey (at most: the run would delete first rows of kids_1)': 2 },
      ]);
      assert.deepEqual(roots(await prune()), [2, { 'referred to by kids.kids_root_fkey': 1 }]);
    });

    await t.test('doctor warns of each that has no index, with the index that it wants', async () => {
      const warned = async (): Promise<(string | undefined)[]> => {
        const client = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
        const checks = (await prunePreflight(client, config)).filter(({ name }) => name === 'foreign key index orders');
        await client.end();
        assert.ok(checks.every(({ status, seen }) => status === 'warning' && seen.includes('every batch reads that table')));
        return checks.map(({ remedy }) => remedy);
      };
      const remedies = await warned();
      assert.deepEqual(remedies, [
        'CREATE INDEX CONCURRENTLY ON "public"."orders" ("parent", "grandparent")',
        'CREATE INDEX CONCURRENTLY ON "shop"."Fill s" ("the order", "part")',
        'CREATE INDEX ON "public"."fills" ("order", "part")',
      ]);
      await pipeline.query(
        'CREATE INDEX leaves_out ON orders (parent) WHERE parent IS NOT NULL; CREATE INDEX other ON shop."Fill s" ("the order") WHERE id > 5',
      );
      assert.deepEqual(await warned(), remedies.slice(1));
      for (const remedy of remedies) await pipeline.query(remedy as string);
      assert.deepEqual(await warned(), []);
    });

    await t.test('a referring table that the pruner may not read refuses the table with the GRANT; doctor says the same', async () => {
      await pipeline.query(`INSERT INTO orders SELECT i, 0, now() - interval '2 days' FROM generate_series(20, 25) i; INSERT INTO fills VALUES (1, 20, 0)`);
      await pipeline.archived();
      await pipeline.query(
        `CREATE ROLE lean LOGIN PASSWORD 'lean'; GRANT SELECT, DELETE, UPDATE (id) ON orders TO lean; GRANT SELECT ON fills TO lean; GRANT USAGE ON SCHEMA shop TO lean`,
      );
      const url = new URL(pipeline.databaseUrl);
      url.username = 'lean';
      url.password = 'lean';
      const lean: Config = { ...config, source: { ...config.source, prunerUrl: new Secret(url.href) } };
      const refused = orders(await prune({ config: lean }));
      assert.equal(refused?.deleted, 0);
      const grant = 'GRANT SELECT ("the order", "part") ON "shop"."Fill s" TO the pruner\'s role';
      assert.ok(refused?.problem?.includes(grant), refused?.problem ?? 'no problem');
      const doctor = async (): Promise<string[]> => {
        const client = await connectClient(url.href, { applicationName: 'test' });
        const checks = (await prunePreflight(client, lean)).filter(({ name }) => name === 'prune orders');
        await client.end();
        return checks.map(({ status, seen, remedy }) => `${status}: ${seen} ${remedy ?? ''}`);
      };
      assert.ok((await doctor())[0]?.includes(grant));
      await pipeline.query(`GRANT SELECT ("the order", part) ON shop."Fill s" TO lean`);
      assert.match((await doctor())[0] ?? '', /^ok: nothing stands against deleting, but for rows that others refer to \(/);
      const result = orders(await prune({ config: lean }));
      assert.deepEqual([result?.deleted, result?.problem, await ids()], [5, null, ['20']]);
    });
  });
}
