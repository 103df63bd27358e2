/** The bytes of a Parquet page: levels, runs and packed numbers. Source: Apache Parquet, Encodings.md, "Run Length Encoding / Bit-Packing Hybrid". Throws RangeError where they end too early. */

/** The bytes of a page, read from the front. */
export class PageBytes {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Takes the next `length` bytes. */
  take(length: number): Buffer {
    const taken = this.bytes.subarray(this.at, this.at + length);
    if (taken.length !== length) throw new RangeError('a page ends in the middle of a value');
    this.at += length;
    return taken;
  }

  /** Definition levels of at most 1: bytes that say their length. Returns how many are 1. Throws for a higher one. */
  levels(into: Uint8Array): number {
    const length = this.take(4).readUInt32LE(0);
    new PageBytes(this.take(length)).hybrid(1, into);
    let [count, all] = [0, 0];
    for (let i = 0; i < into.length; i += 1) {
      const level = into[i] as number;
      count += level;
      all |= level;
    }
    if (all > 1) throw new RangeError('a level above 1');
    return count;
  }

  /** Fills `into` with numbers of `width` bits: runs of one, or eights packed from the lowest bit up. */
  hybrid(width: number, into: Uint8Array | Uint32Array): void {
    const size = Math.ceil(width / 8);
    for (let done = 0; done < into.length; ) {
      const head = this.#varint();
      if ((head & 1) === 0) {
        const run = Math.min(head >>> 1, into.length - done);
        if (run === 0) throw new RangeError('an empty run');
        into.fill(size === 0 ? 0 : this.take(size).readUIntLE(0, size), done, done + run);
        done += run;
      } else {
        const packed = this.take(Math.min((head >>> 1) * width, this.bytes.length - this.at));
        const numbers = Math.min((head >>> 1) * 8, into.length - done);
        if (numbers === 0 || packed.length * 8 < numbers * width) throw new RangeError('a page ends in the middle of a run');
        unpack(packed, width, into, done, numbers);
        done += numbers;
      }
    }
  }

  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.bytes[this.at];
      if (byte === undefined) throw new RangeError('a page ends in the middle of a number');
      this.at += 1;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number of more than 32 bits');
  }
}

/** `count` numbers of `width` bits (at most 32), the lowest bits first. */
export function unpack(packed: Uint8Array, width: number, into: Uint8Array | Uint32Array, from: number, count: number): void {
  if (width === 1) return unpackBits(packed, into, from, count);
  if (width > 23) return unpackWide(packed, width, into, from, count);
  const mask = (1 << width) - 1;
  let [held, bits, next] = [0, 0, 0]; // at most 22 and 8 bits: as integers
  for (let i = from; i < from + count; i += 1) {
    for (; bits < width; bits += 8, next += 1) held |= (packed[next] as number) << bits;
    into[i] = held & mask;
    held >>>= width;
    bits -= width;
  }
}

function unpackBits(packed: Uint8Array, into: Uint8Array | Uint32Array, from: number, count: number): void {
  for (let i = 0; i < count; i += 1) into[from + i] = ((packed[i >> 3] as number) >> (i & 7)) & 1;
}

/** Not by shifts: what is held may have up to 39 bits. */
function unpackWide(packed: Uint8Array, width: number, into: Uint8Array | Uint32Array, from: number, count: number): void {
  let [held, bits, next] = [0, 0, 0];
  for (let i = from; i < from + count; i += 1) {
    for (; bits < width; bits += 8, next += 1) held += (packed[next] as number) * 2 ** bits;
    const rest = Math.floor(held / 2 ** width);
    into[i] = held - rest * 2 ** width;
    held = rest;
    bits -= width;
  }
}
