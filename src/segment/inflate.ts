/**
 * Inflates pages. Owns the lengths: snappy's library gives as many bytes as it is asked for, and where the stream has fewer the rest of them is what an earlier page left in its memory.
 * Source: google/snappy, format_description.txt, "Preamble".
 */
import zlib from 'node:zlib';
import { compressors } from 'hyparquet-compressors';

/** The `length` bytes that `stored` holds. Throws when it holds another number of them, or is not of its kind. */
export type Inflate = (stored: Uint8Array, length: number) => Uint8Array;

/** Node has its own zstd from 22.15 on. */
const native = (zlib as { zstdDecompressSync?: (stored: Uint8Array, options: { maxOutputLength: number }) => Buffer }).zstdDecompressSync;

export const inflateSnappy: Inflate = (stored, length) => {
  if (saidLength(stored) !== length) throw new RangeError('a page does not inflate to its length');
  return ofLength(compressors.SNAPPY?.(stored, length), length);
};

export const inflateZstd: Inflate = (stored, length) =>
  ofLength(native === undefined ? compressors.ZSTD?.(stored, length) : native(stored, { maxOutputLength: Math.max(1, length) }), length);

export const inflateGzip: Inflate = (stored, length) => ofLength(zlib.gunzipSync(stored, { maxOutputLength: Math.max(1, length) }), length);

function ofLength(inflated: Uint8Array | undefined, length: number): Uint8Array {
  if (inflated?.length !== length) throw new RangeError('a page does not inflate to its length');
  return inflated;
}

/** What a snappy stream says of itself: seven bits a byte, the lowest first. */
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
