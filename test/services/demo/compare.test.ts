/** `demo --compare`: the second database has the same rows, and each way in which the old script loses or doubles rows is met, counted, and told apart by its cause. */
import assert from 'node:assert/strict';
import { mkdir, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import type pg from 'pg';
import { readTableView } from '../../../services/demo/archive-view.js';
import { Mirror } from '../../../services/demo/compare/mirror.js';
import { OldProcess } from '../../../services/demo/compare/old-process.js';
import { type OldRun, type OldScriptConfig, runOldScript } from '../../../services/demo/compare/old-script.js';
import { causesOf, judgeOld, type OldVerdict } from '../../../services/demo/compare/verdict.js';
import { type PostgresServer, startPostgres } from '../../../services/demo/engines/postgres.js';
import { allRows } from '../../../services/demo/hot-rows.js';
import { fingerprintOf, TableJournal } from '../../../services/demo/journal.js';
import { Load } from '../../../services/demo/load.js';
import { type DemoTable, readDemoTables } from '../../../services/demo/rows.js';
import { connectClient } from '../../../src/wal/session.js';
import { type TemporaryFolder, temporaryFolder } from '../../archive/folder.js';

const SCHEMA = `SET search_path = public; CREATE TABLE trades (id bigserial PRIMARY KEY, at timestamp NOT NULL, price double precision, amount numeric(20,8), done boolean, note text, log jsonb)`;

let postgres: PostgresServer;
let folder: TemporaryFolder;
let duckdb: DuckDBConnection;
let table: DemoTable;
const clients: pg.Client[] = [];
before(async () => {
  [postgres, folder] = [await startPostgres(), await temporaryFolder()];
  duckdb = await (await DuckDBInstance.create(':memory:', { threads: '1' })).connect();
});
after(async () => {
  for (const client of clients) await client.end();
  await Promise.all([postgres[Symbol.asyncDispose](), folder[Symbol.asyncDispose]()]);
});

async function database(): Promise<{ url: string; client: pg.Client }> {
  const url = await postgres.createDatabase();
  const client = await connectClient(url, { applicationName: 'test' });
  clients.push(client);
  await client.query(SCHEMA);
  table = (await readDemoTables(client, [{ table: 'trades', group: 'trades', timestamp: 'at' }]))[0] as DemoTable;
  return { url, client };
}

/** The old script on a database of its own, step by step. */
class Bench {
  readonly journal = new TableJournal(table);
  readonly client: pg.Client;
  readonly config: OldScriptConfig;
  constructor(client: pg.Client, url: string, dir: string) {
    this.client = client;
    this.config = { url, dir, everyMs: 100, retentionMs: 86_400_000, tables: [table] };
  }

  static async start(name: string): Promise<Bench> {
    const { url, client } = await database();
    const dir = path.join(folder.dir, name);
    await mkdir(dir);
    return new Bench(client, url, dir);
  }

  async change(text: string): Promise<void> {
    const { rows } = await this.client.query<(string | null)[]>({ text: `${text} RETURNING *`, rowMode: 'array' });
    this.journal.committed(rows);
  }

  old(from: number, to: number): Promise<void> {
    return this.change(
      `INSERT INTO trades SELECT i, now() - interval '30 hours', i / 3.0, i, i % 2 = 0, CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE E'a "b"\\n, c' END, '{"a": [1, 2.50]}' FROM generate_series(${from}, ${to}) i`,
    );
  }

  /** `meanwhile`: between the SELECT and the DELETE. */
  async run(meanwhile: () => Promise<void> = async () => undefined): Promise<OldRun[]> {
    const said: OldRun[] = [];
    const during = new Proxy(duckdb, {
      get: (target, name) => {
        if (name !== 'run') return (target[name as keyof DuckDBConnection] as () => unknown).bind(target);
        return async (text: string) => {
          if (text.startsWith('COPY')) await meanwhile();
          return await target.run(text);
        };
      },
    });
    await runOldScript(this.config, this.client, during, (run) => said.push(run));
    return said;
  }

  get file(): string {
    return path.join(this.config.dir, 'trades', `trades_${new Date().toISOString().slice(0, 10)}.parquet`);
  }

  async verdict(torn = false): Promise<OldVerdict> {
    const { journal } = this;
    const hot = new Map((await allRows(this.client, 'trades')).map((row) => [journal.keyOf(row), fingerprintOf(table.columns, row)]));
    const day = new Date().toISOString().slice(0, 10);
    const files = torn ? [] : [{ file: `trades/trades_${day}.parquet`, table: 'trades', kind: 'daily', day, bytes: 0, pendingCopy: null } as const];
    return judgeOld([{ journal, hot, view: await readTableView(this.config.dir, files, table), torn }]);
  }
}

test('left alone it loses nothing; every row is in the file of the wrong day', async () => {
  const bench = await Bench.start('calm');
  await bench.old(1, 100);
  await bench.change(`INSERT INTO trades (id, at) VALUES (1000, now())`);
  assert.deepEqual(await bench.run(), [{ table: 'trades', selected: 100, deleted: 100 }]);
  await bench.old(101, 130);
  await bench.run();
  assert.deepEqual(await bench.verdict(), { archived: 130, lost: 0, doubled: 0, wrongDay: 130, lostLate: 0, lostChanged: 0, lostTorn: {} });
});

test('what comes or changes between the SELECT and the DELETE is lost, each with its sentence', async () => {
  const bench = await Bench.start('late');
  await bench.old(1, 50);
  const said = await bench.run(async () => {
    await bench.old(51, 57);
    await bench.change('UPDATE trades SET price = -1 WHERE id <= 3');
  });
  assert.deepEqual(said, [{ table: 'trades', selected: 50, deleted: 57 }]);
  const verdict = await bench.verdict();
  assert.deepEqual([verdict.lost, verdict.lostLate, verdict.lostChanged, verdict.doubled], [10, 7, 3, 0]);
  assert.deepEqual(causesOf(verdict).map((sentence) => sentence.slice(0, 18)), ['7 lost: they came,', '3 lost: they chang', '50 in a file of th']); // biome-ignore format: one line
});

test('killed behind the file it doubles rows; killed in the file it loses all that was in it, and fails from then on', async () => {
  const bench = await Bench.start('killed');
  await bench.old(1, 40);
  const { client } = bench;
  const query = client.query;
  client.query = ((text: unknown, ...more: never[]) => {
    if (typeof text === 'string' && text.startsWith('DELETE')) throw new Error('killed');
    return (query as (...all: unknown[]) => unknown).call(client, text, ...more);
  }) as never;
  assert.equal((await bench.run())[0]?.error, 'killed');
  client.query = query;
  await bench.run();
  const twice = await bench.verdict();
  assert.deepEqual([twice.archived, twice.lost, twice.doubled], [80, 0, 40]);
  await truncate(bench.file, (await stat(bench.file)).size >> 1);
  await bench.old(41, 45);
  assert.match((await bench.run())[0]?.error ?? '', /parquet|Parquet/i);
  const torn = await bench.verdict(true);
  assert.deepEqual([torn.lost, torn.lostTorn], [40, { trades: 40 }]);
  assert.match(causesOf(torn)[0] ?? '', /^40 lost: the script was killed while it wrote the file of trades/);
});

test('the load writes the same rows to both databases', async () => {
  const [first, second] = [await database(), await database()];
  const [ours, theirs] = [new TableJournal(table), new TableJournal(table)];
  const mirror = new Mirror(second.client, [theirs]);
  const stop = new AbortController();
  const load = new Load({ client: first.client, journals: [ours], rate: 400, signal: stop.signal, backdate: () => true, mirror }, 7);
  const running = load.run();
  while (load.rows < 300 || load.updated === 0 || load.deleted === 0 || load.backdated === 0) await new Promise((resolve) => setImmediate(resolve));
  stop.abort();
  await running;
  await mirror.settled();
  assert.deepEqual(await rowsOf(second.client), await rowsOf(first.client));
  assert.deepEqual([...theirs.live].sort(), [...ours.live].sort());
  assert.ok(ours.deleted.size > 0);
});

const rowsOf = async (client: pg.Client): Promise<unknown[]> => (await client.query<{ t: string }>('SELECT t::text FROM trades t ORDER BY id')).rows;

test('as a process it is started again when it is killed, and has a last run when all is over', async () => {
  const bench = await Bench.start('process');
  await bench.old(1, 10);
  const config = path.join(bench.config.dir, 'config.json');
  await writeFile(config, JSON.stringify({ ...bench.config, everyMs: 3_600_000 }));
  const script = new OldProcess(config);
  script.kill();
  await script.finish();
  assert.deepEqual([script.kills, script.runs, script.troubles], [1, [{ table: 'trades', selected: 10, deleted: 10 }], []]);
  assert.deepEqual(await readdir(path.join(bench.config.dir, 'trades')), [path.basename(bench.file)]);
});
