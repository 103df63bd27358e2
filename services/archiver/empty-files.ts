/**
 * Files without rows, one set for each form of a table: a pattern over the files of a table then always matches one, which is what views need (src/archive/views.ts). They
 * are in no manifest and hold nothing; one that is gone is made again by the next start.
 */
import { open, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { archivePaths, emptyFiles } from '../../src/archive/layout.js';
import { systemName } from '../../src/change/system-columns.js';
import { keyNames, type SegmentShape, shapeColumns } from '../../src/segment/builder.js';
import type { SegmentEncoder } from '../../src/segment/encoder.js';
import { identifier, literal, SYSTEM_TYPES, systemColumnsOf } from '../../src/segment/sql.js';

export class EmptyFiles {
  readonly #dir: string;
  readonly #encoder: SegmentEncoder;
  readonly #mark: string;
  readonly #made = new Map<string, Promise<void>>();
  readonly #there = new Set<string>();

  /** `dir`: the archive; `mark`: in the names of what it has not finished, its own. */
  constructor(dir: string, encoder: SegmentEncoder, mark: string) {
    this.#dir = dir;
    this.#encoder = encoder;
    this.#mark = mark;
  }

  /** Nothing is to be made of this form any more. */
  has(of: SegmentShape, group: string): boolean {
    return this.#there.has(emptyFiles(group, of.relation.table, of).segment);
  }

  /** Makes those of a form that are not there. A form may be known by its keys only: its first change under another key may be a delete. */
  async ensure(of: SegmentShape, group: string): Promise<void> {
    const shape: SegmentShape = { ...of, kind: 'segment' };
    const files = emptyFiles(group, shape.relation.table, shape);
    const making = this.#made.get(files.segment) ?? this.#makeAll(files, shape);
    this.#made.set(files.segment, making);
    try {
      await making;
      this.#there.add(files.segment);
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
    await this.#make(files.segment, [...own, ...system('segment')]);
    await this.#make(files.undated, [...own, ...system('segment')]);
    await this.#make(files.daily, [...ofDay, [systemName('text', names), 'VARCHAR']]);
    await this.#make(files.dailyUndated, [...ofDay, [systemName('text', names), 'VARCHAR']]);
    await this.#make(files.keys, [...keyNames(shape.key, shape.relation.columns).map((name): Column => [name, 'VARCHAR']), ...system('keys')]);
  }

  async #make(file: string, columns: readonly Column[]): Promise<void> {
    const target = path.join(this.#dir, file);
    const there = await stat(target).then(
      ({ size }) => size > 0, // a power cut may have left the name alone
      () => false,
    );
    if (there) return;
    const work = path.join(archivePaths(this.#dir).temporary, `empty-${this.#mark}-${path.basename(file)}`);
    const list = columns.map(([name, type]) => `CAST(NULL AS ${type}) AS ${identifier(name)}`);
    await this.#encoder.run(`COPY (SELECT ${list.join(', ')} LIMIT 0) TO ${literal(work)} (FORMAT parquet)`);
    await syncFile(work);
    await rename(work, target);
  }
}

type Column = [name: string, type: string];

async function syncFile(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
