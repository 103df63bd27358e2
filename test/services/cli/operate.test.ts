/** The commands of everyday work on a running pipeline: status, explain, prune, seal, verify, rebuild. Each says what is so, and ends with the code that scripts go by. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from 'nats';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import type { Finished } from './command.js';

const SCHEMA = `
CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), price float8); CREATE INDEX ON prices (at);
CREATE TABLE trades (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), state text); CREATE INDEX ON trades (at);
CREATE TABLE fills (trade int8 REFERENCES trades);
CREATE TABLE notes (a int, b text, at timestamptz NOT NULL, PRIMARY KEY (a, b)); CREATE INDEX ON notes (at);
CREATE TABLE loose (v int, at timestamptz NOT NULL); ALTER TABLE loose REPLICA IDENTITY FULL; CREATE INDEX ON loose (at); INSERT INTO loose VALUES (1, now());
INSERT INTO prices (at, price) SELECT now() - interval '3 days', i FROM generate_series(1, 500) i;
INSERT INTO prices (price) SELECT i FROM generate_series(1, 100) i;
INSERT INTO trades (at, state) VALUES (now() - interval '3 days', 'pending'), (now() - interval '3 days', 'done');
INSERT INTO fills VALUES (1);
INSERT INTO notes VALUES (1, 'x', now() - interval '3 days');
CREATE TABLE secrets (id int);`;
const TABLES = `  prices: { timestamp: at }
  trades: { timestamp: at, keepWhile: "state = 'pending'" }
  notes: { timestamp: at, prune: false }
  loose: { timestamp: at, prune: false }`;

let pipeline: Pipeline;
before(async () => {
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES, yaml: 'protected: [secrets]' });
  await pipeline.doctorFix();
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => {
  await pipeline[Symbol.asyncDispose]();
});

const cli = (...args: string[]): Promise<Finished> => pipeline.cli([...args, '-c', pipeline.configFile]);
const count = async (table: string): Promise<number> => Number((await pipeline.query<{ n: string }>(`SELECT count(*)::text AS n FROM ${table}`))[0]?.n);

test('status tells every stage, the slot and every table', async () => {
  const { code, stdout, stderr } = await cli('status', '--json');
  assert.equal(code, 0, stdout + stderr);
  const status = JSON.parse(stdout);
  assert.equal(status.source, 'test');
  assert.equal(status.slot.active, true);
  assert.equal(status.slot.walStatus, 'reserved');
  for (const stage of ['publishedBytes', 'archivedBytes', 'confirmedBytes']) assert.ok(status.lag[stage] >= 0 && status.lag[stage] < 1e8, stage);
  for (const stage of ['publishedSeconds', 'archivedSeconds']) assert.ok(status.lag[stage] >= 0 && status.lag[stage] < 60, stage);
  assert.equal(status.lag.publishedHidden, false);
  await pipeline.query("CREATE ROLE blind LOGIN PASSWORD 'p'");
  const blind = new URL(pipeline.databaseUrl);
  blind.username = 'blind';
  blind.password = 'p';
  const seen = (await pipeline.cli(['status', '-c', pipeline.configFile], { TIDEMARK_SOURCE_URL: blind.href })).stdout;
  assert.match(seen, /^stream .* behind \(no seconds without pg_read_all_stats: tidemark doctor\); /m);
  const tables = new Map<string, { archivedRows: number; prunable: boolean; why: string | null }>(
    status.tables.map((table: { table: string }) => [table.table, table]),
  );
  assert.equal(tables.get('prices')?.archivedRows, 600);
  assert.deepEqual([tables.get('prices')?.prunable, tables.get('prices')?.why], [true, null]);
  assert.deepEqual([tables.get('notes')?.prunable, tables.get('notes')?.why], [false, 'prune: false']);
  const text = await cli('status');
  assert.equal(text.code, 0);
  assert.match(text.stdout, /slot .*confirmed.*wal_status reserved/);
});

test('explain says why a row stays, and where it is archived', async () => {
  assert.match((await cli('explain', 'prices')).stdout, /its old rows are prunable/);
  assert.match((await cli('explain', 'notes')).stdout, /not prunable\n +prune: false/);
  assert.match((await cli('explain', 'prices', '1')).stdout, /may go with the next run[\s\S]*copy[\s\S]*\.parquet/);
  assert.match((await cli('explain', 'prices', '550')).stdout, /not older than/);
  assert.match((await cli('explain', 'trades', '1')).stdout, /keepWhile holds it/);
  assert.match((await cli('explain', 'notes', '1', 'x')).stdout, /in Postgres[\s\S]*\.parquet/);
  const half = await cli('explain', 'notes', '1');
  assert.equal(half.code, 2);
  assert.match(half.stderr, /2 columns \(a, b\)/);
  const unknown = await cli('explain', 'nothing');
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /name one of: beat, prices, trades, notes/);
  await pipeline.query(
    `CREATE TABLE keyless (n int, at timestamptz); CREATE TABLE timeless (id int PRIMARY KEY); CREATE SCHEMA more; CREATE TABLE more.new (id int PRIMARY KEY, happened date)`,
  );
  const why = async (table: string): Promise<string> => {
    const { code, stdout, stderr } = await cli('explain', table);
    assert.deepEqual([code, stdout], [2, '']);
    return stderr;
  };
  assert.match(
    await why('more.new'),
    /table more\.new is not archived: it is in the database and not in the configuration → add `more\.new: \{ timestamp: happened \}` to tables in \S+, then /,
  );
  assert.match(
    await why('keyless'),
    /table keyless is not archived: .*init leaves it out: it has no primary key and no replica identity.* → once that has changed, add `keyless: \{ timestamp: at \}`/,
  );
  assert.match(
    await why('timeless'),
    /init leaves it out: it has no date or timestamp column → once that has changed, add `timeless: \{ timestamp: COLUMN \}`/,
  );
  assert.match(await why('secrets'), /table secrets is protected: it is neither archived nor pruned → /);
  await pipeline.query('DROP TABLE keyless, timeless, more.new');
});

test('prune --dry-run deletes nothing and says what would go; prune deletes it', async () => {
  const dry = await cli('prune', '--dry-run', '--json');
  assert.equal(dry.code, 0, dry.stdout + dry.stderr);
  const would = JSON.parse(dry.stdout);
  assert.equal(would.dryRun, true);
  assert.equal(would.tables.find((table: { table: string }) => table.table === 'prices').deleted, 500);
  assert.equal(await count('prices'), 600);
  const one = await cli('prune', 'trades');
  assert.equal(one.code, 0, one.stdout + one.stderr);
  assert.equal(await count('trades'), 1);
  assert.equal(await count('prices'), 600, 'only the named table');
  const all = await cli('prune');
  assert.equal(all.code, 0, all.stdout + all.stderr);
  assert.match(all.stdout, /prices +500 +500/);
  assert.equal(await count('prices'), 100);
  assert.equal((await cli('prune', 'nothing')).code, 2);
});

const NOTHING = 'nothing to seal: no finished day with open segments is empty in Postgres\n';

test('seal works on an idle server, and says when there is nothing to seal', async () => {
  await pipeline.query(`INSERT INTO notes SELECT 2, i::text, now() - interval '9 days' FROM generate_series(1, 5) i`);
  await pipeline.archived();
  await pipeline.query('DELETE FROM notes WHERE a = 2');
  await pipeline.archived();
  await pipeline.query('CHECKPOINT'); // WAL that no change of ours follows
  const day = (await pipeline.query<{ day: string }>(`SELECT to_char((now() - interval '9 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day`))[0]?.day as string;
  const sealed = await cli('seal', 'notes', '--day', day);
  assert.equal(sealed.code, 0, sealed.stdout + sealed.stderr);
  assert.match(sealed.stdout, new RegExp(`sealed notes ${day}`));
  const nothing = await cli('seal', 'notes', '--day', day);
  assert.equal(nothing.code, 0);
  assert.equal(nothing.stdout, `${NOTHING}notes ${day} is sealed already; Postgres holds no row of it\n`);
  // A day that is not over is none, however empty it is; two hours from now is today, or tomorrow just before midnight.
  const [{ day: later } = { day: '' }] = await pipeline.query<{ day: string }>(
    `INSERT INTO notes VALUES (3, 'x', now() + interval '2 hours') RETURNING to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day`,
  );
  await pipeline.query('DELETE FROM notes WHERE a = 3');
  await pipeline.archived();
  assert.equal((await cli('seal', 'notes')).stdout, NOTHING);
  assert.equal((await cli('seal', 'notes', '--day', later)).stdout, `${NOTHING}notes ${later} is not over yet (days are those of UTC)\n`);
  assert.equal((await cli('seal', 'notes', '--day', '9998-01-01')).stdout, `${NOTHING}notes 9998-01-01 is not over yet (days are those of UTC)\n`);
  const [{ day: first } = { day: '' }] = await pipeline.query<{ day: string }>(
    `SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day FROM notes WHERE a = 1`,
  );
  for (const unknown of ['2001-01-01', 'undated'])
    assert.equal(
      (await cli('seal', 'notes', '--day', unknown)).stdout,
      `${NOTHING}notes ${unknown} is not in the archive: it has days from ${first} to ${later}\n`,
    );
  assert.equal((await cli('seal', '--day', 'yesterday')).code, 2);
});

test('seal says what became of a day that needs no daily file: sealed already, or none of its rows left; the latter is an event too', async () => {
  const days = await pipeline.query<{ three: string; eight: string }>(
    `SELECT to_char((now() - interval '3 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS three, to_char((now() - interval '8 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS eight`,
  );
  const { three, eight } = days[0] as { three: string; eight: string };
  const daily = async (): Promise<string[]> =>
    [...((await pipeline.state())?.files.values() ?? [])]
      .filter(({ kind, table, day }) => kind === 'daily' && table === 'prices' && day === three)
      .map(({ file }) => file);
  await cli('seal', 'prices');
  const sealed = await daily();
  assert.equal(sealed.length, 1);
  const back = await cli('restore', 'prices', '--day', three);
  assert.match(back.stdout, /prices: 500 rows restored/, back.stderr);
  const held = `prices ${three} is sealed already; 500 of its rows are restored in Postgres, until they are pruned again\n`;
  assert.equal((await cli('seal', 'prices', '--day', three)).stdout, `${NOTHING}${held}`);
  await pipeline.archived();
  assert.equal((await cli('seal', 'prices')).stdout, `${NOTHING}${held}`, 'found by itself');
  await pipeline.query(`DELETE FROM prices WHERE at < now() - interval '2 days'`);
  await pipeline.archived();
  const again = await cli('seal', 'prices', '--day', three);
  assert.equal(
    again.stdout,
    `prices ${three} was sealed already: its sealed files stay; 500 restored copies of its rows, which Postgres holds no more, were let go\n`,
  );
  assert.deepEqual(await daily(), sealed);

  const nats = await connect({ servers: `127.0.0.1:${pipeline.nats.port}` });
  const events: { table: string; day: string; file: string | null; rows: number }[] = [];
  nats.subscribe('tidemark.test.events.seal', { callback: (_, message) => void events.push(message.json()) });
  await nats.flush();
  await pipeline.query(`INSERT INTO notes VALUES (7, 'x', now() - interval '8 days')`);
  await pipeline.archived();
  await pipeline.query(`UPDATE notes SET at = now() WHERE a = 7`); // the day's only row is one of today
  await pipeline.archived();
  assert.equal((await cli('seal', 'notes', '--day', eight)).stdout, `sealed notes ${eight}: no daily file, for none of its rows was left\n`);
  const [event] = await until('the event', async () => (events.length > 0 ? events : undefined));
  assert.deepEqual([event?.table, event?.day, event?.file, event?.rows], ['public.notes', eight, null, 0]);
  await nats.close();
});

test('verify and verify --deep find everything well, rebuild --check finds the same', async () => {
  const plain = await cli('verify');
  assert.equal(plain.code, 0, plain.stdout + plain.stderr);
  const deep = await cli('verify', '--deep', '--json');
  assert.equal(deep.code, 0, deep.stdout + deep.stderr);
  const result = JSON.parse(deep.stdout);
  assert.equal(result.deep.stream.equal, true);
  const hot = new Map(result.deep.postgres.map((table: { table: string; equal: number }) => [table.table, table.equal]));
  assert.deepEqual([hot.get('prices'), hot.get('trades'), hot.get('notes')], [100, 0, 2]);
  const { notes } = result.deep.postgres.find(({ table }: { table: string }) => table === 'trades');
  assert.deepEqual(
    notes,
    ['1 referred to by fills.fills_trade_fkey: not compared'],
    'what nobody would delete is not compared, and says nothing against the archive',
  );
  // A table that nothing can be found again in, rows without a day, and a column that came with a default.
  await pipeline.query(`INSERT INTO notes VALUES (8, 'y', 'infinity'), (9, 'z', '-infinity'), (9, 'bc', '0044-03-15 12:00 BC')`);
  await pipeline.query('ALTER TABLE prices ADD COLUMN extra int NOT NULL DEFAULT 1');
  await pipeline.query('ALTER TABLE loose ADD COLUMN extra int NOT NULL DEFAULT 1');
  await pipeline.archived();
  const widened = await cli('verify', '--deep');
  assert.equal(widened.code, 0, widened.stdout + widened.stderr);
  const line = (table: string): string | undefined => new RegExp(`^.{8}  ${table}: .*$`, 'm').exec(widened.stdout)?.[0];
  assert.equal(
    line('prices'),
    'postgres  prices: 0 rows of Postgres equal in the archive; 100 archived before a column was added or renamed, equal in the others → tidemark repair prices copies its rows again; a prune does so with those that it meets',
  );
  assert.equal(
    line('notes'),
    'postgres  notes: 2 rows of Postgres equal in the archive; 3 whose timestamp has no day (NULL, infinite, before Christ): not compared',
  );
  assert.equal(
    line('loose'),
    'skipped   loose: not compared with Postgres; it has no primary key and no replica identity index (a deferrable one does not count: two rows may have its key at once)',
  );
  const named = await cli('explain', 'loose', '1');
  assert.equal(named.code, 2);
  assert.match(named.stderr, /^loose has no primary key: no row of it can be named → leave KEY out; /);
  const into = path.join(pipeline.dir, 'again');
  const rebuilt = await cli('rebuild', '--into', into, '--check');
  assert.equal(rebuilt.code, 0, rebuilt.stdout + rebuilt.stderr);
  assert.match(rebuilt.stdout, /^equal/m);
  assert.equal((await cli('rebuild', '--into', into)).code, 2, 'not into a folder that is not empty');
});

test('verify --deep finds a row that the archive does not hold as Postgres does', async () => {
  // A change that the stream does not carry.
  const rewrite = (price: string): Promise<unknown> => pipeline.query(`ALTER TABLE prices ALTER price TYPE float8 USING ${price}`);
  await rewrite('CASE id WHEN 501 THEN -1 ELSE price END');
  await pipeline.archived();
  const { code, stdout } = await cli('verify', '--deep');
  assert.equal(code, 4, stdout);
  assert.match(stdout, /DIFFERS +prices/);
  await rewrite('CASE id WHEN 501 THEN 1 ELSE price END');
  await pipeline.archived();
});

test('verify names a damaged file and ends with 4', async () => {
  const live = [...((await pipeline.state())?.files.values() ?? [])].find(({ kind, table }) => kind === 'segment' && table === 'prices')?.file as string;
  const file = path.join(pipeline.archiveDir, live);
  const bytes = await readFile(file);
  bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
  await writeFile(file, bytes);
  const { code, stdout } = await cli('verify');
  assert.equal(code, 4);
  assert.match(stdout, new RegExp(`DAMAGED +${live.replaceAll('.', '\\.')}.*SHA-256`));
});

test('status forecasts the end of a slot that is bounded', async () => {
  const setting = async (text: string): Promise<void> => {
    await pipeline.query(`ALTER SYSTEM SET max_slot_wal_keep_size = '${text}'`);
    await pipeline.query('SELECT pg_reload_conf()::text AS done');
  };
  await setting('100MB');
  await until('the forecast is there', async () => /is lost after .* more WAL; at the average rate of writing, in \d+/.test((await cli('status')).stdout));
  await setting('-1');
  await until('no bound again', async () => /no bound/.test((await cli('status')).stdout));
});

test('status without NATS names it and ends with 1', async () => {
  await pipeline.nats.stop();
  const { code, stdout } = await cli('status');
  assert.equal(code, 1);
  assert.match(stdout, /NATS at .* does not answer/);
  await pipeline.nats.start();
  await until('status is well again', async () => (await cli('status')).code === 0);
});
