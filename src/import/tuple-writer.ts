/** Rows as pgoutput would send them, for builder.ts: TupleData of the texts of a chunk's columns. One buffer for all rows. Source: PostgreSQL manual, "Logical Replication Message Formats". */
import { COLUMN } from '../change/pgoutput.js';

export class TupleWriter {
  #buffer = Buffer.allocUnsafe(64 * 1024);

  /** The tuple of row `i`; valid until the next call. A column that is undefined is NULL. */
  write(columns: readonly (readonly (string | null)[] | undefined)[], i: number): Buffer {
    let most = 2;
    for (const texts of columns) most += 5 + (texts?.[i]?.length ?? 0) * 3;
    if (most > this.#buffer.length) this.#buffer = Buffer.allocUnsafe(most * 2);
    const buffer = this.#buffer;
    let at = buffer.writeUInt16BE(columns.length, 0);
    for (const texts of columns) {
      const text = texts?.[i] ?? null;
      if (text === null) {
        buffer[at++] = COLUMN.null;
        continue;
      }
      buffer[at] = COLUMN.text;
      const length = buffer.write(text, at + 5, 'utf8');
      buffer.writeUInt32BE(length, at + 1);
      at += 5 + length;
    }
    return buffer.subarray(0, at);
  }
}
