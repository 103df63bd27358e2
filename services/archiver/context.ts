/**
 * What every verb of the archiver works with, and the two things they share: commits one at a time, and files taken out of the manifest that are removed
 * after a grace, so that readers of the state before do not lose them under their hands.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { archivePaths } from '../../src/archive/layout.js';
import type { ArchiveState, ManifestChange, ManifestWriter } from '../../src/archive/manifest.js';
import { holds } from '../../src/archive/reach.js';
import type { Lsn } from '../../src/position/lsn.js';
import type { Config } from '../../src/runtime/config.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import { sleep } from '../../src/runtime/service.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import { SegmentVerifier } from '../../src/segment/verifier.js';
import { TELL_NOBODY, type Tell } from '../../src/stream/events.js';
import { AskedFlushes } from './asked-flushes.js';
import { EmptyFiles } from './empty-files.js';
import { ArchiverMetrics } from './metrics.js';
import { WholeFiles } from './whole-files.js';

/** Files that no manifest names any more stay this long for those who read by an earlier one: a query over a view takes its time. */
export const GRACE_MS = 600_000;

/** Who hears of the work; nobody of a replay into another folder. */
export type Listeners = { readonly metrics: ArchiverMetrics; readonly tell: Tell };

/** A request waits this long for the archive to reach its `asOf`. */
const REACH_MS = 20_000;

export class ArchiverContext {
  readonly config: Config;
  /** The archive folder; config.archive.dir unless this is a rebuild. */
  readonly dir: string;
  readonly archive: string;
  readonly key: Buffer;
  readonly log: Log;
  readonly encoder: SegmentEncoder;
  readonly writer: ManifestWriter;
  readonly emptyFiles: EmptyFiles;
  readonly whole: WholeFiles;
  readonly metrics: ArchiverMetrics;
  readonly tell: Tell;
  readonly verifier = new SegmentVerifier();
  readonly asked = new AskedFlushes();
  #housekeeper: Promise<SegmentEncoder> | undefined;
  #housework: Promise<unknown> = Promise.resolve();
  #counter = 0;
  #commits: Promise<unknown> = Promise.resolve();
  readonly #retired: { readonly file: string; readonly at: number }[] = [];

  constructor(parts: Pick<ArchiverContext, 'config' | 'dir' | 'archive' | 'key' | 'log' | 'encoder' | 'writer'>, listeners?: Listeners) {
    this.config = parts.config;
    this.dir = parts.dir;
    this.archive = parts.archive;
    this.key = parts.key;
    this.log = parts.log;
    this.encoder = parts.encoder;
    this.writer = parts.writer;
    this.whole = new WholeFiles(parts.dir);
    this.metrics = listeners?.metrics ?? new ArchiverMetrics(parts.config);
    this.tell = listeners?.tell ?? TELL_NOBODY;
    this.emptyFiles = new EmptyFiles(parts.dir, () => parts.encoder.beside(), String(parts.writer.claim));
  }

  get state(): ArchiveState {
    return this.writer.state;
  }

  get temporary(): string {
    return archivePaths(this.dir).temporary;
  }

  /** Next number for the name of a file of this writer. */
  nextCounter(): number {
    this.#counter += 1;
    return this.#counter;
  }

  /** Commits what `change` makes of the newest state; undefined commits nothing. One at a time, in the order of the calls. */
  commit(change: (state: ArchiveState) => ManifestChange | undefined): Promise<ArchiveState> {
    const done = this.#commits.then(async () => {
      const wanted = change(this.writer.state);
      if (wanted === undefined) return this.writer.state;
      const state = await this.writer.commit(wanted);
      const added = new Set((wanted.add ?? []).map((entry) => entry.file));
      for (const file of wanted.drop ?? []) if (!added.has(file)) this.retire(file, Date.now());
      return state;
    });
    this.#commits = done.catch(() => undefined);
    return done;
  }

  /** Has the batch that reaches `upTo` archived without waiting for its age. */
  flush(upTo: Lsn): void {
    if (!holds(this.state, upTo)) this.asked.ask(upTo);
  }

  /** True once everything below `asOf` is archived; false when that takes too long. Asked by who has seen Postgres at `asOf`. */
  async reaches(asOf: Lsn, signal: AbortSignal): Promise<boolean> {
    for (const until = Date.now() + REACH_MS; !holds(this.state, asOf) && Date.now() < until && !signal.aborted; ) {
      this.flush(asOf);
      await sleep(50, signal);
    }
    return holds(this.state, asOf);
  }

  /** Has a file removed when its grace is over. `at`: when it was dropped, milliseconds since 1970. */
  retire(file: string, at: number): void {
    this.#retired.push({ file, at });
  }

  isRetired(file: string): boolean {
    return this.#retired.some((one) => one.file === file);
  }

  /** The encoder of merging and sealing, beside the one that flushes: they share its memory, and a day of more rows than fit is sorted on disk. */
  housekeeper(): Promise<SegmentEncoder> {
    this.#housekeeper ??= this.encoder.beside();
    return this.#housekeeper;
  }

  /** Merging and sealing replace files: one such job at a time. */
  housework<T>(job: () => Promise<T>): Promise<T> {
    const done = this.#housework.then(job);
    this.#housework = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    await this.#housework;
    (await this.#housekeeper)?.close();
    this.encoder.close();
    await this.verifier.close();
  }

  /** Removes files that were dropped long enough ago. */
  async removeRetired(now = Date.now(), grace = GRACE_MS): Promise<void> {
    while (this.#retired[0] !== undefined && this.#retired[0].at + grace <= now) {
      const { file } = this.#retired.shift() as { file: string };
      if (this.state.files.has(file)) continue; // never what a manifest names
      await rm(path.join(this.dir, file), { force: true });
      faultPoint('K3');
    }
  }
}
