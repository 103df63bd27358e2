/**
 * Rows of one table copied again while the stream goes on, and where they stand in it (protocol P8): at `at`, the WAL position that belongs to the copy's snapshot. What committed before it is in
 * the copy, what committed after it is not, and comes in the stream; transactions that began before the table was published have ended by then. Decides which tables need it. Must never
 * hold a lock while it waits for somebody's transaction.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Relation } from '../change/relation.js';
import type { Lsn } from '../position/lsn.js';
import { TidemarkError } from '../runtime/errors.js';
import { readRelationFromCatalog } from './describe.js';
import { applicationName, quoteIdentifier, quoteLiteral, quoteTable } from './identifier.js';
import { type PublishedTable, readPublished } from './publication-entry.js';
import { beginMoment, endMoment } from './recopy-lock.js';
import { closeClient, connectClient } from './session.js';
import { beginAtSnapshot } from './snapshot.js';
import { type CopyPart, tableForm, tableRows } from './table-rows.js';

const LOCK_TIMEOUT_MS = 3000;
const TEMPORARY_SLOT = 'tidemark_recopy_';
/** Keys in one COPY. */
const KEYS_AT_ONCE = 1000;

/** What capture reads in a manifest of a table. `copied`: when all its rows were copied last, by which entry in the publication. */
export type ArchivedTable = {
  readonly oid: number;
  readonly coverage: { readonly state: 'open' | 'closed' };
  readonly copied: { readonly published: string } | null;
};

/** `keys`: texts of the key columns of the rows that are wanted; all rows without it. */
export type RecopyWish = { readonly schema: string; readonly table: string; readonly keys?: readonly (readonly string[])[] };

export type RecopySource = { readonly url: string; readonly source: string; readonly publication: string };

/** Tables whose every row must be copied: not copied yet, copied under another entry in the publication, or closed since. Pure. */
export function tablesToCopy(published: readonly PublishedTable[], configured: readonly RecopyWish[], archived: readonly ArchivedTable[]): PublishedTable[] {
  const states = new Map(archived.map((state) => [state.oid, state]));
  return published.filter((entry) => {
    if (!configured.some((table) => table.schema === entry.schema && table.table === entry.table)) return false;
    const state = states.get(entry.oid);
    return state === undefined || state.coverage.state === 'closed' || state.copied?.published !== entry.published;
  });
}

export class TableRecopy implements AsyncDisposable {
  readonly id = randomUUID();
  readonly at: Lsn;
  /** pg_current_snapshot() as text. */
  readonly snapshot: string;
  readonly relation: Relation;
  readonly published: string;
  readonly #client: pg.Client;
  readonly #keys: RecopyWish['keys'];
  readonly #source: string;

  private constructor(parts: {
    at: Lsn;
    snapshot: string;
    relation: Relation;
    published: string;
    client: pg.Client;
    keys: RecopyWish['keys'];
    source: string;
  }) {
    this.#source = parts.source;
    this.at = parts.at;
    this.snapshot = parts.snapshot;
    this.relation = parts.relation;
    this.published = parts.published;
    this.#client = parts.client;
    this.#keys = parts.keys;
  }

  get whole(): boolean {
    return this.#keys === undefined;
  }

  /** Keeps prunes away until `begun`, waits, takes the snapshot, locks (ACCESS SHARE, for as long as the copy lasts). `waiting` hears of what is waited for. undefined: stopped, or the table is not published. */
  static async begin(source: RecopySource, wish: RecopyWish, signal: AbortSignal, waiting: (reason: string) => void): Promise<TableRecopy | undefined> {
    const open = (replication = false): Promise<pg.Client> =>
      connectClient(source.url, { applicationName: applicationName(source.source, 'capture'), replication, queryTimeoutMs: 0 });
    const client = await open();
    let creator: pg.Client | undefined;
    try {
      const { schema, table, keys } = wish;
      const before = await storage(client, wish);
      if (before === undefined) return await ended(client);
      await beginMoment(client, source.source, before.oid);
      await client.query(`SET lock_timeout = ${LOCK_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = 0`);
      creator = await open(true);
      const slot = { name: `${TEMPORARY_SLOT}${randomUUID().replaceAll('-', '')}`, temporary: true };
      const at = await beginAtSnapshot({ creator, reader: client, watcher: client }, slot, { signal, onWaiting: waiting });
      await client.query(`LOCK TABLE ONLY ${quoteTable(schema, table)} IN ACCESS SHARE MODE`);
      const { rows } = await client.query<{ snapshot: string; locked: string }>(
        'SELECT pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.to_regclass($1)::oid::text AS locked',
        [quoteTable(schema, table)],
      );
      // The snapshot knows tables by the names they had; what is locked, and read, has the name now.
      if (rows[0]?.locked !== String(before.oid) || (await storage(client, wish))?.file !== before.file)
        throw new TidemarkError('transient', `${schema}.${table} was renamed, truncated or rewritten a moment ago: its copy begins again`);
      const relation = await readRelationFromCatalog(client, schema, table);
      const entry = (await readPublished(client, source.publication)).find((one) => one.oid === relation?.oid);
      if (relation === undefined || entry === undefined) return await ended(client);
      return new TableRecopy({ at, snapshot: rows[0]?.snapshot ?? '', relation, published: entry.published, client, keys, source: source.source });
    } catch (error) {
      await closeClient(client);
      if (signal.aborted) return undefined;
      throw error;
    } finally {
      if (creator !== undefined) await closeClient(creator); // the snapshot lives on in the reader
    }
  }

  /** Its beginning is published: prunes that come now stand behind that. */
  async begun(): Promise<void> {
    await endMoment(this.#client, this.#source, this.relation.oid);
  }

  /** As tableRows when `signal` aborts. */
  async *parts(signal: AbortSignal): AsyncGenerator<CopyPart> {
    yield* tableRows(this.#client, this.relation, signal, this.#keys === undefined ? undefined : await keyConditions(this.#client, this.relation, this.#keys));
  }

  /** What its rows look like, as frames. */
  form(): Promise<Buffer> {
    return tableForm(this.#client, this.relation);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeClient(this.#client);
  }
}

async function ended(client: pg.Client): Promise<undefined> {
  await closeClient(client);
}

/** `file` changes when the table is truncated, rewritten or made again; also when a transaction with an older snapshot asks. */
async function storage(client: pg.Client, { schema, table }: RecopyWish): Promise<{ readonly oid: number; readonly file: string } | undefined> {
  const { rows } = await client.query<{ oid: string; file: string }>(
    `SELECT c.oid::text AS oid, c.oid::text || ' ' || pg_catalog.pg_relation_filenode(c.oid)::text AS file FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2`,
    [schema, table],
  );
  const row = rows[0];
  return row === undefined ? undefined : { oid: Number(row.oid), file: row.file };
}

/** SQL conditions that together name the wanted rows. Literals without a type take that of their column, so an index on the key is used. */
async function keyConditions(client: pg.Client, relation: Relation, keys: readonly (readonly string[])[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT a.attname::text AS name FROM pg_catalog.pg_index x, LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, n) JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum
      WHERE x.indexrelid = (SELECT y.indexrelid FROM pg_catalog.pg_index y WHERE y.indrelid = $1 AND (y.indisprimary OR y.indisreplident) AND y.indimmediate AND y.indisvalid ORDER BY y.indisprimary DESC LIMIT 1)
        AND k.n <= x.indnkeyatts ORDER BY k.n`,
    [relation.oid],
  );
  const columns = rows.map((row) => quoteIdentifier(row.name));
  const wanted = keys.filter((key) => key.length === columns.length);
  if (columns.length === 0 || wanted.length < keys.length) throw new TidemarkError('failed', `${relation.schema}.${relation.table}: its key has changed`);
  const conditions: string[] = [];
  for (let i = 0; i < wanted.length; i += KEYS_AT_ONCE) {
    const values = wanted.slice(i, i + KEYS_AT_ONCE).map((key) => (key.length === 1 ? key.map(quoteLiteral).join() : `(${key.map(quoteLiteral).join(', ')})`));
    conditions.push(`${columns.length === 1 ? columns[0] : `(${columns.join(', ')})`} IN (${values.join(', ')})`);
  }
  return conditions;
}
