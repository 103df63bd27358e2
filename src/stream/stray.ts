/** A message in the stream that is no chunk of ours: what it is called, whoever meets it. */
import type { StoredMsg } from 'nats';
import { type ChunkHeader, decodeChunkHeader } from '../change/chunk.js';
import { Halt, messageOf } from '../runtime/errors.js';

/** Header of a stored message. Throws when it is no chunk. */
export function storedHeader({ header }: StoredMsg): ChunkHeader {
  return decodeChunkHeader((name) => (header?.has(name) ? header.get(name) : undefined));
}

/** Why it is no chunk, undefined when it is one. */
export function strayReason(message: StoredMsg): unknown {
  try {
    storedHeader(message);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** `reason`: what was thrown at decoding it. `safe`: what is certain to be unharmed, as far as who met it knows. */
export function strayHalt(
  stream: { readonly name: string; readonly subject: string },
  sequence: number,
  reason: unknown,
  safe = 'Nothing behind it was taken; the source still holds what is not archived.',
): Halt {
  return new Halt('POISON', {
    seen: `message ${sequence} of stream ${stream.name} is not a chunk (${messageOf(reason)}).`,
    safe,
    remedy: `let only capture publish to ${stream.subject}; stop the services, \`tidemark repair --stream\`, and start them: capture publishes again what is not archived`,
    cause: reason,
  });
}
