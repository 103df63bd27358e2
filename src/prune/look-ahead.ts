/** Looks into the archive for one table's run, one after the other: the rows of the next page are looked up while those of this one are deleted. Reads the manifest again where files were merged away. */
import type { ArchiveFollower, ArchiveState } from '../archive/manifest.js';
import { sleep } from '../runtime/service.js';
import type { Nominated } from './nominate.js';
import { type Archived, ArchiveLookup, FileGone } from './proof.js';
import type { Target } from './target.js';

/** A file that is touched all the time gets so long to rest, milliseconds, more with each look. */
const AGAIN_MS = 200;
const MOST_LOOKS = 4;

export type LookAheadOptions = {
  /** The archive folder. */
  readonly dir: string;
  readonly follower: ArchiveFollower;
  /** As the follower gave it last. */
  readonly state: ArchiveState;
  readonly target: Target;
  readonly signal: AbortSignal;
};

export class LookAhead {
  readonly #options: LookAheadOptions;
  readonly #lookup: ArchiveLookup;
  #state: ArchiveState;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: LookAheadOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#lookup = new ArchiveLookup(options.dir);
  }

  /** Newest archived version by keyOf; begins when the look before has ended. `again`: by the manifest as it is now. Throws what ArchiveLookup.find throws; who never asks for the result is not told. */
  look(rows: readonly Nominated[], again = false): Promise<ReadonlyMap<string, Archived>> {
    const found = this.#last.then(() => this.#find(rows, again));
    this.#last = found.catch(() => undefined);
    return found;
  }

  /** The same of a look that ended a while ago, if the files that prove the rows are still what they were; else, and where it failed, of another one. */
  async proved(rows: readonly Nominated[], before: Promise<ReadonlyMap<string, Archived>>): Promise<ReadonlyMap<string, Archived>> {
    const found = await before.catch(() => undefined);
    return found !== undefined && (await this.#lookup.areUntouched(found.values())) ? found : await this.look(rows, true);
  }

  async #find(rows: readonly Nominated[], again: boolean): Promise<ReadonlyMap<string, Archived>> {
    const { follower, target, signal } = this.#options;
    for (let looks = 1; ; looks += 1) {
      try {
        if (again || looks > 1) this.#state = (await follower.refresh()) ?? this.#state;
        return await this.#lookup.find(this.#state, target, rows);
      } catch (error) {
        if (!(error instanceof FileGone) || looks === MOST_LOOKS) throw error;
        await sleep(AGAIN_MS * (looks - 1), signal);
      }
    }
  }

  /** What was decoded is read from the files again, by looks that are asked for from here on. */
  forget(): void {
    this.#last = this.#last.then(() => this.#lookup.forget()); // not in the midst of one: it would keep what it was decoding
  }

  /** Resolves when no look is under way. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
