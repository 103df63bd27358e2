/** The next column of rows whose digests are taken a column at a time, from decoded values: the bytes of their texts, made in one place. */
import type { SegmentColumn } from './columns.js';
import type { ColumnwiseDigests } from './digest.js';
import type { ColumnValues } from './segment-rows.js';
import { ValueTexts } from './value-texts.js';

/** Folds a column of `rows` rows. `absent`: what stands for a value that is not in its column: its text if that was kept apart, undefined if the stream did not carry it, null for NULL. */
export function foldColumn(
  digests: ColumnwiseDigests,
  rows: number,
  { values, at }: ColumnValues,
  { places, text }: SegmentColumn,
  absent: (row: number) => string | null | undefined,
): void {
  const texts = new ValueTexts(values, places, text);
  for (let row = 0; row < rows; row += 1) {
    const index = at === undefined ? row : (at[row] as number);
    if (index < 0) {
      digests.fold(row, absent(row));
      continue;
    }
    texts.at(index);
    digests.foldBytes(row, texts.buffer, texts.start, texts.end);
  }
}
