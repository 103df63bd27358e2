/**
 * An archive of the reference tables for docs/reading.md, made by the services themselves and always the same: sealed days, a second part, an undated file, values that no typed column holds,
 * a column added later, and an open day with every kind of change. Owns the journal too: what each statement did, done once more in a schema that nothing prunes.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Pipeline, until } from '../pipeline/pipeline.js';

const SCHEMA = readFileSync(fileURLToPath(new URL('../../../infra/examples/follow_the_goat.sql', import.meta.url)), 'utf8');

/** The tables that get rows; three of a group, two of a group, and others alone. */
export const TABLES = ['prices', 'price_points', 'price_analysis', 'sol_stablecoin_trades', 'follow_the_goat_buyins', 'follow_the_goat_buyins_price_checks', 'whale_movements', 'cycle_tracker'] as const; // biome-ignore format: a list

const CONFIGURATION = `
  prices: { timestamp: timestamp, keepWhile: "source = 'manual'" }
  price_points: { timestamp: created_at, group: prices }
  price_analysis: { timestamp: created_at, group: prices }
  sol_stablecoin_trades: { timestamp: trade_timestamp, group: trades }
  follow_the_goat_buyins: { timestamp: followed_at, group: buyins }
  follow_the_goat_buyins_price_checks: { timestamp: checked_at, group: buyins }
  whale_movements: { timestamp: timestamp, deletes: keep }
  cycle_tracker: { timestamp: cycle_start_time, group: cycles }`;

export class ReferenceArchive implements AsyncDisposable {
  readonly pipeline: Pipeline;

  private constructor(pipeline: Pipeline) {
    this.pipeline = pipeline;
  }

  /** Folder that holds `archived_data`, `archive.sql` as `tidemark views` printed it, and `written/TABLE.csv`: the rows that must be there. */
  get dir(): string {
    return this.pipeline.dir;
  }

  static async make(major: number): Promise<ReferenceArchive> {
    const copies = TABLES.map((table) => `CREATE TABLE journal.${table} (LIKE public.${table} INCLUDING DEFAULTS);`);
    const pipeline = await Pipeline.start({ major, schema: `${SCHEMA}; CREATE SCHEMA journal; ${copies.join(' ')}`, tables: CONFIGURATION });
    const archive = new ReferenceArchive(pipeline);
    try {
      await archive.#fill();
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
    return archive;
  }

  async #fill(): Promise<void> {
    const { pipeline } = this;
    await pipeline.doctorFix();
    await this.#day('2026-01-12', 0, 150_000);
    await this.#day('2026-01-13', 200_000, 6_000);
    pipeline.service('archiver');
    pipeline.service('capture');
    await pipeline.archived(); // the copy
    await this.#change(`UPDATE prices SET price = price * 2 WHERE id % 1000 = 7; UPDATE prices SET "timestamp" = "timestamp" + interval '1 day' WHERE id = 11`);
    await this.#change('DELETE FROM prices WHERE id % 5000 = 13; DELETE FROM follow_the_goat_buyins_price_checks WHERE id % 100 = 1');
    await pipeline.archived();
    await this.#prune();

    await this.#change(`INSERT INTO prices VALUES (210001, '2026-01-12 23:59:58', 'SOL', 141.5, 'backfill', '2026-01-13 00:10:00')`);
    await this.#change(
      `INSERT INTO whale_movements (id, wallet_address, "timestamp", created_at) VALUES (900001, 'wallet-1', NULL, '2026-01-12'), (900002, 'wallet-2', 'infinity', '2026-01-12')`,
    );
    await pipeline.archived();
    await this.#prune();
    await pipeline.query('DELETE FROM whale_movements'); // `deletes: keep`: what others delete stays in the archive
    await pipeline.archived();
    await this.tidemark('seal', 'whale_movements');

    await this.#change('ALTER TABLE prices ADD COLUMN slot bigint');
    await this.#day('2026-01-14', 220_000, 6_000);
    await this.#change(`INSERT INTO prices VALUES (229001, '2026-01-14 12:00:00', 'SOL', 139.25, 'backfill', 'infinity', 311)`);
    await pipeline.archived();
    await this.#prune();
    await this.#openDay();
  }

  /** 15 January goes on: some of its rows are pruned and one is still in Postgres, so it is not sealed. */
  async #openDay(): Promise<void> {
    const { pipeline } = this;
    await this.#day('2026-01-15', 240_000, 6_000);
    await this.#change(`UPDATE prices SET source = 'manual' WHERE id = 240010; UPDATE prices SET price = 1 WHERE id > 240000 AND id % 100 = 3`);
    await this.#change('DELETE FROM prices WHERE id > 240000 AND id % 100 = 4');
    await this.#change('TRUNCATE cycle_tracker', `DELETE FROM cycle_tracker WHERE cycle_start_time >= '2026-01-15'`); // what was pruned is not in Postgres any more
    await pipeline.archived();
    await this.tidemark('prune', 'prices');
    await this.#change(`INSERT INTO prices VALUES (240001, '2026-01-15 23:00:00', 'SOL', 150, 'backfill', '2026-01-15 23:00:00', 312)`); // the key of a pruned row
    await this.#change(
      `UPDATE prices SET price = 99 WHERE id = 240010; UPDATE follow_the_goat_buyins SET our_status = 'sold' WHERE id > 240000 AND id % 2 = 0`,
    );
    await this.#change(`INSERT INTO cycle_tracker VALUES (999, 5, 1.25, '2026-01-15 20:00:00', NULL, 1, 140, 141, 139, 0.5, 1.5, 3, '2026-01-15 20:00:00')`);
    await pipeline.archived();
    await writeFile(path.join(this.dir, 'archive.sql'), await this.tidemark('views'));
    for (const table of TABLES) await this.#write(table);
  }

  /** Rows of a day: `prices` of them in prices, fewer in the others; ids from `first`. */
  async #day(day: string, first: number, prices: number): Promise<void> {
    const at = `'${day}'::timestamp + i * interval '1 day' / n`;
    const rows = (count: number): string => `FROM generate_series(1, ${count}) i, (SELECT ${count + 1} AS n) c`;
    const walk = `round((140 + 5 * sin(i / 500.0))::numeric, 4)`;
    // WIF is traded in the evening only.
    await this.#change(`INSERT INTO prices (id, "timestamp", token, price, source, created_at)
      SELECT ${first} + i, ${at}, CASE WHEN i > n * 0.9 AND i % 4 = 0 THEN 'WIF' ELSE (ARRAY['BTC', 'ETH', 'SOL'])[1 + i % 3] END, ${walk}, 'jupiter', ${at} ${rows(prices)}`);
    await this.#change(`INSERT INTO price_points SELECT ${first} + i, i, ${walk}, ${at}, 5 ${rows(1000)}`);
    await this.#change(`INSERT INTO price_analysis (id, coin_id, price_point_id, sequence_start_price, current_price, percent_increase, price_cycle, created_at, processed_at)
      SELECT ${first} + i, 5, i, 140, ${walk}, 0.25, i / 100, ${at}, ${at} ${rows(1000)}`);
    await this.#change(
      `INSERT INTO sol_stablecoin_trades SELECT ${first} + i, md5(i::text), md5('s' || i), ${at}, ${walk} * 2, 2, ${walk}, 'buy', NULL, ${at} ${rows(1000)}`,
    );
    await this.#change(`INSERT INTO follow_the_goat_buyins (id, wallet_address, original_trade_id, price, followed_at, swap_response)
      SELECT ${first} + i, md5(i::text), i, ${walk}, ${at}, jsonb_build_object('slot', i) ${rows(50)}`);
    await this.#change(`INSERT INTO follow_the_goat_buyins_price_checks (id, buyin_id, checked_at, current_price, gain_from_entry, drop_from_high, tolerance, created_at)
      SELECT ${first} + i, i / 10, ${at}, ${walk}, 0.0125, 0, 0.3, ${at} ${rows(500)}`);
    await this.#change(
      `INSERT INTO whale_movements (id, wallet_address, sol_change, "timestamp", created_at) SELECT ${first} + i, md5(i::text), i / 8.0, ${at}, ${at} ${rows(100)}`,
    );
    await this.#change(`INSERT INTO cycle_tracker SELECT ${first} + i, 5, 0.25, ${at}, NULL, i, 140, 141, 139, 0.5, 1.5, 3, ${at} ${rows(20)}`);
  }

  /** Statements, done where Tidemark archives and prunes, and once more in the journal. */
  async #change(statements: string, journalled = statements): Promise<void> {
    await this.pipeline.query(statements);
    await this.pipeline.query(`SET search_path = journal; ${journalled}; SET search_path = public`);
  }

  /** Prunes every old row; their days are sealed behind it. */
  async #prune(): Promise<void> {
    await this.tidemark('prune');
    const open = `SELECT ${TABLES.map((table) => `(SELECT count(*) FROM ${table} WHERE ${TIMESTAMP[table]} < 'infinity')`).join(' + ')} AS rows`;
    const [left] = await this.pipeline.query<{ rows: string }>(open);
    if (left?.rows !== '0') throw new Error(`${left?.rows} rows were not pruned`);
    await until('the days are sealed', async () =>
      [...((await this.pipeline.state())?.files.values() ?? [])].every((file) => file.table === 'beat' || file.kind !== 'segment' || file.day === null),
    );
  }

  /** What the command printed. Throws unless it ended well. */
  async tidemark(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.pipeline.cli([...args, '-c', this.pipeline.configFile]);
    if (code !== 0) throw new Error(`tidemark ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** The journal of a table, as CSV. */
  async #write(table: string): Promise<void> {
    const { rows, fields } = await this.pipeline.sql.query<Record<string, string | null>>(`SELECT * FROM journal.${table}`);
    const cell = (text: string | null | undefined): string => (text == null ? '' : `"${text.replaceAll('"', '""')}"`);
    const lines = rows.map((row) => fields.map(({ name }) => cell(row[name])).join(','));
    await writeFile(path.join(this.dir, `written-${table}.csv`), [fields.map(({ name }) => name).join(','), ...lines, ''].join('\n'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}

const TIMESTAMP: Readonly<Record<(typeof TABLES)[number], string>> = {
  prices: '"timestamp"', price_points: 'created_at', price_analysis: 'created_at', sol_stablecoin_trades: 'trade_timestamp', follow_the_goat_buyins: 'followed_at',
  follow_the_goat_buyins_price_checks: 'checked_at', whale_movements: '"timestamp"', cycle_tracker: 'cycle_start_time',
}; // biome-ignore format: a table
