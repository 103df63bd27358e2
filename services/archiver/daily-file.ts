/**
 * Finished files of days, written from open or staged segments: facts counted first, rows sorted and typed for readers, decoded again by the reader that did not write them, then published.
 * Owns their form, and that no file is left whose manifest never came: a note in `_tidemark/tmp` lets the next start remove it. Which rows they hold is their caller's.
 */
import { lstat, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readExpired } from '../../src/archive/expire.js';
import type { ArchiveState, ManifestChange } from '../../src/archive/manifest.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { syncFolder } from '../../src/archive/put.js';
import { digestSum, parquet } from '../../src/archive/view.js';
import type { SystemColumn } from '../../src/change/system-columns.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { Halt, TidemarkError } from '../../src/runtime/errors.js';
import { segmentColumn } from '../../src/segment/columns.js';
import { DurableFile } from '../../src/segment/durable-file.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import type { SegmentMetadata } from '../../src/segment/metadata.js';
import { RowGroupJoiner } from '../../src/segment/row-group-joiner.js';
import { identifier, literal, rowGroupRows, systemIdentifier } from '../../src/segment/sql.js';
import type { ArchiverContext } from './context.js';
import { type TimeSlice, timeSlices } from './slices.js';
import type { SealNote } from './sweep.js';

export type DailyContent = {
  readonly kind: 'daily' | 'history' | 'changes';
  /** Its final name, relative to the archive. */
  readonly file: string;
  readonly day: string | null;
  /** Segments that hold its rows: absolute paths, all of one form, and their size. */
  readonly segments: readonly string[];
  readonly bytes: number;
  readonly metadata: SegmentMetadata;
  readonly rows: DailyRows;
  /** SQL of columns behind the table's own: over the segments `s` and, of `these` rows, their query `l`. */
  readonly more: readonly string[];
};

/** Which rows of the segments, by an SQL query with `_lsn` and `_ordinal`; of two ways to say it the one with fewer rows. */
export type DailyRows = { readonly these: string } | { readonly allBut: string };

/** What the manifest says of it, but for the table. */
export type DailyFacts = Pick<
  FileEntry,
  'file' | 'kind' | 'day' | 'rows' | 'bytes' | 'sha256' | 'digestSum' | 'minTimestamp' | 'maxTimestamp' | 'minLsn' | 'maxLsn'
>;

/** Rows that DailyRows names, while a large day is sorted. */
const NAMED = 'named';

export class DailyFiles {
  readonly #context: ArchiverContext;
  readonly #encoder: SegmentEncoder;
  readonly #note: string;
  readonly #written = new Map<string, DurableFile>();

  private constructor(context: ArchiverContext, encoder: SegmentEncoder, note: string) {
    this.#context = context;
    this.#encoder = encoder;
    this.#note = note;
  }

  /** Notes that files of these names, relative to the archive, may come. A name: it is taken by what is in no manifest and not ours: neither written over nor, after a crash, removed. */
  static async begin(context: ArchiverContext, encoder: SegmentEncoder, names: readonly string[]): Promise<DailyFiles | string> {
    for (const name of names) if (await exists(path.join(context.dir, name))) return name;
    const note = path.join(context.temporary, `seal-${context.writer.claim}-${context.nextCounter()}.json`);
    await writeFile(note, JSON.stringify({ files: names } satisfies SealNote), { flush: true, mode: 0o640 });
    await syncFolder(context.temporary);
    return new DailyFiles(context, encoder, note);
  }

  /** Commits a manifest that names what was written; what came instead of one is taken back. As of ArchiverContext.commit. */
  async commit(change: (state: ArchiveState) => ManifestChange | undefined): Promise<ArchiveState> {
    let committed = false;
    const state = await this.#context
      .commit((before) => {
        const wanted = change(before);
        committed = wanted !== undefined;
        return wanted;
      })
      .catch(async (error: unknown) => {
        // After another error the manifest may be there.
        if (error instanceof TidemarkError && (error.kind === 'transient' || (error instanceof Halt && error.halt === 'SUPERSEDED'))) await this.takeBack();
        throw error;
      });
    if (committed) await rm(this.#note, { force: true });
    else await this.takeBack();
    return state;
  }

  /** Only what is ours: stopped meanwhile, this archiver may have a successor that made files of these names. */
  async takeBack(): Promise<void> {
    for (const [name, output] of this.#written) await output.withdraw(path.join(this.#context.dir, name));
    await rm(this.#note, { force: true });
  }

  /** Writes a file, durable when it resolves; no manifest names it yet. Undefined: it would have no row. */
  async write(content: DailyContent): Promise<DailyFacts | undefined> {
    const context = this.#context;
    const encoder = this.#encoder;
    const { kind, file, day, metadata } = content;
    type Facts = { rows: number; sum: string; texts: number; unresolved: number; least: string; most: string; earliest: string | null; latest: string | null };
    const system = (name: SystemColumn): string => `s.${systemIdentifier(name, metadata.columns)}`;
    const joined = 'these' in content.rows ? joinedTo(content, 'JOIN', content.rows.these) : joinedTo(content, 'ANTI JOIN', content.rows.allBut);
    const [facts] = await encoder.query<Facts>(
      `SELECT count(*)::INTEGER AS rows, ${digestSum(system('digest'))} AS sum, count(${system('text')})::INTEGER AS texts, count(${system('unresolved')})::INTEGER AS unresolved,
        min(${system('lsn')})::VARCHAR AS least, max(${system('lsn')})::VARCHAR AS most, ${timeText('min', metadata.timestamp)} AS earliest, ${timeText('max', metadata.timestamp)} AS latest ${joined}`,
    );
    await encoder.release();
    if (facts === undefined || facts.rows === 0) return undefined;
    const columns = metadata.columns.map((column) => {
      const { name, fileType, dailyType = fileType } = segmentColumn(column, metadata);
      return dailyType === fileType ? `s.${identifier(name)}` : `CAST(s.${identifier(name)} AS ${dailyType}) AS ${identifier(name)}`;
    });
    if (facts.texts > 0) columns.push(system('text'));
    if (facts.unresolved > 0) columns.push(system('unresolved'));
    columns.push(...content.more);
    const options = [
      `FORMAT parquet, USE_TMP_FILE false, PARQUET_VERSION V1, COMPRESSION ${context.config.archive.compression}`,
      `ROW_GROUP_SIZE ${rowGroupRows(facts.rows, content.bytes * 4)}`,
      `KV_METADATA {tidemark: ${literal(JSON.stringify({ ...metadata, day, kind }))}}`,
    ].join(', ');
    const output = await DurableFile.create(path.join(context.temporary, `${kind}-${context.writer.claim}-${context.nextCounter()}.parquet`));
    try {
      await this.#writeSorted(content, { select: `SELECT ${columns.join(', ')}`, joined, options }, output);
      await encoder.release();
    } catch (error) {
      await output.abandon();
      throw error;
    }
    this.#written.set(file, output);
    const published = await output.publish(path.join(context.dir, file), (temporary) =>
      context.verifier.verifyDaily(temporary, { rows: facts.rows, digestSum: facts.sum }),
    );
    return {
      file,
      kind,
      day,
      rows: facts.rows,
      bytes: published.bytes,
      sha256: published.sha256,
      digestSum: facts.sum,
      minTimestamp: facts.earliest,
      maxTimestamp: facts.latest,
      minLsn: formatLsn(lsn(BigInt(facts.least))),
      maxLsn: formatLsn(lsn(BigInt(facts.most))),
    };
  }

  /** Writes the rows in their order to the file that is `output`: at once, or slice by slice of the day. `select`: SELECT of what stands in the file. */
  async #writeSorted(content: DailyContent, { select, joined, options }: Record<'select' | 'joined' | 'options', string>, output: DurableFile): Promise<void> {
    const { rows, metadata } = content;
    const encoder = this.#encoder;
    const order = [
      ...[metadata.timestamp, ...metadata.key].filter((name) => metadata.columns.some((column) => column.name === name)).map((name) => `s.${identifier(name)}`),
      ...(['lsn', 'ordinal'] as const).map((name) => `s.${systemIdentifier(name, metadata.columns)}`),
    ];
    const copy = (from: string, file: string): string => `COPY (${select} ${from} ORDER BY ${order.join(', ')}) TO ${literal(file)} (${options})`;
    const slices = await timeSlices(encoder, content);
    if (slices.length < 2) return await encoder.run(copy(joined, output.temporary), { again: () => output.renew() });
    const at = `s.${identifier(metadata.timestamp)}`;
    await encoder.run(`CREATE OR REPLACE TEMP TABLE ${NAMED} AS ${'these' in rows ? `SELECT l.*, ${at} AS _at ${joined}` : rows.allBut}`);
    const from = (slice: TimeSlice): string =>
      'these' in rows ? joinedTo(content, 'JOIN', `FROM ${NAMED} WHERE ${slice('_at')}`) : joinedTo(content, 'ANTI JOIN', `FROM ${NAMED}`);
    const part = `${output.temporary}-part`;
    const joiner = await RowGroupJoiner.into(output.temporary);
    try {
      for (const slice of slices) {
        await encoder.run(copy(`${from(slice)} WHERE ${slice(at)}`, part));
        await joiner.append(part);
      }
      await joiner.finish();
    } finally {
      await joiner.close();
      await rm(part, { force: true });
      await encoder.run(`DROP TABLE IF EXISTS ${NAMED}`);
    }
  }
}

/** FROM of the segments' rows as `s`, with or without those of the query as `l`. */
function joinedTo({ segments, metadata }: DailyContent, join: 'JOIN' | 'ANTI JOIN', query: string): string {
  const [lsn, ordinal] = (['lsn', 'ordinal'] as const).map((name) => `s.${systemIdentifier(name, metadata.columns)}`);
  return `FROM ${parquet(segments)} s ${join} (${query}) l ON ${lsn} = l._lsn AND ${ordinal} = l._ordinal`;
}

/** Names of files that the retention of the archive has let go: none is given to another file. */
export async function goneNames({ dir, state }: ArchiverContext): Promise<ReadonlySet<string>> {
  return new Set((await readExpired(dir, state)).map(({ file }) => file));
}

async function exists(file: string): Promise<boolean> {
  return await lstat(file).then(
    () => true,
    () => false,
  );
}

/** The timestamp as Postgres prints it, near enough for a range: DuckDB's text of it. */
function timeText(which: 'min' | 'max', column: string): string {
  return `CAST(${which}(s.${identifier(column)}) AS VARCHAR)`;
}
