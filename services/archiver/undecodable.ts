/** A failure of its own kind: the stream brought something that cannot be read. Whoever meets it decides how often to try. */
import { messageOf } from '../../src/runtime/errors.js';
import type { StreamChunk } from '../../src/stream/consume.js';

/** Bytes that no decoder of ours understands: tried again, then a halt. */
export class Undecodable extends Error {
  override readonly name = 'Undecodable';
  readonly chunk: StreamChunk;
  constructor(chunk: StreamChunk, cause: Error) {
    super(`message ${chunk.sequence}: ${messageOf(cause)}`, { cause });
    this.chunk = chunk;
  }
}
