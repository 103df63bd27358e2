/**
 * The values of a decoded column in few objects: numbers in a typed array, bytes in one piece. A million small objects take longer to collect than to compare.
 * Never changes a value.
 */
import type { RawValue } from './raw-value.js';

/** Values by index; an array is one, and a typed array. `byteLength`: memory that they take, where it is known. */
export type Values = { readonly length: number; readonly byteLength?: number; at(index: number): RawValue | undefined };

/** What a value that is an object of its own takes, bytes, about. */
const OBJECT_BYTES = 64;

/** Memory that values take, bytes, about. */
export function memoryOf(values: Values): number {
  return values.byteLength ?? values.length * OBJECT_BYTES;
}

/** Values that lie in one buffer, each from its start to its end; several may share a place. */
export class PackedBytes implements Values {
  readonly bytes: Buffer;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;

  constructor(bytes: Buffer, starts: Uint32Array, ends: Uint32Array) {
    this.bytes = bytes;
    this.starts = starts;
    this.ends = ends;
  }

  get length(): number {
    return this.starts.length;
  }

  get byteLength(): number {
    return this.bytes.byteLength + this.starts.byteLength + this.ends.byteLength;
  }

  at(index: number): Buffer | undefined {
    const start = this.starts[index];
    return start === undefined ? undefined : this.bytes.subarray(start, this.ends[index]);
  }
}

/** Booleans, a byte each. */
export class PackedBooleans implements Values {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  get byteLength(): number {
    return this.#bytes.byteLength;
  }

  at(index: number): boolean | undefined {
    const byte = this.#bytes[index];
    return byte === undefined ? undefined : byte === 1;
  }
}
