/** The proof at publishing: a segment is decoded by the reader that did not write it, every row back to Postgres text, and its digest must be the one taken from the bytes of the stream. */

import { formatLsn, lsn } from '../position/lsn.js';
import { DigestSum, digestOfTexts } from './digest.js';
import { SegmentReader, type SegmentRows } from './reader.js';
import { boundaryText } from './system-columns.js';

/** A file's entry in the manifest has all of it. */
export type Expected = {
  readonly rows: number;
  /** Decimal, as in the manifest. */
  readonly digestSum: string;
  readonly signature?: string;
  /** LSN text of the first and last change. */
  readonly minLsn?: string;
  readonly maxLsn?: string;
};

/** Thrown when a file does not say what was put into it. Names file and row numbers, never values. */
export class SegmentMismatch extends Error {
  override readonly name = 'SegmentMismatch';
}

/** Decodes every row of a segment or keys file. Throws SegmentMismatch at the first difference. */
export async function verifySegment(file: string, expected: Expected): Promise<void> {
  const reader = await SegmentReader.open(file);
  try {
    if (reader.rowCount !== expected.rows) throw new SegmentMismatch(`${file}: ${reader.rowCount} rows, ${expected.rows} were written`);
    if (expected.signature !== undefined && reader.metadata.signature !== expected.signature)
      throw new SegmentMismatch(`${file}: columns differ from the manifest's`);
    const tally = new Tally(file, reader);
    for (let group = 0; group < reader.rowGroupCount; group += 1) tally.take(await reader.readRowGroup(group));
    tally.conclude(expected);
  } finally {
    await reader.close();
  }
}

/** What the decoded rows add up to. */
class Tally {
  readonly #file: string;
  readonly #columns: readonly string[];
  readonly #keys: boolean;
  readonly #sum = new DigestSum();
  #rows = 0;
  #least: bigint | undefined;
  #most: bigint | undefined;

  constructor(file: string, reader: SegmentReader) {
    this.#file = file;
    this.#columns = reader.columns;
    this.#keys = reader.metadata.kind === 'keys';
  }

  take(rows: SegmentRows): void {
    for (let row = 0; row < rows.rowCount; row += 1) {
      this.#rows += 1;
      this.#sum.addValue(this.#keys ? keyDigest(rows, row, this.#columns) : this.#rowDigest(rows, row));
      const at = rows.lsn(row);
      if (this.#least === undefined || at < this.#least) this.#least = at;
      if (this.#most === undefined || at > this.#most) this.#most = at;
    }
  }

  #rowDigest(rows: SegmentRows, row: number): bigint {
    const digest = rows.digest(row);
    const missing = rows.unresolvedColumns(row);
    const absent = missing === null ? undefined : new Set(missing.split(','));
    const texts = this.#columns.map((column) => (absent?.has(column) ? undefined : rows.text(column, row)));
    // A name with a comma in it cannot be told from two: such a row is never covered, and its file is still guarded by its hash.
    const nameable = missing === null || !this.#columns.some((column) => column.includes(','));
    if (nameable && digestOfTexts(texts) !== digest) throw new SegmentMismatch(`${this.#file}: row ${this.#rows} decodes to another text than the stream's`);
    return digest;
  }

  conclude(expected: Expected): void {
    if (this.#rows !== expected.rows) throw new SegmentMismatch(`${this.#file}: ${this.#rows} rows decoded, ${expected.rows} were written`);
    if (this.#sum.toString() !== expected.digestSum) throw new SegmentMismatch(`${this.#file}: the digests do not add up to the manifest's`);
    if (differs(this.#least, expected.minLsn) || differs(this.#most, expected.maxLsn))
      throw new SegmentMismatch(`${this.#file}: its changes are not from the WAL locations that the manifest says`);
  }
}

function keyDigest(rows: SegmentRows, row: number, columns: readonly string[]): bigint {
  const key = columns.map((column) => rows.text(column, row));
  return digestOfTexts([...key, boundaryText({ op: rows.op(row), lsn: rows.lsn(row), ordinal: rows.ordinal(row) })]);
}

function differs(seen: bigint | undefined, expected: string | undefined): boolean {
  return seen !== undefined && expected !== undefined && formatLsn(lsn(seen)) !== expected;
}
