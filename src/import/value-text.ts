/**
 * A column of an old file as a column of a table: which Postgres text each of its values has. What a type of pandas cannot tell for certain is named, never guessed; what only Postgres can
 * read (jsonb, uuid, enums, intervals, arrays …) is left to it.
 */
import {
  type DuckDBBlobValue, type DuckDBListType, type DuckDBListValue, type DuckDBMapType, type DuckDBMapValue, type DuckDBStructType, type DuckDBStructValue, type DuckDBType, DuckDBTypeId, type DuckDBUUIDValue,
} from '@duckdb/node-api'; // biome-ignore format: types
import type { RelationColumn, TableDescription } from '../change/relation.js';
import { elementOf, OID, type TypeOf, withoutDomain } from '../segment/columns.js';
import { type Carried, isAsk, isInexact, type Reading, unreadable } from './carried.js';
import { dateReading, isNaive, momentReading, timeReading } from './moments.js';
import { floatReading, isFloating, isWhole, numericReading, wholeReading } from './numbers.js';

/** Types whose text is whatever it is: text, varchar, bpchar, name, "char". Source: pg_type.dat. */
const TEXTS = new Set([25, 1043, 1042, 19, 18]);
/** oid, xid, cid, xid8: whole numbers that are kept as text. */
const NUMBERS_AS_TEXT = new Set([26, 28, 29, 5069]);
const JSONS = new Set([114, 3802]);
const UUID = 2950;

export type ColumnReading = {
  readonly read: Reading;
  /** Its times say no zone, and the column's do: they are read in the zone that was told. */
  readonly assumesZone: boolean;
};

/** How the values of `source`, a DuckDB type, are read as those of `column`. `utc`: what says no zone is in UTC. */
export function columnReading(column: RelationColumn, types: TableDescription['types'], source: DuckDBType, utc: boolean): ColumnReading {
  const base = withoutDomain(column, types);
  const element = elementOf(base, types);
  if (element !== undefined) return { read: arrayReading(withoutDomain(element, types), source, utc), assumesZone: false };
  return { read: scalarReading(base, source, utc), assumesZone: base.typeOid === OID.timestamptz && isNaive(source) };
}

function scalarReading({ typeOid, typmod }: TypeOf, source: DuckDBType, utc: boolean): Reading {
  switch (typeOid) {
    case OID.bool:
      return booleanReading(source);
    case OID.int2:
      return wholeReading(source, 16);
    case OID.int4:
      return wholeReading(source, 32);
    case OID.int8:
      return wholeReading(source, 64);
    case OID.float4:
    case OID.float8:
      return floatReading(source, typeOid === OID.float4);
    case OID.numeric:
      return numericReading(source, declaredNumeric(typmod));
    case OID.timestamp:
    case OID.timestamptz:
      return momentReading(source, typeOid === OID.timestamptz, utc);
    case OID.date:
      return dateReading(source);
    case OID.time:
      return timeReading(source);
    case OID.bytea:
      return bytesReading(source);
  }
  if (TEXTS.has(typeOid)) return textReading(source);
  if (JSONS.has(typeOid)) return jsonReading(source);
  if (typeOid === UUID && source.typeId === DuckDBTypeId.UUID) return (value) => (value as DuckDBUUIDValue).toString();
  if (typeOid === UUID && source.typeId === DuckDBTypeId.BLOB) return (value) => ask(Buffer.from((value as DuckDBBlobValue).bytes).toString('hex'));
  if (NUMBERS_AS_TEXT.has(typeOid) && (isWhole(source) || isFloating(source))) return wholeReading(source, 64);
  if (source.typeId === DuckDBTypeId.VARCHAR) return (value) => ask(value as string);
  return unreadable(source.toString());
}

const ask = (text: string): Carried => ({ ask: text, as: 'value' });

/** Source: numeric typmod, ((precision << 16) | scale) + 4; scales below 0 are read as without any. */
function declaredNumeric(typmod: number): { precision: number; scale: number } | undefined {
  if (typmod < 4) return undefined;
  const scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
  return scale < 0 ? undefined : { precision: ((typmod - 4) >> 16) & 0xffff, scale };
}

function booleanReading(source: DuckDBType): Reading {
  const words: Readonly<Record<string, string>> = { t: 't', true: 't', '1': 't', '1.0': 't', f: 'f', false: 'f', '0': 'f', '0.0': 'f' };
  const word = (text: string): Carried => words[text.trim().toLowerCase()] ?? { inexact: 'is neither true nor false', nearest: null };
  if (source.typeId === DuckDBTypeId.BOOLEAN) return (value) => (value === true ? 't' : 'f');
  if (isWhole(source) || isFloating(source) || source.typeId === DuckDBTypeId.VARCHAR) return (value) => word(String(value));
  return unreadable(source.toString());
}

function textReading(source: DuckDBType): Reading {
  const whole = (text: string): Carried => (text.includes('\0') ? { inexact: 'has a zero byte, which Postgres does not hold', nearest: null } : text);
  if (source.typeId === DuckDBTypeId.VARCHAR) return (value) => whole(value as string);
  if (source.typeId === DuckDBTypeId.UUID) return (value) => (value as DuckDBUUIDValue).toString();
  if (source.typeId === DuckDBTypeId.BLOB) {
    return (value) => {
      const { bytes } = value as DuckDBBlobValue;
      const text = Buffer.from(bytes).toString('utf8');
      return Buffer.from(text).equals(bytes) ? whole(text) : { inexact: 'is not UTF-8', nearest: null };
    };
  }
  if (isWhole(source) || isFloating(source) || source.typeId === DuckDBTypeId.DECIMAL)
    return (value) => ({ inexact: `is ${source.toString()} in the file: the text may have been written otherwise`, nearest: String(value) });
  return unreadable(source.toString());
}

function bytesReading(source: DuckDBType): Reading {
  if (source.typeId === DuckDBTypeId.BLOB) return (value) => `\\x${Buffer.from((value as DuckDBBlobValue).bytes).toString('hex')}`;
  if (source.typeId === DuckDBTypeId.VARCHAR)
    return (value) =>
      /^\\x([0-9a-f]{2})*$/i.test(value as string) ? (value as string).toLowerCase() : { inexact: 'is text that is not \\x and hexadecimal', nearest: null };
  return unreadable(source.toString());
}

/** Texts as they are; what pyarrow made a struct or a list of, as JSON again. A struct has every key of every row: which of those without a value were there is not known. */
function jsonReading(source: DuckDBType): Reading {
  if (source.typeId === DuckDBTypeId.VARCHAR) return (value) => ask(value as string);
  if (source.typeId !== DuckDBTypeId.STRUCT && source.typeId !== DuckDBTypeId.LIST && source.typeId !== DuckDBTypeId.MAP) return unreadable(source.toString());
  return (value) => {
    const doubt: Doubt = { keys: false, numbers: false, other: false };
    const text = jsonText(value, source, doubt);
    if (doubt.other) return { inexact: `is ${source.toString()} in the file`, nearest: null };
    if (doubt.numbers && !doubt.keys)
      return { inexact: 'has a float64 in a struct that may have been written as 1 or as 1.0', nearest: { ask: text, as: 'value' } };
    return doubt.keys
      ? { inexact: 'is a struct in the file: keys that are not there cannot be told from null', nearest: { ask: text, as: 'value' } }
      : ask(text);
  };
}

/** `numbers`: Postgres keeps 1 and 1.0 apart, a double does not. */
type Doubt = { keys: boolean; numbers: boolean; other: boolean };

function jsonText(value: unknown, type: DuckDBType, doubt: Doubt): string {
  if (value === null) return 'null';
  if (typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number' && Number.isFinite(value)) {
    doubt.numbers ||= isFloating(type) && Number.isInteger(value);
    return String(value);
  }
  if (type.typeId === DuckDBTypeId.LIST) {
    const { valueType } = type as DuckDBListType;
    return `[${(value as DuckDBListValue).items.map((item) => jsonText(item, valueType, doubt)).join(',')}]`;
  }
  if (type.typeId === DuckDBTypeId.MAP) {
    const { entries } = value as DuckDBMapValue;
    const { valueType } = type as DuckDBMapType;
    if (entries.some(({ key }) => typeof key !== 'string')) doubt.other = true;
    return `{${entries.map(({ key, value: held }) => `${JSON.stringify(String(key))}:${jsonText(held, valueType, doubt)}`).join(',')}}`;
  }
  if (type.typeId !== DuckDBTypeId.STRUCT) {
    doubt.other = true;
    return 'null';
  }
  const { entries } = value as DuckDBStructValue;
  const { entryNames, entryTypes } = type as DuckDBStructType; // in the order of the file: JavaScript has names like 1 first
  if (entryNames.some((name) => entries[name] === null)) doubt.keys = true;
  return `{${entryNames.map((name, i) => `${JSON.stringify(name)}:${jsonText(entries[name], entryTypes[i] as DuckDBType, doubt)}`).join(',')}}`;
}

/** Lists, `{…}` as Postgres prints it, and `[…]` as JSON writes it. Postgres reads the whole and prints it again. */
function arrayReading(element: TypeOf, source: DuckDBType, utc: boolean): Reading {
  if (source.typeId === DuckDBTypeId.VARCHAR) {
    return (value) => {
      const text = (value as string).trim();
      if (!text.startsWith('[') || /^\[[-+\d:]+\].*=\{/.test(text)) return ask(text);
      return jsonArray(text) ?? { inexact: 'is a list in a form that is not known', nearest: null };
    };
  }
  if (source.typeId !== DuckDBTypeId.LIST) return unreadable(source.toString());
  let inner: DuckDBType = source;
  while (inner.typeId === DuckDBTypeId.LIST) inner = (inner as DuckDBListType).valueType;
  const read = scalarReading(element, inner, utc);
  return (value) => {
    const doubts: string[] = [];
    const literal = arrayLiteral(value as DuckDBListValue, (item) => {
      const carried = read(item);
      if (isInexact(carried)) doubts.push(carried.inexact);
      else if (isAsk(carried) && carried.as !== 'value') doubts.push('has times in a list that are in no zone that is known');
      return isInexact(carried) ? null : isAsk(carried) ? carried.ask : carried;
    });
    const [doubt] = doubts;
    return doubt === undefined ? ask(literal) : { inexact: `has an element that ${doubt}`, nearest: null };
  };
}

function arrayLiteral({ items }: Pick<DuckDBListValue, 'items'>, text: (item: unknown) => string | null): string {
  const of = (item: unknown): string => {
    if (item === null) return 'NULL';
    if (Array.isArray((item as DuckDBListValue).items)) return arrayLiteral(item as DuckDBListValue, text);
    const word = text(item);
    return word === null ? 'NULL' : `"${word.replace(/["\\]/g, '\\$&')}"`;
  };
  return `{${items.map(of).join(',')}}`;
}

function jsonArray(text: string): Carried | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (/[\d.eE+-]{16,}/.test(text.replace(/"(?:[^"\\]|\\.)*"/g, '')))
    return { inexact: 'is a list of numbers with more digits than are read exactly', nearest: null };
  const list = (items: readonly unknown[]): { items: never } => ({ items: items.map((item) => (Array.isArray(item) ? list(item) : item)) as never });
  return ask(arrayLiteral(list(parsed as unknown[]), (item) => (typeof item === 'object' ? JSON.stringify(item) : String(item))));
}
