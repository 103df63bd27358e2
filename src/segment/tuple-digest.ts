/** Row digests of tuples as pgoutput sends them, without building anything: to tell whether a row that comes is one that is archived already. */
import { COLUMN } from '../change/pgoutput.js';
import { RowDigest } from './digest.js';

const scratch = new RowDigest();

/**
 * Digests of the TupleData at `at`: of the whole row, and of it without its last columns as long as these are NULL (columns that the table did not have when the row was archived). The whole
 * row's comes last. Throws RangeError on a tuple that leaves its buffer.
 */
export function tupleDigests(buffer: Buffer, at: number): bigint[] {
  let digests: bigint[] = [];
  let next = at + 2;
  scratch.reset();
  for (let left = buffer.readUInt16BE(at); left > 0; left -= 1) {
    const kind = buffer[next];
    next += 1;
    if (kind === COLUMN.null) {
      if (digests.length === 0) digests.push(scratch.value);
      scratch.nullValue();
      digests.push(scratch.value);
      continue;
    }
    digests = [];
    if (kind === COLUMN.text) {
      const start = next + 4;
      next = start + buffer.readUInt32BE(start - 4);
      if (next > buffer.length) throw new RangeError('tuple leaves its message');
      scratch.bytes(buffer, start, next);
    } else scratch.unchanged();
  }
  return digests.length > 0 ? digests : [scratch.value];
}

/** Digest of the whole row. */
export function tupleDigest(buffer: Buffer, at: number): bigint {
  return tupleDigests(buffer, at).at(-1) as bigint;
}
