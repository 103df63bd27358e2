/**
 * The writer of Parquet: one DuckDB in this process, one thread, bounded memory, nothing loaded from outside. It writes temporary files only; making them durable is
 * durable-file.ts, proving them is verify.ts. One statement at a time: callers wait for the last one.
 */
import { totalmem } from 'node:os';
import { type DuckDBConnection, DuckDBInstance, type DuckDBResult, type Json } from '@duckdb/node-api';
import type { Spool } from './builder.js';
import { segmentMetadata } from './metadata.js';
import { literal, rowGroupRows, segmentOptions, selectSpool } from './sql.js';

export type EncoderOptions = {
  /** Folder for what does not fit into memory. */
  readonly temporaryDir: string;
  /** Bytes; default 48 MB. A statement that needs more (rows of megabytes) gets more, up to `memoryCeiling`, while it runs. */
  readonly memoryLimit?: number;
  /** Bytes; default half of the machine's or container's memory. */
  readonly memoryCeiling?: number;
};

export type RunOptions = {
  /** Bytes that it will need, when that is known to be more than the limit. */
  readonly memory?: number;
  /** Called before it is run again with more memory: a COPY that ran out of it has removed its file. */
  readonly again?: (() => Promise<void>) | undefined;
};

const DEFAULT_MEMORY = 48 * 1024 * 1024;

/** Half of what this process may use. */
function halfOfMemory(): number {
  const constrained = process.constrainedMemory();
  return Math.min(totalmem(), constrained > 0 ? constrained : Number.POSITIVE_INFINITY) / 2;
}

/** What encoders on one instance have together: its limit is the usual one and what is asked for beyond it. */
class SharedMemory {
  readonly usual: number;
  readonly ceiling: number;
  #beyond = 0;
  #limit: number;
  #setting: Promise<void> = Promise.resolve();

  constructor(usual: number, ceiling: number) {
    this.usual = usual;
    this.ceiling = ceiling;
    this.#limit = usual;
  }

  get exhausted(): boolean {
    return this.usual + this.#beyond >= this.ceiling;
  }

  /** Adds to what is asked for beyond the usual, or takes it back. One at a time: the limit must not be that of an earlier call. */
  add(bytes: number, connection: DuckDBConnection): Promise<void> {
    this.#beyond += bytes;
    const done = this.#setting.then(() => this.#set(connection));
    this.#setting = done.catch(() => undefined);
    return done;
  }

  /** Has what was freed given back to the system: setting a limit does, the one that it has as well. */
  release(connection: DuckDBConnection): Promise<void> {
    const done = this.#setting.then(() => this.#set(connection, true));
    this.#setting = done.catch(() => undefined);
    return done;
  }

  async #set(connection: DuckDBConnection, always = false): Promise<void> {
    const limit = Math.min(this.usual + this.#beyond, this.ceiling);
    if (limit === this.#limit && !always) return;
    try {
      await connection.run(`SET memory_limit = ${literal(limitText(limit))}`);
      this.#limit = limit;
    } catch (error) {
      if (limit > this.#limit) throw error; // less than another one holds: it is lowered with the next statement
    }
  }
}

export class SegmentEncoder {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #memory: SharedMemory;
  readonly #isFirst: boolean;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, memory: SharedMemory, isFirst: boolean) {
    this.#isFirst = isFirst;
    this.#instance = instance;
    this.#connection = connection;
    this.#memory = memory;
  }

  static async open(options: EncoderOptions): Promise<SegmentEncoder> {
    const usual = options.memoryLimit ?? DEFAULT_MEMORY;
    const memory = new SharedMemory(usual, Math.max(usual, options.memoryCeiling ?? halfOfMemory()));
    const instance = await DuckDBInstance.create(':memory:', {
      threads: '1',
      memory_limit: limitText(usual),
      temp_directory: options.temporaryDir,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      enable_external_file_cache: 'false',
      // Its allocator keeps what is freed, beside the limit: 375 MB after eight files of 500,000 rows instead of 108.
      allocator_flush_threshold: '1MB',
      allocator_bulk_deallocation_flush_threshold: '1MB',
      preserve_insertion_order: 'true',
    });
    return await SegmentEncoder.#connect(instance, memory, true);
  }

  static async #connect(instance: DuckDBInstance, memory: SharedMemory, isFirst: boolean): Promise<SegmentEncoder> {
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'`);
    return new SegmentEncoder(instance, connection, memory, isFirst);
  }

  /** Another one that works at the same time, within the same memory. Ends with this one. */
  beside(): Promise<SegmentEncoder> {
    return SegmentEncoder.#connect(this.#instance, this.#memory, false);
  }

  /** Turns a spool into a Parquet file at `file` (which may exist, empty); `again`: as of RunOptions. Rows keep their order. Throws an Error that names table, row and column of what cannot be read, never its value. */
  async encode(spool: Spool, file: string, archive: string, again?: () => Promise<void>): Promise<void> {
    const options = segmentOptions(rowGroupRows(spool.rows, spool.bytes), segmentMetadata(spool.shape, archive));
    try {
      const memory = this.#memory.usual + encodingMemory(spool);
      await this.#execute(`COPY (${selectSpool(spool)}) TO ${literal(file)} (${options})`, { memory, again });
    } catch (error) {
      throw withoutValues(error as Error, spool);
    }
  }

  /** Runs a statement. Throws what DuckDB says, "Out of Memory" only at the ceiling. */
  async run(sql: string, options: RunOptions = {}): Promise<void> {
    await this.#execute(sql, options).catch(rethrowWithoutValue);
  }

  async #execute(sql: string, options: RunOptions): Promise<void> {
    await this.#withMemory(options, () => this.#connection.run(sql));
  }

  /**
   * Gives the memory of the statements before back to the system, for 20 to 50 ms: the C library keeps what large ones have freed, beside the limit. Measured with 1.5 million rows: 178 MB behind the
   * lives of a day, 68 when released; 144 and 31 behind its file.
   */
  async release(): Promise<void> {
    await this.#memory.release(this.#connection);
  }

  /** Runs a query; rows as objects with values as JSON has them (64-bit integers and decimals as text). */
  async query<T extends Record<string, Json>>(sql: string): Promise<T[]> {
    const reader = await this.#withMemory({}, () => this.#connection.runAndReadAll(sql)).catch(rethrowWithoutValue);
    return reader.getRowObjectsJson() as T[];
  }

  /** The rows of a query as they are asked for, a chunk at a time: for more of them than memory holds. */
  async stream(sql: string): Promise<DuckDBResult> {
    return await this.#connection.stream(sql).catch(rethrowWithoutValue);
  }

  /** Runs a statement with at least `memory` bytes, again with twice as much as long as it has too little: what a row group of wide rows takes cannot be told beforehand. */
  async #withMemory<T>({ memory = 0, again }: RunOptions, statement: () => Promise<T>): Promise<T> {
    const { usual, ceiling } = this.#memory;
    let asked = Math.min(Math.max(memory, usual), ceiling) - usual;
    try {
      await this.#memory.add(asked, this.#connection);
      for (;;) {
        try {
          return await statement();
        } catch (error) {
          if (!/^Out of Memory Error/.test((error as Error).message) || this.#memory.exhausted) throw error;
          const more = usual + asked;
          asked += more;
          await this.#memory.add(more, this.#connection);
          await again?.();
        }
      }
    } finally {
      await this.#memory.add(-asked, this.#connection);
    }
  }

  close(): void {
    this.#connection.closeSync();
    if (this.#isFirst) this.#instance.closeSync();
  }
}

function limitText(bytes: number): string {
  return `${Math.round(bytes / 1024)}KiB`;
}

/** Beyond the limit for usual rows: read_csv's buffer holds the longest line, a row group of wide rows is held several times (measured: 3 to 4). */
function encodingMemory(spool: Spool): number {
  const rows = Math.min(spool.rows, rowGroupRows(spool.rows, spool.bytes));
  const group = (spool.bytes / Math.max(1, spool.rows)) * rows;
  return Math.max(0, group - 16 * 1024 * 1024) * 4 + Math.max(0, spool.longestLine - 1024 * 1024) * 3;
}

/** Errors about a value quote it. */
function rethrowWithoutValue(error: Error): never {
  if (!/^(Invalid Input|Conversion|Cast|Constraint|Out of Range|CSV) Error/i.test(error.message)) throw error;
  throw new Error((error.message.split('\n')[0] ?? '').replace(/['"].*$/, '…'));
}

/** DuckDB quotes the line it cannot read: rows have no place in logs. */
function withoutValues(error: Error, spool: Spool): Error {
  if (!/^(Invalid Input|Conversion|CSV|Cast) Error/i.test(error.message)) return error;
  const { schema, table } = spool.shape.relation;
  const line = /on Line: (\d+)/.exec(error.message)?.[1];
  const column = spool.columns[Number(/column "?c(\d+)"?/.exec(error.message)?.[1] ?? -1)]?.name;
  const reason = /Invalid unicode/.test(error.message) ? 'is not UTF-8' : 'is not of its type';
  return new Error(`${schema}.${table}: ${column === undefined ? 'a value' : `column ${column}`} of row ${line ?? 'unknown'} of ${spool.rows} ${reason}`);
}
