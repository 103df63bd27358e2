/** The proof at publishing: a segment is decoded by the reader that did not write it, every row back to Postgres text, and its digest must be the one taken from the bytes of the stream. */
import { DigestSum, digestOfTexts } from './digest.js';
import { SegmentReader } from './reader.js';

export type Expected = { readonly rows: number /** Decimal, as in the manifest. */; readonly digestSum: string; readonly signature?: string };

/** Thrown when a file does not say what was put into it. Names file and row numbers, never values. */
export class SegmentMismatch extends Error {
  override readonly name = 'SegmentMismatch';
}

/** Decodes every row of a segment (or counts those of a `keys` file). Throws SegmentMismatch at the first difference. */
export async function verifySegment(file: string, expected: Expected): Promise<void> {
  const reader = await SegmentReader.open(file);
  try {
    if (reader.rowCount !== expected.rows) throw new SegmentMismatch(`${file}: ${reader.rowCount} rows, ${expected.rows} were written`);
    if (expected.signature !== undefined && reader.metadata.signature !== expected.signature)
      throw new SegmentMismatch(`${file}: columns differ from the manifest's`);
    const sum = new DigestSum();
    let rows = 0;
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const decoded = await reader.readRowGroup(group);
      for (let row = 0; row < decoded.rowCount; row += 1) {
        rows += 1;
        if (reader.metadata.kind === 'keys') {
          decoded.op(row);
          continue;
        }
        const digest = decoded.digest(row);
        // A value the stream did not carry has no text: nothing to compare, and such a row is never covered.
        if (!decoded.unresolved(row) && digestOfTexts(reader.columns.map((column) => decoded.text(column, row))) !== digest) {
          throw new SegmentMismatch(`${file}: row ${rows} decodes to another text than the stream's`);
        }
        sum.addValue(digest);
      }
    }
    if (rows !== expected.rows) throw new SegmentMismatch(`${file}: ${rows} rows decoded, ${expected.rows} were written`);
    if (reader.metadata.kind !== 'keys' && sum.toString() !== expected.digestSum)
      throw new SegmentMismatch(`${file}: the digests do not add up to the manifest's`);
  } finally {
    await reader.close();
  }
}
