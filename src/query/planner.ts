/**
 * A DuckDB that holds empty tables and runs nothing: it says whether a statement is one that may run, and what it would read. Locked before it sees the statement, with no file at all to read, so that a
 * statement that names one fails here.
 */
import { StatementType } from '@duckdb/node-api';
import { configError, TidemarkError } from '../runtime/errors.js';
import { identifier } from '../segment/sql.js';
import { Engine } from './engine.js';
import { calledFunctions, type Reading, readings, type Scanned } from './reading.js';
import { explained } from './statements.js';
import { OWN_SCHEMA, placeSql, type QueriedTable, type Shape } from './table.js';

const MEMORY = 128 * 1024 * 1024;

/** Statistics of empty tables would make every plan empty, and a table read again by row number would hide the range of the first reading. */
const SETTINGS = [`SET disabled_optimizers = 'statistics_propagation,late_materialization'`, 'SET threads = 1'];

export type Plan = {
  /** Names of the result's columns. */
  readonly columns: readonly string[];
  /** It is an EXPLAIN: its result is text. */
  readonly explains: boolean;
  /** By table; one that is not read has no entry. */
  readonly readings: ReadonlyMap<QueriedTable, Reading>;
};

const ONLY_SELECT =
  'one SELECT (or WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN) is what a query can be; nothing can be written, attached, loaded or set';

/**
 * Table functions that only bring rows. Others are settings in the form of a SELECT that no lock of DuckDB's holds back (`enable_logging` writes files wherever it is told to, `enable_profiling` to
 * standard output), or run a statement that no plan shows.
 */
const HARMLESS =
  /^(range|generate_series|repeat|repeat_row|unnest|json_each|json_tree|test_all_types|test_vector_types|icu_calendar_names|pg_timezone_names|sql_auto_complete|duckdb_\w+|pragma_\w+)$/;
const NOTHING_ELSE = 'a query reads the listed tables and nothing else: no other file, no network, no setting';

export class Planner implements Disposable {
  readonly #engine: Engine;

  private constructor(engine: Engine) {
    this.#engine = engine;
  }

  static async open(signal: AbortSignal): Promise<Planner> {
    return new Planner(await Engine.open({ memory: MEMORY, settings: SETTINGS }, signal));
  }

  /** Throws what is wrong with the text as SQL, before anything is asked of anyone: it is only parsed. */
  async checkSyntax(sql: string): Promise<void> {
    const { count } = await this.#engine.connection.extractStatements(explained(sql) ?? sql).catch((error: Error) => {
      throw sqlError(error, []);
    });
    if (count !== 1) throw configError(`this is ${count} statements in one`, ONLY_SELECT);
  }

  /** Plans a statement over these tables, once. Throws `config` for what is wrong with it, in one line. */
  async plan(sql: string, tables: ReadonlyMap<QueriedTable, Shape>, names: readonly string[]): Promise<Plan> {
    const engine = this.#engine;
    const scanned = [...tables].map(([table, shape], i) => new ScannedTable(table, shape, i));
    for (const one of scanned) await engine.run(one.createSql());
    await engine.lock([]);
    const inner = explained(sql);
    const columns = await check(engine, inner ?? sql, names);
    if (inner !== undefined) await check(engine, sql, names, StatementType.EXPLAIN);
    const rows = await engine.connection.runAndReadAll(`EXPLAIN (FORMAT json) ${inner ?? sql}`).catch((error: Error) => {
      throw sqlError(error, names);
    });
    const plan = String(rows.getRows().at(-1)?.[1]);
    const refused = calledFunctions(plan).find((name) => !HARMLESS.test(name));
    if (refused !== undefined) throw configError(`${refused} is none of the functions that a query may read from`, NOTHING_ELSE);
    const found = readings(plan, sql, scanned);
    const read = scanned.flatMap((one) => {
      const reading = found.get(one.planName);
      return reading === undefined ? [] : [[one.table, one.inWords(reading)] as const];
    });
    return { columns, explains: inner !== undefined, readings: new Map(read) };
  }

  [Symbol.dispose](): void {
    this.#engine[Symbol.dispose]();
  }
}

/**
 * A table as a plan shows it: with names of our own, since a plan quotes some of those that people give (`types`, `a b`), and what it says of a table or column under another name
 * would be taken for another one's. Under the table's name there is a view of it.
 */
class ScannedTable implements Scanned {
  readonly table: QueriedTable;
  readonly planName: string;
  readonly columns: readonly string[];
  readonly timestamp: string;
  readonly #shape: Shape;
  readonly #name: string;

  constructor(table: QueriedTable, shape: Shape, i: number) {
    this.table = table;
    this.#shape = shape;
    this.#name = `${OWN_SCHEMA}.scan_${i}`;
    this.planName = `memory.${this.#name}`;
    this.columns = shape.columns.map((_, c) => `c${c}`);
    this.timestamp = `c${shape.columns.findIndex((name) => name.toLowerCase() === table.timestamp.toLowerCase())}`;
  }

  createSql(): string {
    const { columns } = this.#shape;
    const own = columns.map((name, c) => `${identifier(name)} AS c${c}`).join(', ');
    const given = columns.map((name, c) => `c${c} AS ${identifier(name)}`).join(', ');
    return `CREATE TABLE ${this.#name} AS SELECT ${own} FROM (${this.#shape.emptySql()}); CREATE SCHEMA IF NOT EXISTS ${identifier(this.table.place.schema)};
      CREATE VIEW ${placeSql(this.table)} AS SELECT ${given} FROM ${this.#name}`;
  }

  /** A reading of it with the columns as they are called. */
  inWords({ columns, range }: Reading): Reading {
    return { columns: new Set(this.#shape.columns.filter((_, c) => columns.has(`c${c}`))), range };
  }
}

async function check(engine: Engine, sql: string, names: readonly string[], wanted = StatementType.SELECT): Promise<string[]> {
  try {
    const statements = await engine.connection.extractStatements(sql);
    if (statements.count !== 1) throw configError(`this is ${statements.count} statements in one`, ONLY_SELECT);
    const statement = await statements.prepare(0);
    if (statement.statementType !== wanted) throw configError(`this is a ${StatementType[statement.statementType]} statement`, ONLY_SELECT);
    if (statement.parameterCount > 0) throw configError('the statement has parameters, which have no value here', 'write the values themselves');
    return Array.from({ length: statement.columnCount }, (_, i) => statement.columnName(i));
  } catch (error) {
    throw sqlError(error as Error, names);
  }
}

const FORBIDDEN = /^(Permission Error|Invalid Input Error: Cannot change configuration|Invalid Configuration Error)/;

/** The refusal of a locked DuckDB in our words; undefined for any other message. */
export function refusal(message: string): TidemarkError | undefined {
  const [first = ''] = message.split('\n');
  return FORBIDDEN.test(first) ? configError(first, NOTHING_ELSE) : undefined;
}

/** What DuckDB says against a statement before it runs, in one line with what to do. `names`: the tables that there are. */
export function sqlError(error: Error, names: readonly string[]): Error {
  if (error instanceof TidemarkError) return error;
  const [first = '', ...others] = error.message.replace(/^Failed to extract statements: /, '').split('\n');
  const place = /^LINE (\d+):/.exec(others.find((line) => line.startsWith('LINE ')) ?? '')?.[1];
  const said = `${first.replace(/^(Parser|Binder|Catalog) Error: /, '')}${place === undefined || place === '1' ? '' : ` (line ${place})`}`;
  const refused = refusal(first);
  if (refused !== undefined) return refused;
  const unknown = /^Catalog Error: Table with name (.*?) does not exist/.exec(first);
  if (unknown !== null)
    return configError(`there is no table ${unknown[1]?.replaceAll('"', '')}`, names.length === 0 ? 'none is listed' : `name one of: ${names.join(', ')}`);
  // The parser names what stands behind it.
  return /^syntax error/.test(said)
    ? configError(`SQL: ${said}`, 'a column that has the name of a word of SQL is written in double quotes: "at", "order", "user"')
    : configError(`SQL: ${said}`);
}
