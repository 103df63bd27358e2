/**
 * Rows that are copied and were restored before: the archive has them already, and copied as their own they would be there twice. Told by the receipts of restores. A receipt counts for a copy whose
 * snapshot could see its transaction, whatever became of that: so a replay of the stream decides as the archiver did.
 */
import { hasDigest, type RestoreHead, type RestoreIndex } from '../../src/archive/restores.js';
import { tupleDigests } from '../../src/segment/tuple-digest.js';

/** A copy. `snapshotXmax`: every 64-bit transaction id from here on was not in it. */
export type CopiedTable = { readonly oid: number; readonly systemId: string; readonly snapshotXmax: string };

/** Answers for one row: TupleData at `at` of `buffer`. */
export type WasRestored = (buffer: Buffer, at: number) => boolean;

const NEVER: WasRestored = () => false;

export class RestoredCopies {
  readonly #index: RestoreIndex;
  readonly #tables = new Map<string, WasRestored>();

  constructor(index: RestoreIndex) {
    this.#index = index;
  }

  /** Reads what is needed to answer for rows of this copy. Forgets other copies of the table. */
  async prepare(copy: CopiedTable): Promise<void> {
    if (this.#tables.has(nameOf(copy))) return;
    for (const name of this.#tables.keys()) if (name.startsWith(`${copy.oid} `)) this.#tables.delete(name);
    const digests = await this.#index.digests((head) => counts(head, copy));
    this.#tables.set(nameOf(copy), digests.length === 0 ? NEVER : (buffer, at) => hasDigest(digests, tupleDigests(buffer, at)));
  }

  /** For a copy that was prepared. */
  of(copy: CopiedTable): WasRestored {
    return this.#tables.get(nameOf(copy)) ?? NEVER;
  }
}

function nameOf({ oid, systemId, snapshotXmax }: CopiedTable): string {
  return `${oid} ${systemId} ${snapshotXmax}`;
}

/** Another server numbers its transactions by itself: what was restored into it and is copied from this one was carried over. */
function counts(head: RestoreHead, copy: CopiedTable): boolean {
  return head.known && head.oid === copy.oid && (head.systemId !== copy.systemId || BigInt(head.xid) < BigInt(copy.snapshotXmax));
}
