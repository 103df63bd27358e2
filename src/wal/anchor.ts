/**
 * Proves on each connection that the server writes the very history that was archived: the slot stands at an archived fence, so that fence must come first, and every
 * newer archived fence, and the transaction the stream ends in, must come again at their own places. A server restored from a copy fails here (IDENTITY).
 * Must see every message before the framer; nothing is confirmed until it is `proved`, and then only fences that came on this very connection: those that the stream brings to the archive later may
 * be of the history that was lost.
 */
import { FENCE_PREFIX, type FencePayload, openMessage } from '../change/fence.js';
import { readBegin, readLsn, readMessage, TAG } from '../change/pgoutput.js';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import { Halt } from '../runtime/errors.js';

export type AnchorFacts = {
  readonly key: Buffer;
  readonly archive: string;
  readonly slotAt: Lsn;
  /** The slot stands at a fence: it must come first. */
  readonly anchored: boolean;
  readonly fences: readonly { readonly lsn: string; readonly end: string; readonly nonce: string }[];
  /** Begin message of a transaction that the stream already holds; it is sent again when it does not lie before the slot. */
  readonly tailBegin: Buffer | undefined;
};

const FENCE = Buffer.from(`${FENCE_PREFIX}\0`);

type Expected = { readonly lsn: Lsn; readonly end: Lsn; readonly nonce: string };

export class AnchorCheck {
  readonly #facts: AnchorFacts;
  /** Archived fences still to come, oldest first. */
  readonly #expected: Expected[];
  #tail: { readonly lsn: Lsn; readonly bytes: Buffer } | undefined;
  #first: boolean;
  /** Start of the running transaction's commit record. */
  #at: Lsn | undefined;
  /** The running transaction must bring this fence. */
  #due: Expected | undefined;
  #firstDue = false;
  /** Fences that came: place and nonce. */
  readonly #came = new Map<string, Lsn>();

  constructor(facts: AnchorFacts) {
    this.#facts = facts;
    this.#first = facts.anchored;
    this.#expected = facts.fences
      .map((fence) => ({ lsn: parseLsn(fence.lsn), end: parseLsn(fence.end), nonce: fence.nonce }))
      .filter((fence) => fence.lsn >= facts.slotAt)
      .sort((a, b) => (a.lsn < b.lsn ? -1 : 1));
    const tailLsn = facts.tailBegin === undefined ? undefined : readBegin(facts.tailBegin, 0).commitLsn;
    if (facts.tailBegin !== undefined && tailLsn !== undefined && tailLsn >= facts.slotAt) this.#tail = { lsn: tailLsn, bytes: facts.tailBegin };
  }

  /** True when all that had to come has come. */
  get proved(): boolean {
    return !this.#first && !this.#firstDue && this.#due === undefined && this.#expected.length === 0 && this.#tail === undefined;
  }

  /** Looks at one message of pgoutput. Throws Halt IDENTITY. */
  observe(message: Buffer): void {
    switch (message[0]) {
      case TAG.begin:
        return this.#begin(message, readLsn(message, 1));
      case TAG.message:
        return this.#message(message);
      case TAG.commit:
        return this.#commit();
      default:
        return undefined;
    }
  }

  /** All that committed below `walEnd` has been sent. */
  passed(walEnd: Lsn): void {
    const next = this.#expected[0];
    if (next !== undefined && next.end <= walEnd) this.#missing(next, `everything up to ${formatLsn(walEnd)} came without it`);
  }

  /** Those of the archived fences that came on this connection. Throws Halt IDENTITY when it has gone past the place of one that did not. */
  sent<Fence extends AnchorFacts['fences'][number]>(fences: readonly Fence[]): Fence[] {
    const oldest = parseLsn(fences[0]?.lsn ?? '0/0');
    for (const [came, lsn] of this.#came) if (lsn < oldest) this.#came.delete(came);
    return fences.filter((fence) => {
      const [lsn, end] = [parseLsn(fence.lsn), parseLsn(fence.end)];
      const came = this.#came.has(`${fence.lsn} ${fence.nonce}`);
      if (!came && lsn > this.#facts.slotAt && this.#at !== undefined && lsn < this.#at)
        this.#missing({ lsn, end, nonce: fence.nonce }, `a transaction at ${formatLsn(this.#at)} came without it`);
      return came;
    });
  }

  #begin(bytes: Buffer, at: Lsn): void {
    this.#at = at;
    if (this.#first) {
      this.#first = false;
      if (at !== this.#facts.slotAt)
        throw this.#identity(
          `the first transaction sent stands at ${formatLsn(at)}, not at the fence the slot was confirmed to (${formatLsn(this.#facts.slotAt)})`,
        );
      this.#firstDue = true;
    }
    const next = this.#expected[0];
    if (next !== undefined && at > next.lsn) this.#missing(next, `a transaction at ${formatLsn(at)} came instead`);
    if (next !== undefined && at === next.lsn) this.#due = this.#expected.shift();
    this.#checkTail(bytes, at);
  }

  #checkTail(bytes: Buffer, at: Lsn): void {
    const tail = this.#tail;
    if (tail === undefined || at < tail.lsn) return;
    if (at > tail.lsn || !bytes.equals(tail.bytes)) {
      throw this.#identity(`the transaction at ${formatLsn(tail.lsn)}, which the stream holds, is not the one this server has there`);
    }
    this.#tail = undefined;
  }

  #message(bytes: Buffer): void {
    if (bytes[1] !== 1 || !bytes.subarray(10, 10 + FENCE.length).equals(FENCE) || this.#at === undefined) return;
    const fence = openMessage<FencePayload>(this.#facts.key, readMessage(bytes, 0).content);
    if (fence === undefined) return;
    if (fence.archive === this.#facts.archive) this.#came.set(`${formatLsn(this.#at)} ${fence.nonce}`, this.#at);
    if (this.#due === undefined && !this.#firstDue) return;
    if (fence.archive !== this.#facts.archive) {
      throw this.#identity(`the slot belongs to archive ${fence.archive}, the folder holds archive ${this.#facts.archive}`);
    }
    this.#firstDue = false;
    if (this.#due !== undefined && this.#due.nonce === fence.nonce) this.#due = undefined;
  }

  #commit(): void {
    if (this.#due !== undefined) this.#missing(this.#due, 'the transaction there carries another');
    if (this.#firstDue)
      throw this.#identity(`the transaction at ${formatLsn(this.#at ?? this.#facts.slotAt)}, where the slot stands, is no fence of this archive`);
  }

  #missing(fence: Expected, how: string): never {
    throw this.#identity(`the archived fence ${fence.nonce} at ${formatLsn(fence.lsn)} is not in this server's history (${how})`);
  }

  #identity(seen: string): Halt {
    return new Halt('IDENTITY', {
      seen: `${seen}: another server, or a copy of this one restored from earlier.`,
      safe: 'Nothing was confirmed; what is archived stays as it is and nothing is pruned by it.',
      remedy: 'let source.url name the server the archive was made from; if that one was restored from a backup: stop the services and `tidemark resync`',
    });
  }
}
