/**
 * Tables and rows that are not pruned as others are, on their whole way: rows whose timestamp is no day, a table without a key, and a table whose changes are kept. Read by a reader that
 * is not ours. On the oldest and the newest server.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { readRows, type Version } from './archive-view.js';
import { Pipeline } from './pipeline.js';

const SCHEMA = `CREATE TABLE quotes (id bigint PRIMARY KEY, at timestamptz, v text);
  CREATE TABLE lines (at timestamptz, who text, payload text, n int); ALTER TABLE lines REPLICA IDENTITY FULL, ALTER payload SET STORAGE EXTERNAL;
  CREATE TABLE ledger (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text);
  CREATE PUBLICATION tidemark_test FOR TABLE beat, quotes, lines, ledger`;
const TABLES = `  quotes: { timestamp: at, deletes: keep }
  lines: { timestamp: at, prune: false }
  ledger: { timestamp: at, history: true }`;

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    let pipeline: Pipeline;
    before(async () => {
      pipeline = await Pipeline.start({ major, schema: SCHEMA, tables: TABLES, flushEvery: '200ms' });
      await pipeline.query(`INSERT INTO quotes VALUES (1, NULL, 'copied')`);
      pipeline.service('archiver');
      pipeline.service('capture');
      await pipeline.archived();
    });
    after(async () => await pipeline?.[Symbol.asyncDispose]());

    const tidemark = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await pipeline.cli([...args, '-c', pipeline.configFile]);
      assert.equal(code, 0, stdout + stderr);
      return stdout;
    };
    /** The files of a table outside the open days: name and rows. */
    const sealed = async (table: string): Promise<Map<string, Version[]>> => {
      const files = [...((await pipeline.state())?.files.values() ?? [])].filter((file: FileEntry) => file.table === table && !file.file.includes('/open/'));
      return new Map(await Promise.all(files.map(async (file) => [file.file, await readRows(pipeline, file)] as const)));
    };

    test('rows whose timestamp is no day are never pruned, and when somebody deletes them they become an undated file', async () => {
      await pipeline.query(
        `INSERT INTO quotes VALUES (2, 'infinity', 'b'), (3, '-infinity', 'c'), (4, '0044-03-15 12:00+00 BC', 'd'), (5, '20000-01-01', 'e'), (6, NULL, 'f')`,
      );
      await pipeline.query(`UPDATE quotes SET v = 'f2' WHERE id = 6`);
      await pipeline.archived();
      await tidemark('prune', 'quotes');
      assert.equal((await pipeline.query('SELECT FROM quotes')).length, 6);
      await pipeline.query('DELETE FROM quotes');
      await pipeline.archived();
      assert.match(await tidemark('seal', 'quotes'), /sealed quotes undated: 6 rows in quotes\/quotes_undated_001\.parquet/);
      const rows = (await sealed('quotes')).get('quotes/quotes_undated_001.parquet') ?? [];
      const texts = rows.map((row) => [row['id'], (JSON.parse((row['_text'] as string | undefined) ?? '{}') as { at?: string }).at ?? row['at'], row['v']]);
      assert.deepEqual(
        texts.sort((a, b) => Number(a[0]) - Number(b[0])),
        [
          [1n, null, 'copied'],
          [2n, 'infinity', 'b'],
          [3n, '-infinity', 'c'],
          [4n, '0044-03-15 12:00:00+00 BC', 'd'],
          [5n, '20000-01-01 00:00:00+00', 'e'],
          [6n, null, 'f2'],
        ],
      );
      await pipeline.query(`INSERT INTO quotes VALUES (7, NULL, 'g'); DELETE FROM quotes`);
      await pipeline.archived();
      assert.match(await tidemark('seal', 'quotes', '--day', 'undated'), /1 rows in quotes\/quotes_undated_002\.parquet/);
    });

    test('a table without a key: equal rows are told apart by number, large values that were not sent are found in the old row', async () => {
      const big = 'x'.repeat(9000);
      await pipeline.query(
        `INSERT INTO lines SELECT '2026-01-12', 'a', '${big}', 1 FROM generate_series(1, 3); INSERT INTO lines VALUES ('2026-01-12', 'b', '${big}', 1)`,
      );
      await pipeline.archived();
      await pipeline.query(`UPDATE lines SET n = 2 WHERE who = 'b'`);
      await pipeline.query(`DELETE FROM lines WHERE ctid = (SELECT min(ctid) FROM lines WHERE who = 'a')`);
      await pipeline.query(`UPDATE lines SET n = 5 WHERE ctid = (SELECT min(ctid) FROM lines WHERE who = 'a')`);
      await pipeline.archived();
      await pipeline.query('TRUNCATE lines');
      await pipeline.archived();
      assert.match(
        await tidemark('seal', 'lines'),
        /sealed lines 2026-01-12: no daily file, .*4 deleted ones are in its history/,
        'all of them somebody deleted',
      );
      const files = await sealed('lines');
      const rows = files.get('_tidemark/history/lines/lines_2026-01-12.parquet') ?? [];
      assert.deepEqual([...files.keys()], ['_tidemark/history/lines/lines_2026-01-12.parquet']);
      assert.deepEqual(rows.map((row) => [row['who'], row['n'], row['payload'] === big]).sort(), [
        ['a', 1, true],
        ['a', 1, true],
        ['a', 5, true],
        ['b', 2, true],
      ]);
    });

    test('history: true keeps every version, with what made and what ended it', async () => {
      await pipeline.query(`INSERT INTO ledger VALUES (1, '2026-01-12 10:00+00', 'one'), (2, '2026-01-12 11:00+00', 'two')`);
      await pipeline.query(`UPDATE ledger SET v = 'one, corrected' WHERE id = 1`);
      await pipeline.query(`BEGIN; DELETE FROM ledger WHERE id = 2; INSERT INTO ledger VALUES (2, '2026-01-12 11:30+00', 'two again'); COMMIT`);
      await pipeline.archived();
      await tidemark('prune', 'ledger');
      assert.deepEqual(await pipeline.query('SELECT FROM ledger'), []);
      await pipeline.archived();
      await pipeline.cli(['seal', 'ledger', '-c', pipeline.configFile]); // the pruner may have asked already
      const files = await sealed('ledger');
      assert.deepEqual([...files.keys()].sort(), [
        '_tidemark/history/ledger/ledger_2026-01-12.parquet',
        '_tidemark/history/ledger/ledger_2026-01-12_changes.parquet',
        'ledger/ledger_2026-01-12.parquet',
      ]);
      const changes = files.get('_tidemark/history/ledger/ledger_2026-01-12_changes.parquet') ?? [];
      assert.deepEqual(
        changes.map((row) => [row['id'], row['v'], row._op, row['_ended_by']]),
        [
          [1n, 'one', 'insert', 'update'],
          [1n, 'one, corrected', 'update', 'prune'],
          [2n, 'two', 'insert', 'delete'],
          [2n, 'two again', 'insert', 'prune'],
        ],
      );
      assert.deepEqual(
        (files.get('ledger/ledger_2026-01-12.parquet') ?? []).map((row) => [row['id'], row['v']]),
        [
          [1n, 'one, corrected'],
          [2n, 'two again'],
        ],
      );
      assert.deepEqual(
        (files.get('_tidemark/history/ledger/ledger_2026-01-12.parquet') ?? []).map((row) => row['v']),
        ['two'],
      );
    });
  });
}
