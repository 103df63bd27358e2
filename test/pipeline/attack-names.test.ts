/**
 * Names that are made to break out: of SQL, of patterns, of folders, of subjects, of YAML. A database full of them goes the whole way, from the configuration that `init` writes to the
 * views, into an archive whose own path is one; every row must be found under its table's name and nowhere else. On the oldest and the newest server.
 */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DuckDBInstance } from '@duckdb/node-api';
import { parse, stringify } from 'yaml';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { loadConfig } from '../../src/runtime/config.js';
import { connectStream } from '../../src/stream/topology.js';
import { quoteIdentifier, quoteLiteral, quoteTable } from '../../src/wal/identifier.js';
import { readRows } from './archive-view.js';
import { Pipeline } from './pipeline.js';

/** Tables that are archived; rows say which table they are of. */
const NAMES = [
  'quo"te', "apo'strophe; DROP TABLE plain; --", 'plain', 'a.>', '*', 'a[b]c', 'abc', 'x=y', 'n'.repeat(63), '🦖🦖', ' lead and trail ', '-rf', 'UPPER', 'upper', 'select',
  'a_b', 'a b', 'a_b_undated', 'line\nbreak', '%2e%2e/'.replace('/', '${HOME}'), '.hidden', '_tidemark', 'tidemark_files', 'null', 'constructor',
]; // biome-ignore format: a list of words
/** Tables that cannot be files. */
const REFUSED = ['../up', '..', '.', 'a/b', 'a\\b', '/etc/passwd'];
const COLUMNS = [
  'quo"te',
  'semi;--',
  '../up',
  'UPPER',
  'select',
  '🦖',
  'n'.repeat(63),
  ' lead',
  '-x',
  'c0',
  '_op',
  's_op',
  '$1',
  'constructor',
  "apo'strophe",
  'a\\b',
  'line\nbreak',
];
const SCHEMA = 'odd "schema"; --';
type Named = readonly [schema: string, table: string];
const EVERY: readonly Named[] = [...NAMES.map((name) => ['public', name] as const), [SCHEMA, '*'], ['main', 'plain']];
/** The servers take names alike: the older one gets those that SQL or a pattern could take wrongly. */
const TABLES: Readonly<Record<number, readonly Named[]>> = {
  15: EVERY.filter(([schema, table]) => schema !== 'public' || /["'*[]|^(plain|abc|UPPER|upper)$/.test(table)),
  18: EVERY,
};

const createTable = (schema: string, table: string): string =>
  `CREATE TABLE ${quoteTable(schema, table)} (id int PRIMARY KEY, at timestamptz NOT NULL, who text); CREATE INDEX ON ${quoteTable(schema, table)} (at)`;
const fill = (schema: string, table: string): string =>
  `INSERT INTO ${quoteTable(schema, table)} SELECT i, now() - interval '50 hours', ${quoteLiteral(`${schema}.${table}`)} FROM generate_series(1, 3) i`;
const odd = quoteTable('public', 'odd columns');
const DDL = [
  `CREATE SCHEMA ${quoteIdentifier(SCHEMA)}; CREATE SCHEMA main`,
  ...[...REFUSED, '__proto__'].map((name) => createTable('public', name)),
  `CREATE TABLE ${odd} (${COLUMNS.map((name) => `${quoteIdentifier(name)} text`).join()}, "the ""at""" timestamptz NOT NULL, PRIMARY KEY ("quo""te", "../up"))`,
].join(';');

async function filesBelow(dir: string): Promise<string[]> {
  return (await readdir(dir, { recursive: true, withFileTypes: true })).map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    const ALL = TABLES[major] as readonly Named[];
    let root = '';
    let pipeline: Pipeline;
    let archive = '';
    const umask = process.umask();

    const tidemark = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await pipeline.cli([args[0] as string, '-c', pipeline.configFile, ...args.slice(1)]);
      assert.equal(code, 0, stdout + stderr);
      return stdout;
    };

    before(async () => {
      root = await mkdtemp(path.join(tmpdir(), 'tidemark-names-'));
      await chmod(root, 0o755);
      archive = path.join(root, 'env=prod', "[a]* 'b' $1");
      pipeline = await Pipeline.start({
        major,
        schema: [DDL, ...ALL.map(([schema, table]) => createTable(schema, table))].join(';'),
        tables: '',
        archiveDir: archive,
      });
    });
    after(async () => {
      process.umask(umask);
      await pipeline?.[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    });

    test('init names every table once, and those that cannot be files with the reason', async () => {
      const written = path.join(root, 'init.yaml');
      const { code, stdout, stderr } = await pipeline.cli(['init', '--out', written], { DATABASE_URL: pipeline.databaseUrl });
      assert.equal(code, 0, stderr);
      const file = parse(await readFile(written, 'utf8')) as { tables: Record<string, { group?: string }> };
      const keys = ALL.map(([schema, table]) => (schema === 'public' && !table.includes('.') ? table : `${schema}.${table}`));
      assert.deepEqual(Object.keys(file.tables).sort(), [...keys, 'beat', 'odd columns'].sort());
      for (const name of REFUSED) assert.ok(stdout.includes(`leave    ${name.includes('.') ? `public.${name}` : name}: its name cannot be a file name`), name);
      assert.match(stdout, /leave {4}__proto__: JavaScript cannot hold its name/);
      const rest = {
        source: { url: pipeline.databaseUrl, name: 'test' },
        stream: { url: pipeline.nats.url },
        archive: { dir: archive, flush: { every: '500ms' } },
      };
      await writeFile(pipeline.configFile, stringify({ ...file, ...rest, prune: { enabled: true, schedule: '0 0 1 1 *' } }));
      await tidemark('doctor', '--fix');
    });

    test('copied, captured, pruned, sealed and verified: each row under the name of its table, nothing outside the archive', async () => {
      process.umask(0); // the widest there is
      for (const [schema, table] of ALL.slice(0, ALL.length / 2)) await pipeline.query(fill(schema, table));
      pipeline.service('archiver');
      pipeline.service('capture');
      await pipeline.archived();
      for (const [schema, table] of ALL.slice(ALL.length / 2)) await pipeline.query(fill(schema, table));
      await pipeline.query(`INSERT INTO ${odd} SELECT ${COLUMNS.map((name) => quoteLiteral(name)).join()}, now() - interval '50 hours'`);
      await pipeline.archived();
      process.umask(0o077); // the narrowest
      const pruned = await tidemark('prune', '--json');
      for (const [schema, table] of [...ALL, ['public', 'odd columns'] as const])
        assert.deepEqual(await pipeline.query(`SELECT FROM ${quoteTable(schema, table)}`), [], `${schema}.${table} ${pruned}`);
      await pipeline.archived();
      await tidemark('seal');
      await tidemark('verify', '--deep');

      const files = [...((await pipeline.state())?.files.values() ?? [])].filter((file: FileEntry) => file.kind === 'daily');
      assert.equal(new Set(files.map(({ file }) => file.toLowerCase())).size, files.length, 'no two tables share a file, on any file system');
      const found = new Map<string, number>();
      for (const file of files) {
        assert.ok(path.join(archive, file.file).startsWith(`${archive}${path.sep}`), file.file);
        for (const row of await readRows(pipeline, file)) {
          if (file.table !== 'odd columns') assert.equal(row['who'], `${file.schema}.${file.table}`);
          else for (const name of COLUMNS) assert.equal(row[name], name);
          found.set(`${file.schema}.${file.table}`, (found.get(`${file.schema}.${file.table}`) ?? 0) + 1);
        }
      }
      assert.deepEqual([...found].sort(), [...ALL.map(([schema, table]) => [`${schema}.${table}`, 3]), ['public.odd columns', 1]].sort() as [string, number][]);
      const outside = (await filesBelow(root)).filter((file) => !file.startsWith(`${archive}${path.sep}`));
      assert.deepEqual(outside.sort(), [path.dirname(archive), archive, path.join(root, 'init.yaml')].sort());
      assert.deepEqual(await readdir(pipeline.dir), ['tidemark.yaml']);
    });

    test('one view for each table, each with its own rows and no column more', async () => {
      const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
      const connection = await instance.connect();
      await connection.run(await tidemark('views'));
      const { rows } = {
        rows: (
          await connection.runAndReadAll(`SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND view_name <> 'tidemark_files'`)
        ).getRows(),
      };
      const seen: string[] = [];
      for (const [schema, view] of rows as string[][]) {
        const name = quoteTable(schema as string, view as string);
        if (view === 'beat' || view === 'odd columns') continue;
        const columns = (await connection.runAndReadAll(`SELECT * EXCLUDE (_text, _unresolved), count(*) OVER () FROM ${name}`)).getRows();
        assert.deepEqual(
          columns.map((row) => [row.length, Number(row[3])]),
          [
            [4, 3],
            [4, 3],
            [4, 3],
          ],
          name,
        );
        seen.push(String(columns[0]?.[2]));
      }
      assert.deepEqual(seen.sort(), ALL.map(([schema, table]) => `${schema}.${table}`).sort());
      connection.closeSync();
      instance.closeSync();
    });

    test('a query finds each row under the name of its table', async () => {
      const place = (schema: string, table: string): string => (schema === 'public' ? quoteIdentifier(table) : quoteTable(schema, table));
      // DuckDB does not tell names apart that differ in case only, and public is its main: these have a number there.
      const asked = ALL.filter(([schema, table]) => table !== 'upper' && schema !== 'main');
      const sql = asked
        .map(([schema, table]) => `SELECT count(*) || ' ' || min(who) || ' ' || max(who) AS found FROM ${place(schema, table)}`)
        .join(' UNION ALL ');
      const rows = JSON.parse(await tidemark('query', '--format', 'json', sql)) as { found: string }[];
      assert.deepEqual(rows.map(({ found }) => found).sort(), asked.map(([schema, table]) => `3 ${schema}.${table} ${schema}.${table}`).sort());
    });

    test('files are 0640, folders 0750, whatever the umask of who starts a service or a command', async () => {
      for (const file of await filesBelow(archive)) {
        const { mode, isFile } = await stat(file).then((found) => ({ mode: (found.mode & 0o7777).toString(8), isFile: found.isFile() }));
        assert.equal(mode, isFile ? '640' : '750', file);
      }
    });

    test('the stream has one subject, whatever the tables are called', async () => {
      const { connection, manager, name } = await connectStream(loadConfig(pipeline.configFile), 'test');
      const info = await manager.streams.info(name, { subjects_filter: '>' });
      assert.deepEqual(Object.keys(info.state.subjects ?? {}), ['tidemark.test.wal']);
      await connection.close();
    });
  });
}
