/**
 * An archive that holds one day of one table in open segments, as the archiver leaves it when the pruner has taken the last of its rows: versions in segments, updates and prunes in
 * keys, all in one manifest. Written by the archiver's own builder and encoder; only the stream is left out. Rows come from a COPY out of Postgres.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { pino } from 'pino';
import type { ArchiverContext } from '../../services/archiver/context.js';
import { openContext } from '../../services/archiver/loop.js';
import { createArchive, readKey } from '../../src/archive/identity.js';
import { segmentFile } from '../../src/archive/layout.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { type Relation, relationSignature, type TableDescription } from '../../src/change/relation.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { boundary, formatPosition } from '../../src/position/position.js';
import { type Config, parseConfig } from '../../src/runtime/config.js';
import { SegmentBuilder, type SegmentShape } from '../../src/segment/builder.js';
import { DurableFile, hashFile } from '../../src/segment/durable-file.js';
import type { ChangeOrigin } from '../../src/segment/system-columns.js';
import { CopyRows } from '../../src/wal/copy-text.js';
import { describeTable, readRelationFromCatalog } from '../../src/wal/describe.js';

export type DayOptions = {
  readonly client: pg.Client;
  /** SELECT of the rows, all columns in the table's order. */
  readonly rows: string;
  readonly table: string;
  readonly timestamp: string;
  readonly day: string;
  /** Rows of a segment. */
  readonly segmentRows: number;
  /** Every nth row is updated once, to the values it has; 0: none. */
  readonly updateEvery: number;
};

/** A folder with an archive and a configuration. */
export type DayPlace = { readonly dir: string; readonly natsUrl: string };

/** Rows that the application wrote in one transaction, and that the pruner deleted in one. */
const TRANSACTION_ROWS = 100;
const PRUNED_ROWS = 5000;
const BEGIN = 0x1_0000_0000n;

/** What was made; `asOf`: for the seal request. */
export type OpenDay = { readonly config: Config; readonly rows: number; readonly asOf: string; readonly files: readonly string[] };

export async function makeOpenDay(place: DayPlace, options: DayOptions): Promise<OpenDay> {
  const archiveDir = path.join(place.dir, 'archived_data');
  await mkdir(archiveDir, { recursive: true });
  const file = path.join(place.dir, 'tidemark.yaml');
  const text = [
    'source: { url: "postgres://nobody@localhost/none", name: bench }',
    `stream: { url: "${place.natsUrl}" }`,
    `archive: { dir: "${archiveDir}" }`,
    `tables: { ${options.table}: { timestamp: ${options.timestamp} } }`,
  ].join('\n');
  await writeFile(file, text);
  const config = parseConfig(text, { file });
  const { archive } = await createArchive(archiveDir, 'bench');
  const context = await openContext(config, archiveDir, archive, await readKey(archiveDir), pino({ level: 'silent' }));
  try {
    return await new DayMaker(context, options, await readRelation(options)).run();
  } finally {
    await context.close();
  }
}

async function readRelation({ client, table }: DayOptions): Promise<{ relation: Relation; description: TableDescription }> {
  const relation = await readRelationFromCatalog(client, 'public', table);
  if (relation === undefined) throw new Error(`there is no table ${table}`);
  return { relation, description: await describeTable(client, relation) };
}

class DayMaker {
  readonly #context: ArchiverContext;
  readonly #options: DayOptions;
  readonly #relation: Relation;
  readonly #description: TableDescription;
  readonly #files: FileEntry[] = [];
  readonly #builders = new Map<'segment' | 'keys', SegmentBuilder>();
  #at = BEGIN;
  #rows = 0;
  #counter = 0;

  constructor(context: ArchiverContext, options: DayOptions, { relation, description }: { relation: Relation; description: TableDescription }) {
    this.#context = context;
    this.#options = options;
    this.#relation = relation;
    this.#description = description;
  }

  async run(): Promise<OpenDay> {
    const { client, rows } = this.#options;
    const copied = new CopyRows(this.#relation.oid, this.#relation.columns.length);
    // The pruner's deletes come behind everything else; their LSNs are known beforehand.
    for await (const data of client.query(copyTo(`COPY (${rows}) TO STDOUT`)) as AsyncIterable<Buffer>) {
      copied.push(data);
      const { frames } = copied.take();
      for (let at = 0; at < frames.length; at += 4 + frames.readUInt32BE(at)) await this.#row(frames, at + 10);
    }
    for (const kind of ['segment', 'keys'] as const) await this.#write(kind);
    const end = BEGIN * 3n;
    await this.#context.commit(() => ({
      reason: 'flush',
      add: this.#files,
      epoch: { systemId: '7300000000000000001', timeline: 1, generation: randomUUID() },
      position: formatPosition(boundary(lsn(end))),
      tables: [this.#state()],
    }));
    return {
      config: this.#context.config,
      rows: this.#rows,
      asOf: formatLsn(lsn(end)),
      files: this.#files.filter(({ kind }) => kind === 'segment').map((entry) => path.join(this.#context.dir, entry.file)),
    };
  }

  /** A row's versions and its end; `at`: its TupleData. */
  async #row(frames: Buffer, at: number): Promise<void> {
    const { updateEvery } = this.#options;
    const segment = this.#builder('segment');
    const keys = this.#builder('keys');
    if (this.#rows % TRANSACTION_ROWS === 0) this.#at += 4096n;
    const ordinal = 1 + (this.#rows % TRANSACTION_ROWS) * 2;
    segment.append(frames, at, this.#origin('insert', this.#at, ordinal));
    if (updateEvery > 0 && this.#rows % updateEvery === 0) {
      const update = this.#origin('update', this.#at, ordinal + 1);
      segment.append(frames, at, update);
      keys.appendKey(frames, at, update);
    }
    const pruned = Math.floor(this.#rows / PRUNED_ROWS);
    keys.appendKey(frames, at, this.#origin('prune', BEGIN * 2n + BigInt(pruned) * 4096n, 1 + (this.#rows % PRUNED_ROWS)));
    this.#rows += 1;
    for (const [kind, builder] of this.#builders) if (builder.rows >= this.#options.segmentRows) await this.#write(kind);
  }

  #origin(op: ChangeOrigin['op'], at: bigint, ordinal: number): ChangeOrigin {
    return { op, lsn: at, ordinal, xid: 700 + Number((at - BEGIN) >> 12n), committedAtMicros: 1_768_212_672_500_001n + at };
  }

  #shape(kind: 'segment' | 'keys'): SegmentShape {
    const { timestamp, day } = this.#options;
    return {
      kind,
      relation: this.#relation,
      description: this.#description,
      key: this.#description.primaryKey,
      timestamp,
      day: kind === 'segment' ? day : null,
    };
  }

  #builder(kind: 'segment' | 'keys'): SegmentBuilder {
    const found = this.#builders.get(kind);
    if (found !== undefined) return found;
    this.#counter += 1;
    const builder = new SegmentBuilder(this.#shape(kind), path.join(this.#context.temporary, `spool-${this.#counter}.csv`));
    this.#builders.set(kind, builder);
    return builder;
  }

  async #write(kind: 'segment' | 'keys'): Promise<void> {
    const builder = this.#builders.get(kind);
    if (builder === undefined) return;
    this.#builders.delete(kind);
    const { day, table } = this.#options;
    const spool = builder.finish();
    const counter = this.#context.nextCounter();
    const shape = this.#shape(kind);
    const file = segmentFile({ group: table, table, day: shape.day, kind, claim: this.#context.writer.claim, counter });
    const output = await DurableFile.create(path.join(this.#context.temporary, `segment-${counter}.parquet`));
    await this.#context.encoder.encode(spool, output.temporary, this.#context.archive);
    const published = await output.publish(path.join(this.#context.dir, file), hashFile);
    await rm(spool.file);
    this.#files.push({
      ...published,
      file,
      kind,
      oid: this.#relation.oid,
      schema: 'public',
      table,
      day: kind === 'segment' ? day : null,
      rows: spool.rows,
      signature: relationSignature(this.#relation, this.#description.dimensions),
      digestSum: spool.digestSum,
      minTimestamp: spool.minTimestamp,
      maxTimestamp: spool.maxTimestamp,
      minLsn: formatLsn(lsn(spool.minLsn)),
      maxLsn: formatLsn(lsn(spool.maxLsn)),
      pendingCopy: null,
    });
  }

  #state(): TableState {
    const { table, timestamp } = this.#options;
    return {
      oid: this.#relation.oid,
      schema: 'public',
      table,
      group: table,
      timestamp,
      key: this.#description.primaryKey,
      signature: relationSignature(this.#relation, this.#description.dimensions),
      coverage: { state: 'closed', reason: 'made for a benchmark' },
      copied: null,
      columnTypes: this.#description.columnTypes,
      ddl: this.#description.ddl,
    };
  }
}
