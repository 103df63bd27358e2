/** Archived rows as the text that Postgres printed, in parts of bounded size: read by the readers of segments and daily files, a row group at a time. */
import { DailyReader } from '../segment/daily-reader.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { SegmentReader } from '../segment/reader.js';

/** Rows of one file, in its order. */
export type ChosenPart = { readonly metadata: SegmentMetadata; readonly rows: readonly ChosenRow[] };
/** `living`: as far as the archive knows, Postgres still holds it. */
export type ChosenRow = { readonly texts: readonly (string | null)[]; readonly living: boolean };

/** Numbers of the wanted rows from `start` to before `end`, each with whether it is living. */
export type Wanted = (start: number, end: number) => Promise<ReadonlyMap<number, boolean>>;

/** A part has at most so many rows, and about so many bytes of text. */
const PART_ROWS = 5000;
const PART_BYTES = 16 * 1024 * 1024;

export async function* segmentParts(file: string, wanted: Wanted): AsyncGenerator<ChosenPart> {
  const reader = await SegmentReader.open(file);
  try {
    let start = 0;
    for (let group = 0; group < reader.rowGroupCount; group += 1) {
      const end = start + reader.rowsOfGroup(group);
      const numbers = await wanted(start, end);
      const parts = new Parts(reader.metadata);
      const rows = numbers.size > 0 ? await reader.readRowGroup(group) : undefined;
      for (let row = 0; row < (rows?.rowCount ?? 0); row += 1) {
        const living = numbers.get(start + row);
        if (rows === undefined || living === undefined) continue;
        parts.add(
          reader.columns.map((name) => rows.text(name, row)),
          living,
        );
      }
      yield* parts.take();
      start = end;
    }
  } finally {
    await reader.close();
  }
}

export async function* dailyParts(file: string, wanted: Wanted): AsyncGenerator<ChosenPart> {
  const reader = await DailyReader.open(file);
  for (const { start, end } of reader.rowGroups()) {
    const numbers = await wanted(start, end);
    const parts = new Parts(reader.metadata);
    if (numbers.size > 0) {
      await reader.forEachRowOf(start, end, (texts, number) => {
        const living = numbers.get(number);
        if (living !== undefined) parts.add([...texts], living);
      });
    }
    yield* parts.take();
  }
}

/** Cuts rows into parts. */
export class Parts {
  readonly #metadata: SegmentMetadata;
  readonly #done: ChosenPart[] = [];
  #rows: ChosenRow[] = [];
  #bytes = 0;

  constructor(metadata: SegmentMetadata) {
    this.#metadata = metadata;
  }

  add(texts: readonly (string | null)[], living: boolean): void {
    this.#rows.push({ texts, living });
    this.#bytes += texts.reduce((sum, text) => sum + (text?.length ?? 0), 0);
    if (this.#rows.length >= PART_ROWS || this.#bytes >= PART_BYTES) this.#cut();
  }

  #cut(): void {
    if (this.#rows.length > 0) this.#done.push({ metadata: this.#metadata, rows: this.#rows });
    this.#rows = [];
    this.#bytes = 0;
  }

  take(): ChosenPart[] {
    this.#cut();
    return this.#done.splice(0);
  }
}
