/**
 * Files without rows, one set for each form of a table: a pattern over the files of a table then always matches one, which is what views need (src/archive/views.ts). They
 * are in no manifest and hold nothing; one that is gone is made again by the next start.
 */
import { copyFile, open, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { archivePaths, emptyFiles } from '../../src/archive/layout.js';
import { systemName } from '../../src/change/system-columns.js';
import { keyNames, type SegmentShape, shapeColumns } from '../../src/segment/builder.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import { identifier, literal, SYSTEM_TYPES, systemColumnsOf } from '../../src/segment/sql.js';

export class EmptyFiles {
  readonly #dir: string;
  readonly #connect: () => Promise<SegmentEncoder>;
  readonly #mark: string;
  #encoder: Promise<SegmentEncoder> | undefined;
  /** The encoder runs one statement at a time. */
  #writing: Promise<unknown> = Promise.resolve();
  #count = 0;
  readonly #made = new Map<string, Promise<void>>();

  /** `dir`: the archive; `connect`: to an encoder that nobody else uses meanwhile, asked for when there is something to make; `mark`: in the names of what it has not finished, its own. */
  constructor(dir: string, connect: () => Promise<SegmentEncoder>, mark: string) {
    this.#dir = dir;
    this.#connect = connect;
    this.#mark = mark;
  }

  /** Makes those of a form that are not there. A form may be known by its keys only: its first change under another key may be a delete. */
  async ensure(of: SegmentShape, group: string): Promise<void> {
    const shape: SegmentShape = { ...of, kind: 'segment' };
    const files = emptyFiles(group, shape.relation.table, shape);
    const making = this.#made.get(files.segment) ?? this.#makeAll(files, shape);
    this.#made.set(files.segment, making);
    try {
      await making;
    } catch (error) {
      this.#made.delete(files.segment);
      throw error;
    }
  }

  async #makeAll(files: ReturnType<typeof emptyFiles>, shape: SegmentShape): Promise<void> {
    const columns = shapeColumns(shape);
    const own = columns.map(({ name, fileType }): Column => [name, fileType]);
    const ofDay = columns.map(({ name, fileType, dailyType = fileType }): Column => [name, dailyType]);
    const names = shape.relation.columns.map(({ name }) => name);
    const system = (kind: SegmentShape['kind']): Column[] => systemColumnsOf(kind).map((column) => [systemName(column, names), SYSTEM_TYPES[column]]);
    const segment = [...own, ...system('segment')];
    const daily: Column[] = [...ofDay, [systemName('text', names), 'VARCHAR']];
    await this.#make([files.segment, files.undated], segment);
    await this.#make([files.daily, files.dailyUndated], daily);
    await this.#make([files.keys], [...keyNames(shape.key, shape.relation.columns).map((name): Column => [name, 'VARCHAR']), ...system('keys')]);
  }

  /** Makes those of `files` that are not there, all of the same columns: written once, and copied. */
  async #make(files: readonly string[], columns: readonly Column[]): Promise<void> {
    const targets = files.map((file) => path.join(this.#dir, file));
    const there = await Promise.all(targets.map(isThere));
    const missing = targets.filter((_, i) => !there[i]);
    const works = missing.map(() => path.join(archivePaths(this.#dir).temporary, `empty-${this.#mark}-${++this.#count}.parquet`));
    const [first, ...others] = works;
    if (first === undefined) return;
    await this.#write(first, columns);
    await Promise.all(others.map((other) => copyFile(first, other)));
    await Promise.all(
      works.map(async (work, i) => {
        await syncFile(work);
        await rename(work, missing[i] as string);
      }),
    );
  }

  async #write(file: string, columns: readonly Column[]): Promise<void> {
    const list = columns.map(([name, type]) => `CAST(NULL AS ${type}) AS ${identifier(name)}`);
    this.#encoder ??= this.#connect();
    const encoder = await this.#encoder;
    const writing = this.#writing.then(() => encoder.run(`COPY (SELECT ${list.join(', ')} LIMIT 0) TO ${literal(file)} (FORMAT parquet)`));
    this.#writing = writing.catch(() => undefined);
    await writing;
  }
}

type Column = [name: string, type: string];

/** A power cut may have left the name alone. */
async function isThere(file: string): Promise<boolean> {
  return await stat(file).then(
    ({ size }) => size > 0,
    () => false,
  );
}

async function syncFile(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
