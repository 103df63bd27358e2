/** What the tests of capture share: engines with tables and a publication, a ledger that reads along, and questions to both. */
import assert from 'node:assert/strict';
import { formatPosition } from '../../../src/position/position.js';
import { createPublicationSql } from '../../../src/wal/preflight-publication.js';
import { connectClient } from '../../../src/wal/session.js';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import { Ledger, type Seen } from './ledger.js';

const SCHEMA = `CREATE TABLE item (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), v text, n numeric);
CREATE INDEX ON item (at); CREATE TABLE wide (id int PRIMARY KEY, at timestamptz DEFAULT now(), body text); CREATE TABLE secret (id int PRIMARY KEY)`;
const TABLES = '  item: { timestamp: at }\n  wide: { timestamp: at }';

export async function world(options: { major?: number; rows?: number } = {}): Promise<{ pipeline: Pipeline; ledger: Ledger }> {
  const pipeline = await Pipeline.start({
    schema: SCHEMA,
    tables: TABLES,
    yaml: 'protected: [secret]',
    ...(options.major === undefined ? {} : { major: options.major }),
  });
  await pipeline.query(`INSERT INTO item (v) SELECT 'copied ' || i FROM generate_series(1, ${options.rows ?? 1000}) i`);
  const ledger = await Ledger.open(pipeline.configFile);
  await pipeline.query(createPublicationSql(ledger.config));
  return { pipeline, ledger };
}

export type Queries = Pick<Pipeline, 'query'>;

/** The pipeline's own connection does not outlive a restart of the server. */
export async function reconnected(pipeline: Pipeline): Promise<Queries & AsyncDisposable> {
  const sql = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
  await sql.query('SET search_path = public');
  return { query: async <T>(text: string) => (await sql.query(text)).rows as T[], [Symbol.asyncDispose]: () => sql.end() };
}

export async function endOfWal(pipeline: Queries): Promise<string> {
  return (await pipeline.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn'))[0]?.lsn as string;
}

/** Writes a row and waits until it has come through. */
export async function caughtUp(pipeline: Queries, ledger: Ledger, timeoutMs = 30_000): Promise<void> {
  await until('the copy is whole', async () => ledger.copyEnd);
  const mark = `mark ${Math.random()}`;
  await pipeline.query(`INSERT INTO item (v) VALUES ('${mark}')`);
  await until(
    'the stream has everything',
    async () => {
      if (ledger.failure !== undefined) assert.fail(String(ledger.failure));
      return ledger.changes.at(-1)?.values[2] === mark || ledger.changes.some((change) => change.values[2] === mark);
    },
    timeoutMs,
  );
}

export async function slotAt(pipeline: Queries): Promise<string> {
  return (await pipeline.query<{ s: string }>("SELECT confirmed_flush_lsn::text AS s FROM pg_replication_slots WHERE slot_name = 'tidemark_test'"))[0]
    ?.s as string;
}

export function assertOrdered(changes: readonly Seen[]): void {
  const seen = new Set<string>();
  for (let i = 0; i < changes.length; i += 1) {
    const at = formatPosition((changes[i] as Seen).at);
    assert.ok(!seen.has(at), `position ${at} twice`);
    seen.add(at);
    const before = changes[i - 1];
    if (before)
      assert.ok(before.at.lsn < (changes[i] as Seen).at.lsn || before.at.k + 1 === (changes[i] as Seen).at.k, `${formatPosition(before.at)} then ${at}`);
  }
}

/** What the table would hold if exactly the copied rows and then the changes had been applied. */
export function replayed(ledger: Ledger): Map<string, string | null> {
  const rows = new Map<string, string | null>();
  for (const row of ledger.copied) if (row.table === 'item') rows.set(row.values[0] as string, row.values[2] ?? null);
  for (const change of ledger.changes) {
    if (change.table !== 'item') continue;
    if (change.op === 'truncate') rows.clear();
    else if (change.op === 'delete') rows.delete(change.values[0] as string);
    else rows.set(change.values[0] as string, change.values[2] ?? null);
  }
  return rows;
}

export async function assertEqualsTable(pipeline: Pipeline, ledger: Ledger): Promise<void> {
  const live = new Map((await pipeline.query<{ id: string; v: string | null }>('SELECT id, v FROM item')).map((row) => [row.id, row.v]));
  assert.deepEqual(replayed(ledger), live);
}
