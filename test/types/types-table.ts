/** The table with a column of every type, on a running server; its rows are days old. */
import type { Pipeline } from '../pipeline/pipeline.js';
import { EDGE_ROWS, TYPE_DDL, TYPES, type TypeCase } from './catalog.js';

/** What capture and pruner set: texts are compared as they would print them. */
const SETTINGS = `SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'`;

export class TypesTable {
  readonly cases: readonly TypeCase[];
  readonly #pipeline: Pipeline;

  private constructor(pipeline: Pipeline, cases: readonly TypeCase[]) {
    this.#pipeline = pipeline;
    this.cases = cases;
  }

  /** Makes the table, its publication and a row for each edge value. */
  static async create(pipeline: Pipeline): Promise<TypesTable> {
    const available = new Set((await pipeline.query<{ name: string }>('SELECT name FROM pg_catalog.pg_available_extensions')).map(({ name }) => name));
    const cases = TYPES.filter(({ extension }) => extension === undefined || available.has(extension));
    const extensions = [...new Set(cases.flatMap(({ extension }) => extension ?? []))].map((extension) => `CREATE EXTENSION ${extension};`);
    await pipeline.query(`${SETTINGS}; ${extensions.join(' ')} ${TYPE_DDL}`);
    await pipeline.query(
      `CREATE TABLE typed (id bigint PRIMARY KEY, at timestamptz NOT NULL, ${cases.map(({ column, type }) => `${column} ${type}`).join(', ')})`,
    );
    await pipeline.query(`ALTER TABLE typed ALTER c_text SET STORAGE EXTERNAL; CREATE PUBLICATION tidemark_test FOR TABLE beat, typed`);
    const table = new TypesTable(pipeline, cases);
    await table.insertEdges(1);
    return table;
  }

  /** One row for each edge value, and one of NULLs; ids from `first`. */
  async insertEdges(first: number): Promise<void> {
    for (let row = 0; row <= EDGE_ROWS; row += 1) {
      const values = this.cases.map(({ values }) => values[row] ?? 'NULL');
      await this.#pipeline.query(`INSERT INTO typed SELECT ${first + row}, ${AT}, ${values.join(', ')}`);
    }
  }

  /** Rows of random values; a tenth of the values are NULL. Ids from 100. */
  async insertRandom(rows: number): Promise<void> {
    const values = this.cases.map(({ random, type }) => `CASE WHEN random() < 0.9 THEN (${random})::${type} END`);
    await this.#pipeline.query(`INSERT INTO typed SELECT 99 + i, ${AT}, ${values.join(', ')} FROM generate_series(1, ${rows}) i`);
  }

  /** Updates every row: what is stored out of line is not sent again. */
  async updateAll(): Promise<void> {
    await this.#pipeline.query('UPDATE typed SET c_int4 = 1 - coalesce(c_int4, 0) % 1000');
  }

  /** The text of every value, by id and column. */
  async texts(): Promise<Map<string, Map<string, string | null>>> {
    const columns = ['id', 'at', ...this.cases.map(({ column }) => column)];
    const rows = await this.#pipeline.query<Record<string, string | null>>(`SELECT ${columns.join(', ')} FROM typed`);
    return new Map(rows.map((row) => [row['id'] as string, new Map(Object.entries(row))]));
  }
}

const AT = `date_trunc('day', now()) - interval '47 hours'`;
