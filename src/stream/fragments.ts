/** Fragments of a chunk that was larger than a message. */
import type { ChunkHeader } from '../change/chunk.js';
import { formatPosition } from '../position/position.js';

/** `sequence`: of its last message; `firstSequence`: of its first fragment. */
export type WholeChunk = { readonly header: ChunkHeader; readonly payload: Buffer; readonly sequence: number; readonly firstSequence: number };

/** Set aside at once for the fragments that a header announces; for more than this as they come. */
const MOST_AHEAD_BYTES = 64 * 1024 * 1024;

const NOTHING = Buffer.alloc(0);

/** Puts the fragments of one chunk together, each copied as it comes: none is kept. A group that is interrupted by another chunk was left by a publisher that died: it is dropped. */
export class FragmentGroup {
  #header: ChunkHeader | undefined;
  #bytes = NOTHING;
  #length = 0;
  #count = 0;
  #first = 0;

  /** The whole chunk when this was its last fragment. */
  add(header: ChunkHeader, data: Uint8Array, sequence: number): WholeChunk | undefined {
    const { n, of } = header.fragment;
    if (n === 1) {
      this.#end();
      if (of === 1) return { header, payload: toBuffer(data), sequence, firstSequence: sequence };
      this.#header = header;
      this.#first = sequence;
      this.#bytes = Buffer.allocUnsafe(Math.min(data.length * of, MOST_AHEAD_BYTES));
    } else if (!this.#continues(header)) {
      this.#end();
      return undefined;
    }
    this.#append(data);
    if (n < of) return undefined;
    const whole = { payload: this.#bytes.subarray(0, this.#length), sequence, firstSequence: this.#first };
    this.#end();
    return { header: { ...header, fragment: { n: 1, of: 1 } }, ...whole };
  }

  #append(data: Uint8Array): void {
    const length = this.#length + data.length;
    if (length > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes.subarray(0, this.#length)], Math.max(this.#bytes.length * 2, length));
    this.#bytes.set(data, this.#length);
    this.#length = length;
    this.#count += 1;
  }

  #end(): void {
    this.#header = undefined;
    this.#bytes = NOTHING;
    this.#length = this.#count = 0;
  }

  #continues(header: ChunkHeader): boolean {
    const open = this.#header;
    return (
      open !== undefined &&
      header.fragment.n === this.#count + 1 &&
      header.fragment.of === open.fragment.of &&
      header.kind === open.kind &&
      header.epoch.generation === open.epoch.generation &&
      header.recopy?.id === open.recopy?.id &&
      header.recopy?.prev === open.recopy?.prev &&
      formatPosition(header.prev) === formatPosition(open.prev) &&
      formatPosition(header.end) === formatPosition(open.end)
    );
  }
}

function toBuffer(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
