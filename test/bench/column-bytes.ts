/** Where the bytes of Parquet files are: by column, from their footers. */
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet';

/** A line for each column: bytes in `file` and in `other`, with their encodings. */
export async function columnBytes(file: string, other: string): Promise<string[]> {
  const [ours, theirs] = [await columnsOf(file), await columnsOf(other)];
  return [...ours].map(([name, column]) => `${name}: ${text(column)}; there ${text(theirs.get(name))}`);
}

type Column = { bytes: number; rows: number; readonly encodings: Set<string> };

async function columnsOf(file: string): Promise<Map<string, Column>> {
  const { row_groups } = await parquetMetadataAsync(await asyncBufferFromFile(file));
  const found = new Map<string, Column>();
  for (const { meta_data: chunk } of row_groups.flatMap(({ columns }) => columns)) {
    if (chunk === undefined) continue;
    const name = chunk.path_in_schema.join('.');
    const column = found.get(name) ?? { bytes: 0, rows: 0, encodings: new Set<string>() };
    column.bytes += Number(chunk.total_compressed_size);
    column.rows += Number(chunk.num_values);
    for (const encoding of chunk.encodings) if (encoding !== 'RLE' && encoding !== 'BIT_PACKED') column.encodings.add(encoding);
    found.set(name, column);
  }
  return found;
}

function text(column: Column | undefined): string {
  if (column === undefined) return 'none';
  return `${(column.bytes / column.rows).toFixed(2)} bytes a row (${[...column.encodings].join(', ')})`;
}
