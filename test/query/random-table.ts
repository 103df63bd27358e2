/** Random tables with odd names, columns of every type, and the statements that change them. Pure text: what the statements do is to be seen in Postgres. */
import { identifier, literal } from '../../src/segment/sql.js';
import type { Random } from '../campaign/chance.js';
import { TYPES, type TypeCase } from '../types/catalog.js';
import { type Column, type Row, typeOf } from './oracle.js';

const TABLE_NAMES = [
  'plainx', 'types', 'order', 'Mixed Case', 'a b', 'été', "it's", 'q"t', 'select', 'user', '1st', 'comments', 'tidemark_files', 'sqlite_master', 'form_0', 'x-y', 'main', 'temp', 'memory', 'a,b',
  'percent%', 'line\nbreak', '🦖', 'duckdb_tables', 'range', 'a[b]', 'UPPER', 'result', 'cold_0', 'now', 'prices',
]; // biome-ignore format: a list of words
const COLUMN_NAMES = [
  'v', 'w', 'order', 'Value', 'a b', 'q"c', 'filename', 'file_row_number', 'rowid', 'c0', 'c1', '_op', '_lsn', '_text', 'digest', 'part', 'tm_k0', 'r', 'l', 'select', 'x.y', 'été', "it's", 'null', 'true',
  'all', 'group', 'list', 'date', 'struct', ' AND ', '>=', 'oid', 'file_index', 'end', 'first', 'now', '🦖', 'a\\b', 'line\nbreak', '%', '$1', '_digest', '__text', 'table', 'timestamp2', 'UPPER', 's_op', 'k', 'tm',
]; // biome-ignore format: a list of words
const TIME_NAMES = ['timestamp', 'at', 'when', 'Time', 'position', 'c0 at', 'ts', 'a"t'];
const SCHEMAS = ['public', 'public', 'public', 'app', 'Order', 'main', 'my app'];
const DAY_MS = 86_400_000;
const AVAILABLE = TYPES.filter(({ extension }) => extension === undefined);
const caseOf = (type: string): TypeCase => AVAILABLE.find((one) => one.type === type) as TypeCase;
const USEFUL = ['integer', 'text', 'numeric(10,2)', 'boolean', 'bigint', 'text'];
const MOMENTS = /^(timestamp|timestamptz|date)(\(\d\))?$/;
/** To which other types a column can go. */
const RETYPES: Readonly<Record<string, readonly string[]>> = {
  smallint: ['integer', 'text'], integer: ['bigint', 'text', 'numeric(38,12)'], bigint: ['text'], 'numeric(10,2)': ['numeric', 'numeric(38,12)', 'text'], real: ['double precision'], date: ['timestamp'], timestamp: ['timestamptz', 'text'],
  timestamptz: ['timestamp'], 'integer[]': ['text'], boolean: ['text'], uuid: ['text'], 'character varying(40)': ['text'],
}; // biome-ignore format: a table

export type Table = {
  readonly schema: string;
  readonly name: string;
  columns: Column[];
  readonly keyless: boolean;
  readonly rid: string;
  readonly keep: boolean;
  timestamp: string;
  /** Rows that are gone from Postgres and count. */
  readonly cold: Row[];
  /** xmin of rows that a restore put in. */
  readonly restored: Set<string>;
  next: number;
  /** Types that a column of a name has had, by name in lower case. */
  readonly types: Map<string, Set<string>>;
};

/** Columns that may be changed in every way. */
const freeColumns = (table: Table): Column[] => table.columns.filter(({ name, inKey }) => name !== table.rid && name !== table.timestamp && !inKey);

/** Another column that can be the table's timestamp. */
export function otherTimestamp(table: Table, random: Random): string | undefined {
  const others = table.columns.filter(({ name, type, inKey }) => /^(timestamp|timestamptz|date)$/.test(type) && !inKey && name !== table.timestamp);
  return others.length === 0 ? undefined : random.pick(others).name;
}

export function insertSql(table: Table, random: Random): string {
  const n = 1 + random.below(25);
  const times = Array.from({ length: n }, () => randomTime(random));
  const first = table.next;
  table.next += n;
  const values = table.columns.map((column, c) => {
    if (column.name === table.rid) return 'i';
    return column.name === table.timestamp ? `at::${column.type}` : valueSql(column, 7 + c, random);
  });
  const list = table.columns.map(({ name }) => identifier(name)).join(', ');
  const twice = table.keyless && random.chance(0.4) ? ' CROSS JOIN generate_series(1, 2)' : '';
  const rows = `SELECT ${first} + n::int - 1 AS i, at FROM unnest(ARRAY[${times.map(textSql).join(', ')}]::text[]) WITH ORDINALITY u(at, n)`;
  return `INSERT INTO ${nameSql(table)} (${list}) SELECT ${values.join(', ')} FROM (${rows}) s${twice} ON CONFLICT DO NOTHING`;
}

/** SQL of a value of row `i`: of the type's edges, random, large, or none. */
function valueSql({ type, inKey }: Column, step: number, random: Random): string {
  const { values, random: any } = caseOf(type);
  if (type === 'text' && !inKey && random.chance(0.3))
    return `CASE WHEN random() < 0.5 THEN (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 120) n) ELSE 'short' END`;
  const made = MOMENTS.test(type) ? `(date_trunc('day', now()) - make_interval(days => i % 9))::${type}` : `(${any})::${type}`;
  const edges = values.map((value, v) => `WHEN ${v} THEN (${value})::${type}`).join(' ');
  const value = random.chance(0.6) ? `CASE (i * ${step}) % ${values.length * 2 + 2} ${edges} ELSE ${made} END` : made;
  return inKey ? `coalesce(${value}, (${any})::${type})` : `CASE WHEN random() < 0.88 THEN ${value} END`;
}

const textSql = (text: string | null): string => (text === null ? 'NULL' : literal(text));

function someSql({ rid, next }: Table, random: Random): string {
  const from = random.below(next);
  return `${identifier(rid)} BETWEEN ${from} AND ${from + random.below(20)}`;
}

export function deleteSql(table: Table, random: Random): string {
  return random.chance(0.06) ? `TRUNCATE ${nameSql(table)}` : `DELETE FROM ${nameSql(table)} WHERE ${someSql(table, random)}`;
}

/** Of a column, of the timestamp, or of the key. */
export function updateSql(table: Table, random: Random): string {
  const column = random.pick(freeColumns(table));
  const id = identifier(table.rid);
  const roll = random.below(10);
  const set = (name: string, value: string, type: string): string =>
    `UPDATE ${nameSql(table)} SET ${identifier(name)} = (${value})::${type} WHERE ${someSql(table, random)}`;
  if (roll < 6 && column !== undefined) {
    const { values, random: any, type } = caseOf(column.type);
    return set(column.name, random.chance(0.5) ? random.pick([...values, 'NULL']) : any.replace(/\bi\b/g, `(${id} % 1000)::int`), type);
  }
  const at = table.columns.find(({ name }) => name === table.timestamp);
  if (roll < 9) return set(table.timestamp, textSql(randomTime(random)), at?.type ?? 'date');
  return `${set(table.rid, `${id} + 100000 + ${table.next}`, 'bigint')} AND ${id} < 100000`;
}

/** ADD, DROP, RENAME or another type; undefined: there is nothing to alter. But for ADD the rows are written anew: what was archived before has its values under the old names and types. */
export function alterSql(table: Table, random: Random): string | undefined {
  noteTypes(table, table.columns);
  const free = freeColumns(table);
  const victim = random.pick(free);
  const taken = new Set([...table.columns, ...table.cold.flatMap(({ columns }) => columns)].map(({ name }) => name.toLowerCase()));
  const name = random.pick(COLUMN_NAMES.filter((one) => !taken.has(one.toLowerCase())));
  const roll = random.below(10);
  const altered = (what: string): string => `ALTER TABLE ${nameSql(table)} ${what}`;
  const anew = `; UPDATE ${nameSql(table)} SET ${identifier(table.rid)} = ${identifier(table.rid)}`;
  if (roll < 4 || victim === undefined || free.length < 2) {
    const { type, values } = random.pick(AVAILABLE);
    const value = random.chance(0.4) ? ` DEFAULT ${random.pick(values)}` : '';
    table.columns = [...table.columns, { name, type, inKey: false }];
    return altered(`ADD COLUMN ${identifier(name)} ${type}${value}`);
  }
  if (roll < 6) {
    table.columns = table.columns.filter((column) => column !== victim);
    return altered(`DROP COLUMN ${identifier(victim.name)}`) + anew;
  }
  if (roll < 8) {
    table.columns = table.columns.map((column) => (column === victim ? { ...column, name } : column));
    return altered(`RENAME COLUMN ${identifier(victim.name)} TO ${identifier(name)}`) + anew;
  }
  const retyped = free.filter(({ type }) => RETYPES[type] !== undefined);
  if (retyped.length === 0) return undefined;
  const chosen = random.pick(retyped);
  const type = random.pick(RETYPES[chosen.type] as readonly string[]);
  table.columns = table.columns.map((column) => (column === chosen ? { ...column, type } : column));
  return altered(`ALTER COLUMN ${identifier(chosen.name)} TYPE ${type} USING ${identifier(chosen.name)}::${type}`) + anew;
}

export function noteTypes(table: Table, columns: readonly Column[]): void {
  for (const column of columns) {
    const name = column.name.toLowerCase();
    table.types.set(name, (table.types.get(name) ?? new Set()).add(typeOf(column)));
  }
}

/** As the configuration calls it. */
export const keyOf = ({ schema, name }: Table): string => `${schema}.${name}`;

/** As DuckDB does. */
export const placeOf = ({ schema, name }: Table): string => `${identifier(schema === 'public' ? 'main' : schema)}.${identifier(name)}`;

export function nameSql({ schema, name }: Table): string {
  return `${identifier(schema)}.${identifier(name)}`;
}

export function yamlLine(table: Table): string {
  return `  ${JSON.stringify(keyOf(table))}: { timestamp: ${JSON.stringify(table.timestamp)}, deletes: ${table.keep ? 'keep' : 'history'} }`;
}

export function createSql(table: Table): string {
  const key = table.columns.filter(({ inKey }) => inKey).map(({ name }) => identifier(name));
  const columns = table.columns.map(({ name, type }) => `${identifier(name)} ${type}`).join(', ');
  return table.keyless
    ? `CREATE TABLE ${nameSql(table)} (${columns}); ALTER TABLE ${nameSql(table)} REPLICA IDENTITY FULL`
    : `CREATE TABLE ${nameSql(table)} (${columns}, PRIMARY KEY (${key.join(', ')}))`;
}

/** One to three, whose names differ in more than case. */
export function randomTables(random: Random): Table[] {
  const tables = Array.from({ length: 1 + random.below(3) }, () => randomTable(random));
  return tables.filter(({ name }, i) => tables.findIndex((one) => one.name.toLowerCase() === name.toLowerCase()) === i);
}

function randomTable(random: Random): Table {
  const keyless = random.chance(0.1);
  const names = new Set<string>();
  const name = (from: readonly string[]): string => {
    for (;;) {
      const one = random.pick(from);
      if (names.has(one.toLowerCase())) continue;
      names.add(one.toLowerCase());
      return one;
    }
  };
  const timestamp = name(TIME_NAMES);
  const rid = name(['id', 'rid', ...COLUMN_NAMES]);
  const columns: Column[] = [
    { name: rid, type: 'bigint', inKey: !keyless },
    { name: timestamp, type: random.pick(['timestamp', 'timestamptz', 'timestamptz', 'date']), inKey: false },
  ];
  for (const type of [random.pick(USEFUL), random.pick(USEFUL), ...(random.chance(0.6) ? [random.pick(['timestamp', 'timestamptz', 'date'])] : [])])
    columns.push({ name: name(COLUMN_NAMES), type, inKey: !keyless && random.chance(0.12) });
  for (let n = random.below(7); n > 0; n -= 1) columns.push({ name: name(COLUMN_NAMES), type: random.pick(AVAILABLE).type, inKey: false });
  for (let i = columns.length - 1; i > 0; i -= 1) {
    const j = random.below(i + 1);
    [columns[i], columns[j]] = [columns[j] as Column, columns[i] as Column];
  }
  return {
    schema: random.pick(SCHEMAS), name: random.pick(TABLE_NAMES), columns, keyless, rid, keep: random.chance(0.2), timestamp, cold: [], restored: new Set(), next: 1, types: new Map(),
  }; // biome-ignore format: fields
}

/** Text of a timestamp: days before and of the retention, at the edges of days. */
function randomTime(random: Random): string | null {
  if (random.chance(0.12))
    return random.pick([
      null,
      'infinity',
      '-infinity',
      '0044-03-15 12:00:00 BC',
      '20000-01-01 00:00:00',
      '0001-01-01 00:00:00',
      '1969-12-31 23:59:59.999999',
      '9999-12-31 23:59:59.999999',
    ]);
  const day = new Date(Date.now() - random.pick([0, 0, 1, 2, 2, 3, 3, 4, 5, 6, 9]) * DAY_MS).toISOString().slice(0, 10);
  const hour = String(random.below(24)).padStart(2, '0');
  return `${day} ${random.pick(['00:00:00', '23:59:59.999999', '00:00:00.000001', '12:00:00', `${hour}:34:56.5`, `${hour}:00:00`])}`;
}
