/**
 * Inflates snappy. Owns the lengths: the library gives as many bytes as it is asked for, and where the stream has fewer the rest of them is what an earlier page left in its memory.
 * Source: google/snappy, format_description.txt, "Preamble".
 */
import { compressors } from 'hyparquet-compressors';

/** The `length` bytes that `stored` holds. Throws when it holds another number of them, or is no snappy. */
export function inflateSnappy(stored: Uint8Array, length: number): Uint8Array {
  if (saidLength(stored) !== length) throw new RangeError('a page does not inflate to its length');
  const inflated = compressors.SNAPPY?.(stored, length);
  if (inflated?.length !== length) throw new RangeError('a page does not inflate to its length');
  return inflated;
}

/** What the stream says of itself: seven bits a byte, the lowest first. */
function saidLength(stored: Uint8Array): number {
  let said = 0;
  for (let i = 0; i < 5; i += 1) {
    const byte = stored[i];
    if (byte === undefined) break;
    said += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return said;
  }
  throw new RangeError('a page does not say its length');
}
