/** The views of an archive, in DuckDB, made by the script that `tidemark views` prints. */
import assert from 'node:assert/strict';
import { DuckDBInstance } from '@duckdb/node-api';
import { tidemark } from '../cli/command.js';

export class Views implements AsyncDisposable {
  readonly #instance: DuckDBInstance;
  private constructor(instance: DuckDBInstance) {
    this.#instance = instance;
  }

  static async of(bench: { readonly config: { readonly file: string } }): Promise<Views> {
    const { code, stdout, stderr } = await tidemark(['views', '-c', bench.config.file]);
    assert.equal(code, 0, stderr);
    const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'; ${stdout}`);
    connection.closeSync();
    return new Views(instance);
  }

  /** Rows as their columns' texts, joined by `|`. */
  async rows(sql: string): Promise<string[]> {
    const connection = await this.#instance.connect();
    try {
      await connection.run(`SET TimeZone = 'UTC'`);
      const reader = await connection.runAndReadAll(sql);
      return reader.getRows().map((values) => values.map((value) => (value === null ? '∅' : String(value))).join('|'));
    } finally {
      connection.closeSync();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#instance.closeSync();
    await Promise.resolve();
  }
}
