/**
 * The writer of Parquet: one DuckDB in this process, one thread, bounded memory, nothing loaded from outside. It writes temporary files only; making them durable is
 * durable-file.ts, proving them is verify.ts.
 */
import { type DuckDBConnection, DuckDBInstance, type Json } from '@duckdb/node-api';
import type { Spool } from './builder.js';
import { segmentMetadata } from './metadata.js';
import { literal, rowGroupRows, segmentOptions, selectSpool } from './sql.js';

export type EncoderOptions = {
  /** Folder for what does not fit into memory. */
  readonly temporaryDir: string;
  /** Bytes; default 192 MB. */
  readonly memoryLimit?: number;
};

export class SegmentEncoder {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#instance = instance;
    this.#connection = connection;
  }

  static async open(options: EncoderOptions): Promise<SegmentEncoder> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: '1',
      memory_limit: `${Math.round((options.memoryLimit ?? 192 * 1024 * 1024) / 1024)}KB`,
      temp_directory: options.temporaryDir,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      enable_external_file_cache: 'false',
      preserve_insertion_order: 'true',
    });
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'`);
    return new SegmentEncoder(instance, connection);
  }

  /** Turns a spool into a Parquet file at `file` (which may exist, empty). Rows keep their order. */
  async encode(spool: Spool, file: string, archive: string): Promise<void> {
    const options = segmentOptions(rowGroupRows(spool.rows, spool.bytes), segmentMetadata(spool.shape, archive));
    await this.run(`COPY (${selectSpool(spool)}) TO ${literal(file)} (${options})`);
  }

  /** Runs a statement. */
  async run(sql: string): Promise<void> {
    await this.#connection.run(sql);
  }

  /** Runs a query; rows as objects with values as JSON has them (64-bit integers and decimals as text). */
  async query<T extends Record<string, Json>>(sql: string): Promise<T[]> {
    const reader = await this.#connection.runAndReadAll(sql);
    return reader.getRowObjectsJson() as T[];
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }
}
