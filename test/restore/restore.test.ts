/**
 * The way back: restored rows equal the archived ones, type by type; they are in Postgres and in the archive, and a reader of the archive sees each once, through flush, merge, seal and rebuild; the
 * pruner leaves them for their time and then prunes them like any others. One pipeline on real engines.
 */
import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { parseRestoreOptions } from '../../services/cli/restore-options.js';
import { pruneOnce } from '../../services/pruner/loop.js';
import { type RestoreResult, restoreTable } from '../../src/restore/run.js';
import { undoPrune } from '../../src/restore/undo.js';
import { loadConfig } from '../../src/runtime/config.js';
import { Secret } from '../../src/runtime/config-values.js';
import { describeError, type TidemarkError } from '../../src/runtime/errors.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { Views } from '../services/archiver/views.js';
import type { Finished } from '../services/cli/command.js';
import { TypesTable } from '../types/types-table.js';

const TABLES = `  typed: { timestamp: at }
  ticks: { timestamp: at, keepWhile: "v = 'wait'" }
  lines: { timestamp: at, prune: false, deletes: keep }
  forms: { timestamp: at }
  strict: { timestamp: at }
  wider: { timestamp: at }
  gone: { timestamp: at }
  named: { timestamp: at }`;

let pipeline: Pipeline;
let typed: TypesTable;
let capture: Service;

before(async () => {
  pipeline = await Pipeline.start({ schema: '', tables: TABLES, flushEvery: '200ms', yaml: 'protected: [plays]' });
  typed = await TypesTable.create(pipeline);
  await pipeline.query(`CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text, code text UNIQUE);
    CREATE TABLE lines (at timestamptz, v text); ALTER TABLE lines REPLICA IDENTITY FULL; CREATE TABLE plays (id bigint, at timestamptz, v text, code text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF plays DEFAULT;
    CREATE TABLE forms (id bigint PRIMARY KEY, at timestamptz NOT NULL, n int, old text); CREATE TABLE strict (id bigint PRIMARY KEY, at timestamptz NOT NULL, a text); CREATE TABLE wider (id bigint PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE gone (a int, b text, at timestamptz NOT NULL, PRIMARY KEY (b, a));
    CREATE TABLE named (id bigint PRIMARY KEY, at timestamptz NOT NULL, file_row_number text, filename text, tidemark_key int, "Tidemark_Row" int);
    ALTER PUBLICATION tidemark_test ADD TABLE ticks, lines, forms, strict, wider, gone, named`);
  pipeline.service('archiver');
  capture = pipeline.service('capture');
  await pipeline.archived();
});
after(async () => await pipeline?.[Symbol.asyncDispose]());

const DAY = '2026-01-12';
const cli = (...args: string[]): Promise<Finished> => pipeline.cli([...args, '-c', pipeline.configFile]);
const done = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await cli(...args);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};
const signal = new AbortController().signal;
const nobody = (): void => undefined;
/** As the command does; in this process. */
const restore = async (
  table: string,
  options: Record<string, string | boolean> = {},
  url?: string,
): Promise<RestoreResult & { restored: number; left: Record<string, number> }> => {
  const config = loadConfig(pipeline.configFile);
  const result = await restoreTable({
    config: url === undefined ? config : { ...config, source: { ...config.source, restoreUrl: new Secret(url) } },
    table,
    ...parseRestoreOptions(options),
    into: options['into'] === undefined ? undefined : String(options['into']),
    dryRun: options['dryRun'] === true,
    signal,
    progress: nobody,
    notice: (text) => assert.match(text, /^waiting until|is taken for living; without --dry-run/),
  });
  return { ...result, ...(result.tables[0] as RestoreResult['tables'][number]) };
};
const prune = async (table = 'ticks'): Promise<{ deleted: number; left: Readonly<Record<string, number>>; run: string }> => {
  await pipeline.archived();
  const { result } = await pruneOnce(loadConfig(pipeline.configFile), pino({ level: 'silent' }), { table }, signal);
  assert.equal(result.problem, null);
  const [only] = result.tables;
  assert.ok(only && only.problem === null, JSON.stringify(result));
  return { ...only, run: result.run };
};
const ids = async (): Promise<number[]> => (await pipeline.query<{ id: string }>('SELECT id FROM ticks ORDER BY id')).map(({ id }) => Number(id));
const insert = (from: number, to: number, day = DAY): Promise<unknown> =>
  pipeline.query(`INSERT INTO ticks SELECT i, '${day} 10:00+00'::timestamptz + i * interval '1 second', 'v' || i FROM generate_series(${from}, ${to}) i`);
const view = async (sql: string): Promise<string[]> => {
  await using views = await Views.of({ config: { file: pipeline.configFile } });
  return await views.rows(sql);
};
const kinds = async (table: string): Promise<string[]> =>
  [
    ...new Set(
      [...((await pipeline.state())?.files.values() ?? [])]
        .filter((file) => file.table === table && file.kind !== 'keys')
        .map(({ kind, day }) => `${kind} ${day}`),
    ),
  ].sort();
const upTo = (n: number, from = 1): number[] => Array.from({ length: n - from + 1 }, (_, i) => from + i);

test('law 9: every value of every type comes back as it was', async () => {
  await typed.insertRandom(20);
  await pipeline.archived();
  const expected = await typed.texts();
  await done('prune', 'typed');
  assert.equal((await typed.texts()).size, 0);
  await until('the day is sealed', async () => (await kinds('typed')).every((kind) => kind.startsWith('daily')));
  const { restored, changed, left } = await restore('typed');
  assert.deepEqual([restored, changed, left], [expected.size, 0, {}]);
  assert.deepEqual(await typed.texts(), expected);
  await pipeline.query('CREATE SCHEMA again');
  assert.equal((await restore('typed', { into: 'again.typed' })).created, true);
  const columns = `SELECT attname::text AS name, pg_catalog.format_type(atttypid, atttypmod) AS type, attnotnull::text AS required FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid =`;
  assert.deepEqual(
    await pipeline.query(`${columns} 'again.typed'::regclass ORDER BY attnum`),
    await pipeline.query(`${columns} 'typed'::regclass ORDER BY attnum`),
  );
  assert.deepEqual(await pipeline.query('SELECT t::text FROM again.typed t ORDER BY id'), await pipeline.query('SELECT t::text FROM typed t ORDER BY id'));
  const key = `SELECT pg_catalog.pg_get_constraintdef(oid) AS key FROM pg_catalog.pg_constraint WHERE contype = 'p' AND conrelid =`;
  assert.deepEqual(await pipeline.query(`${key} 'again.typed'::regclass`), await pipeline.query(`${key} 'typed'::regclass`));
});

test('restored rows are in the archive once, and safe from the pruner for their time; then they are pruned again, and the day is sealed without them', async () => {
  await insert(1, 40);
  assert.equal((await prune()).deleted, 40);
  await until('the day is sealed', async () => (await kinds('ticks')).join() === `daily ${DAY}`);
  const shown = await view('SELECT id, v FROM ticks ORDER BY id');
  assert.equal(shown.length, 40);

  assert.deepEqual([(await restore('ticks', { day: DAY, dryRun: true })).restored, await ids()], [40, []]);
  assert.match(
    await done('restore', 'ticks', '--from', `${DAY} 10:00:11`, '--to', `${DAY}T12:00:21+0200`),
    /ticks: 10 rows restored in 1 batch\n {2}the pruner leaves them for 24h/,
  );
  assert.deepEqual(await ids(), upTo(20, 11));
  const more = await restore('ticks', { day: DAY, where: "id <= 30 AND v <> 'v3'", keep: '0s' });
  assert.deepEqual([more.restored, more.left], [19, { 'there already': 10 }]);
  await pipeline.archived();
  assert.deepEqual(await kinds('ticks'), [`daily ${DAY}`, `restored ${DAY}`]);
  assert.deepEqual(await view('SELECT id, v FROM ticks ORDER BY id'), shown);

  const { deleted, left } = await prune();
  assert.deepEqual([deleted, left], [19, { restored: 10 }]);
  assert.deepEqual(await ids(), upTo(20, 11));
  assert.match(await done('explain', 'ticks', '12'), /it was restored: the pruner leaves it until/);
  await pipeline.query(`UPDATE ticks SET v = 'edited' WHERE id = 11; DELETE FROM ticks WHERE id = 12`);
  const after = await prune();
  assert.deepEqual([after.deleted, after.left], [1, { restored: 8 }], 'a changed row is an ordinary one again');
  assert.deepEqual(
    await view('SELECT id, v FROM ticks ORDER BY id, v'),
    [...shown, '11|edited'].sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1)),
  );
});

test('a place that another row has: fail restores nothing, skip leaves it, replace puts the archived row there', async () => {
  const day = '2026-01-13';
  await insert(101, 110, day);
  await pipeline.query(`UPDATE ticks SET code = 'c' || id WHERE id > 100`);
  assert.equal((await prune()).deleted, 10);
  await restore('ticks', { day, where: 'id = 102' });
  await pipeline.query(`INSERT INTO ticks VALUES (101, now(), 'mine', NULL), (900, now(), 'mine', 'c104')`);
  const failed = await cli('restore', 'ticks', '--day', day);
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /1 rows of ticks have their place taken by others: nothing of this batch was restored → --on-conflict skip/);
  const hot = async (): Promise<string[]> =>
    (await pipeline.query<{ t: string }>('SELECT id || v AS t FROM ticks WHERE id > 100 ORDER BY id')).map(({ t }) => t);
  assert.deepEqual(await hot(), ['101mine', '102v102', '900mine']);
  const dry = await restore('ticks', { day, onConflict: 'skip', dryRun: true });
  assert.deepEqual(dry.left, { 'there already': 1, 'place taken by another row': 1 });
  const skipped = await restore('ticks', { day, onConflict: 'skip' });
  assert.deepEqual([skipped.restored, skipped.left], [7, { 'there already': 1, 'place taken by another row': 2 }], 'another unique column counts');
  await pipeline.query('CREATE TABLE followers (tick bigint REFERENCES ticks ON DELETE CASCADE); INSERT INTO followers VALUES (101)');
  await assert.rejects(restore('ticks', { day, where: 'id = 101', onConflict: 'replace' }), /deleted or changed along with .* \(ON DELETE of followers\./);
  assert.equal((await pipeline.query('SELECT FROM followers')).length, 1, 'law 14: a row of a table that nobody named, protected perhaps, stays');
  await pipeline.query('DROP TABLE followers');
  const replaced = await restore('ticks', { day, where: 'id = 101', onConflict: 'replace' });
  assert.deepEqual([replaced.restored, replaced.replaced], [1, 1]);
  await assert.rejects(restore('ticks', { day, where: 'id = 104', onConflict: 'replace' }), /have their place taken/);
  assert.deepEqual(await hot(), [...upTo(103, 101), ...upTo(110, 105)].map((id) => `${id}v${id}`).concat('900mine'));
  await pipeline.archived();
  assert.deepEqual(await view(`SELECT id, v FROM ticks WHERE id > 100 ORDER BY id`), [...upTo(110, 101).map((id) => `${id}|v${id}`), '900|mine']);
});

test('undo-prune puts back exactly what one run deleted; a place that was taken meanwhile stays', async () => {
  await insert(201, 220, '2026-01-14');
  await pipeline.query(`DELETE FROM ticks WHERE id = 220`);
  const { run, deleted } = await prune();
  assert.equal(deleted, 19);
  await pipeline.query(`INSERT INTO ticks VALUES (205, now(), 'mine')`);
  const asked = await cli('undo-prune', run);
  assert.equal(asked.code, 2);
  assert.match(asked.stdout + asked.stderr, /deleted 19 rows of ticks; this puts them back.*\n.*asks for a confirmation/);
  assert.match(await done('undo-prune', run, '--dry-run'), /ticks: 18 rows would go back\n {2}1 left: place taken by another row/);
  assert.deepEqual(
    (await ids()).filter((id) => id > 200 && id < 300),
    [205],
  );
  assert.match(await done('undo-prune', run, '--yes', 'test'), /ticks: 18 rows back\n {2}1 left: place taken by another row/);
  assert.deepEqual(
    (await ids()).filter((id) => id > 200 && id < 300),
    upTo(219, 201),
  );
  const again = (await undoPrune({ config: loadConfig(pipeline.configFile), run, dryRun: false, keepMs: 1, signal, progress: nobody })).receipt.tables[0];
  assert.deepEqual([again?.restored, again?.left], [0, { 'there already': 18, 'place taken by another row': 1 }]);
  assert.equal((await prune()).left['restored'], 35, '8 of the first day, 9 of the second, 18 of this');
  assert.deepEqual((await view('SELECT id FROM ticks WHERE id > 200 AND id < 300 ORDER BY id')).map(Number), [...upTo(205, 201), ...upTo(219, 205)]);
});

test('killed at any step, and run again: nothing is missing and nothing double', async () => {
  await insert(1001, 7000, '2026-01-15');
  assert.equal((await prune()).deleted, 6000);
  const killed = async (fault: string): Promise<number> => {
    assert.equal((await pipeline.cli(['restore', 'ticks', '--day', '2026-01-15', '-c', pipeline.configFile], { TIDEMARK_FAULT: fault })).code, null, fault);
    await until(
      'its session is gone',
      async () => (await pipeline.query(`SELECT FROM pg_stat_activity WHERE application_name = 'tidemark_test_restore'`)).length === 0,
    );
    return (await ids()).filter((id) => id > 1000).length;
  };
  assert.equal(await killed('R3:kill:1'), 0, 'a receipt without its COMMIT');
  assert.equal(await killed('R3:kill:2'), 5000);
  await until('the second batch is there', async () => (await killed('R4:kill:1')) === 6000);
  const end = await restore('ticks', { day: '2026-01-15' });
  assert.deepEqual([end.restored, end.left], [0, { 'there already': 6000 }]);
  await pipeline.archived();
  assert.deepEqual(await view('SELECT count(*), count(DISTINCT id) FROM ticks WHERE id > 1000'), ['6000|6000']);
  assert.equal((await prune()).left['restored'], 6035, 'safe across the crash');
});

test('a table without a key: as many equal rows as the archive has', async () => {
  await pipeline.query(`INSERT INTO lines VALUES ('2026-01-12', 'a'), ('2026-01-12', 'a'), ('2026-01-12', 'a'), (NULL, 'b')`);
  await pipeline.archived();
  await pipeline.query(`DELETE FROM lines WHERE ctid IN (SELECT ctid FROM lines WHERE v = 'a' LIMIT 2) OR v = 'b'`);
  await pipeline.archived();
  const first = await restore('lines');
  assert.deepEqual([first.restored, first.left], [3, { 'still in Postgres, as far as is archived': 1 }]);
  assert.equal((await restore('lines')).restored, 0);
  assert.deepEqual(await pipeline.query('SELECT v FROM lines ORDER BY v'), [{ v: 'a' }, { v: 'a' }, { v: 'a' }, { v: 'b' }]);
  await pipeline.archived();
  assert.deepEqual(await view('SELECT v FROM lines ORDER BY v'), ['a', 'a', 'a', 'b']);
});

test('columns that have changed since: what prints the same is known, what does not is a new version', async () => {
  await pipeline.query(`INSERT INTO forms SELECT i, '2026-01-12', i, 'o' || i FROM generate_series(1, 4) i`);
  assert.equal((await prune('forms')).deleted, 4);
  await pipeline.query('ALTER TABLE forms DROP old, ADD extra text, ALTER id TYPE numeric');
  const same = await restore('forms', { where: 'id < 3' });
  assert.deepEqual([same.restored, same.changed, same.lost], [2, 0, ['old']]);
  await pipeline.query('ALTER TABLE forms RENAME at TO other');
  await assert.rejects(
    restore('forms', { where: 'id = 3' }),
    /column other of forms is NOT NULL, and archived rows have no value for it .*: nothing of this batch was restored/,
  );
  await pipeline.query('ALTER TABLE forms RENAME other TO at');
  await pipeline.query('ALTER TABLE forms ALTER n TYPE numeric(6,2), ADD made text NOT NULL DEFAULT $$x$$');
  const other = await restore('forms', { where: 'id = 3' });
  assert.deepEqual([other.restored, other.changed], [1, 1]);
  await pipeline.query(
    `CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := upper(NEW.v); RETURN NEW; END $$; CREATE TRIGGER loud BEFORE INSERT ON ticks FOR EACH ROW EXECUTE FUNCTION shout()`,
  );
  await assert.rejects(restore('ticks', { day: DAY, where: 'id = 1' }), /a row of ticks comes out as another than it is archived \(triggers on it: loud\)/);
  await pipeline.query(
    `DROP TRIGGER loud ON ticks; CREATE FUNCTION behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.ticks SET v = v || '!' WHERE id = NEW.id; RETURN NULL; END $$;
     CREATE CONSTRAINT TRIGGER late AFTER INSERT ON ticks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION behind()`,
  );
  await assert.rejects(
    restore('ticks', { day: DAY, where: 'id = 1' }),
    /comes out as another than it is archived \(triggers on it: late\)/,
    'also behind the insert',
  );
  await pipeline.query('DROP TRIGGER late ON ticks');
  await pipeline.archived();
  assert.deepEqual(await view('SELECT id, n, made FROM forms ORDER BY id, made NULLS FIRST'), ['1|1.00|∅', '2|2.00|∅', '3|3.00|∅', '3|3.00|x', '4|4.00|∅']);
});

test('a dry run foresees columns that are NOT NULL by now and for which archived rows have no value', async () => {
  await pipeline.query(`INSERT INTO strict SELECT i, '2026-01-12', CASE WHEN i > 2 THEN 'a' END FROM generate_series(1, 6) i`);
  const { run, deleted } = await prune('strict');
  assert.equal(deleted, 6);
  await pipeline.query('ALTER TABLE strict ALTER a SET NOT NULL, ADD b int NOT NULL, ADD c int NOT NULL DEFAULT 7, ADD d int GENERATED ALWAYS AS IDENTITY');
  const stop =
    'column a of strict is NOT NULL, and 2 of the archived rows have no value for it (a column that was renamed has another name there): a restore would stop there; the same holds for b (6 rows)';
  const dry = await cli('restore', 'strict', '--dry-run');
  assert.equal(dry.code, 1);
  assert.ok(
    dry.stdout.startsWith(`strict: 6 rows would be restored\n`) &&
      dry.stdout.includes(`\n${stop} → ALTER TABLE "public"."strict" ALTER COLUMN "a" DROP NOT NULL`),
    dry.stdout,
  );
  const undo = await cli('undo-prune', run, '--dry-run');
  assert.equal(undo.code, 1);
  assert.ok(undo.stdout.includes(`\n  stopped: ${stop} → `), undo.stdout);
  await assert.rejects(restore('strict'), /column [ab] of strict is NOT NULL, and archived rows have no value for it .*: nothing of this batch was restored/);
  assert.equal(
    (await restore('strict', { where: "a = 'a'", dryRun: true })).problem?.includes('column b of strict is NOT NULL, and 4 of the archived rows'),
    true,
  );
  await pipeline.query('ALTER TABLE strict ALTER a DROP NOT NULL, ALTER b SET DEFAULT 1');
  assert.deepEqual([(await restore('strict', { dryRun: true })).problem, (await restore('strict')).restored], [null, 6]);
});

test('a column added behind restored rows: NULL in them, they are the same rows; with a default, versions of their own', async () => {
  await pipeline.query(`INSERT INTO wider SELECT i, '2026-01-12' FROM generate_series(1, 4) i`);
  assert.equal((await prune('wider')).deleted, 4);
  await until('the day is sealed', async () => (await kinds('wider')).join() === `daily ${DAY}`);
  assert.equal((await restore('wider', { keep: '0s' })).restored, 4);
  await pipeline.query('ALTER TABLE wider ADD nothing text');
  await done('repair', 'wider');
  await until('they are copied again', async () => {
    const recopy = (await pipeline.state())?.recopy;
    return recopy?.table === 'wider' && recopy.state === 'complete';
  });
  assert.deepEqual(await view('SELECT id FROM wider ORDER BY id'), ['1', '2', '3', '4']);
  assert.equal((await prune('wider')).deleted, 4);

  assert.equal((await restore('wider', { where: 'id = 4', keep: '0s' })).restored, 1);
  await pipeline.query('ALTER TABLE wider ADD n int NOT NULL DEFAULT 7');
  assert.deepEqual((await prune('wider')).left, { 'archived before a column was added or renamed': 1 });
  await until('it is proved', async () => (await prune('wider')).deleted === 1);
  assert.deepEqual(await view('SELECT id, n FROM wider ORDER BY id, n NULLS FIRST'), ['1|∅', '2|∅', '3|∅', '4|∅', '4|7']);
});

test('columns may have the names that DuckDB and our own SQL have for things', async () => {
  await pipeline.query(
    `INSERT INTO named SELECT i, '${DAY}', 'n' || -i, 'f', 1, 2 FROM generate_series(1, 3000) i; INSERT INTO named VALUES (4000, '${DAY}', NULL, NULL, NULL, NULL)`,
  );
  const rows = 'SELECT n::text FROM named n ORDER BY id';
  const before = await pipeline.query(rows);
  await pipeline.archived();
  assert.equal((await restore('named', { into: 'opened', where: `file_row_number = 'n-7' OR id > 3999` })).restored, 2, 'of an open day');
  assert.equal((await prune('named')).deleted, 3001);
  await until('the day is sealed', async () => (await kinds('named')).every((kind) => kind.startsWith('daily')));
  assert.equal((await restore('named')).restored, 3001);
  assert.deepEqual(await pipeline.query(rows), before);
});

test('a dropped table is made again, and its rows, copied when it is archived again, are not there twice', async () => {
  await pipeline.query(`INSERT INTO gone SELECT i, 'b' || i, '2026-01-12' FROM generate_series(1, 5) i`);
  await pipeline.archived();
  await pipeline.query('DROP TABLE gone');
  const dry = await restore('gone', { dryRun: true });
  assert.deepEqual([dry.created, dry.restored], [true, 5]);
  assert.match(await done('restore', 'gone'), /gone was not there: made .*\ngone: 5 rows restored/);
  await pipeline.query('ALTER PUBLICATION tidemark_test ADD TABLE gone');
  assert.equal((await capture.stop()).code, 0);
  capture = pipeline.service('capture');
  await until('it is copied', async () => (await kinds('gone')).includes('restored 2026-01-12'));
  await pipeline.archived();
  assert.deepEqual(
    await view('SELECT a, b FROM gone ORDER BY a'),
    upTo(5).map((i) => `${i}|b${i}`),
  );
  await done('repair', 'ticks');
  await until(
    'ticks is copied again',
    async () => (await pipeline.state())?.recopy?.table === 'ticks' && (await pipeline.state())?.recopy?.state === 'complete',
  );
  assert.deepEqual(await view('SELECT count(*), count(DISTINCT id) FROM ticks WHERE id > 1000'), ['6000|6000'], 'restored rows in a copy of the whole table');
  const { deep } = JSON.parse((await cli('verify', '--deep', '--json')).stdout);
  const differing = deep.postgres.filter((one: { differing: number }) => one.differing > 0).map((one: { table: string }) => one.table);
  assert.deepEqual([deep.stream.equal, differing], [true, ['forms']], 'but for the table whose columns were retyped under its restored rows');
});

test('of several lives of a key the last one is restored, also where a sealed day has a newer change of another row', async () => {
  await pipeline.query(`INSERT INTO ticks VALUES (8001, '2026-01-16', 'first'), (8002, '2026-01-16', 'wait')`);
  await prune();
  await pipeline.query(`INSERT INTO ticks VALUES (8001, '2026-01-17', 'second')`);
  await prune();
  await pipeline.query(`UPDATE ticks SET v = 'done' WHERE id = 8002`);
  await prune();
  await until('both days are sealed', async () => {
    const days = await kinds('ticks');
    return ['2026-01-16', '2026-01-17'].every((day) => days.includes(`daily ${day}`) && !days.includes(`segment ${day}`));
  });
  const { restored, left } = await restore('ticks', { where: 'id > 8000' });
  assert.deepEqual([restored, left], [2, { 'earlier life of a key': 1 }]);
  assert.deepEqual(await pipeline.query('SELECT v FROM ticks WHERE id > 8000 ORDER BY id'), [{ v: 'second' }, { v: 'done' }]);
});

test('what cannot be asked is refused with one line', async () => {
  const refused = (message: RegExp, table: string, options: Record<string, string> = {}, url?: string): Promise<void> =>
    assert.rejects(restore(table, options, url), (error: TidemarkError) => error.kind === 'config' && message.test(describeError(error)));
  await refused(/plays is protected/, 'ticks', { into: 'plays' });
  await refused(/plays is protected/, 'ticks', { into: 'part' });
  await refused(/--into: forms is archived itself/, 'ticks', { into: 'forms' });
  await refused(/table "nothing" is not in the archive → name one of: .*ticks/, 'nothing');
  await refused(/--day: "yesterday" is not a day/, 'ticks', { day: 'yesterday' });
  await refused(/--day: the archive has no row of ticks of 1999-01-01 → it has days from 20\d\d-\d\d-\d\d to 20\d\d-\d\d-\d\d$/, 'ticks', {
    day: '1999-01-01',
  });
  await refused(/--day: the archive has no row of ticks of undated/, 'ticks', { day: 'undated' });
  const empty = await cli('restore', 'ticks', '--from', '1999-01-01', '--to', '1999-02-01');
  assert.match(empty.stdout, /^ticks: 0 rows restored.*\n {2}no archived row is meant; those that somebody deleted are none /);
  assert.match(empty.stderr, /^--from, --to: the archive has no row of ticks in this span; it has days from 20\S+ to 20\S+\n$/);
  assert.equal(empty.code, 0, 'an hour in which nothing happened is no mistake');
  await refused(/--from: 2026-11-23 is not before --to, 2026-11-22 →/, 'ticks', { from: '2026-11-23', to: '2026-11-22' });
  await refused(/--day and --from, --to/, 'ticks', { day: DAY, to: DAY });
  await refused(/--from: "noon" is not a time/, 'ticks', { from: 'noon' });
  await refused(/--from: "2026-02-30" is not a time/, 'ticks', { from: '2026-02-30' });
  await refused(/--to: "2026-01-12 24:30" is not a time/, 'ticks', { to: '2026-01-12 24:30' });
  await refused(/--where: .*nowhere/, 'ticks', { day: DAY, where: 'nowhere = 1' });
  await refused(/--where: it holds a subquery/, 'ticks', { where: `id IN (SELECT 1 FROM read_csv('/etc/passwd'))` });
  await refused(/--where: it is more than a condition/, 'ticks', { where: 'true) UNION SELECT (1' });
  await refused(/--where: syntax error/, 'ticks', { where: 'id >' });
  await refused(/--on-conflict: "merge"/, 'ticks', { onConflict: 'merge' });
  await refused(/^--keep: "7x" is not a duration → write for instance 24h or 7d$/, 'ticks', { keep: '7x' });
  await refused(/--keep: "300000y" is longer/, 'ticks', { keep: '300000y' });
  await pipeline.query(`CREATE ROLE lean LOGIN PASSWORD 'lean'; GRANT SELECT ON ticks TO lean`);
  const url = new URL(pipeline.databaseUrl);
  [url.username, url.password] = ['lean', 'lean'];
  await refused(/lean lacks INSERT on ticks → GRANT INSERT ON "public"\."ticks" TO "lean"/, 'ticks', {}, url.href);
  const [damaged] = [...((await pipeline.state())?.files.values() ?? [])].filter(({ kind, table }) => kind === 'segment' && table === 'lines');
  await appendFile(path.join(pipeline.archiveDir, damaged?.file ?? ''), 'x');
  await assert.rejects(restore('lines'), /DIGEST: .*SHA-256 differs/);
  const { code, stderr } = await cli('undo-prune', '11111111-2222-3333-4444-555555555555', '--yes', 'test');
  assert.deepEqual([code, /there is no prune run/.test(stderr)], [2, true]);
});
