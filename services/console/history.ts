/** What the plots show: a bounded row of samples, and from it rates, and how long ago the WAL ended at a position. In memory only. */
import type { Lsn } from '../../src/position/lsn.js';

/** One look at the pipeline. Numbers are null where a stage is unknown. */
export type Look = {
  /** ms since 1970, by the console's clock. */
  readonly at: number;
  readonly insert: Lsn | null;
  readonly tail: Lsn | null;
  readonly position: Lsn | null;
  readonly fence: Lsn | null;
  readonly confirmed: Lsn | null;
  readonly heldBytes: number | null;
  readonly archivedRows: number | null;
  readonly prunedRows: number | null;
  readonly publishedSeconds: number | null;
  readonly archivedSeconds: number | null;
};

/** One point of the plots: lags in bytes and seconds, rates a second. */
export const FIELDS = [
  'at',
  'publishedBytes',
  'archivedBytes',
  'coveredBytes',
  'confirmedBytes',
  'publishedSeconds',
  'archivedSeconds',
  'coveredSeconds',
  'walRate',
  'archiveRate',
  'rowRate',
  'pruneRate',
  'heldBytes',
] as const;
export type Field = (typeof FIELDS)[number];
export type Sample = Readonly<Record<Field, number | null>>;

/** An hour at one sample in two seconds. */
const MOST_SAMPLES = 1800;
/** Rates are means over this. */
const RATE_MS = 10_000;

export class History {
  readonly #looks: Look[] = [];
  readonly #samples: Sample[] = [];

  add(look: Look): Sample {
    this.#looks.push(look);
    if (this.#looks.length > MOST_SAMPLES) this.#looks.shift();
    const behind = (lsn: Lsn | null): number | null => (look.insert === null || lsn === null ? null : Math.max(0, Number(look.insert - lsn)));
    const sample: Sample = {
      at: look.at,
      publishedBytes: behind(look.tail),
      archivedBytes: behind(look.position),
      coveredBytes: behind(look.fence),
      confirmedBytes: behind(look.confirmed),
      publishedSeconds: look.publishedSeconds,
      archivedSeconds: look.archivedSeconds,
      coveredSeconds: this.#ageOf(look.fence),
      walRate: this.#rate(({ insert }) => insert),
      archiveRate: this.#rate(({ position }) => position),
      rowRate: this.#rate(({ archivedRows }) => archivedRows),
      pruneRate: this.#rate(({ prunedRows }) => prunedRows),
      heldBytes: look.heldBytes,
    };
    this.#samples.push(sample);
    if (this.#samples.length > MOST_SAMPLES) this.#samples.shift();
    return sample;
  }

  /** Oldest first, a row of values a sample, in the order of FIELDS. */
  rows(): (number | null)[][] {
    return this.#samples.map((sample) => FIELDS.map((field) => sample[field]));
  }

  /** Growth a second since about RATE_MS ago; what merging and sealing take away counts as none. Null without an earlier look. */
  #rate(value: (look: Look) => Lsn | number | null): number | null {
    const last = this.#looks.at(-1) as Look;
    const first = this.#looks.find((look) => look.at >= last.at - RATE_MS && value(look) !== null);
    const [from, to] = [first === undefined ? null : value(first), value(last)];
    if (first === undefined || first === last || from === null || to === null) return null;
    return Math.max(0, (Number(to) - Number(from)) / ((last.at - first.at) / 1000));
  }

  /** Seconds since the WAL ended at `lsn`; null when that was before the first look. An upper bound by one look's distance. */
  #ageOf(lsn: Lsn | null): number | null {
    if (lsn === null) return null;
    const last = this.#looks.at(-1) as Look;
    const passed = this.#looks.findLastIndex((look) => look.insert !== null && look.insert <= lsn);
    if (passed < 0) return null;
    return Math.round((last.at - (this.#looks[passed] as Look).at) / 100) / 10;
  }
}
