/**
 * The DuckDB of one statement: in memory, bounded, spilling into a folder of its own. It is filled first and locked then: from that on it reads the files that it was given and nothing else, takes no setting and
 * reaches no network. Must never run a person's SQL before it is locked.
 */
import { type DuckDBConnection, DuckDBInstance, type DuckDBResult, type Json } from '@duckdb/node-api';
import { exactPath, identifier, literal } from '../segment/sql.js';
import { parquetType } from './parquet-types.js';
import { OWN_SCHEMA } from './table.js';

export type EngineOptions = {
  /** Bytes. */
  readonly memory: number;
  /** Folder for what does not fit into memory. Absent: it may not spill. */
  readonly spill?: string;
  /** What is set before everything else. */
  readonly settings?: readonly string[];
};

const RESULT = `${OWN_SCHEMA}.result`;

export class Engine implements Disposable {
  readonly #instance: DuckDBInstance;
  readonly connection: DuckDBConnection;
  readonly #signal: AbortSignal;
  readonly #interrupt: () => void;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, signal: AbortSignal) {
    this.#instance = instance;
    this.connection = connection;
    this.#signal = signal;
    this.#interrupt = () => connection.interrupt();
    signal.addEventListener('abort', this.#interrupt);
  }

  /** `signal`: ends what is running. */
  static async open({ memory, spill, settings = [] }: EngineOptions, signal: AbortSignal): Promise<Engine> {
    signal.throwIfAborted();
    const instance = await DuckDBInstance.create(':memory:', {
      memory_limit: `${Math.round(memory / 1024)}KiB`,
      temp_directory: spill ?? '',
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      allow_community_extensions: 'false',
      allow_unsigned_extensions: 'false',
      allow_persistent_secrets: 'false',
      enable_external_file_cache: 'false',
    });
    const engine = new Engine(instance, await instance.connect(), signal);
    await engine.run([`SET TimeZone = 'UTC'`, ...settings, `CREATE SCHEMA ${identifier(OWN_SCHEMA)}`].join('; '));
    return engine;
  }

  /** Runs statements of our own. */
  async run(sql: string): Promise<void> {
    this.#signal.throwIfAborted();
    await this.connection.run(sql);
    this.#signal.throwIfAborted();
  }

  /** Rows of a query of our own as objects; 64-bit integers as text. */
  async query<T extends Record<string, Json>>(sql: string): Promise<T[]> {
    this.#signal.throwIfAborted();
    const reader = await this.connection.runAndReadAll(sql);
    this.#signal.throwIfAborted();
    return reader.getRowObjectsJson() as T[];
  }

  /** From here on these files may be read (and, by us, one written), and nothing else; no setting changes any more. */
  async lock(files: readonly string[]): Promise<void> {
    // By the pattern that stands for it too: that is what a reader is given, and asked for.
    const paths = files.flatMap((file) => [...new Set([file, exactPath(file)])]);
    if (paths.length > 0) await this.run(`SET allowed_paths = [${paths.map(literal).join(', ')}]`);
    await this.run('SET enable_external_access = false; SET lock_configuration = true');
  }

  /**
   * Runs a checked SELECT to its end and keeps the result aside, on disk when it is large: DuckDB's streams end without a word at an error, so nothing is handed out before all of it is
   * there. Returns its number of rows.
   */
  async keep(select: string, columns: number): Promise<number> {
    const list = Array.from({ length: columns }, (_, i) => `#${i + 1} AS c${i}`).join(', ');
    await this.run(`CREATE TABLE ${RESULT} AS SELECT ${list} FROM (${select}\n)`);
    const [counted] = await this.query<{ n: string }>(`SELECT count(*)::VARCHAR AS n FROM ${RESULT}`);
    return Number(counted?.n ?? 0);
  }

  /** The same of a checked EXPLAIN: its text, in one column. */
  async explain(statement: string): Promise<number> {
    const reader = await this.connection.runAndReadAll(statement);
    this.#signal.throwIfAborted();
    const texts = reader.getRows().map((row) => String(row.at(-1)));
    await this.run(`CREATE TABLE ${RESULT} AS SELECT unnest([${texts.map(literal).join(', ')}]::VARCHAR[]) AS c0`);
    return texts.length;
  }

  /** Writes the rows of a checked SELECT into a file that was named when this was locked. Returns their number. Throws for a whole number of more than 38 digits, which has no type there. */
  async writeParquet(select: string, file: string): Promise<number> {
    this.#signal.throwIfAborted();
    const reader = await this.connection.runAndReadAll(
      `COPY (${await this.#exactInParquet(select)}\n) TO ${literal(file)} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)`,
    );
    this.#signal.throwIfAborted();
    return Number(reader.getRows()[0]?.[0] ?? 0);
  }

  /** The same rows in types that Parquet can hold. */
  async #exactInParquet(select: string): Promise<string> {
    const prepared = await this.connection.prepare(select);
    const types = Array.from({ length: prepared.columnCount }, (_, i) => parquetType(prepared.columnType(i)));
    if (types.every((type) => type === undefined)) return select;
    const list = types.map((type, i) => `${type === undefined ? `#${i + 1}` : `CAST(#${i + 1} AS ${type})`} AS ${identifier(prepared.columnName(i))}`);
    return `SELECT ${list.join(', ')} FROM (${select}\n)`;
  }

  /** Rows that `keep` has kept, as what `each` (SQL of a column) makes of them, a text or null. `limit`: at most so many. */
  async *kept(columns: number, each: (column: string) => string, limit?: number): AsyncGenerator<(string | null)[][]> {
    // Behind a point: the binding takes a byte order mark at the beginning of a text for none of it.
    const list = Array.from({ length: columns }, (_, i) => `'.' || (${each(`c${i}`)})`).join(', ');
    const result: DuckDBResult = await this.connection.stream(`SELECT ${list} FROM ${RESULT}${limit === undefined ? '' : ` LIMIT ${limit}`}`);
    for (;;) {
      const chunk = await result.fetchChunk();
      this.#signal.throwIfAborted();
      if (chunk === null || chunk.rowCount === 0) return;
      yield (chunk.getRows() as (string | null)[][]).map((row) => row.map((text) => text?.slice(1) ?? null));
    }
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#interrupt);
    this.connection.closeSync();
    this.#instance.closeSync();
  }
}
