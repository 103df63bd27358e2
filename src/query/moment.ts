/**
 * The moment that a query is about: one snapshot of Postgres for all of its tables, taken under a lock that keeps DDL away until their rows are read. Owns its connection and the transaction, which
 * is READ ONLY. Must never take the snapshot before the lock: a table rewritten in between would look empty to it.
 */
import type pg from 'pg';
import type { Relation, TableDescription } from '../change/relation.js';
import { TidemarkError } from '../runtime/errors.js';
import { describeTable, readRelationFromCatalog } from '../wal/describe.js';
import { applicationName, quoteTable } from '../wal/identifier.js';
import { readServerIdentity, type ServerIdentity } from '../wal/identity.js';
import { closeClient, connectClient, cutConnection } from '../wal/session.js';

export type TableName = { readonly schema: string; readonly table: string };

/** What a snapshot sees, of 64-bit transaction ids. */
export type Snapshot = {
  readonly xmin: bigint;
  readonly xmax: bigint;
  /** Running ones between the two. */
  readonly running: ReadonlySet<bigint>;
  /** By the database's clock, ISO with microseconds and `+00`. */
  readonly at: string;
};

/** A table as it is at the moment. */
export type HotTable = { readonly relation: Relation; readonly description: TableDescription };

const LOCK_TIMEOUT_MS = 5000;
const UNDEFINED_TABLE = '42P01';

/** Reads pg_current_snapshot(): `xmin:xmax:xip,xip`. Throws SyntaxError on anything else. */
export function parseSnapshot(text: string, at: string): Snapshot {
  const match = /^(\d+):(\d+):((?:\d+(?:,\d+)*)?)$/.exec(text);
  if (match === null) throw new SyntaxError(`not a snapshot: ${JSON.stringify(text)}`);
  const running = (match[3] as string).split(',').filter(Boolean).map(BigInt);
  return { xmin: BigInt(match[1] as string), xmax: BigInt(match[2] as string), running: new Set(running), at };
}

/** True when the transaction had ended before the snapshot was taken. */
export function sees({ xmax, running }: Snapshot, xid: bigint): boolean {
  return xid < xmax && !running.has(xid);
}

/**
 * SQL condition for DuckDB: a transaction that the snapshot does not see. `xid`: its 32 bits; `committedAt`: a TIMESTAMPTZ. What was committed more than a day before the snapshot is seen: there
 * the 32 bits would not tell an old transaction from one to come.
 */
export function unseenSql({ xmax, running, at }: Snapshot, { xid, committedAt }: { readonly xid: string; readonly committedAt: string }): string {
  const low = (value: bigint): bigint => BigInt.asUintN(32, value);
  const later = `(${xid} - ${low(xmax)} + 4294967296) % 4294967296 < 2147483648`;
  const beside = running.size === 0 ? '' : ` OR ${xid} IN (${[...running].map(low).join(', ')})`;
  return `(${committedAt} > TIMESTAMPTZ '${at}' - INTERVAL 1 DAY AND (${later}${beside}))`;
}

export class Moment implements AsyncDisposable {
  readonly client: pg.Client;
  readonly #signal: AbortSignal;
  readonly #cut: () => void;
  #snapshot: Snapshot | undefined;
  #server: ServerIdentity | undefined;
  #tables: ReadonlyMap<string, HotTable> = new Map();

  private constructor(client: pg.Client, signal: AbortSignal) {
    this.client = client;
    this.#signal = signal;
    this.#cut = () => cutConnection(client);
    signal.addEventListener('abort', this.#cut);
  }

  /** `signal`: cuts the connection. Throws what connectClient does. */
  static async connect(url: string, source: string, signal: AbortSignal): Promise<Moment> {
    const client = await connectClient(url, { applicationName: applicationName(source, 'control'), queryTimeoutMs: 0 });
    const moment = new Moment(client, signal);
    signal.throwIfAborted();
    return moment;
  }

  get snapshot(): Snapshot {
    if (this.#snapshot === undefined) throw new Error('no snapshot was taken yet');
    return this.#snapshot;
  }

  get server(): ServerIdentity {
    if (this.#server === undefined) throw new Error('no snapshot was taken yet');
    return this.#server;
  }

  /** The table as of the snapshot; undefined: it does not exist in Postgres. */
  table({ schema, table }: TableName): HotTable | undefined {
    return this.#tables.get(quoteTable(schema, table));
  }

  /** Takes the snapshot, or another one. */
  async take(names: readonly TableName[]): Promise<void> {
    for (let again = false; ; again = true) {
      this.#signal.throwIfAborted();
      try {
        await this.#take(names);
        return;
      } catch (error) {
        if (again || (error as { code?: string }).code !== UNDEFINED_TABLE) throw explained(error); // dropped after it was found
      }
    }
  }

  async #take(names: readonly TableName[]): Promise<void> {
    const { client } = this;
    await client.query('ROLLBACK');
    const there: TableName[] = [];
    for (const name of names) {
      const { rows } = await client.query<{ found: string }>('SELECT (pg_catalog.to_regclass($1) IS NOT NULL)::text AS found', [
        quoteTable(name.schema, name.table),
      ]);
      if (rows[0]?.found === 'true') there.push(name);
    }
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}; SET LOCAL row_security = off; SET LOCAL idle_in_transaction_session_timeout = 0`);
    if (there.length > 0)
      await client.query(`LOCK TABLE ${there.map(({ schema, table }) => `ONLY ${quoteTable(schema, table)}`).join(', ')} IN ACCESS SHARE MODE`);
    const { rows } = await client.query<{ snapshot: string; at: string }>(
      `SELECT pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.clock_timestamp()::text AS at`,
    );
    const { snapshot, at } = rows[0] as { snapshot: string; at: string };
    this.#snapshot = parseSnapshot(snapshot, at);
    this.#server = await readServerIdentity(client);
    const tables = new Map<string, HotTable>();
    for (const { schema, table } of there) {
      const relation = await readRelationFromCatalog(client, schema, table);
      if (relation !== undefined) tables.set(quoteTable(schema, table), { relation, description: await describeTable(client, relation) });
    }
    this.#tables = tables;
  }

  /** Of transactions that have ended: those that committed. Throws when the server has forgotten one. */
  async committed(xids: readonly bigint[]): Promise<ReadonlySet<bigint>> {
    const found = new Set<bigint>();
    for (const xid of xids) {
      const { rows } = await this.client.query<{ status: string | null }>('SELECT pg_catalog.pg_xact_status($1::xid8) AS status', [xid.toString()]);
      const status = rows[0]?.status ?? null;
      if (status === null)
        throw new TidemarkError('failed', `the server has forgotten what became of prune transaction ${xid}, which the archive does not hold yet`, {
          remedy: 'start the archiver; when it has caught up, ask again',
        });
      if (status === 'committed') found.add(xid);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#cut);
    await closeClient(this.client);
  }
}

function explained(error: unknown): unknown {
  const { code, message } = error as { code?: string; message: string };
  if (code === '55P03')
    return new TidemarkError('failed', `a table is locked by somebody who changes it (${message})`, { remedy: 'ask again when that is done' });
  if (code === '42501') return new TidemarkError('failed', message, { remedy: 'GRANT SELECT on it to the role of source.url' });
  return error;
}
