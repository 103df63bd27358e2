/** Intents of the prune marks in a chunk, looked up before it is read, so that reading it needs no waiting. */
import type { IntentHead, ReceiptIndex } from '../../src/archive/receipts.js';
import { openMessage, PRUNE_PREFIX, type PrunePayload } from '../../src/change/fence.js';
import { readMessage, TAG } from '../../src/change/pgoutput.js';

/** Fills `intents`, by batch, with those of all marks in `payload` that are signed with `key`. */
export async function findIntents(payload: Buffer, key: Buffer, receipts: ReceiptIndex, intents: Map<string, IntentHead>): Promise<void> {
  intents.clear();
  for (let at = 0; at + 4 < payload.length; at += 4 + payload.readUInt32BE(at)) {
    if (payload[at + 4] !== TAG.message) continue;
    const message = readMessage(payload, at + 4);
    if (message.prefix !== PRUNE_PREFIX) continue;
    const mark = openMessage<PrunePayload>(key, message.content);
    const intent = mark === undefined ? undefined : await receipts.intent(mark.batch);
    if (intent !== undefined) intents.set(intent.batch, intent);
  }
}
