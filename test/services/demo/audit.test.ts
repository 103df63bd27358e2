/** The demo's audit is worth something only if it fails: a lost, doubled, unexpected or changed row planted in a small archive is named, and a whole one is clean. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { readTableView } from '../../../services/demo/archive-view.js';
import { auditFolder, auditTable, type TableAudit } from '../../../services/demo/audit.js';
import { fingerprintOf, TableJournal } from '../../../services/demo/journal.js';
import type { DemoTable } from '../../../services/demo/rows.js';
import type { FileEntry } from '../../../src/archive/manifest-format.js';
import { SegmentBuilder, type SegmentShape } from '../../../src/segment/builder.js';
import { SegmentEncoder } from '../../../src/segment/encoder.js';
import type { Op } from '../../../src/segment/system-columns.js';
import { fileEntry, type TemporaryFolder, temporaryFolder } from '../../archive/folder.js';
import { relationOf, tupleBytes } from '../../segment/tuple.js';

type Row = readonly (string | null)[];
/** lsn: also its place in the order. */
type Change = { readonly op: Op; readonly lsn: number; readonly row: Row };

const relation = relationOf(
  { id: [20, -1], at: [1114, -1], price: [701, -1], amount: [1700, ((20 << 16) | 8) + 4], fee: [1700, ((9 << 16) | 2) + 4], share: [1700, ((12 << 16) | 4) + 4], done: [16, -1], note: [1043, 64], log: [3802, -1] },
  'buyins',
); // biome-ignore format: a table
const TABLE: DemoTable = {
  name: 'buyins',
  group: 'buyins',
  timestamp: 'at',
  key: ['id'],
  weight: 1,
  columns: [
    { name: 'id', type: 'bigint', notNull: true },
    { name: 'at', type: 'timestamp without time zone', notNull: true },
    { name: 'price', type: 'double precision', notNull: false },
    { name: 'amount', type: 'numeric(20,8)', notNull: false },
    { name: 'fee', type: 'numeric(9,2)', notNull: false },
    { name: 'share', type: 'numeric(12,4)', notNull: false },
    { name: 'done', type: 'boolean', notNull: false },
    { name: 'note', type: 'character varying(64)', notNull: false },
    { name: 'log', type: 'jsonb', notNull: false },
  ],
};
const row = (id: number, note: string | null = 'tab\there "🐐" \\N'): Row => [
  String(id), `2026-01-12 10:11:12.${String(id).padStart(6, '0')}`.replace(/0+$/, ''), id % 2 ? '0.1' : '1e-05', id % 3 ? `-${id}.00000001` : null, '-0.05', id % 3 ? null : '12345678.0010', id % 2 ? 't' : 'f', note, '{"a": [1, 2.50]}',
]; // biome-ignore format: a row

class Bench implements AsyncDisposable {
  readonly files: FileEntry[] = [];
  readonly journal = new TableJournal(TABLE);
  readonly hot = new Map<string, string>();
  readonly #folder: TemporaryFolder;
  readonly #encoder: SegmentEncoder;

  private constructor(folder: TemporaryFolder, encoder: SegmentEncoder) {
    this.#folder = folder;
    this.#encoder = encoder;
  }

  static async start(): Promise<Bench> {
    const folder = await temporaryFolder();
    return new Bench(folder, await SegmentEncoder.open({ temporaryDir: folder.dir }));
  }

  /** A segment of row versions, or a keys file of what ended versions. */
  async file(kind: 'segment' | 'keys', changes: readonly Change[]): Promise<string> {
    const name = `${kind}-${this.files.length}.parquet`;
    const shape: SegmentShape = { kind, relation, description: undefined, key: ['id'], timestamp: 'at', day: kind === 'keys' ? null : '2026-01-12' };
    const builder = new SegmentBuilder(shape, path.join(this.#folder.dir, `${name}.csv`));
    for (const { op, lsn, row: values } of changes) {
      const origin = { op, lsn: BigInt(lsn), ordinal: 1, xid: lsn, committedAtMicros: 1_768_212_672_000_000n };
      if (kind === 'keys') builder.appendKey(tupleBytes(values), 0, origin);
      else builder.append(tupleBytes(values), 0, origin);
    }
    await this.#encoder.encode(builder.finish(), path.join(this.#folder.dir, name), 'archive');
    this.files.push(fileEntry(name, { kind, table: 'buyins', rows: changes.length }));
    return path.join(this.#folder.dir, name);
  }

  /** A daily file of these rows. */
  async daily(rows: readonly Row[]): Promise<void> {
    const segment = await this.file(
      'segment',
      rows.map((values) => ({ op: 'insert', lsn: 1, row: values })),
    );
    this.files.pop();
    const name = `daily-${this.files.length}.parquet`;
    await this.#encoder.run(
      `COPY (SELECT id, "at", price, amount, CAST(fee AS DECIMAL(9, 2)) AS fee, CAST(share AS DECIMAL(12, 4)) AS share, done, note, log FROM read_parquet('${segment}')) TO '${path.join(this.#folder.dir, name)}' (FORMAT parquet, COMPRESSION zstd)`,
    );
    this.files.push(fileEntry(name, { kind: 'daily', table: 'buyins', rows: rows.length }));
  }

  keepHot(values: Row): void {
    this.hot.set(String(values[0]), fingerprintOf(TABLE.columns, values));
  }

  async audit(): Promise<TableAudit> {
    return auditTable(this.journal, this.hot, await readTableView(this.#folder.dir, this.files, TABLE));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** Rows 1–4 live; 5 deleted by the user. 1 is hot and archived, 2 and 3 pruned, 4 updated and pruned. */
async function wholeArchive(): Promise<Bench> {
  const bench = await Bench.start();
  const updated = row(4, 'changed');
  bench.journal.committed([row(1), row(2), row(3), row(4), row(5)]);
  bench.journal.committed([updated]);
  bench.journal.removed([row(5)]);
  bench.keepHot(row(1));
  await bench.file('segment', [1, 2, 3, 4, 5].map((id) => ({ op: 'insert', lsn: 10 + id, row: row(id) }))); // biome-ignore format: a line
  await bench.file('segment', [{ op: 'update', lsn: 20, row: updated }]);
  await bench.file('keys', [
    { op: 'update', lsn: 20, row: row(4) },
    { op: 'delete', lsn: 21, row: row(5) },
    { op: 'prune', lsn: 30, row: row(2) },
    { op: 'prune', lsn: 30, row: row(3) },
    { op: 'prune', lsn: 31, row: row(4) },
  ]);
  return bench;
}

const counts = ({ lost, duplicate, unexpected }: TableAudit): number[] => [lost, duplicate, unexpected];

test('a whole archive is clean, column by column, and its rows are counted', async () => {
  await using bench = await wholeArchive();
  const audit = await bench.audit();
  assert.deepEqual(audit.examples, []);
  assert.deepEqual(counts(audit), [0, 0, 0]);
  assert.deepEqual([audit.written, audit.hot, audit.archived, audit.pruned, audit.segments], [6, 1, 4, 3, 2]);
});

test('a pruned row that no file holds is lost', async () => {
  await using bench = await wholeArchive();
  bench.journal.committed([row(6)]);
  const audit = await bench.audit();
  assert.deepEqual(counts(audit), [1, 0, 0]);
  assert.match(audit.examples[0] as string, /^buyins 6: lost/);
});

test('a row that only Postgres holds is not lost, and not clean either: everything was to be archived', async () => {
  await using bench = await wholeArchive();
  bench.journal.committed([row(6)]);
  bench.keepHot(row(6));
  const audit = await bench.audit();
  assert.deepEqual(counts(audit), [0, 0, 0]);
  assert.match(audit.examples[0] as string, /^buyins 6: in Postgres only/);
});

test('a row whose newest version is nowhere is lost, though an older one is there', async () => {
  await using bench = await wholeArchive();
  bench.journal.committed([row(3, 'never archived')]);
  assert.deepEqual(counts(await bench.audit()), [1, 0, 0]);
});

test('a row that is in a segment and again in a daily file is a duplicate, and so is one that stands twice in a daily file', async () => {
  await using bench = await wholeArchive();
  await bench.daily([row(2)]);
  assert.deepEqual(counts(await bench.audit()), [0, 1, 0]);
  bench.journal.committed([row(7)]);
  await bench.daily([row(7), row(7)]);
  assert.deepEqual(counts(await bench.audit()), [0, 2, 0]);
});

test('a row of a rolled-back transaction in the archive or in Postgres is unexpected', async () => {
  await using bench = await wholeArchive();
  await bench.file('segment', [{ op: 'insert', lsn: 40, row: row(8) }]);
  bench.keepHot(row(9));
  const audit = await bench.audit();
  assert.deepEqual(counts(audit), [0, 0, 2]);
  assert.match(audit.examples.join('\n'), /buyins 8: unexpected in the archive: it was never committed/);
});

test('a row that the user deleted is unexpected when it is back', async () => {
  await using bench = await wholeArchive();
  await bench.daily([row(5)]);
  const audit = await bench.audit();
  assert.deepEqual(counts(audit), [0, 0, 1]);
  assert.match(audit.examples[0] as string, /the user deleted it/);
});

const CHANGED = {
  at: '2026-01-12 10:11:12.000007',
  price: '0.10000000000000002',
  amount: '-1.00000002',
  fee: '0.05',
  share: '-0.0001',
  done: null,
  note: '',
  log: '{"a": [1, 2.5]}',
};

for (const [i, [name, value]] of Object.entries(CHANGED).entries()) {
  test(`a pruned row whose ${name} was changed in the file is noticed`, async () => {
    await using bench = await wholeArchive();
    bench.journal.committed([row(11)]);
    await bench.daily([row(11).with(i + 1, value)]);
    assert.deepEqual(counts(await bench.audit()), [1, 0, 0]);
  });
}

test('files outside the archive’s own folder are those of the manifest and no others', () => {
  const files = [fileEntry('a/a_2026-01-12.parquet', { kind: 'daily' }), fileEntry('_tidemark/open/a/x.parquet')];
  assert.deepEqual(auditFolder(['a/a_2026-01-12.parquet'], files), []);
  assert.deepEqual(auditFolder(['b/b.parquet'], files), ['b/b.parquet is in no manifest', 'a/a_2026-01-12.parquet is missing']);
});
