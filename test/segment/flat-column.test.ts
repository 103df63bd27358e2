/** The pages of flat columns: every value as the library's own decoder gives it, and damaged pages never pass for others. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import parquet from '@dsnp/parquetjs';
import { SegmentEncoder } from '../../src/segment/encoder.js';
import { decodeFlatColumn, type FlatChunk, type FlatColumn } from '../../src/segment/flat-column.js';
import { inflateGzip, inflateSnappy, inflateZstd } from '../../src/segment/inflate.js';
import { PageBytes } from '../../src/segment/page-bytes.js';
import { literal } from '../../src/segment/sql.js';
import { SegmentWorld } from './world.js';

const ROWS = 20_000;
let world: SegmentWorld;
let encoder: SegmentEncoder;
before(async () => {
  world = await SegmentWorld.open();
  encoder = await SegmentEncoder.open({ temporaryDir: world.dir });
});
after(async () => {
  encoder.close();
  await world[Symbol.asyncDispose]();
});

/** Each physical type, once of few values (a dictionary) and once of many (PLAIN), whole and with NULLs. */
const COLUMNS: Readonly<Record<string, string>> = {
  int_few: '(i % 7)::INTEGER',
  int_many: '((hash(i) % 4000000000)::BIGINT - 2000000000)::INTEGER',
  small: '(i % 300 - 150)::SMALLINT',
  big_few: 'CASE WHEN i % 2 = 0 THEN -9223372036854775808 ELSE 9223372036854775807 END',
  big_many: '(hash(i) % 9000000000000000000)::BIGINT - 4500000000000000000',
  single: "CASE WHEN i % 11 = 0 THEN 'NaN'::FLOAT ELSE (i / 7.0)::FLOAT END",
  double_few: "CASE i % 4 WHEN 0 THEN 'Infinity'::DOUBLE WHEN 1 THEN -1e-300 ELSE 0.1 END",
  double_many: 'sin(i) * 1e10',
  text_few: "['', 'BTCUSDT', '😀', 'a' || chr(1)][1 + i % 4]",
  text_many: "repeat('x', i % 50) || i",
  one: "'the same'",
  decimal_few: '(i % 3)::DECIMAL(25, 8)',
  decimal_many: '(hash(i) % 1000000000000)::DECIMAL(38, 8) / 7',
  uuid: 'uuid()',
  flag: 'i % 3 = 0',
  at: "TIMESTAMPTZ '2026-01-12 00:00:00+00' + to_microseconds(i * 777)",
  day: "DATE '2026-01-12' + (i % 40)::INTEGER",
  bytes: "('\\x00\\xFF' || i)::BLOB",
};

type Opened = { readonly reader: InstanceType<typeof parquet.ParquetReader>; readonly chunks: { name: string; chunk: FlatChunk; library: Library }[] };
type Library = { values: unknown[]; dlevels: number[] };
type Meta = {
  schema: { name: string; type_length: number | null; repetition_type: number | null }[];
  row_groups: { num_rows: unknown; columns: { meta_data: Record<string, unknown> & { path_in_schema: string[] } }[] }[];
};

/** `decodes`: the library knows how it is compressed. */
async function open(select: string, options: string, decodes = true): Promise<Opened> {
  const file = world.path('parquet');
  await encoder.run(`COPY (${select}) TO ${literal(file)} (FORMAT parquet, ROW_GROUP_SIZE 8192, ${options})`);
  const reader = await parquet.ParquetReader.openFile(file, { rawStatistics: true } as never);
  const meta = reader.metadata as unknown as Meta;
  const envelope = reader.envelopeReader as unknown as {
    default_dictionary_size: number;
    read(at: number, length: number): Promise<Buffer>;
    readColumnChunk(schema: unknown, column: unknown): Promise<Library>;
  };
  const chunks: Opened['chunks'] = [];
  for (const group of meta.row_groups) {
    for (const column of group.columns) {
      const { path_in_schema: [name], dictionary_page_offset: dictionary, data_page_offset: pages, total_compressed_size: size, type, codec } = column.meta_data;
      const element = meta.schema.find((one) => one.name === name);
      const from = Number(dictionary) > 0 ? Number(dictionary) : Number(pages);
      if (Number(dictionary) > 0) envelope.default_dictionary_size = Number(pages) - Number(dictionary);
      const chunk: FlatChunk = {
        bytes: await envelope.read(from, Number(size)),
        type: Number(type),
        codec: Number(codec),
        width: element?.type_length ?? 0,
        optional: element?.repetition_type !== 0,
        rows: Number(group.num_rows),
      };
      chunks.push({ name: String(name), chunk, library: decodes ? await envelope.readColumnChunk(reader.schema, column) : { values: [], dlevels: [] } });
    }
  }
  return { reader, chunks };
} // biome-ignore format: a table

const plain = ({ values }: FlatColumn): unknown[] => Array.from({ length: values.length }, (_, i) => values.at(i));
const same = (a: unknown, b: unknown): boolean =>
  Buffer.isBuffer(a) ? Buffer.isBuffer(b) && a.equals(b) : Object.is(a, typeof a === 'number' ? Number(b) : b);

function assertSame(name: string, mine: FlatColumn | undefined, library: Library): void {
  assert.ok(mine, `${name} is read`);
  const present = mine.present ?? new Uint8Array(library.dlevels.length).fill(1);
  assert.equal(present.length, library.dlevels.length, name);
  if (mine.present !== undefined) assert.deepEqual([...present], library.dlevels, name);
  const values = plain(mine);
  assert.equal(values.length, library.values.length, name);
  const wrong = values.findIndex((value, i) => !same(value, library.values[i]));
  assert.equal(wrong, -1, `${name}: value ${wrong} is ${String(values[wrong])}, the library's ${String(library.values[wrong])}`);
}

for (const [nulls, of] of [['no NULL', ''], ['some', 'i % 5 = 2'], ['nearly all', 'i % 4096 <> 17'], ['all', 'true']] as const) {
  test(`every value is the library's: ${nulls}`, async () => {
    const columns = Object.entries(COLUMNS).map(([name, sql]) => (of === '' ? `${sql} AS ${name}` : `CASE WHEN NOT (${of}) THEN ${sql} END AS ${name}`));
    const { reader, chunks } = await open(`SELECT ${columns.join(', ')} FROM range(${ROWS}) t(i)`, 'COMPRESSION snappy, PARQUET_VERSION V1');
    assert.equal(chunks.length, 3 * columns.length);
    for (const { name, chunk, library } of chunks) assertSame(name, decodeFlatColumn(chunk), library);
    await reader.close();
  });
} // biome-ignore format: a table

test('uncompressed pages are read as well', async () => {
  const { reader, chunks } = await open(`SELECT i::INTEGER AS a, 'v' || i AS b FROM range(100) t(i)`, 'COMPRESSION uncompressed, PARQUET_VERSION V1');
  for (const { name, chunk, library } of chunks) assertSame(name, decodeFlatColumn(chunk), library);
  await reader.close();
});

test('pages of daily files, zstd and gzip, hold the same values', async () => {
  await encoder.run(
    `CREATE OR REPLACE TEMP TABLE made AS SELECT ${Object.entries(COLUMNS).map(([name, sql]) => `CASE WHEN i % 9 <> 2 THEN ${sql} END AS ${name}`)} FROM range(${ROWS}) t(i)`,
  );
  const library = await open('FROM made', 'COMPRESSION snappy, PARQUET_VERSION V1');
  for (const compression of ['zstd', 'gzip']) {
    const { reader, chunks } = await open('FROM made', `COMPRESSION ${compression}, PARQUET_VERSION V1`, false);
    assert.equal(chunks.length, library.chunks.length);
    for (const [i, { name, chunk }] of chunks.entries()) assertSame(`${compression} ${name}`, decodeFlatColumn(chunk), library.chunks[i]?.library as Library);
    await reader.close();
  }
  await library.reader.close();
});

test('zstd and gzip that are cut, or of another length than their page says, are refused', () => {
  const zstd = Buffer.from('KLUv/QBYfQAASHRpZGVtYXJrIAEACJUj', 'base64'); // by zstd 1.5 of "tidemark tidemark …", 50 bytes
  for (const [inflate, stored] of [
    [inflateZstd, zstd],
    [inflateGzip, gzipSync('tidemark '.repeat(6).slice(0, 50))],
  ] as const) {
    assert.equal(Buffer.from(inflate(stored, 50)).toString(), 'tidemark '.repeat(6).slice(0, 50));
    for (const length of [0, 1, 49, 51, 400]) assert.throws(() => inflate(stored, length), String(length));
    for (let cut = 0; cut < stored.length; cut += 1) assert.throws(() => inflate(stored.subarray(0, cut), 50), `cut at ${cut}`);
  }
});

test('what is written in another way is left to the library', async () => {
  for (const options of ['COMPRESSION brotli, PARQUET_VERSION V1', 'COMPRESSION snappy, PARQUET_VERSION V2']) {
    const file = world.path('parquet');
    await encoder.run(`COPY (SELECT i * 3 AS a FROM range(1000) t(i)) TO ${literal(file)} (FORMAT parquet, ${options})`);
    const reader = await parquet.ParquetReader.openFile(file);
    const meta = reader.metadata as unknown as Meta;
    const data = meta.row_groups[0]?.columns[0]?.meta_data ?? ({} as Record<string, unknown>);
    const envelope = reader.envelopeReader as unknown as { read(at: number, length: number): Promise<Buffer> };
    const bytes = await envelope.read(Number(data['data_page_offset']), Number(data['total_compressed_size']));
    assert.equal(
      decodeFlatColumn({ bytes, type: Number(data['type']), codec: Number(data['codec']), width: 0, optional: true, rows: 1000 }),
      undefined,
      options,
    );
    await reader.close();
  }
});

test('a chunk that is cut short throws, wherever it is cut; one with a changed byte throws, or ends with no more values than rows', async () => {
  const { reader, chunks } = await open(
    `SELECT i % 7 AS few, 'v' || i AS many, CASE WHEN i % 3 = 0 THEN i % 2 = 0 END AS flag FROM range(300) t(i)`,
    'COMPRESSION snappy, PARQUET_VERSION V1',
  );
  for (const { name, chunk, library } of chunks) {
    for (let length = 0; length < chunk.bytes.length; length += 1) {
      assert.throws(() => decodeFlatColumn({ ...chunk, bytes: chunk.bytes.subarray(0, length) }), `${name} cut at ${length}`);
    }
    for (let at = 0; at < chunk.bytes.length; at += 1) {
      const bytes = Buffer.from(chunk.bytes);
      bytes[at] = (bytes[at] as number) ^ 0x55;
      let found: FlatColumn | undefined;
      try {
        found = decodeFlatColumn({ ...chunk, bytes });
      } catch {
        continue;
      }
      if (found !== undefined) assert.ok(found.values.length <= library.dlevels.length, `${name}: more values than rows`);
    }
  }
  await reader.close();
});

/** Snappy of bytes that do not repeat: the length, then one literal. Source: google/snappy, format_description.txt. */
const snappyOf = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([(bytes.length & 0x7f) | 0x80, bytes.length >> 7, 61 << 2]), lengthOf(bytes), bytes]);
const lengthOf = (bytes: Buffer): Buffer => Buffer.from([(bytes.length - 1) & 0xff, (bytes.length - 1) >> 8]);

test('a page whose stream holds fewer or more bytes than its header says is refused: what the inflater gives beyond them is of the page before', () => {
  const before = Buffer.alloc(400, 'before ');
  assert.deepEqual(Buffer.from(inflateSnappy(snappyOf(before), 400)), before);
  const page = snappyOf(Buffer.alloc(300, 'x'));
  assert.equal(inflateSnappy(page, 300).length, 300);
  for (const length of [0, 1, 299, 301, 400]) assert.throws(() => inflateSnappy(page, length), RangeError, String(length));
  for (const cut of [0, 1]) assert.throws(() => inflateSnappy(page.subarray(0, cut), 300), RangeError);
});

test('a level that is neither NULL nor a value is refused', () => {
  const levels = (level: number): PageBytes => new PageBytes(Buffer.from([2, 0, 0, 0, 8 << 1, level]));
  const into = new Uint8Array(8);
  assert.equal(levels(1).levels(into), 8);
  assert.throws(() => levels(2).levels(into), RangeError);
});

test('a page of less than no values is refused: it would take back those before it', async () => {
  const { reader, chunks } = await open(`SELECT 'v' || i AS many FROM range(64) t(i)`, 'COMPRESSION uncompressed, PARQUET_VERSION V1');
  const { chunk } = chunks[0] as Opened['chunks'][number];
  // Field 1 of the data page's header, num_values, zigzag: 64 is 80 01; -64 is 7f, padded to two bytes ff 00.
  const at = chunk.bytes.indexOf(Buffer.from([0x15, 0x80, 0x01]));
  assert.ok(at > 0);
  assert.equal(decodeFlatColumn(chunk)?.values.length, 64);
  const bytes = Buffer.from(chunk.bytes);
  bytes.set([0xff, 0x00], at + 1);
  assert.throws(() => decodeFlatColumn({ ...chunk, optional: false, bytes: Buffer.concat([bytes, chunk.bytes]) }), /less than no values/);
  await reader.close();
});
