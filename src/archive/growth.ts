/**
 * How fast an archive grows, from its manifests: the bytes that are live now against those that were a day ago, or when the newest copy was complete, whichever is later (a first copy is no
 * growth). Reads some twenty small files every few minutes, and writes nothing.
 */
import { statfs } from 'node:fs/promises';
import { type Growth, secondsUntilFull } from '../runtime/forecast.js';
import { isCheckpoint, readManifest } from './chain.js';
import { archivePaths } from './layout.js';
import type { ArchiveState } from './manifest.js';
import type { Manifest } from './manifest-format.js';

const WINDOW_MS = 24 * 3_600_000;
/** The beginning of the window is looked for anew this often. */
const BASE_MS = 300_000;
const GB = 1024 ** 3;
/** Less room than this is an alarm, and so is a volume that is full within a day. */
const LOW_BYTES = 5 * GB;
const SOON_SECONDS = 86_400;

/** The room of the archive's volume, as this user may use it, and when it is used up. */
export type VolumeForecast = { readonly freeBytes: number; readonly sizeBytes: number; readonly growth: Growth | null; readonly fullInSeconds: number | null };

/** What is the matter with the room of the archive's volume, and what to do: one judgement for doctor and status. */
export type VolumeAlarm = { readonly seen: string; readonly remedy: string };

/** Null while there is room. Pure. */
export function volumeAlarm({ freeBytes, sizeBytes, fullInSeconds }: Omit<VolumeForecast, 'growth'>): VolumeAlarm | null {
  const low = freeBytes < LOW_BYTES;
  if (!low && (fullInSeconds === null || fullInSeconds > SOON_SECONDS)) return null;
  const gigabytes = (bytes: number): string => `${(bytes / GB).toFixed(bytes < GB / 10 ? 3 : 1)} GB`;
  return {
    seen: `${gigabytes(freeBytes)} of ${gigabytes(sizeBytes)} free${low ? '' : ', which lasts less than a day as the archive grows'}`,
    remedy: 'make room: a full volume stops archiving, and the slot then holds WAL in Postgres; when there is room it goes on by itself',
  };
}

/** Bytes of all live files. */
export function archiveBytes(state: Pick<ArchiveState, 'files'>): number {
  let sum = 0;
  for (const { bytes } of state.files.values()) sum += bytes;
  return sum;
}

type Base = { readonly generation: string; readonly bytes: number; readonly at: number; readonly readAt: number };

export class ArchiveGrowth {
  readonly #dir: string;
  #base: Base | undefined;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Null when a manifest cannot be read, or the first copy is not complete. `now`: milliseconds since 1970. */
  async measure(state: ArchiveState, now = Date.now()): Promise<Growth | null> {
    const generation = state.copy?.state === 'complete' ? state.copy.generation : undefined;
    if (generation === undefined) return null;
    const known = this.#base;
    if (known === undefined || known.generation !== generation || performance.now() - known.readAt > BASE_MS)
      this.#base = await this.#read(state, generation, now).catch(() => undefined);
    const base = this.#base;
    return base === undefined ? null : { amount: archiveBytes(state) - base.bytes, seconds: Math.max(0, now - base.at) / 1000 };
  }

  /** The same with what the volume has left. Throws what `statfs` does. */
  async forecast(state: ArchiveState | undefined, now = Date.now()): Promise<VolumeForecast> {
    const { bavail, blocks, bsize } = await statfs(this.#dir);
    const growth = state === undefined ? null : await this.measure(state, now);
    return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize, growth, fullInSeconds: secondsUntilFull(bavail * bsize, growth) };
  }

  async #read(state: ArchiveState, generation: string, now: number): Promise<Base | undefined> {
    const since = now - WINDOW_MS;
    const within = ({ writtenAt, copy }: Manifest): boolean => Date.parse(writtenAt) >= since && copy?.state === 'complete' && copy.generation === generation;
    // The first manifest of the window, by halving: they are numbered in the order of their times.
    let [low, high] = [1, state.number];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const found = await this.#manifest(middle);
      if (found !== undefined && within(found)) high = middle;
      else low = middle + 1;
    }
    const first = await this.#manifest(low);
    if (first === undefined || !within(first)) return undefined;
    return { generation, bytes: await this.#bytesAt(low), at: Date.parse(first.writtenAt), readAt: performance.now() };
  }

  /** From the checkpoint before it on. Throws when one is missing. */
  async #bytesAt(number: number): Promise<number> {
    let start = number;
    while (!isCheckpoint(start)) start -= 1;
    const sizes = new Map<string, number>();
    for (let at = start; at <= number; at += 1) {
      const manifest = await this.#manifest(at);
      if (manifest === undefined) throw new Error(`manifest ${at} is missing`);
      for (const name of manifest.drop) sizes.delete(name);
      for (const { file, bytes } of manifest.files ?? manifest.add) sizes.set(file, bytes);
    }
    return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  async #manifest(number: number): Promise<Manifest | undefined> {
    return (await readManifest(archivePaths(this.#dir).manifests, number))?.manifest;
  }
}
