/**
 * A table as SQL sees it: its name in DuckDB, the columns of all the forms that it had, and the SELECTs that bring rows of each form under them. Pure text. The types are those of daily files; columns that
 * only older files have stand behind those of now, and last the column of values that no type can hold.
 */
import { nameCollision, systemName } from '../change/system-columns.js';
import { TidemarkError } from '../runtime/errors.js';
import { segmentColumn } from '../segment/columns.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { areOneKind } from '../segment/one-type.js';
import { identifier, systemIdentifier } from '../segment/sql.js';

/** Columns that rows were written with: of files, or of the table now. */
export type Form = Pick<SegmentMetadata, 'columns' | 'types' | 'dimensions' | 'key'>;

/** `key`: as a person writes it; `place`: where it is in DuckDB. */
export type QueriedTable = {
  readonly key: string;
  readonly schema: string;
  readonly table: string;
  readonly timestamp: string;
  readonly deletes: 'history' | 'keep';
  readonly place: { readonly schema: string; readonly name: string };
};

/** Schema of everything in DuckDB that is not the user's to see. */
export const OWN_SCHEMA = '_tidemark';

type Listed = Omit<QueriedTable, 'place'>;

/** `public` is DuckDB's `main`; names that differ in case only are one to it: of two the second, and never a table of `public` before another, gets a number. */
export function placed(tables: readonly Listed[]): QueriedTable[] {
  const taken = new Set<string>();
  const places = new Map<Listed, QueriedTable['place']>();
  for (const table of [...tables.filter(isPublic), ...tables.filter((one) => !isPublic(one))]) {
    const schema = isPublic(table) ? 'main' : table.schema;
    let name = table.table;
    for (let n = 2; taken.has(`${schema}.${name}`.toLowerCase()); n += 1) name = `${table.table}_${n}`;
    taken.add(`${schema}.${name}`.toLowerCase());
    places.set(table, { schema, name });
  }
  return tables.map((table) => ({ ...table, place: places.get(table) as QueriedTable['place'] }));
}

const isPublic = ({ schema }: Listed): boolean => schema === 'public';

/** Asks DuckDB for its tables instead of naming one. */
const ASKS_FOR_TABLES = /\b(show|information_schema|duckdb_\w+|pg_\w+|sqlite_master|query|query_table)\b/i;

/** Tables that a statement may be about: those whose name it holds. DuckDB decides which of them it reads. */
export function mentioned(sql: string, tables: readonly QueriedTable[]): QueriedTable[] {
  if (ASKS_FOR_TABLES.test(sql)) return [...tables];
  const text = sql.toLowerCase();
  return tables.filter(({ place: { name } }) => text.includes(name.toLowerCase()) || text.includes(name.toLowerCase().replaceAll('"', '""')));
}

export function placeSql({ place }: QueriedTable): string {
  return `${identifier(place.schema)}.${identifier(place.name)}`;
}

/** The columns of all forms together. A column that had types of several kinds is text. */
export class Shape {
  readonly forms: readonly Form[];
  /** Names, in lower case, of the columns that are text for all forms. */
  readonly #mixed: ReadonlySet<string>;
  /** In order, with the column of texts last. */
  readonly columns: readonly string[];
  /** Name of the column of values that no type can hold. */
  readonly text: string;

  /** `forms`: the newest first. Throws for column names that cannot stand beside each other. */
  constructor(table: QueriedTable, forms: readonly Form[]) {
    const names = new Map<string, string>();
    const types = new Map<string, Set<string>>();
    for (const { columns } of forms) {
      const collision = nameCollision(columns.map(({ name }) => name));
      if (collision !== undefined) throw new TidemarkError('failed', `${table.key}: ${collision}`, { remedy: 'rename the column' });
      for (const { name } of columns) if (!names.has(name.toLowerCase())) names.set(name.toLowerCase(), name);
    }
    for (const form of forms)
      for (const { name, fileType, dailyType = fileType } of form.columns.map((one) => segmentColumn(one, form)))
        types.set(name.toLowerCase(), (types.get(name.toLowerCase()) ?? new Set()).add(dailyType));
    this.#mixed = new Set([...types].filter(([, found]) => !areOneKind([...found])).map(([name]) => name));
    this.forms = forms;
    this.text = systemName('text', [...names.values()]);
    this.columns = [...names.values(), this.text];
  }

  /** SELECT without a row, with the types of all forms. */
  emptySql(): string {
    const branches = this.forms.map((form) => `SELECT ${this.#list(form, ({ type }) => `CAST(NULL AS ${type})`, 'CAST(NULL AS VARCHAR)')} WHERE false`);
    return this.unitedSql(branches);
  }

  /** All branches as one, its columns in order. */
  unitedSql(branches: readonly string[]): string {
    return `SELECT ${this.columns.map(identifier).join(', ')} FROM (${branches.join(' UNION ALL BY NAME ')})`;
  }

  /** Rows of segments, or of what was read into their types. `loaded`: the columns that are there; the others are not asked for and NULL. */
  segmentSql(form: Form, from: string, loaded?: ReadonlySet<string>): string {
    const there = (name: string): boolean => loaded === undefined || loaded.has(name);
    const list = this.#list(
      form,
      ({ name, type }) => (there(name) ? `CAST(r.${identifier(name)} AS ${type})` : `CAST(NULL AS ${type})`),
      there(this.text) ? `r.${systemIdentifier('text', form.columns)}` : 'CAST(NULL AS VARCHAR)',
    );
    return `SELECT ${list} FROM ${from}`;
  }

  /** Rows of daily files, which have a column of texts only where one is needed. `files`: read_parquet of them. */
  dailySql(form: Form, files: string): string {
    const text = systemIdentifier('text', form.columns);
    const list = this.#list(form, ({ name }) => `r.${identifier(name)}`, `r.${text}`);
    return `SELECT ${list} FROM (SELECT * FROM ${files} UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS ${text} WHERE false) r`;
  }

  #list(form: Form, column: (one: { name: string; type: string }) => string, text: string): string {
    const own = form.columns.map((one) => {
      const { name, fileType, dailyType } = segmentColumn(one, form);
      const typed = column({ name, type: dailyType ?? fileType });
      return `${this.#mixed.has(name.toLowerCase()) ? `CAST(${typed} AS VARCHAR)` : typed} AS ${identifier(name)}`;
    });
    return [...own, `${text} AS ${identifier(this.text)}`].join(', ');
  }
}
