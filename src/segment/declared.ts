/** What a footer says of its columns: the elements of its schema that are columns, and whether each is declared as what it is. Source: Apache Parquet, LogicalTypes.md; DuckDB, parquet_writer.cpp. */

import type { SegmentColumn } from './columns.js';

/** An element of a schema, in the format's own names. */
export type Element = {
  readonly name: string;
  readonly num_children?: number | null | undefined;
  readonly converted?: string | undefined;
  /** Of times and timestamps: are they moments in UTC? */
  readonly utc?: boolean | undefined;
  readonly precision?: number | null | undefined;
  readonly scale?: number | null | undefined;
};

/** A column: its element, and that of its values (of a list's, within). */
export type Column<T> = { readonly element: T; readonly leaf: T };

/** The columns of a schema as a footer lists it: the root, then each column with all that is within. The root has a name too, and what is within a list. */
export function columnsOf<T extends Pick<Element, 'name' | 'num_children'>>(schema: readonly T[]): ReadonlyMap<string, Column<T>> {
  const columns = new Map<string, Column<T>>();
  for (let at = 1; at < schema.length; ) {
    const element = schema[at] as T;
    let leaf = element;
    for (let left = 1; left > 0; left -= 1) {
      leaf = schema[at] as T;
      if (leaf === undefined) throw new RangeError('a schema ends within a column');
      left += leaf.num_children ?? 0;
      at += 1;
    }
    columns.set(element.name, { element, leaf });
  }
  return columns;
}

const DECLARED: Readonly<Record<string, Omit<Element, 'name'>>> = {
  BOOLEAN: {}, FLOAT: {}, DOUBLE: {}, BLOB: {}, VARCHAR: { converted: 'UTF8' }, SMALLINT: { converted: 'INT_16' }, INTEGER: { converted: 'INT_32' }, BIGINT: { converted: 'INT_64' }, DATE: { converted: 'DATE' },
  TIME: { converted: 'TIME_MICROS', utc: false }, TIMESTAMP: { converted: 'TIMESTAMP_MICROS', utc: false }, TIMESTAMPTZ: { converted: 'TIMESTAMP_MICROS', utc: true },
}; // biome-ignore format: a table

/** Name of the first column that is not declared as its form says, undefined when all are. `typeOf`: of the forms, that of this kind of file. */
export function misdeclared(
  columns: ReadonlyMap<string, Column<Element>>,
  forms: readonly SegmentColumn[],
  typeOf: (form: SegmentColumn) => string,
): string | undefined {
  return forms.find((form) => {
    const column = columns.get(form.name);
    return column === undefined || !isDeclared(column.leaf, typeOf(form));
  })?.name;
}

/** True when values are declared as `type`, a DuckDB type (of a list: its elements') as segments and daily files have it. The same bytes declared otherwise are other values to every reader. */
function isDeclared(leaf: Element, type: string): boolean {
  const decimal = /^DECIMAL\((\d+), (\d+)\)/.exec(type);
  const wanted = decimal ? { converted: 'DECIMAL', precision: Number(decimal[1]), scale: Number(decimal[2]) } : DECLARED[type.replace(/(\[\])+$/, '')];
  if (wanted === undefined) return false;
  const same = (name: 'converted' | 'utc' | 'precision' | 'scale'): boolean => (leaf[name] ?? undefined) === wanted[name];
  return same('converted') && same('precision') && same('scale') && (wanted.utc === undefined || same('utc'));
}
