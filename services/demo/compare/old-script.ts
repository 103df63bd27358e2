/**
 * What Tidemark replaces, as it was: for each table SELECT what is older than the cutoff, put it with the rows that today's file has, write that file again in its place, then
 * DELETE what is older than the cutoff. Kept as simple as it was and no worse: nothing waits, nothing is slowed down. A file is named after the day of the run.
 */
import { createWriteStream } from 'node:fs';
import { mkdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { DuckDBConnection } from '@duckdb/node-api';
import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { literal } from '../../../src/segment/sql.js';
import { quoteIdentifier, quoteLiteral } from '../../../src/wal/identifier.js';
import type { DemoTable } from '../rows.js';

/** What the script is told, in a file: nobody sees its address among the processes. */
export type OldScriptConfig = {
  readonly url: string;
  /** Where its files go: `<group>/<table>_<day of the run>.parquet`. */
  readonly dir: string;
  /** A run begins at every multiple of this. */
  readonly everyMs: number;
  readonly retentionMs: number;
  readonly tables: readonly DemoTable[];
};

/** One table in one run. `error`: why it was left as it was. */
export type OldRun = { readonly table: string; readonly selected: number; readonly deleted: number; readonly error?: string };

/** Every table once, by one cutoff. A table that fails is said and left; the others go on. */
export async function runOldScript(config: OldScriptConfig, client: pg.Client, duckdb: DuckDBConnection, said: (run: OldRun) => void): Promise<void> {
  const now = Date.now();
  const cutoff = new Date(now - config.retentionMs).toISOString().replace('Z', '').replace('T', ' ');
  for (const table of config.tables) {
    try {
      said(await archiveTable({ client, duckdb, dir: config.dir, cutoff, today: new Date(now).toISOString().slice(0, 10) }, table));
    } catch (error) {
      said({ table: table.name, selected: 0, deleted: 0, error: (error as Error).message.split('\n')[0] ?? '' });
    }
  }
}

type Run = { readonly client: pg.Client; readonly duckdb: DuckDBConnection; readonly dir: string; readonly cutoff: string; readonly today: string };

async function archiveTable({ client, duckdb, dir, cutoff, today }: Run, table: DemoTable): Promise<OldRun> {
  const old = `FROM public.${quoteIdentifier(table.name)} WHERE ${quoteIdentifier(table.timestamp)} < ${quoteLiteral(cutoff)}`;
  const taken = path.join(dir, `${table.name}.csv`); // what it holds in memory
  await pipeline(client.query(copyTo(`COPY (SELECT * ${old}) TO STDOUT (FORMAT csv)`)), createWriteStream(taken));
  const rows = `read_csv(${literal(taken)}, auto_detect = false, header = false, delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false, parallel = false, columns = {${table.columns.map(({ name, type }) => `${literal(name)}: ${literal(duckdbType(type))}`).join(', ')}})`;
  await duckdb.run(`CREATE OR REPLACE TEMP TABLE taken AS SELECT * FROM ${rows}`);
  await rm(taken);
  const selected = Number((await duckdb.runAndReadAll('SELECT count(*) FROM taken')).getRows()[0]?.[0]);
  if (selected === 0) return { table: table.name, selected, deleted: 0 };

  const file = path.join(dir, table.group, `${table.name}_${today}.parquet`);
  await mkdir(path.dirname(file), { recursive: true });
  if (await exists(file)) await duckdb.run(`CREATE OR REPLACE TEMP TABLE whole AS SELECT * FROM read_parquet(${literal(file)}) UNION ALL SELECT * FROM taken`);
  else await duckdb.run('CREATE OR REPLACE TEMP TABLE whole AS SELECT * FROM taken');
  await duckdb.run(`COPY whole TO ${literal(file)} (FORMAT parquet, USE_TMP_FILE false)`);

  const { rowCount } = await client.query(`DELETE ${old}`);
  return { table: table.name, selected, deleted: rowCount ?? 0 };
}

async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}

/** Columns of the reference tables. */
function duckdbType(type: string): string {
  const decimal = /^numeric(\(\d+,\d+\))$/.exec(type)?.[1];
  if (decimal !== undefined) return `DECIMAL${decimal}`;
  if (type.startsWith('timestamp')) return 'TIMESTAMP';
  return { bigint: 'BIGINT', integer: 'INTEGER', smallint: 'SMALLINT', 'double precision': 'DOUBLE', boolean: 'BOOLEAN' }[type] ?? 'VARCHAR';
}
