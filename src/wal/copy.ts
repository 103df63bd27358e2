/**
 * The initial copy: a slot made together with a snapshot, under a guard that keeps DDL away, and every row of the listed tables in that snapshot. Owns the three
 * connections it takes. Knows nothing of streams: it yields parts. A copy that ends early leaves a slot that the next start drops.
 */
import type pg from 'pg';
import type { Relation } from '../change/relation.js';
import type { Lsn } from '../position/lsn.js';
import { TidemarkError } from '../runtime/errors.js';
import { readRelationFromCatalog } from './describe.js';
import { applicationName, quoteTable } from './identifier.js';
import { readPublished } from './publication-entry.js';
import { closeClient, connectClient } from './session.js';
import { beginAtSnapshot, type SnapshotWaiting } from './snapshot.js';
import { estimatedRows } from './table-estimate.js';
import { type CopyPart, tableForm, tableRows } from './table-rows.js';

const LOCK_TIMEOUT_MS = 3000;

export type CopySource = {
  readonly url: string;
  readonly source: string;
  readonly slot: string;
  readonly tables: readonly { readonly schema: string; readonly table: string }[];
};

/** A copy that has begun: the slot exists, and its snapshot is held. */
export class InitialCopy implements AsyncDisposable {
  readonly consistentPoint: Lsn;
  /** pg_current_snapshot() as text. */
  readonly snapshot: string;
  readonly relations: readonly Relation[];
  /** Their entries in the publication, by OID. */
  readonly published: ReadonlyMap<number, string>;
  /** Of all rows, about: for the progress. */
  readonly estimatedRows: number;
  readonly #guard: pg.Client;
  readonly #reader: pg.Client;

  private constructor(parts: {
    consistentPoint: Lsn;
    snapshot: string;
    relations: readonly Relation[];
    published: ReadonlyMap<number, string>;
    estimatedRows: number;
    guard: pg.Client;
    reader: pg.Client;
  }) {
    this.consistentPoint = parts.consistentPoint;
    this.snapshot = parts.snapshot;
    this.relations = parts.relations;
    this.published = parts.published;
    this.estimatedRows = parts.estimatedRows;
    this.#guard = parts.guard;
    this.#reader = parts.reader;
  }

  /** Guard, then slot, then snapshot. The slot must not exist. */
  static async begin(source: CopySource, waiting: SnapshotWaiting = {}): Promise<InitialCopy> {
    const open = (replication = false): Promise<pg.Client> =>
      connectClient(source.url, { applicationName: applicationName(source.source, 'capture'), replication, queryTimeoutMs: 0 });
    const guard = await open();
    let reader: pg.Client | undefined;
    let creator: pg.Client | undefined;
    try {
      await takeGuard(guard, source.tables);
      [reader, creator] = [await open(), await open(true)];
      const consistentPoint = await beginAtSnapshot({ creator, reader, watcher: guard }, { name: source.slot, temporary: false }, waiting);
      const snapshot = await reader.query<{ snapshot: string }>('SELECT pg_catalog.pg_current_snapshot()::text AS snapshot');
      const relations: Relation[] = [];
      for (const { schema, table } of source.tables) {
        const relation = await readRelationFromCatalog(reader, schema, table);
        if (relation === undefined) throw new TidemarkError('failed', `table ${schema}.${table} has gone`);
        relations.push(relation);
      }
      const expected = await estimatedRows(
        reader,
        relations.map(({ oid }) => oid),
      );
      const published = new Map((await readPublished(reader, source.slot)).map((entry) => [entry.oid, entry.published]));
      return new InitialCopy({ consistentPoint, snapshot: snapshot.rows[0]?.snapshot ?? '', relations, published, estimatedRows: expected, guard, reader });
    } catch (error) {
      for (const client of [guard, reader]) if (client !== undefined) await closeClient(client);
      throw error;
    } finally {
      if (creator !== undefined) await closeClient(creator); // the snapshot lives on in the reader
    }
  }

  /** Every row of every table, in parts of about 256 KB, each decodable alone. As tableRows when `signal` aborts. */
  async *parts(signal: AbortSignal): AsyncGenerator<CopyPart> {
    for (const relation of this.relations) yield* tableRows(this.#reader, relation, signal);
  }

  /** Frames of each table's description and Relation. */
  async *forms(): AsyncGenerator<Buffer> {
    for (const relation of this.relations) yield await tableForm(this.#reader, relation);
  }

  /** Lets DDL in again and ends the connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([closeClient(this.#reader), closeClient(this.#guard)]);
  }
}

/** ACCESS SHARE on every table until the connection ends: an ALTER or TRUNCATE would make the snapshot miss rows. Stops nobody's reads or writes. */
async function takeGuard(guard: pg.Client, tables: CopySource['tables']): Promise<void> {
  await guard.query(`SET lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await guard.query('SET idle_in_transaction_session_timeout = 0');
  await guard.query('BEGIN');
  await guard.query(`LOCK TABLE ${tables.map(({ schema, table }) => `ONLY ${quoteTable(schema, table)}`).join(', ')} IN ACCESS SHARE MODE`);
}
