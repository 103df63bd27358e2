/**
 * Nanoseconds that DuckDB cuts off without a word: of timestamps with a zone, and of INT96. They are looked for with the other reader, in the files that have such columns at all. Postgres
 * never had them; a script may have put in its own clock's.
 */
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

/** Values of a column that are finer than a microsecond: how many, and the number of the first row with one, from 1. */
export type FinerValues = { readonly column: string; readonly count: number; readonly row: number };

type Counted = { count: number; row: number };

/** Throws what the reader says of a file that it cannot read. */
export async function finerThanMicros(file: string): Promise<FinerValues[]> {
  const buffer = await asyncBufferFromFile(file);
  const footer = await parquetMetadataAsync(buffer);
  const columns = new Set<string>();
  for (const group of footer.row_groups.slice(0, 1)) {
    for (const [i, { meta_data }] of group.columns.entries()) {
      const leaf = footer.schema.filter((element) => element.num_children === undefined || element.num_children === 0)[i];
      const logical = leaf?.logical_type;
      const nanos = logical?.type === 'TIMESTAMP' && logical.isAdjustedToUTC && logical.unit === 'NANOS';
      const name = meta_data?.path_in_schema[0];
      if (name !== undefined && (nanos || leaf?.type === 'INT96')) columns.add(name);
    }
  }
  if (columns.size === 0) return [];
  const found = new Map<string, Counted>();
  let start = 0;
  for (const group of footer.row_groups) {
    const end = start + Number(group.num_rows);
    await parquetRead({
      file: buffer,
      metadata: footer,
      columns: [...columns],
      rowStart: start,
      rowEnd: end,
      compressors,
      parsers: { timestampFromNanoseconds: (value: bigint) => value } as never,
      onChunk: (chunk) => {
        for (let i = 0; i < chunk.columnData.length; i += 1) if (isFiner(chunk.columnData[i])) note(found, chunk.columnName, chunk.rowStart + i + 1);
      },
    });
    start = end;
  }
  return [...found].map(([column, counted]) => ({ column, ...counted }));
}

function isFiner(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(isFiner);
  return typeof value === 'bigint' && value % 1000n !== 0n;
}

function note(found: Map<string, Counted>, column: string, row: number): void {
  const counted = found.get(column) ?? { count: 0, row };
  counted.count += 1;
  found.set(column, counted);
}
