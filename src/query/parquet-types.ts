/**
 * Types of DuckDB that its Parquet writer gives up a part of, silently, and what is written in their place: HUGEINT (every sum of whole numbers) and UHUGEINT become DOUBLE there, an INTERVAL loses its
 * microseconds, a time its zone, a UNION its name. Pure.
 */
import { DuckDBArrayType, DuckDBListType, DuckDBMapType, DuckDBStructType, type DuckDBType, DuckDBTypeId } from '@duckdb/node-api';
import { identifier } from '../segment/sql.js';

const INSTEAD: ReadonlyMap<DuckDBTypeId, string> = new Map([
  [DuckDBTypeId.HUGEINT, 'DECIMAL(38, 0)'],
  [DuckDBTypeId.UHUGEINT, 'VARCHAR'],
  [DuckDBTypeId.INTERVAL, 'VARCHAR'],
  [DuckDBTypeId.TIME_TZ, 'VARCHAR'],
  [DuckDBTypeId.UNION, 'VARCHAR'],
]);

/** SQL of the type that holds the same values in Parquet; undefined: it is the type itself. */
export function parquetType(type: DuckDBType): string | undefined {
  const instead = INSTEAD.get(type.typeId);
  if (instead !== undefined) return instead;
  const of = (inner: DuckDBType): string => parquetType(inner) ?? inner.toString();
  const [parts, made] = nested(type, of);
  return parts.some((part) => parquetType(part) !== undefined) ? made : undefined;
}

/** The types within one, and the SQL of it with them. */
function nested(type: DuckDBType, of: (inner: DuckDBType) => string): [parts: readonly DuckDBType[], sql: string] {
  if (type instanceof DuckDBListType) return [[type.valueType], `${of(type.valueType)}[]`];
  if (type instanceof DuckDBArrayType) return [[type.valueType], `${of(type.valueType)}[${type.length}]`];
  if (type instanceof DuckDBMapType) return [[type.keyType, type.valueType], `MAP(${of(type.keyType)}, ${of(type.valueType)})`];
  if (!(type instanceof DuckDBStructType)) return [[], ''];
  return [type.entryTypes, `STRUCT(${type.entryTypes.map((entry, i) => `${identifier(type.entryNames[i] ?? '')} ${of(entry)}`).join(', ')})`];
}
