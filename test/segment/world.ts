/** A folder and an encoder for tests of segments, and rows of texts turned into files. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TableDescription } from '../../src/change/relation.js';
import { SegmentBuilder, type SegmentShape, type Spool } from '../../src/segment/builder.js';
import { type EncoderOptions, SegmentEncoder } from '../../src/segment/encoder.js';
import { segmentMetadata } from '../../src/segment/metadata.js';
import { identifier, literal } from '../../src/segment/sql.js';
import type { ChangeOrigin } from '../../src/segment/system-columns.js';
import { relationOf, tupleBytes } from './tuple.js';

export type Columns = Record<string, [typeOid: number, typmod: number]>;
export type Row = readonly (string | null | undefined)[];

export const numeric = (precision: number, scale: number): [number, number] => [1700, ((precision << 16) | (scale & 0x7ff)) + 4];

/** Where the n-th row comes from. */
export const origin = (ordinal: number, op: ChangeOrigin['op'] = 'insert'): ChangeOrigin => ({
  op,
  lsn: 0x1_0000_0000_1234n,
  ordinal,
  xid: 4_000_000_000,
  committedAtMicros: 1_768_212_672_500_001n,
});

export class SegmentWorld implements AsyncDisposable {
  readonly dir: string;
  readonly encoder: SegmentEncoder;
  #files = 0;

  private constructor(dir: string, encoder: SegmentEncoder) {
    this.dir = dir;
    this.encoder = encoder;
  }

  static async open(options: Partial<EncoderOptions> = {}): Promise<SegmentWorld> {
    const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-segment-'));
    return new SegmentWorld(dir, await SegmentEncoder.open({ temporaryDir: dir, ...options }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.encoder.close();
    await rm(this.dir, { recursive: true, force: true });
  }

  path(extension: string): string {
    this.#files += 1;
    return path.join(this.dir, `${this.#files}.${extension}`);
  }

  shape(columns: Columns, description?: TableDescription, change: Partial<SegmentShape> = {}): SegmentShape {
    const relation = relationOf(columns);
    const timestamp = 'at' in columns ? 'at' : (relation.columns[0]?.name ?? '');
    const key = relation.columns.slice(0, 1).map((column) => column.name);
    return { kind: 'segment', relation, description, key, timestamp, day: '2026-01-12', ...change };
  }

  spool(shape: SegmentShape, rows: Iterable<Row>): Spool {
    const builder = new SegmentBuilder(shape, this.path('csv'));
    let ordinal = 0;
    for (const row of rows) {
      ordinal += 1;
      if (shape.kind === 'keys') builder.appendKey(tupleBytes(row), 0, origin(ordinal, 'update'));
      else builder.append(tupleBytes(row), 0, origin(ordinal));
    }
    return builder.finish();
  }

  /** Rows → a segment. */
  async segment(columns: Columns | SegmentShape, rows: Iterable<Row>): Promise<{ file: string; spool: Spool }> {
    const shape = 'relation' in columns ? (columns as SegmentShape) : this.shape(columns);
    const spool = this.spool(shape, rows);
    const file = this.path('parquet');
    await this.encoder.encode(spool, file, 'archive');
    return { file, spool };
  }

  /** A daily file with the rows of a segment. */
  async daily(segment: { file: string; spool: Spool }, options: { text?: boolean; rowGroup?: number } = {}): Promise<string> {
    const { shape } = segment.spool;
    const file = this.path('parquet');
    const names = [...shape.relation.columns.map((column) => column.name), ...(options.text === false ? [] : ['_text'])];
    const metadata = segmentMetadata(shape, 'archive', 'daily');
    await this.encoder.run(
      `COPY (SELECT ${names.map(identifier).join(', ')} FROM read_parquet(${literal(segment.file)})) TO ${literal(file)}
        (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${options.rowGroup ?? 122_880}, KV_METADATA {tidemark: ${literal(metadata)}})`,
    );
    return file;
  }
}
