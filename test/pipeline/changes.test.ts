/**
 * Changes of a table that Postgres does not send as row changes, and tables that come and go: whatever happened, every old row leaves Postgres within two runs of the pruner, and the
 * archive has it once, as it was when it was deleted. On the oldest and the newest server.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import pino from 'pino';
import { recopyRequester } from '../../services/pruner/requesters.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import { loadConfig } from '../../src/runtime/config.js';
import { connectStream, type StreamConnection } from '../../src/stream/topology.js';
import { archiveView, readRows, type Version } from './archive-view.js';
import { Pipeline, type Service, until } from './pipeline.js';

const NAMES = [
  'a_default',
  'a_volatile',
  'a_wider',
  'a_text',
  'a_zone',
  'a_using',
  'a_renamed',
  'a_dropped',
  'a_enum',
  'a_toast',
  'a_published',
  'a_moved',
  'a_remade',
  'a_emptied',
  'a_keys',
  'a_parted',
];
const CREATE = (name: string): string => `CREATE TABLE ${name} (id bigint PRIMARY KEY, at timestamp NOT NULL, v text, n int, m mood)`;
const SCHEMA = `CREATE TYPE mood AS ENUM ('calm', 'wild'); ${NAMES.map(CREATE).join('; ')}; CREATE TABLE a_late (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text);
  ALTER TABLE a_toast ALTER v SET STORAGE EXTERNAL; CREATE TABLE a_child (id bigint PRIMARY KEY REFERENCES a_emptied);
  CREATE TABLE a_whole (LIKE a_parted INCLUDING ALL) PARTITION BY RANGE (id); ALTER TABLE a_whole ATTACH PARTITION a_parted FOR VALUES FROM (0) TO (1000);
  CREATE PUBLICATION tidemark_test FOR TABLE beat, ${NAMES.join(', ')}`;
const TABLES = NAMES.map((name) => `  ${name}: { timestamp: at }`).join('\n');
const ROWS = 20;
const log = pino({ level: 'silent' });

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    let pipeline: Pipeline;
    let stream: StreamConnection;
    let archiver: Service;
    let capture: Service;
    before(async () => {
      pipeline = await Pipeline.start({ major, schema: SCHEMA, tables: TABLES, flushEvery: '200ms' });
      archiver = pipeline.service('archiver');
      capture = pipeline.service('capture');
      await pipeline.archived();
      stream = await connectStream(loadConfig(pipeline.configFile), 'test');
    });
    after(async () => {
      await stream?.connection.close();
      await pipeline?.[Symbol.asyncDispose]();
    });

    const prune = async (table: string): Promise<PruneResult['tables'][number]> => {
      const config = loadConfig(pipeline.configFile);
      const recopy = recopyRequester(stream.connection, config, log);
      const follower = new ArchiveFollower(pipeline.archiveDir);
      const result = await runPrune({ config, log, signal: new AbortController().signal, follower, trigger: 'command', dryRun: false, table, recopy });
      assert.deepEqual(result.halts, []);
      return result.tables[0] as PruneResult['tables'][number];
    };
    const rows = (name: string, from = 1): string =>
      `INSERT INTO ${name} (id, at, v) SELECT i, now() - interval '48 hours' - i * interval '1 minute', 'v' || i FROM generate_series(${from}, ${from + ROWS - 1}) i`;
    /** All columns of all rows as Postgres prints them now. */
    const live = async (name: string): Promise<Map<string, string>> =>
      new Map(
        (await pipeline.query<{ id: string; text: string }>(`SELECT id, (to_jsonb(t) - 'at')::text AS text FROM ${name} t`)).map(({ id, text }) => [id, text]),
      );
    const same = (expected: Map<string, string>, view: Map<string, Version[]>): void => {
      assert.deepEqual([...view.keys()].sort(), [...expected.keys()].sort());
      for (const [id, text] of expected) {
        const archived = view.get(id) as Version[];
        assert.equal(archived.length, 1, `row ${id} is there once`);
        const row = archived[0] as Version;
        for (const [name, value] of Object.entries(JSON.parse(text) as Record<string, unknown>)) {
          assert.equal(String(row[name] ?? null), String(value), `row ${id}, column ${name}`);
        }
      }
    };
    /** Prunes until nothing is left. Returns what the first run left, and why; and the archive's view, where each row is once, as it was. */
    const pruneThese = async (name: string): Promise<{ first: PruneResult['tables'][number]; view: Map<string, Version[]> }> => {
      const expected = await live(name);
      await pipeline.archived();
      const first = await prune(name);
      await until(`all rows of ${name} are pruned`, async () => {
        const { problem, left } = await prune(name);
        if ((await live(name)).size === 0) return true;
        throw new Error(JSON.stringify({ problem, left }));
      });
      await pipeline.archived(); // the deletes as well
      const view = await archiveView(pipeline, name);
      same(expected, new Map([...view].filter(([id]) => expected.has(id))));
      return { first, view };
    };
    /** The same of a table that held no other rows before: the archive has these and nothing else. */
    const pruneAll = async (name: string): Promise<PruneResult['tables'][number]> => {
      const rows = (await live(name)).size;
      const { first, view } = await pruneThese(name);
      assert.equal(view.size, rows, [...view.keys()].join(' '));
      return first;
    };

    for (const [name, what, change, reason] of [
      ['a_default', 'a column added with a default', `ALTER TABLE a_default ADD COLUMN z int DEFAULT 5`, /a column was added/],
      [
        'a_volatile',
        'a column added with a default that rewrites the table',
        `ALTER TABLE a_volatile ADD COLUMN z text DEFAULT gen_random_uuid()`,
        /a column was added/,
      ],
      ['a_wider', 'a column made wider', `ALTER TABLE a_wider ALTER n TYPE bigint`, undefined],
      ['a_text', 'a column made text', `ALTER TABLE a_text ALTER id TYPE text`, undefined],
      ['a_zone', 'a timestamp given a zone', `SET timezone = 'UTC'; ALTER TABLE a_zone ALTER at TYPE timestamptz`, /other columns/],
      ['a_using', 'values rewritten under the same type', `ALTER TABLE a_using ALTER v TYPE text USING upper(v)`, /rewritten/],
      ['a_renamed', 'a column renamed', `ALTER TABLE a_renamed RENAME v TO w`, /added or renamed/],
      ['a_dropped', 'a column dropped', `ALTER TABLE a_dropped DROP COLUMN v`, undefined],
    ] as const) {
      test(`${what}: its rows ${reason ? 'are refused, copied again and pruned' : 'are equal and pruned'}`, async () => {
        await pipeline.query(rows(name));
        await pipeline.archived();
        await pipeline.query(change);
        const first = await pruneAll(name);
        if (reason === undefined) assert.equal(first.deleted, ROWS);
        else assert.match(Object.keys(first.left).join(), reason);
      });
    }

    test('a label of an enum renamed: the rows that print differently are copied again and pruned', async () => {
      await pipeline.query(rows('a_enum'));
      await pipeline.query(`UPDATE a_enum SET m = CASE WHEN id % 2 = 0 THEN 'calm' ELSE 'wild' END::mood`);
      await pipeline.archived();
      await pipeline.query(`ALTER TYPE mood RENAME VALUE 'wild' TO 'stormy'; ALTER TYPE mood ADD VALUE 'dead' BEFORE 'calm'`);
      const first = await pruneAll('a_enum');
      assert.deepEqual([first.deleted, first.left], [ROWS / 2, { 'archived under other columns': ROWS / 2 }]);
    });

    test('an unchanged large value that nobody remembers: the row is left, copied again and pruned', async () => {
      await pipeline.query(`INSERT INTO a_toast (id, at, v) SELECT i, now() - interval '48 hours', repeat(md5(i::text), 200) FROM generate_series(1, 3) i`);
      await pipeline.archived();
      await archiver.stop(); // forgets
      await pipeline.query(`ALTER TABLE a_toast ADD COLUMN z int`); // what is archived is of other columns
      archiver = pipeline.service('archiver');
      await pipeline.query(`UPDATE a_toast SET n = 7 WHERE id < 3`);
      const first = await pruneAll('a_toast');
      assert.deepEqual([first.deleted, first.left], [1, { 'archived without a large value that the stream did not carry': 2 }]);
    });

    test('a table taken out of the publication and put back: what changed meanwhile is copied', async () => {
      await pipeline.query(rows('a_published'));
      await pipeline.archived();
      await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE a_published`);
      await pipeline.query(`UPDATE a_published SET v = 'missed' WHERE id < 5; DELETE FROM a_published WHERE id IN (7, 8); ${rows('a_published', 100)}`);
      assert.match((await prune('a_published')).problem ?? '', /not in the publication/);
      assert.equal((await capture.stop()).code, 0); // it would copy the table again, as soon as it looks
      await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE a_published`);
      assert.match((await prune('a_published')).problem ?? '', /taken out of the publication/);
      capture = pipeline.service('capture');
      await pruneAll('a_published');
      // Nobody saw the two rows go: the copy that does not hold them says that they are gone, and their days can be sealed.
      await pipeline.cli(['seal', 'a_published', '-c', pipeline.configFile]);
      const files = [...((await pipeline.state())?.files.values() ?? [])].filter((file) => file.table === 'a_published');
      assert.deepEqual(
        files.filter((file) => file.kind === 'segment'),
        [],
      );
      const rowsOf = async (kind: string): Promise<Version[]> =>
        (await Promise.all(files.filter((file) => file.kind === kind).map((file) => readRows(pipeline, file)))).flat();
      assert.deepEqual((await rowsOf('history')).map((row) => `${row['id']} ${row['_deleted_at']}`).sort(), ['7 null', '8 null']);
      assert.equal((await rowsOf('daily')).length, 2 * ROWS - 2);
    });

    test('a table renamed is not archived, and not pruned when it has its name again before it is copied', async () => {
      await pipeline.query(rows('a_moved'));
      await pipeline.archived();
      await pipeline.query(
        `ALTER TABLE a_moved RENAME TO a_elsewhere; UPDATE a_elsewhere SET v = 'missed' WHERE id < 5; ALTER TABLE a_elsewhere RENAME TO a_moved`,
      );
      await pruneAll('a_moved');
    });

    test('a table dropped and made again is another table: copied when it is published, pruned', async () => {
      await pipeline.query(rows('a_remade'));
      await pipeline.archived();
      await pipeline.query(`DROP TABLE a_remade; ${CREATE('a_remade')}; ${rows('a_remade', 1000)}`);
      assert.match((await prune('a_remade')).problem ?? '', /not in the publication/);
      await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE a_remade`);
      assert.equal((await pruneThese('a_remade')).view.size, 2 * ROWS, 'the rows of the table that is gone stay');
    });

    test('TRUNCATE … CASCADE ends the rows, and what comes after it is pruned', async () => {
      await pipeline.query(rows('a_emptied'));
      await pipeline.archived();
      await pipeline.query(`TRUNCATE a_emptied CASCADE; DROP TABLE a_child; ${rows('a_emptied', 10)}`);
      await pruneAll('a_emptied');
    });

    test('keys that change, days that change, and a key deleted and inserted again in one transaction', async () => {
      await pipeline.query(rows('a_keys'));
      await pipeline.archived();
      await pipeline.query(`BEGIN; UPDATE a_keys SET id = id + 100 WHERE id < 5; UPDATE a_keys SET at = at - interval '3 days' WHERE id BETWEEN 5 AND 9;
        DELETE FROM a_keys WHERE id = 10; INSERT INTO a_keys (id, at, v) VALUES (10, now() - interval '80 hours', 'again'); DELETE FROM a_keys WHERE id = 11; COMMIT`);
      await pruneAll('a_keys');
    });

    test('a partition is pruned like a table, also when it is detached, filled and attached again', async () => {
      await pipeline.query(rows('a_whole'));
      await pruneAll('a_parted');
      await pipeline.query(rows('a_whole', 100));
      await pipeline.query(
        `ALTER TABLE a_whole DETACH PARTITION a_parted; ${rows('a_parted', 200)}; ALTER TABLE a_whole ATTACH PARTITION a_parted FOR VALUES FROM (0) TO (1000)`,
      );
      assert.equal((await pruneThese('a_parted')).view.size, 3 * ROWS);
    });

    test('a table added to the configuration is copied while the others go on, a transaction that began before included', async () => {
      await pipeline.query(`INSERT INTO a_late SELECT i, now() - interval '48 hours', 'v' || i FROM generate_series(1, ${ROWS}) i`);
      const yaml = await readFile(pipeline.configFile, 'utf8');
      await writeFile(pipeline.configFile, yaml.replace('  a_keys:', '  a_late: { timestamp: at }\n  a_keys:'));
      const early = await connectEarly(pipeline);
      await early.query(`INSERT INTO a_late VALUES (1001, now() - interval '48 hours', 'before')`);
      await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE a_late`);
      await early.query(`INSERT INTO a_late VALUES (1002, now() - interval '48 hours', 'after')`);
      await Promise.all([archiver.stop(), capture.stop()]);
      archiver = pipeline.service('archiver');
      capture = pipeline.service('capture');
      await until('the copy waits for the transaction', async () => /recopy-waiting/.test(capture.log));
      assert.match((await prune('a_late')).problem ?? '', /not archived yet|not copied yet/);
      await early.query('COMMIT');
      await early.end();
      await pruneAll('a_late');
    });

    test('a table taken out of the configuration and put back is copied again', async () => {
      await pipeline.query(rows('a_wider', 500));
      await pipeline.archived();
      const yaml = await readFile(pipeline.configFile, 'utf8');
      await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE a_dropped`);
      const restart = async (text: string): Promise<void> => {
        await Promise.all([archiver.stop(), capture.stop()]);
        await writeFile(pipeline.configFile, text);
        archiver = pipeline.service('archiver');
        capture = pipeline.service('capture');
      };
      await pipeline.query(`ALTER PUBLICATION tidemark_test DROP TABLE a_wider`);
      await restart(yaml.replace(/^ {2}a_(wider|dropped):.*\n/gm, ''));
      await pipeline.query(`UPDATE a_wider SET v = 'missed'`);
      await pipeline.archived();
      await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE a_wider, a_dropped`);
      await restart(yaml);
      const { view } = await pruneThese('a_wider');
      assert.deepEqual(
        view.get('500')?.map((row) => row['v']),
        ['missed'],
      );
    });

    test('a partition whose root is published in its place is refused, and copied again when that is over', async () => {
      await pipeline.query(`${rows('a_whole', 300)}; ALTER PUBLICATION tidemark_test SET (publish_via_partition_root = true)`);
      await pruneThese('a_parted'); // the root is not in the publication: its partition is sent as itself
      await pipeline.query(`ALTER PUBLICATION tidemark_test ADD TABLE a_whole; ${rows('a_whole', 400)}`);
      assert.match((await prune('a_parted')).problem ?? '', /only as part of a partitioned table/);
      await pipeline.query('ALTER PUBLICATION tidemark_test DROP TABLE a_whole');
      await pipeline.query('ALTER PUBLICATION tidemark_test SET (publish_via_partition_root = false)');
      await pruneThese('a_parted');
    });
  });
}

async function connectEarly(pipeline: Pipeline): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: pipeline.databaseUrl });
  await client.connect();
  await client.query('BEGIN');
  return client;
}
