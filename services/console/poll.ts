/**
 * Looks at the pipeline for all browsers together, at most every two seconds, and only while one of them is there. Owns the history. Reads; must never change anything.
 */
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import type { RunReceipt } from '../../src/archive/receipts.js';
import type { Config } from '../../src/runtime/config.js';
import { describeError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { sleep } from '../../src/runtime/service.js';
import type { ServiceReport } from '../../src/runtime/supervision.js';
import type { HaltNotice } from '../../src/status/halt-notice.js';
import { findHalts } from '../../src/status/halts.js';
import { readStatus, StatusMemory } from '../../src/status/pipeline-state.js';
import { History } from './history.js';
import type { ConsoleMetrics } from './metrics.js';
import { allHalts, archiveSummary, lookOf, type Picture, prunedRows, pruneState } from './picture.js';
import type { PruneWishes } from './prune.js';

const EVERY_MS = 2000;

export class Poll {
  readonly history = new History();
  readonly #config: Config;
  readonly #log: Log;
  readonly #wishes: PruneWishes;
  readonly #follower: ArchiveFollower;
  readonly #memory: StatusMemory;
  readonly #viewers = new Set<(picture: Picture) => void>();
  readonly #stop = new AbortController();
  /** Told of every look. */
  metrics: ConsoleMetrics | undefined;
  #loop: Promise<void> | undefined;
  #last: Picture | undefined;
  #services: readonly ServiceReport[] | null = null;
  /** Halts as they were seen from outside last. */
  #seen: readonly HaltNotice[] = [];

  constructor({ config, wishes, log }: { config: Config; wishes: PruneWishes; log: Log }) {
    this.#config = config;
    this.#log = log;
    this.#wishes = wishes;
    this.#follower = new ArchiveFollower(config.archive.dir);
    this.#memory = new StatusMemory(config);
    wishes.changed = () => this.#tell((picture) => ({ ...picture, prune: { ...picture.prune, wish: wishes.last } }));
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** What the supervisor says of the services. */
  set services(services: readonly ServiceReport[]) {
    this.#services = services;
    this.#tell((picture) => ({ ...picture, services, halts: allHalts(this.#seen, services) }));
  }

  /** Hears each picture from now on, the newest at once if it is fresh. Call what it returns to leave. */
  watch(viewer: (picture: Picture) => void): () => void {
    this.#viewers.add(viewer);
    if (this.#last !== undefined && Date.now() - Date.parse(this.#last.at) < EVERY_MS) viewer(this.#last);
    this.#loop ??= this.#run();
    return () => this.#viewers.delete(viewer);
  }

  /** A picture that is not older than a look takes. */
  async picture(): Promise<Picture> {
    return await new Promise((resolve) => {
      const leave = this.watch((picture) => {
        queueMicrotask(() => leave()); // it may be told before `watch` returns
        resolve(picture);
      });
    });
  }

  /** The archive as it stands, undefined before its first manifest. Throws its halts. */
  async archive(): Promise<ArchiveState | undefined> {
    return await this.#follower.refresh();
  }

  /** Receipts of runs, newest first. */
  async runs(most: number): Promise<RunReceipt[]> {
    return (await this.#memory.receipts.runs()).slice(-most).reverse();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#viewers.size > 0 && !signal.aborted) {
      const began = Date.now();
      this.metrics?.begins();
      try {
        const picture = await this.#look();
        this.metrics?.looked(Date.now() - began, 'done');
        this.#tell(() => picture, picture);
      } catch (error) {
        this.metrics?.looked(Date.now() - began, 'failed');
        this.#log.warn({ event: 'console-look', reason: describeError(error) }, 'the pipeline could not be looked at');
      }
      await sleep(Math.max(0, began + EVERY_MS - Date.now()), signal);
    }
    this.#loop = undefined;
    this.metrics?.rests();
  }

  async #look(): Promise<Picture> {
    const at = Date.now();
    const { lastRun, ...status } = await readStatus(this.#config, this.#follower, this.#memory);
    this.#seen = await findHalts({ ...status, lastRun }, this.#follower);
    const state = await this.#follower.refresh().catch(() => undefined);
    const sample = this.history.add(lookOf({ ...status, lastRun }, at, await prunedRows(this.#memory.receipts)));
    const safe = status.slot?.safeWalBytes ?? null;
    return {
      at: new Date(at).toISOString(),
      status,
      sample,
      archive: archiveSummary(state),
      halts: allHalts(this.#seen, this.#services),
      services: this.#services,
      prune: await pruneState(this.#config, this.#memory.receipts, lastRun, this.#wishes.last),
      lostInSeconds: safe === null || !sample.walRate ? null : Math.round(safe / sample.walRate),
    };
  }

  #tell(change: (picture: Picture) => Picture, picture = this.#last): void {
    if (picture === undefined) return;
    this.#last = change(picture);
    for (const viewer of [...this.#viewers]) viewer(this.#last);
  }
}
