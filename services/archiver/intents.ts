/** The receipts behind the marks in a chunk, looked up before it is read, so that reading it needs no waiting: intents of prunes, receipts of restores. */
import type { IntentHead, ReceiptIndex } from '../../src/archive/receipts.js';
import type { RestoreHead, RestoreIndex } from '../../src/archive/restores.js';
import { openMessage, PRUNE_PREFIX, type PrunePayload, RESTORE_PREFIX, type RestorePayload } from '../../src/change/fence.js';
import { type LogicalMessage, readMessage, TAG } from '../../src/change/pgoutput.js';
import type { Log } from '../../src/runtime/log.js';

/** A restore whose rows the archive has. */
export type KnownRestore = RestoreHead & { readonly digests: ReadonlySet<bigint> };

/** What stands behind the marks, by batch. */
export class Marks {
  readonly prunes = new Map<string, IntentHead>();
  readonly restores = new Map<string, KnownRestore>();
  readonly #log: Log;
  readonly #key: Buffer;
  readonly #receipts: ReceiptIndex;
  readonly #restored: RestoreIndex;

  /** `key`: signs the marks; the receipts are those of the archive that they were made for. */
  constructor(log: Log, key: Buffer, receipts: ReceiptIndex, restored: RestoreIndex) {
    this.#log = log;
    this.#key = key;
    this.#receipts = receipts;
    this.#restored = restored;
  }

  /** Takes those of all marks in `payload` in the place of what it had. */
  async find(payload: Buffer): Promise<void> {
    this.prunes.clear();
    this.restores.clear();
    for (const { prefix, content } of messages(payload)) {
      if (prefix === PRUNE_PREFIX) await takeIntent(content, this.#key, this.#receipts, this.prunes);
      else if (prefix === RESTORE_PREFIX) await this.#restore(openMessage<RestorePayload>(this.#key, content)?.batch);
    }
  }

  /** A mark that no receipt stands behind. */
  unproved(transaction: string): void {
    this.#log.warn({ event: 'mark-without-receipt', transaction }, 'a mark of a prune or a restore without its receipt: its changes count as the user’s own');
  }

  async #restore(batch: string | undefined): Promise<void> {
    const receipt = batch === undefined ? undefined : await this.#restored.receipt(batch);
    if (receipt?.known !== true) return;
    const { keys: _keys, digests, ...head } = receipt;
    this.restores.set(head.batch, { ...head, digests: new Set(digests.map(BigInt)) });
  }
}

/** Fills `intents`, by batch, with those of all prune marks in `payload` that are signed with `key`. */
export async function findIntents(payload: Buffer, key: Buffer, receipts: ReceiptIndex, intents: Map<string, IntentHead>): Promise<void> {
  intents.clear();
  for (const { prefix, content } of messages(payload)) if (prefix === PRUNE_PREFIX) await takeIntent(content, key, receipts, intents);
}

async function takeIntent(content: string, key: Buffer, receipts: ReceiptIndex, intents: Map<string, IntentHead>): Promise<void> {
  const mark = openMessage<PrunePayload>(key, content);
  const intent = mark === undefined ? undefined : await receipts.intent(mark.batch);
  if (intent !== undefined) intents.set(intent.batch, intent);
}

/** The logical messages in a payload. */
function* messages(payload: Buffer): Generator<LogicalMessage> {
  for (let at = 0; at + 4 < payload.length; at += 4 + payload.readUInt32BE(at)) {
    if (payload[at + 4] !== TAG.message) continue;
    yield readMessage(payload, at + 4);
  }
}
