/** `tidemark query` as a person meets it: types, files that are read, forms of output, the sandbox, mistakes, the shell. */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import Table from 'cli-table3';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import pino from 'pino';
import { run as runCommand } from '../../services/cli/commands/query.js';
import { textOf, written } from '../../services/cli/query/formats.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { runPrune } from '../../src/prune/run.js';
import { Engine } from '../../src/query/engine.js';
import { Query, type QueryFacts, type Sides } from '../../src/query/query.js';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { describeError, TidemarkError } from '../../src/runtime/errors.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { cleanEnvironment, MAIN } from '../services/cli/command.js';
import { TypesTable } from '../types/types-table.js';

const MEMORY = 256 * 1024 * 1024;
const QUIET = pino({ level: 'silent' });

let pipeline: Pipeline;
let config: Config;
let temporary: string;
let services: Service[];
/** Days ago, UTC. */
const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

before(async () => {
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE prices (id int PRIMARY KEY, "timestamp" timestamp, token text, price numeric(12,4));
      INSERT INTO prices SELECT i, date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => i % 6, secs => -i), CASE WHEN i % 9 = 0 THEN 'a,"b' ELSE 'SOL' END, i / 8.0 FROM generate_series(1, 600) i;
      CREATE TABLE secrets (id int); INSERT INTO secrets VALUES (1);
      CREATE TABLE comments (id int PRIMARY KEY, "position" timestamp, "order" text, "a b" int);
      INSERT INTO comments SELECT i, date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => i % 3), 'o' || i, i FROM generate_series(1, 30) i;`,
    tables: '  typed: { timestamp: at }\n  prices: { timestamp: timestamp }\n  comments: { timestamp: position }',
    flushEvery: '200ms',
  });
  const table = await TypesTable.create(pipeline);
  await pipeline.query('ALTER PUBLICATION tidemark_test ADD TABLE prices, comments');
  config = loadConfig(pipeline.configFile);
  temporary = path.join(pipeline.dir, 'temporary');
  await mkdir(temporary);
  services = [pipeline.service('archiver'), pipeline.service('capture')];
  await pipeline.archived();
  await table.insertRandom(8);
  await pipeline.archived();
});
after(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

const asking = (sides: Sides = 'both', memory = MEMORY): Query => new Query(config, { sides, memory, temporary });

async function rows(sql: string, query = asking()): Promise<{ rows: (string | null)[][]; facts: QueryFacts }> {
  const found: (string | null)[][] = [];
  let facts: QueryFacts | undefined;
  await query.run(sql, new AbortController().signal, async (result) => {
    facts = result.facts;
    for await (const piece of result.kept((column) => `CAST(${column} AS VARCHAR)`)) found.push(...piece);
  });
  return { rows: found, facts: facts as QueryFacts };
}

/** Starts the command line with a pipe as its input. */
function start(...args: string[]): { child: ChildProcessWithoutNullStreams; said: () => string; wrong: () => string } {
  const env = { ...cleanEnvironment(), XDG_STATE_HOME: path.join(pipeline.dir, 'state') };
  const child = spawn(process.execPath, [MAIN, 'query', '-c', pipeline.configFile, '--temp', temporary, ...args], { env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  return { child, said: () => stdout, wrong: () => stderr };
}

async function command(args: readonly string[], input = ''): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const { child, said, wrong } = start(...args);
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout: said(), stderr: wrong() };
}

test('a row has the same types and values while it is hot, when it is pruned, and in its daily file', async () => {
  const everything = async (): Promise<unknown> => [
    (await rows('SELECT column_name, column_type FROM (DESCRIBE typed)')).rows,
    (await rows('SELECT * FROM typed ORDER BY id')).rows,
  ];
  const hot = await everything();
  assert.ok(((hot as unknown[][])[1] as unknown[]).length > 20);
  await runPrune({
    config,
    log: QUIET,
    signal: new AbortController().signal,
    follower: new ArchiveFollower(pipeline.archiveDir),
    trigger: 'command',
    dryRun: false,
  });
  const kinds = async (): Promise<Set<string>> =>
    new Set([...((await pipeline.state())?.files.values() ?? [])].filter(({ table }) => table === 'typed').map(({ kind }) => kind));
  assert.deepEqual(await pipeline.query('SELECT id FROM typed'), []);
  await pipeline.archived();
  assert.equal((await kinds()).has('daily'), false);
  assert.deepEqual(await everything(), hot, 'pruned');
  assert.deepEqual((await rows('SELECT * FROM typed ORDER BY id', asking('cold'))).rows, (hot as unknown[])[1], 'the archive alone');
  const { code, stdout, stderr } = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  await until('its day is sealed', async () => (await kinds()).has('daily'));
  assert.deepEqual(await everything(), hot, 'sealed');
});

test('only days that can match are read, of either side', async () => {
  const { rows: all, facts } = await rows('SELECT count(*), sum(id) FROM prices');
  assert.deepEqual(all, [['600', '180300']]);
  assert.equal(facts.files, facts.filesOf);
  assert.ok(facts.filesOf >= 6 && facts.hotRows >= 100, JSON.stringify(facts));
  const one = await rows(`SELECT count(*) FROM prices WHERE "timestamp"::date = '${day(3)}'`);
  assert.deepEqual(one.rows, [['100']]);
  assert.deepEqual([one.facts.files, one.facts.hotRows], [1, 0]);
  const young = await rows(`SELECT count(*) FROM prices WHERE "timestamp" >= '${day(0)}'`);
  assert.deepEqual(young.rows, [['100']]);
  assert.deepEqual([young.facts.files, young.facts.hotRows], [0, 100]);
  const plan = (await rows(`EXPLAIN ANALYZE SELECT count(*) FROM prices WHERE "timestamp" BETWEEN '${day(4)}' AND '${day(4)} 00:02'`)).rows.flat().join('\n');
  assert.deepEqual(plan.match(/Total Files Read: \d+/g), ['Total Files Read: 1']);
  assert.deepEqual(
    (await rows(`SELECT count(*) FROM prices`, asking('hot'))).rows,
    await pipeline.query('SELECT count(*)::text AS n FROM prices').then(([row]) => [[row?.['n']]]),
  );
  assert.deepEqual((await rows(`SELECT count(*) FROM prices`, asking('cold'))).rows, [['600']]);
});

test('names that SQL has words for, of a table and its columns, are names like others', async () => {
  const [hot] = await pipeline.query<{ n: string; sum: string; most: string }>(
    'SELECT count(*) AS n, sum("a b") AS sum, max("order" COLLATE "C") AS most FROM comments',
  );
  for (const [sides, expected] of [
    ['both', ['30', '465', 'o9']],
    ['cold', ['30', '465', 'o9']],
    ['hot', Object.values(hot ?? {})],
  ] as const)
    assert.deepEqual((await rows('SELECT count(*), sum("a b"), max("order") FROM comments', asking(sides))).rows, [expected], sides);
  const joined = await rows(`SELECT count(*), min("order") FROM comments c JOIN prices p USING (id) WHERE c."position" < '${day(0)}'`);
  assert.deepEqual(joined.rows, [['20', 'o1']]);
});

test('each form of output', async () => {
  const sql = `SELECT id, token, nullif(price, 1.0) AS price, NULL AS "n", '' AS e, 'NaN'::double AS x, '\ufeffb' AS b FROM prices WHERE id IN (8, 9) ORDER BY id`;
  const of = async (format: 'table' | 'csv' | 'json' | 'jsonl'): Promise<string> => {
    let text = '';
    await asking().run(sql, new AbortController().signal, async ({ columns, kept }) => {
      for await (const piece of written(format, columns, kept(textOf(format)), Table)) text += piece;
    });
    return text;
  };
  assert.equal(await of('csv'), 'id,token,price,n,e,x,b\n8,SOL,,,"",nan,\ufeffb\n9,"a,""b",1.1250,,"",nan,\ufeffb\n');
  assert.equal(await of('table'), 'id  token  price   n     e  x    b\n8   SOL    NULL    NULL     nan  \ufeffb\n9   a,"b   1.1250  NULL     nan  \ufeffb\n');
  const expected = [
    { id: 8, token: 'SOL', price: null, n: null, e: '', x: 'NaN', b: '\ufeffb' },
    { id: 9, token: 'a,"b', price: 1.125, n: null, e: '', x: 'NaN', b: '\ufeffb' },
  ];
  assert.deepEqual(JSON.parse(await of('json')), expected);
  assert.deepEqual((await of('jsonl')).trim().split('\n').map((line) => JSON.parse(line)), expected); // biome-ignore format: one line
  const parquet = path.join(pipeline.dir, 'out.parquet');
  const outcome = await command(['--out', parquet, sql]);
  assert.deepEqual(outcome, { code: 0, stdout: '', stderr: '' });
  const read = await parquetReadObjects({ file: await asyncBufferFromFile(parquet), compressors });
  assert.deepEqual(read.map((row) => [row['id'], row['token'], row['price']]), [[8, 'SOL', null], [9, 'a,"b', 1.125]]); // biome-ignore format: two rows
  assert.deepEqual(
    (await readdir(pipeline.dir)).filter((name) => name.includes('partial')),
    [],
  );
  const piped = await command(['--stats'], "SELECT 1 AS a; -- and\nSELECT ';' AS b");
  assert.deepEqual([piped.code, piped.stdout], [0, 'a\n1\nb\n;\n']);
  assert.match(piped.stderr, /^(1 row from 0 hot rows and 0 of 0 archived files, \d+\.\d\d s\n){2}$/);
});

test('Parquet has every digit of what DuckDB itself writes there rounded', async () => {
  const out = path.join(pipeline.dir, 'exact.parquet');
  const sql = `SELECT sum(id) + 9007199254740993 AS "a b", [INTERVAL '1 day 0.000007 s'] AS i, '12:34:56+02'::TIMETZ AS t, {'x y': 9007199254740993::HUGEINT, 'e': 'q'} AS s, MAP {'k': -1::HUGEINT} AS m, 1 AS n FROM prices`;
  await asking().writeParquet(sql, out, new AbortController().signal);
  using engine = await Engine.open({ memory: MEMORY }, new AbortController().signal);
  assert.deepEqual(
    await engine.query(`SELECT COLUMNS(*)::VARCHAR FROM '${out}'`),
    await engine.query(`SELECT COLUMNS(*)::VARCHAR FROM (${sql.replace('FROM prices', 'FROM range(1, 601) r(id)')})`),
  );
  assert.deepEqual(await engine.query(`SELECT typeof("a b") AS a, typeof(s) AS s FROM '${out}'`), [
    { a: 'DECIMAL(38,0)', s: 'STRUCT("x y" DECIMAL(38,0), e VARCHAR)' },
  ]);
  await assert.rejects(
    asking().writeParquet(`SELECT 170141183460469231731687303715884105727::HUGEINT AS x`, `${out}.2`, new AbortController().signal),
    /Conversion Error/,
  );
});

test('what a terminal shows cannot move its cursor', async () => {
  const { columns, rows: shown } = { columns: ['a'], rows: [['\u001b[2J\u0007\u009b\n', `${'x'.repeat(200)}`]] };
  async function* piece(): AsyncGenerator<(string | null)[][]> {
    yield shown.map(([a, b]) => [`${a}${b}`]);
  }
  let text = '';
  for await (const part of written('table', columns, piece(), Table)) text += part;
  assert.doesNotMatch(text.replaceAll('\n', ''), /[\u0000-\u001f\u007f-\u009f]/);
  assert.match(text, /\\u001b\[2J\\u0007\\u009b\\nx+…\n$/);
});

test('a query reads the listed tables and nothing else, and writes nothing', async () => {
  const file = path.join(pipeline.dir, 'a.csv');
  await writeFile(file, 'x\n1\n');
  const daily = [...((await pipeline.state())?.files.values() ?? [])].find(({ kind, table }) => kind === 'daily' && table === 'prices');
  assert.ok(daily, 'a day of prices is sealed');
  const archived = path.join(pipeline.archiveDir, daily.file);
  const before = await readFile(archived);
  const escapes = [
    `SELECT * FROM read_csv('${file}')`,
    `SELECT * FROM '${file}'`,
    `SELECT * FROM read_text('/etc/hostname')`,
    `SELECT * FROM glob('/etc/*')`,
    `SELECT * FROM read_blob('${pipeline.archiveDir}/_tidemark/key')`,
    `SELECT * FROM read_json('${pipeline.archiveDir}/_tidemark/../_tidemark/archive.json')`,
    `SELECT * FROM read_parquet('${archived}')`,
    `SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')`,
    `SELECT * FROM read_csv('s3://bucket/x.csv')`,
    `SELECT * FROM sniff_csv('${file}')`,
    `SELECT * FROM query('SELECT * FROM read_text(''/etc/hostname'')')`,
    `SELECT (SELECT content FROM read_text('/etc/hostname'))`,
    `EXPLAIN ANALYZE COPY (SELECT 1) TO '${pipeline.dir}/stolen.csv'`,
    `COPY (SELECT 1) TO '${archived}'`,
    `COPY prices TO '${pipeline.dir}/stolen.parquet'`,
    `EXPORT DATABASE '${pipeline.dir}/stolen'`,
    `ATTACH '${pipeline.dir}/stolen.db'`,
    `ATTACH '${config.source.url.reveal()}' AS pg (TYPE postgres)`,
    `INSTALL httpfs`,
    `LOAD httpfs`,
    `SET memory_limit = '100GB'`,
    `SET enable_external_access = true`,
    `RESET lock_configuration`,
    `PRAGMA enable_profiling`,
    `CALL enable_logging()`,
    `CREATE TABLE t AS SELECT 1`,
    `CREATE SECRET s (TYPE s3)`,
    `CREATE MACRO f() AS 1`,
    `INSERT INTO prices VALUES (1)`,
    `DELETE FROM prices`,
    `DROP VIEW prices`,
    `CHECKPOINT`,
    `PREPARE p AS SELECT 1`,
    `SELECT 1; SELECT 2`,
    `SELECT 1) TO '${pipeline.dir}/stolen.csv' --`,
    `SELECT * FROM secrets`,
    `SELECT count(*) FROM prices, enable_logging('QueryLog', storage = 'file', storage_path = '${pipeline.archiveDir}/stolen')`,
    `FROM query('FROM enable' || '_logging(storage = ''stdout'')')`,
    `WITH a AS (SELECT 1 FROM enable_profiling()) SELECT (SELECT count(*) FROM a)`,
    `FROM json_execute_serialized_sql(json_serialize_sql('SELECT count(*) FROM prices'))`,
    `FROM truncate_duckdb_logs()`,
  ];
  for (const sql of escapes)
    await assert.rejects(rows(sql), (error) => error instanceof TidemarkError && error.kind === 'config' && !error.message.includes('\n'), sql);
  // The second wall: were one let through, DuckDB itself is locked.
  using engine = await Engine.open({ memory: MEMORY, spill: temporary }, new AbortController().signal);
  await engine.lock([archived]);
  const outside = escapes.filter(
    (sql) => /^(SELECT \*|EXPLAIN|COPY \(SELECT 1\) TO '[^']*csv|EXPORT|ATTACH|INSTALL|LOAD|SET|RESET)/.test(sql) && !/ FROM (secrets|read_parquet)/.test(sql),
  );
  assert.ok(outside.length > 15);
  for (const sql of outside)
    await assert.rejects(engine.connection.runAndReadAll(sql), /Permission Error|has been locked|external extensions|Binder Error|disabled/i, sql);
  assert.deepEqual(await readFile(archived), before);
  for (const folder of [pipeline.dir, pipeline.archiveDir])
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith('stolen')),
      [],
    );
  assert.deepEqual((await rows(`SELECT count(*) FROM duckdb_views(), range(2), json_each('{"a": 1}') WHERE view_name = 'prices'`)).rows, [['2']]);
});

test('a query that needs more than its memory goes to disk, and leaves nothing there', async () => {
  const sql = `SELECT count(*), max(x) FROM (SELECT DISTINCT i // 2 AS x, repeat('x', 60) || i // 2 FROM range(3000000) r(i))`;
  let most = 0;
  const watching = setInterval(async () => {
    for (const folder of await readdir(temporary).catch(() => [])) {
      const names = await readdir(path.join(temporary, folder)).catch(() => []);
      for (const name of names) most = Math.max(most, (await stat(path.join(temporary, folder, name)).catch(() => undefined))?.size ?? 0);
    }
  }, 10);
  try {
    assert.deepEqual((await rows(sql, asking('both', 96 * 1024 * 1024))).rows, [['1500000', '1499999']]);
  } finally {
    clearInterval(watching);
  }
  assert.ok(most > 1024 * 1024, `${most} bytes were spilled`);
  assert.deepEqual(await readdir(temporary), []);
});

test('a mistake is one clear line', async () => {
  const wrong: [args: string[], code: number, said: RegExp][] = [
    [["SELECT CASE WHEN range = 150000 THEN error('no more') END AS x FROM range(200000)"], 1, /^SQL: Invalid Input Error: no more\n$/],
  ];
  for (const [args, code, said] of wrong) {
    const seen = await command(args);
    assert.match(seen.stderr, said);
    assert.deepEqual([seen.code, seen.stdout], [code, ''], args.join(' '));
  }
  await assert.rejects(
    rows('SELECT * FROM pricez'),
    (error: TidemarkError) => error.exitCode === 2 && describeError(error) === 'there is no table pricez → name one of: beat, typed, prices, comments',
  );
  const options: [options: Record<string, string | boolean>, said: RegExp][] = [
    [{ format: 'parquet' }, /^--format parquet: it is no text → give --out FILE$/],
    [{ format: 'xml' }, /^--format: "xml" is none → one of: table, csv, json, jsonl, parquet$/],
    [{ out: path.join(pipeline.archiveDir, 'x.csv') }, /lies in the archive, where only the archiver writes/],
    [{ out: '/nowhere/x.csv' }, /^--out: nothing can be written into \/nowhere \(ENOENT\) → name a file in a folder that is there/],
    [{ out: temporary }, /^--out: .* is a folder → name a file$/],
    [{ memory: 'lots' }, /^--memory: "lots" is not a size/],
    [{ memory: '1MB' }, /^--memory: 1MB is too little → give 64MB at least$/],
    [{ hot: true, cold: true }, /exclude each other/],
    [{ out: '/tmp/x.csv', interactive: true }, /the shell writes to the terminal/],
  ];
  for (const [given, said] of options)
    await assert.rejects(
      runCommand(['SELECT 1'], { config: pipeline.configFile, ...given }),
      (error: TidemarkError) => error.exitCode === 2 && said.test(describeError(error)),
      String(said),
    );
});

test('where nothing can be written, that is said, and nothing is left behind', async () => {
  const full = await open('/dev/full', 'w');
  const env = { ...cleanEnvironment(), TMPDIR: temporary };
  const child = spawn(process.execPath, [MAIN, 'query', '-c', pipeline.configFile, 'SELECT * FROM range(100000)'], { env, stdio: ['ignore', full.fd, 'pipe'] });
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  await full.close();
  assert.deepEqual([code, said], [1, 'standard output cannot be written (ENOSPC) → make room where it goes\n']);
  assert.deepEqual(await readdir(temporary), []);
});

async function untilRunning(): Promise<void> {
  await until('the query runs', async () => (await readdir(temporary)).some((name) => name.startsWith('tidemark-query-')));
}
const ENDLESS = 'SELECT count(*) FROM range(100000000) a, range(100000) b WHERE hash(a.range + b.range) = 5';

test('the shell takes statements over lines, commands and Ctrl-C', async () => {
  const { child, said, wrong } = start('-i', '--format', 'csv');
  child.stdin.write('.tables\n.schema prices\nSELECT count(*)\n  AS n\n FROM prices; SELECT 7 AS seven;\nnonsense;\n');
  await until('the first statements ran', async () => said().includes('seven\n7\n') && wrong().includes('nonsense'));
  assert.match(said(), /beat\ntyped\nprices\n/);
  assert.match(said(), /timestamp,TIMESTAMP\n/);
  assert.match(said(), /n\n600\n/);
  child.stdin.write(`${ENDLESS};\n`);
  await untilRunning();
  await until('it is interrupted', async () => {
    child.kill('SIGINT');
    return wrong().includes('interrupted');
  });
  child.stdin.write('SELECT 8 AS eight;\n.quit\n');
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
  assert.match(said(), /eight\n8\n/);
  const history = await readFile(path.join(pipeline.dir, 'state/tidemark/query_history'), 'utf8');
  assert.match(history, /^\.tables\n\.schema prices\nSELECT count\(\*\) AS n FROM prices;\n/);
  assert.equal((await stat(path.join(pipeline.dir, 'state/tidemark/query_history'))).mode & 0o777, 0o600);
});

test('Ctrl-C ends a query and takes its folder away', async () => {
  const { child, wrong } = start(ENDLESS);
  await untilRunning();
  child.kill('SIGINT');
  const [code] = (await once(child, 'close')) as [number | null];
  assert.deepEqual([code, wrong()], [1, 'interrupted\n']);
  assert.deepEqual(await readdir(temporary), []);
});

test('one side that is away is said, and the other alone answers', async () => {
  for (const service of services) await service.stop();
  const away = `${pipeline.archiveDir}.away`;
  await rename(pipeline.archiveDir, away);
  await assert.rejects(
    rows('SELECT count(*) FROM prices'),
    (error: TidemarkError) => /there is no folder/.test(error.message) && /--hot/.test(error.remedy ?? ''),
  );
  assert.ok(Number((await rows('SELECT count(*) FROM prices', asking('hot'))).rows[0]?.[0]) > 0);
  await rename(away, pipeline.archiveDir);
  await pipeline.sql.end();
  await pipeline.postgres.stop();
  await assert.rejects(
    rows('SELECT count(*) FROM prices'),
    (error: TidemarkError) => /does not answer/.test(error.message) && /--cold/.test(error.remedy ?? ''),
  );
  assert.deepEqual((await rows('SELECT count(*) FROM prices', asking('cold'))).rows, [['600']]);
});
