/** Rows of a reference table, made once and kept beside it: making them takes longer than what is measured. */
import type pg from 'pg';
import { readDemoTables, rowsSql } from '../../services/demo/rows.js';
import { Pipeline, type PipelineOptions } from '../pipeline/pipeline.js';
import { SCHEMA } from './reference.js';

export type MadeOf = {
  readonly table: string;
  readonly timestamp: string;
  readonly rows: number /** SQL of an interval: how old they are at most. */;
  readonly age: string;
};

export const TRADES = { table: 'sol_stablecoin_trades', timestamp: 'trade_timestamp' } as const;

/** A pipeline with the one table archived, and `made` with the rows. No service runs. */
export class MadeRows implements AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly of: MadeOf;
  /** The table's columns without its id, quoted. */
  readonly names: string;

  private constructor(pipeline: Pipeline, of: MadeOf, names: string) {
    this.pipeline = pipeline;
    this.of = of;
    this.names = names;
  }

  static async start(of: MadeOf, options: Partial<PipelineOptions> = {}): Promise<MadeRows> {
    const { table, timestamp, rows, age } = of;
    const pipeline = await Pipeline.start({
      schema: `${SCHEMA}; CREATE PUBLICATION tidemark_test FOR TABLE beat, ${table}`,
      tables: `  ${table}: { timestamp: ${timestamp} }`,
      flushEvery: '5s',
      postgres: { max_wal_size: '8GB', shared_buffers: '512MB' },
      ...options,
    });
    try {
      const [demo] = await readDemoTables(pipeline.sql as pg.Client, [{ table, group: table, timestamp }]);
      if (demo === undefined) throw new Error(`there is no table ${table}`);
      const columns = demo.columns.filter(({ name }) => name !== 'id');
      const names = columns.map(({ name }) => `"${name}"`).join(', ');
      const select = rowsSql(columns, 1, rows, `(now() AT TIME ZONE 'UTC') - random() * interval '${age}'`);
      await pipeline.query(`CREATE UNLOGGED TABLE made AS SELECT ${names}, row_number() OVER () AS n FROM (${select}) s (${names}); CREATE INDEX ON made (n)`);
      return new MadeRows(pipeline, of, names);
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Two days older than now, one behind the other: to be pruned, in an order that has to do with the one they are inserted in. */
  async age(): Promise<void> {
    const at = `(now() AT TIME ZONE 'UTC') - interval '48 hours' - n * interval '10 milliseconds'`;
    await this.pipeline.query(`UPDATE made SET ${this.of.timestamp} = ${at}`);
    await this.pipeline.query('VACUUM ANALYZE made');
  }

  /** INSERT of the rows with these numbers (or SQL of them) into `table`. */
  insert(from: number | string, to: number | string, table = this.of.table): string {
    return `INSERT INTO ${table} (${this.names}) SELECT ${this.names} FROM made WHERE n BETWEEN ${from} AND ${to}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}
