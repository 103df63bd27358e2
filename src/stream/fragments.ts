/** Fragments of a chunk that was larger than a message. */
import type { ChunkHeader } from '../change/chunk.js';
import { formatPosition } from '../position/position.js';

/** `sequence`: of its last message; `firstSequence`: of its first fragment. */
export type WholeChunk = { readonly header: ChunkHeader; readonly payload: Buffer; readonly sequence: number; readonly firstSequence: number };

/** Puts the fragments of one chunk together. A group that is interrupted by another chunk was left by a publisher that died: it is dropped. */
export class FragmentGroup {
  #header: ChunkHeader | undefined;
  #parts: Uint8Array[] = [];
  #first = 0;

  /** The whole chunk when this was its last fragment. */
  add(header: ChunkHeader, data: Uint8Array, sequence: number): WholeChunk | undefined {
    const { n, of } = header.fragment;
    if (n === 1) {
      this.#header = header;
      this.#parts = [];
      this.#first = sequence;
    } else if (!this.#continues(header)) {
      this.#header = undefined;
      this.#parts = [];
      return undefined;
    }
    this.#parts.push(data);
    if (n < of) return undefined;
    const payload = this.#parts.length === 1 ? toBuffer(data) : Buffer.concat(this.#parts);
    this.#header = undefined;
    this.#parts = [];
    return { header: { ...header, fragment: { n: 1, of: 1 } }, payload, sequence, firstSequence: this.#first };
  }

  #continues(header: ChunkHeader): boolean {
    const open = this.#header;
    return (
      open !== undefined &&
      header.fragment.n === this.#parts.length + 1 &&
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
