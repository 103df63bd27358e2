/**
 * A large day sorted a slice of its time at a time: what is sorted at once fits into the encoder's memory, and nothing is spilled. Segments come in about the order of their
 * rows' timestamps, so that few of their row groups lie in more than one slice. Owns where a slice ends, which is at the end of a row group.
 */
import { segmentColumn } from '../../src/segment/columns.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
import { exactPath, literal } from '../../src/segment/sql.js';

/** Bytes of segments (snappy) that one slice is made of. Measured with 5 million rows and a limit of 128 MB: 16 to 44 MB took the same time; with 48 MB, 24 took no longer. */
const SLICE_BYTES = 24 * 1024 * 1024;
/** Row groups that lie in several slices are read for each: with more than this many times the rows, all are sorted at once. */
const MOST_READ = 2;

/** What one was made from a time's microseconds since 1970, by the column's type. */
const MAKERS: Readonly<Record<string, string>> = { TIMESTAMP: 'make_timestamp', TIMESTAMPTZ: 'make_timestamptz' };

export type TimedRowGroup = {
  readonly rows: number;
  /** First and last timestamp in it, microseconds since 1970. */
  readonly from: bigint;
  readonly to: bigint;
};

/** Pure: the last timestamp of each of about `slices` slices of equal size but the last one, ascending; none when it is better not to slice. */
export function sliceEnds(groups: readonly TimedRowGroup[], slices: number): readonly bigint[] {
  const total = groups.reduce((sum, { rows }) => sum + rows, 0);
  const byEnd = groups.toSorted((a, b) => (a.to < b.to ? -1 : a.to > b.to ? 1 : 0));
  const last = byEnd.at(-1)?.to;
  const ends: bigint[] = [];
  let rows = 0;
  for (const group of byEnd) {
    rows += group.rows;
    if (rows < (total / slices) * (ends.length + 1) || group.to === ends.at(-1) || group.to === last) continue;
    ends.push(group.to);
  }
  let read = 0;
  for (const [i, end] of [...ends, last].entries()) {
    const before = ends[i - 1];
    for (const group of groups) if (end !== undefined && group.from <= end && (before === undefined || group.to > before)) read += group.rows;
  }
  return read > total * MOST_READ ? [] : ends;
}

/** SQL of the condition that rows of a slice meet. `at`: SQL of their timestamp. */
export type TimeSlice = (at: string) => string;

/** All rows. */
const WHOLE: readonly TimeSlice[] = [() => 'true'];

/** In the order of time; each row of the segments is in exactly one. `bytes`: size of the segments. */
export async function timeSlices(
  encoder: SegmentEncoder,
  { segments, bytes, metadata }: { readonly segments: readonly string[]; readonly bytes: number; readonly metadata: SegmentMetadata },
): Promise<readonly TimeSlice[]> {
  const column = metadata.columns.find(({ name }) => name === metadata.timestamp);
  const type = column === undefined ? '' : segmentColumn(column, metadata).fileType;
  const make = MAKERS[type];
  const slices = Math.ceil(bytes / SLICE_BYTES);
  if (make === undefined || slices < 2) return WHOLE;
  const micros = (which: 'min' | 'max'): string => `epoch_us(TRY_CAST(stats_${which} AS ${type}))::VARCHAR`;
  const found = await encoder.query<{ rows: number; from: string | null; to: string | null }>(
    `SELECT row_group_num_rows::INTEGER AS rows, ${micros('min')} AS from, ${micros('max')} AS to
      FROM parquet_metadata([${segments.map((file) => literal(exactPath(file))).join(', ')}]) WHERE path_in_schema = ${literal(metadata.timestamp)}`,
  );
  const groups = found.flatMap(({ rows, from, to }) => (from === null || to === null ? [] : [{ rows, from: BigInt(from), to: BigInt(to) }]));
  if (groups.length < found.length) return WHOLE;
  const ends = sliceEnds(groups, slices).map((micros) => `${make}(${micros})`);
  if (ends.length === 0) return WHOLE;
  // What has no timestamp of its type is sorted last.
  return [...ends, undefined].map((end, i) => (at) => {
    const behind = `${at} > ${ends[i - 1]}`;
    if (end === undefined) return `(${behind} OR ${at} IS NULL)`;
    return i === 0 ? `${at} <= ${end}` : `${behind} AND ${at} <= ${end}`;
  });
}
