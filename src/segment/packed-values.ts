/**
 * The values of a decoded column in few objects. What is kept while many batches are compared must not be a heap of millions of small ones: collecting it took longer than comparing.
 * Never changes a value.
 */
import type { RawList, RawValue } from './raw-value.js';

/** Values by index; an array is one. */
export type Values = { readonly length: number; at(index: number): RawValue | undefined };

/** A column of more bytes than this is left as it was decoded: values that its pages hold once may stand in many rows. */
const MOST_BYTES = 16 * 1024 * 1024;
/** What a value of its own takes, about. */
const UNPACKED_BYTES = 64;

/** The same values, in one piece of memory where they are all of one kind; `bytes`: what they take, about. */
export function packValues(values: readonly RawValue[]): { readonly values: Values; readonly bytes: number } {
  const packed = packedNumbers(values) ?? packedBytes(values);
  return packed ?? { values, bytes: values.length * UNPACKED_BYTES };
}

type Packed = ReturnType<typeof packValues> | undefined;

function packedNumbers(values: readonly RawValue[]): Packed {
  if (areAll(values, 'bigint')) return sized(BigInt64Array.from(values));
  return areAll(values, 'number') ? sized(Float64Array.from(values)) : undefined;
}

const sized = <T extends Values & { readonly byteLength: number }>(values: T): { values: T; bytes: number } => ({ values, bytes: values.byteLength });

function areAll<T extends 'bigint' | 'number'>(values: readonly RawValue[], type: T): values is readonly (T extends 'bigint' ? bigint : number)[] {
  return values.length > 0 && values.every((value) => typeof value === type);
}

function packedBytes(values: readonly RawValue[]): Packed {
  let length = 0;
  for (const value of values) {
    if (!Buffer.isBuffer(value)) return undefined;
    length += value.length;
    if (length > MOST_BYTES) return undefined;
  }
  const bytes = Buffer.allocUnsafeSlow(length);
  const ends = new Uint32Array(values.length);
  let at = 0;
  for (const [i, value] of (values as readonly Exclude<RawValue, bigint | number | boolean | RawList>[]).entries()) {
    bytes.set(value, at);
    at += value.length;
    ends[i] = at;
  }
  return { values: new PackedBytes(bytes, ends), bytes: length + ends.byteLength };
}

class PackedBytes implements Values {
  readonly #bytes: Buffer;
  /** Where each value ends; it begins where the one before ends. */
  readonly #ends: Uint32Array;

  constructor(bytes: Buffer, ends: Uint32Array) {
    this.#bytes = bytes;
    this.#ends = ends;
  }

  get length(): number {
    return this.#ends.length;
  }

  at(index: number): Buffer | undefined {
    const end = this.#ends[index];
    return end === undefined ? undefined : this.#bytes.subarray(index === 0 ? 0 : this.#ends[index - 1], end);
  }
}
