/**
 * An old file → segments of its rows in a folder aside, each value with the text that Postgres prints for it and each row with the digest of these texts, taken before anything is encoded.
 * A row stands at (number of its file, number of its row), so that later files are newer. Nothing here is part of an archive: the archiver makes daily files of it.
 */
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { DuckDBDataChunk } from '@duckdb/node-api';
import type { Relation, TableDescription } from '../change/relation.js';
import { TidemarkError } from '../runtime/errors.js';
import { SegmentBuilder, type SegmentShape } from '../segment/builder.js';
import { withoutDomain } from '../segment/columns.js';
import type { SegmentEncoder } from '../segment/encoder.js';
import { exactPath, identifier, literal, NOT_PARTITIONED } from '../segment/sql.js';
import { type Carried, isInexact } from './carried.js';
import type { Caster } from './caster.js';
import { type Finding, Findings } from './findings.js';
import { finerThanMicros } from './finer-than-micros.js';
import { FINER } from './moments.js';
import type { OldFile } from './old-file.js';
import { TupleWriter } from './tuple-writer.js';
import { type ColumnReading, columnReading } from './value-text.js';

/** The table that rows are taken over into. */
export type TableForm = { readonly relation: Relation; readonly description: TableDescription; readonly key: readonly string[]; readonly timestamp: string };

export type StagedFile = {
  readonly rows: number;
  /** Segments, absolute paths. */
  readonly parts: readonly string[];
  readonly findings: readonly Finding[];
  /** Columns of the table that it has not: NULL in its rows. */
  readonly missing: readonly string[];
  /** Times without a zone that were read in the one that was told. */
  readonly assumed: number;
};

export type StageOptions = {
  readonly encoder: SegmentEncoder;
  /** Reads the old files: another connection, because a statement ends what is being read on its own. */
  readonly reader: SegmentEncoder;
  readonly caster: Caster;
  readonly form: TableForm;
  /** Folder for the segments. */
  readonly folder: string;
  /** Id of the archive. */
  readonly archive: string;
  /** A segment has about as many rows and bytes. */
  readonly limits: { readonly rows: number; readonly bytes: number };
  /** The zone of what says none is UTC. */
  readonly utc: boolean;
  readonly signal: AbortSignal;
};

type Source = { readonly index: number; readonly reading: ColumnReading; readonly typeOid: number };

/** Stages one file. `sequence`: its number in the order of age, from 1. Throws when the file changes under it, or what the volume and Postgres say. */
export async function stageFile(options: StageOptions, old: OldFile, sequence: number): Promise<StagedFile> {
  const findings = new Findings(old.file);
  const stager = new Stager(options, old, sequence, findings);
  try {
    await stager.run();
  } catch (error) {
    await stager.discard();
    if (!(error instanceof Unreadable)) throw error;
    findings.add(null, 'cannot be read as Parquet', null);
    return { rows: 0, parts: [], findings: findings.all(), missing: [], assumed: 0 };
  }
  const now = await stat(old.path);
  if (now.size !== old.bytes || now.mtimeMs !== old.modifiedMs) {
    throw new TidemarkError('failed', `${old.file} was changed while it was read`, { remedy: 'stop the script that writes it, then start the import again' });
  }
  return { rows: stager.rows, parts: stager.parts, findings: findings.all(), missing: stager.missing, assumed: stager.assumed };
}

class Unreadable extends Error {}

/** What DuckDB and hyparquet say of bytes that are no Parquet. Errors of the system, which have a code, and too little memory say nothing of the file. */
async function reading<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if ((error as { code?: unknown }).code !== undefined || /^Out of Memory/i.test((error as Error).message)) throw error;
    throw new Unreadable('no Parquet', { cause: error });
  }
}

class Stager {
  readonly parts: string[] = [];
  rows = 0;
  assumed = 0;
  missing: readonly string[] = [];
  readonly #options: StageOptions;
  readonly #old: OldFile;
  readonly #sequence: bigint;
  readonly #findings: Findings;
  readonly #tuple = new TupleWriter();
  #builder: SegmentBuilder | undefined;

  constructor(options: StageOptions, old: OldFile, sequence: number, findings: Findings) {
    this.#options = options;
    this.#old = old;
    this.#sequence = BigInt(sequence);
    this.#findings = findings;
  }

  async run(): Promise<void> {
    const { reader, form, utc } = this.#options;
    const from = `FROM read_parquet(${literal(exactPath(this.#old.path))}, ${NOT_PARTITIONED})`;
    const there = await reading(() => reader.query<{ column_name: string }>(`DESCRIBE SELECT * ${from}`));
    const names = there.map((row) => row.column_name);
    const { columns } = form.relation;
    await this.#others(
      names.filter((name) => !columns.some((column) => column.name === name) && !/^__index_level_\d+__$/.test(name)),
      from,
    );
    const mapped = columns.filter(({ name }) => names.includes(name));
    for (const name of new Set([...form.key, form.timestamp])) if (!names.includes(name)) this.#findings.add(name, 'is missing in the file', null);
    this.missing = columns.filter((column) => !mapped.includes(column)).map(({ name }) => name);
    if (mapped.length === 0) return;
    for (const { column, count, row } of await reading(() => finerThanMicros(this.#old.path)))
      if (names.includes(column)) this.#findings.add(column, FINER, row, count);
    const result = await reading(() => reader.stream(`SELECT ${mapped.map(({ name }) => identifier(name)).join(', ')} ${from}`));
    const sources = new Map<string, Source>(
      mapped.map((column, index) => {
        const reading = columnReading(column, form.description.types, result.columnType(index), utc);
        return [column.name, { index, reading, typeOid: withoutDomain(column, form.description.types).typeOid }];
      }),
    );
    for (;;) {
      const chunk = await reading(() => result.fetchChunk());
      if (chunk === null || chunk.rowCount === 0) break;
      if (this.#options.signal.aborted) throw new TidemarkError('failed', 'stopped: nothing of this table was imported', { remedy: 'import again' });
      await this.#take(chunk, sources);
    }
    await this.#finishPart();
  }

  /** Columns that the table has not: what stands in them would be lost. */
  async #others(names: readonly string[], from: string): Promise<void> {
    for (const name of names) {
      const [held] = await reading(() =>
        this.#options.reader.query<{ n: number; row: number | null }>(
          `SELECT count(${identifier(name)})::INTEGER AS n, min(CASE WHEN ${identifier(name)} IS NOT NULL THEN row END)::INTEGER AS row
             FROM (SELECT ${identifier(name)}, row_number() OVER () AS row ${from})`,
        ),
      );
      if (held !== undefined && held.n > 0) this.#findings.add(name, 'is no column of the table', held.row, held.n);
    }
  }

  async #take(chunk: DuckDBDataChunk, sources: ReadonlyMap<string, Source>): Promise<void> {
    const { relation, description } = this.#options.form;
    const read: (readonly (string | null)[] | undefined)[] = [];
    for (const { name } of relation.columns) {
      const source = sources.get(name);
      const required = / NOT NULL$/.test(description.columnTypes[name] ?? '') || this.#options.form.key.includes(name);
      read.push(source && (await this.#column(name, chunk.getColumnValues(source.index), source, required)));
    }
    for (let i = 0; i < chunk.rowCount; i += 1) {
      this.rows += 1;
      const builder = this.#opened();
      builder.append(this.#tuple.write(read, i), 0, { op: 'copy', lsn: this.#sequence, ordinal: this.rows, xid: 0, committedAtMicros: 0n });
      const { rows, bytes } = this.#options.limits;
      if (builder.rows >= rows || builder.bytes >= bytes) await this.#finishPart();
    }
  }

  /** The texts of one column of a chunk. */
  async #column(name: string, values: readonly unknown[], { reading, typeOid }: Source, required: boolean): Promise<(string | null)[]> {
    const carried = values.map((value): Carried => (value === null ? null : reading.read(value)));
    if (reading.assumesZone) this.assumed += values.reduce<number>((sum, value) => sum + (value === null ? 0 : 1), 0);
    await this.#options.caster.settle(carried, typeOid);
    const nearest = carried.map((value): Carried => (isInexact(value) ? value.nearest : null));
    await this.#options.caster.settle(nearest, typeOid);
    return carried.map((value, i) => {
      if (isInexact(value)) {
        this.#findings.add(name, value.inexact, this.rows + i + 1);
        const text = nearest[i];
        return typeof text === 'string' ? text : null;
      }
      if (value === null && required) this.#findings.add(name, 'is NULL, and the column is NOT NULL', this.rows + i + 1);
      return value as string | null;
    });
  }

  #opened(): SegmentBuilder {
    const { form, folder } = this.#options;
    const shape: SegmentShape = {
      kind: 'segment',
      relation: form.relation,
      description: form.description,
      key: form.key,
      timestamp: form.timestamp,
      day: null,
    };
    this.#builder ??= new SegmentBuilder(shape, path.join(folder, `spool-${this.#sequence}-${this.parts.length + 1}`));
    return this.#builder;
  }

  async #finishPart(): Promise<void> {
    if (this.#builder === undefined) return;
    const spool = this.#builder.finish();
    this.#builder = undefined;
    const part = path.join(this.#options.folder, `${String(this.#sequence).padStart(6, '0')}-${String(this.parts.length + 1).padStart(4, '0')}.parquet`);
    this.parts.push(part);
    try {
      await this.#options.encoder.encode(spool, part, this.#options.archive);
    } finally {
      await rm(spool.file, { force: true });
    }
  }

  async discard(): Promise<void> {
    this.#builder?.discard();
    for (const part of this.parts) await rm(part, { force: true });
  }
}
