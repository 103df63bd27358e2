/**
 * What a right answer must be: the rows as Postgres printed them, typed by a mapping of its own (docs/types.md) in a plain DuckDB that knows nothing of hot, cold, days or ranges.
 */
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { identifier, literal } from '../../src/segment/sql.js';

/** A column as it was when a row was read. `type`: as it is declared; `list`: part of the key, where an array is text. */
export type Column = { readonly name: string; readonly type: string; readonly inKey: boolean };
export type Row = { readonly columns: readonly Column[]; readonly texts: readonly (string | null)[] };
export type Described = readonly { readonly name: string; readonly type: string }[];

const BASES: Readonly<Record<string, string>> = { cents: 'numeric(12,2)', fee: 'numeric(12,2)', handle: 'text', scores: 'integer[]' };
const PLAIN: Readonly<Record<string, string>> = {
  smallint: 'SMALLINT', integer: 'INTEGER', bigint: 'BIGINT', real: 'FLOAT', 'double precision': 'DOUBLE', boolean: 'BOOLEAN', bytea: 'BLOB', date: 'DATE', time: 'TIME',
  timestamp: 'TIMESTAMP', 'timestamp(3)': 'TIMESTAMP', timestamptz: 'TIMESTAMP WITH TIME ZONE', 'timestamptz(0)': 'TIMESTAMP WITH TIME ZONE',
}; // biome-ignore format: a table
/** Array types whose elements are not apart by commas. */
const TEXT_ARRAYS = ['box[]', 'geometry[]'];

/** The DuckDB type of a column. */
export function typeOf({ type, inKey }: Pick<Column, 'type' | 'inKey'>): string {
  const base = BASES[type] ?? type;
  if (base.endsWith('[]')) return inKey || TEXT_ARRAYS.includes(base) ? 'VARCHAR' : `${typeOf({ type: base.slice(0, -2), inKey: false })}[]`;
  const numeric = /^numeric\((\d+)(?:,(-?\d+))?\)$/.exec(base);
  if (numeric !== null) {
    const [precision, scale] = [Number(numeric[1]), Number(numeric[2] ?? 0)];
    return precision > 38 || scale < 0 || scale > precision ? 'VARCHAR' : `DECIMAL(${precision},${scale})`;
  }
  return PLAIN[base] ?? 'VARCHAR';
}

const MOMENT = /^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(\.\d+)?$/;

/** Can the type hold exactly this text? */
function holds(type: string, text: string): boolean {
  if (type === 'DATE') return /^\d{4}-\d{2}-\d{2}$/.test(text);
  if (type === 'TIMESTAMP') return MOMENT.test(text);
  if (type === 'TIMESTAMP WITH TIME ZONE') return text.endsWith('+00') && MOMENT.test(text.slice(0, -3));
  if (type === 'TIME') return !text.startsWith('24');
  if (type === 'FLOAT' || type === 'DOUBLE') return text !== '-0';
  return !(type.startsWith('DECIMAL') && !/^-?\d+(\.\d+)?$/.test(text));
}

type Nested = (string | null | Nested)[];

/** A list as Postgres prints it; undefined: with bounds. */
function listOf(text: string): Nested | undefined {
  if (!text.startsWith('{')) return undefined;
  let at = 0;
  const read = (): Nested => {
    const found: Nested = [];
    for (at += 1; text[at] !== '}'; ) {
      if (text[at] === ',') at += 1;
      if (text[at] === '{') found.push(read());
      else if (text[at] === '"') {
        let value = '';
        for (at += 1; text[at] !== '"'; at += 1) {
          if (text[at] === '\\') at += 1;
          value += text[at];
        }
        at += 1;
        found.push(value);
      } else {
        const from = at;
        while (text[at] !== ',' && text[at] !== '}') at += 1;
        const value = text.slice(from, at);
        found.push(value === 'NULL' ? null : value);
      }
    }
    at += 1;
    return found;
  };
  return read();
}

/** SQL of a text as a value of the type; undefined: the type cannot hold it. */
function valueSql(type: string, text: string): string | undefined {
  if (type === 'VARCHAR') return literal(text);
  if (type.endsWith('[]')) {
    const list = listOf(text);
    return list === undefined ? undefined : listSql(type, list);
  }
  if (!holds(type, text)) return undefined;
  return type === 'BLOB' ? `unhex(${literal(text.slice(2))})` : `CAST(${literal(text)} AS ${type})`;
}

function listSql(type: string, list: Nested): string | undefined {
  const element = type.slice(0, -2);
  const nested = element.endsWith('[]');
  const parts = list.map((one) => {
    if (Array.isArray(one)) return nested ? listSql(element, one) : undefined;
    if (nested) return undefined;
    return one === null ? 'NULL' : valueSql(element, one);
  });
  return parts.includes(undefined) ? undefined : `CAST([${parts.join(', ')}] AS ${type})`;
}

/** SQL of a row's values under these columns. */
function rowSql({ columns, texts }: Row, described: Described): string {
  const kept: [string, string][] = [];
  const values = new Map<string, { sql: string; type: string }>();
  for (const [i, column] of columns.entries()) {
    const type = typeOf(column);
    const text = texts[i] ?? null;
    const sql = text === null ? undefined : valueSql(type, text);
    if (text !== null && sql === undefined) kept.push([column.name, text]);
    values.set(column.name.toLowerCase(), { sql: sql ?? 'NULL', type });
  }
  const texting = described.length - 1;
  return `(${described
    .map(({ name, type }, i) => {
      if (i === texting) return kept.length === 0 ? 'NULL' : literal(`{${kept.map((one) => one.map((text) => JSON.stringify(text)).join(':')).join(',')}}`);
      const found = values.get(name.toLowerCase());
      if (found === undefined) return 'NULL';
      return type === 'VARCHAR' && found.type !== 'VARCHAR' ? `CAST(CAST(${found.sql} AS ${found.type}) AS VARCHAR)` : `CAST(${found.sql} AS ${type})`;
    })
    .join(', ')})`;
}

/** What two results have not in common, in words; undefined: they are the same. `ordered`: their order counts. */
export function difference(
  what: string,
  right: readonly (readonly (string | null)[])[],
  given: readonly (readonly (string | null)[])[],
  ordered = false,
): string | undefined {
  const texts = (rows: readonly (readonly (string | null)[])[]): string[] => {
    const all = rows.map((row) => JSON.stringify(row));
    return ordered ? all : all.sort();
  };
  const [a, b] = [texts(right), texts(given)];
  if (JSON.stringify(a) === JSON.stringify(b)) return undefined;
  return `${what}: ${a.length} rows are right, ${b.length} were given\n   missing ${only(a, b)}\n   too many ${only(b, a)}`;
}

/** The first of those that are more often in `rows` than in `others`. */
function only(rows: readonly string[], others: readonly string[]): string {
  const left = new Map<string, number>();
  for (const row of others) left.set(row, (left.get(row) ?? 0) + 1);
  const more = rows.filter((row) => {
    const n = left.get(row) ?? 0;
    left.set(row, n - 1);
    return n <= 0;
  });
  return more.slice(0, 3).join(' ').slice(0, 900);
}

export class Oracle implements Disposable {
  readonly #instance: DuckDBInstance;
  readonly connection: DuckDBConnection;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#instance = instance;
    this.connection = connection;
  }

  static async open(): Promise<Oracle> {
    const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'; CREATE SCHEMA _tidemark`);
    return new Oracle(instance, connection);
  }

  /** `place`: SQL of the table's name with its schema. */
  async fill(place: string, described: Described, rows: readonly Row[]): Promise<void> {
    const [schema] = /^"(?:[^"]|"")*"/.exec(place) as RegExpExecArray;
    const columns = described.map(({ name, type }) => `${identifier(name)} ${type}`).join(', ');
    await this.connection.run(`CREATE SCHEMA IF NOT EXISTS ${schema}; CREATE TABLE ${place} (${columns})`);
    for (let at = 0; at < rows.length; at += 100)
      await this.connection.run(
        `INSERT INTO ${place} VALUES ${rows
          .slice(at, at + 100)
          .map((row) => rowSql(row, described))
          .join(', ')}`,
      );
  }

  /** Texts of some values of a column. */
  async samples(place: string, column: string): Promise<string[]> {
    const [[json] = []] = await this.rows(`SELECT to_json(list_sort(list_distinct(list(CAST(${identifier(column)} AS VARCHAR))))[:40]) FROM ${place}`);
    return (JSON.parse(json ?? '[]') ?? []) as string[];
  }

  /** Rows as texts: read behind a point, since the binding drops a byte order mark at the beginning of a text. */
  async rows(sql: string): Promise<(string | null)[][]> {
    const prepared = await this.connection.prepare(sql);
    const list = Array.from({ length: prepared.columnCount }, (_, i) => `'.' || CAST(#${i + 1} AS VARCHAR) AS c${i}`);
    const found = (await this.connection.runAndReadAll(`SELECT ${list.join(', ')} FROM (${sql}\n)`)).getRows() as (string | null)[][];
    return found.map((row) => row.map((text) => text?.slice(1) ?? null));
  }

  [Symbol.dispose](): void {
    this.connection.closeSync();
    this.#instance.closeSync();
  }
}
