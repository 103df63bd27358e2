import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { SegmentEncoder } from '../../src/segment/encoder.js';
import { RowGroupJoiner } from '../../src/segment/row-group-joiner.js';

let dir = '';
let duckdb: SegmentEncoder;
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-joiner-'));
  duckdb = await SegmentEncoder.open({ temporaryDir: dir });
});
after(async () => {
  duckdb.close();
  await rm(dir, { recursive: true });
});

const at = (name: string): string => path.join(dir, name);

async function write(name: string, rows: string): Promise<string> {
  await duckdb.run(`COPY (${rows}) TO '${at(name)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048, KV_METADATA {tidemark: 'same'})`);
  return at(name);
}

/** Dictionary, statistics and filters of few values, NULLs, lists, texts of many bytes. */
const rows = (from: number, to: number): string =>
  `SELECT i AS id, 'v' || i % 7 AS few, CASE WHEN i % 3 = 0 THEN NULL ELSE repeat('x' || i, 40) END AS long, [i, NULL, i + 1] AS list, i / 3.0 AS d FROM range(${from}, ${to}) t(i)`;

async function join(target: string, parts: readonly string[]): Promise<string> {
  await writeFile(at(target), '');
  const joiner = await RowGroupJoiner.into(at(target));
  try {
    for (const part of parts) await joiner.append(part);
    await joiner.finish();
  } finally {
    await joiner.close();
  }
  return at(target);
}

test('files behind each other are one file: every row in order, by every reader, with the metadata of the first', async () => {
  const parts = [await write('a', rows(0, 5000)), await write('b', rows(5000, 5000)), await write('c', rows(5000, 9000)), await write('d', rows(9000, 9001))];
  const joined = await join('joined', parts);
  const whole = await write('whole', rows(0, 9001));
  for (const sql of ['SELECT *', 'SELECT count(*)::INTEGER AS n, sum(id)::INTEGER AS s']) {
    assert.deepEqual(await duckdb.query(`${sql} FROM read_parquet('${joined}')`), await duckdb.query(`${sql} FROM read_parquet('${whole}')`));
  }
  for (const id of [0, 4999, 5000, 8999, 9000])
    assert.equal((await duckdb.query(`SELECT long FROM read_parquet('${joined}') WHERE id = ${id} AND few = 'v${id % 7}'`)).length, 1, `${id}`);
  assert.deepEqual(await duckdb.query(`SELECT id FROM read_parquet('${joined}') WHERE few = 'v7'`), []);
  const [file, other] = await Promise.all([joined, whole].map((name) => asyncBufferFromFile(name)));
  const footer = await parquetMetadataAsync(file as NonNullable<typeof file>);
  assert.equal(Number(footer.num_rows), 9001);
  assert.deepEqual(footer.key_value_metadata, [{ key: 'tidemark', value: 'same' }]);
  assert.deepEqual(
    footer.row_groups.map(({ num_rows }) => Number(num_rows)),
    [2048, 2048, 904, 2048, 1952, 1],
  );
  const read = (from: typeof file): Promise<object[]> => parquetReadObjects({ file: from as NonNullable<typeof file>, compressors });
  assert.deepEqual(await read(file), await read(other));
});

test('what has other columns, or is no Parquet file, is refused', async () => {
  const a = await write('first', rows(0, 10));
  const other = await write('other', 'SELECT 1 AS id');
  await assert.rejects(join('target', [a, other]), /has other columns than the files before it/);
  const torn = at('torn');
  await writeFile(torn, (await readFile(a)).subarray(0, -3));
  await assert.rejects(join('target', [a, torn]), /is not a Parquet file/);
  await assert.rejects(join('target', []), /no parts/);
});
