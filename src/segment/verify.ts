/** The proof at publishing: a segment is decoded by the reader that did not write it, every row back to Postgres text, and its digest must be the one taken from the bytes of the stream. */

import { formatLsn, lsn } from '../position/lsn.js';
import { foldColumn } from './column-digests.js';
import { DailyReader } from './daily-reader.js';
import { ColumnwiseDigests, DigestSum } from './digest.js';
import { hashFile } from './durable-file.js';
import { SegmentReader } from './reader.js';
import type { SegmentRows } from './segment-rows.js';
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

/** Awaited before each column of a row group: who decodes beside something more urgent waits for it there. */
export type GiveWay = () => Promise<void>;

const toNobody: GiveWay = async () => undefined;

/** Decodes every row of a segment or keys file; its SHA-256, hex. Throws SegmentMismatch at the first difference, and what SegmentReader.open throws. */
export async function verifySegment(file: string, expected: Expected, giveWay: GiveWay = toNobody): Promise<string> {
  const reader = await SegmentReader.open(file);
  try {
    const sha256 = await reader.sha256(); // before anything is decoded: what changes behind it does not fit it
    if (reader.rowCount !== expected.rows) throw new SegmentMismatch(`${file}: ${reader.rowCount} rows, ${expected.rows} were written`);
    if (expected.signature !== undefined && reader.metadata.signature !== expected.signature)
      throw new SegmentMismatch(`${file}: columns differ from the manifest's`);
    requireDeclared(file, reader);
    const tally = new Tally(file, reader, giveWay);
    for (let group = 0; group < reader.rowGroupCount; group += 1) await tally.take(group).catch((error: unknown) => undecodable(file, group, error));
    tally.conclude(expected);
    return sha256;
  } finally {
    await reader.close();
  }
}

/** What a sealed file must hold: its rows, with digests that add up. */
export type DailyExpected = Pick<Expected, 'rows' | 'digestSum'>;

/** Decodes every row of a daily, history or changes file; its SHA-256, hex. Throws SegmentMismatch when they are not those, and what DailyReader throws. */
export async function verifyDaily(file: string, expected: DailyExpected, giveWay: GiveWay = toNobody): Promise<string> {
  const sha256 = await hashFile(file);
  const reader = await DailyReader.open(file);
  requireDeclared(file, reader);
  const found = await reader.digestSum(new Set(), giveWay);
  if (found.rows === expected.rows && found.digestSum === expected.digestSum) return sha256;
  throw new SegmentMismatch(
    `${file}: read back as ${found.rows} rows with digests ${found.digestSum}; ${expected.rows} rows with ${expected.digestSum} were written`,
  );
}

/** The same bytes declared as another type are other values to every reader. */
function requireDeclared(file: string, reader: SegmentReader | DailyReader): void {
  const column = reader.misdeclared();
  if (column !== undefined) throw new SegmentMismatch(`${file}: column ${column} is declared as another type than it was written with`);
}

/** Bytes that cannot be decoded are a difference like any other; what the system says (EIO, EMFILE) is not. */
function undecodable(file: string, group: number, error: unknown): never {
  if (error instanceof SegmentMismatch || (error as { code?: unknown } | null)?.code !== undefined) throw error;
  throw new SegmentMismatch(`${file}: row group ${group} cannot be decoded (${(error as Error).message})`, { cause: error });
}

/** What the decoded rows add up to. */
class Tally {
  readonly #file: string;
  readonly #reader: SegmentReader;
  readonly #giveWay: GiveWay;
  readonly #sum = new DigestSum();
  #rows = 0;
  #least: bigint | undefined;
  #most: bigint | undefined;

  constructor(file: string, reader: SegmentReader, giveWay: GiveWay) {
    this.#file = file;
    this.#reader = reader;
    this.#giveWay = giveWay;
  }

  async take(group: number): Promise<void> {
    const system = await this.#reader.readRowGroup(group, []);
    const digests = await digestsOf(this.#reader, group, system, this.#giveWay);
    const keys = this.#reader.metadata.kind === 'keys';
    const written = keys ? undefined : system.words('digest');
    const lsns = system.words('lsn');
    for (let row = 0; row < system.rowCount; row += 1) {
      this.#rows += 1;
      if (keys) digests.fold(row, boundaryText({ op: system.op(row), lsn: system.lsn(row), ordinal: system.ordinal(row) }));
      const decoded = digests.of(row);
      const { high } = decoded;
      const low = decoded.low(high);
      if (written !== undefined && (written[row * 2 + 1] !== high || written[row * 2] !== (low | 0))) this.#requireUnresolved(system, row);
      this.#sum.add(written?.[row * 2 + 1] ?? high, (written?.[row * 2] ?? low) >>> 0);
      if (row === 0 || lsns[row * 2] !== lsns[row * 2 - 2] || lsns[row * 2 + 1] !== lsns[row * 2 - 1]) this.#seeLsn(system.lsn(row));
    }
  }

  #seeLsn(at: bigint): void {
    if (this.#least === undefined || at < this.#least) this.#least = at;
    if (this.#most === undefined || at > this.#most) this.#most = at;
  }

  #requireUnresolved(system: SegmentRows, row: number): void {
    // A name with a comma in it cannot be told from two: such a row is never covered, and its file is still guarded by its hash.
    if (system.unresolved(row) && this.#reader.columns.some((column) => column.includes(','))) return;
    throw new SegmentMismatch(`${this.#file}: row ${this.#rows} decodes to another text than the stream's`);
  }

  conclude(expected: Expected): void {
    if (this.#rows !== expected.rows) throw new SegmentMismatch(`${this.#file}: ${this.#rows} rows decoded, ${expected.rows} were written`);
    if (this.#sum.toString() !== expected.digestSum) throw new SegmentMismatch(`${this.#file}: the digests do not add up to the manifest's`);
    if (differs(this.#least, expected.minLsn) || differs(this.#most, expected.maxLsn))
      throw new SegmentMismatch(`${this.#file}: its changes are not from the WAL locations that the manifest says`);
  }
}

/** Digests of a group's rows from their decoded values, a column at a time. */
async function digestsOf(reader: SegmentReader, group: number, system: SegmentRows, giveWay: GiveWay): Promise<ColumnwiseDigests> {
  const digests = new ColumnwiseDigests(system.rowCount);
  for (const name of reader.columns) {
    await giveWay();
    foldColumn(digests, system.rowCount, await reader.readColumn(group, name), reader.form(name), (row) => absentValue(system, name, row));
  }
  return digests;
}

/** What stands for a value that is not in its column: its text if that was kept apart, undefined if the stream did not carry it, else NULL. */
function absentValue(system: SegmentRows, name: string, row: number): string | null | undefined {
  if (system.unresolved(row) && system.unresolvedColumns(row)?.split(',').includes(name)) return undefined;
  return system.keptText(name, row);
}

function differs(seen: bigint | undefined, expected: string | undefined): boolean {
  return seen !== undefined && expected !== undefined && formatLsn(lsn(seen)) !== expected;
}
