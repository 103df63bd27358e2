/** How a stream ends: the last chunk, whether it is whole, and the bytes that tell the transaction it begins in. */
import type { JetStreamManager, StoredMsg } from 'nats';
import type { ChunkHeader } from '../change/chunk.js';
import { Halt } from '../runtime/errors.js';
import { storedHeader, strayHalt, strayReason } from './stray.js';
import { isNotFound, type StreamConnection } from './topology.js';

/** The last message of the stream: its header, and whether the chunk it belongs to is whole. */
export type StreamTail = { readonly header: ChunkHeader; readonly sequence: number; readonly whole: boolean; readonly first: Buffer };

/** A stored message, undefined when there is none at that place. */
export async function findMessage(manager: JetStreamManager, name: string, seq: number): Promise<StoredMsg | undefined> {
  try {
    return await manager.streams.getMessage(name, { seq });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The last message, and the first fragment of its chunk (which tells the transaction the chunk begins in). Throws Halt POISON when it is no chunk, STREAM_GAP when it is missing. */
export async function readTail(stream: StreamConnection, sequence: number): Promise<StreamTail> {
  const last = await findMessage(stream.manager, stream.name, sequence);
  if (last === undefined) {
    throw new Halt('STREAM_GAP', {
      seen: `the last message (${sequence}) of stream ${stream.name} is missing.`,
      safe: 'The source still holds everything that is not archived.',
      remedy: 'stop the services, `tidemark repair --stream`, and start them: capture publishes again what is not archived',
    });
  }
  const stray = strayReason(last);
  if (stray !== undefined) throw strayHalt(stream, sequence, stray, 'The source still holds everything that is not archived.');
  const header = storedHeader(last);
  const { n, of } = header.fragment;
  const first = n === 1 ? last : await findMessage(stream.manager, stream.name, sequence - n + 1);
  return { header, sequence, whole: n === of, first: Buffer.from(first?.data ?? new Uint8Array(0)) };
}
