/**
 * Builds the bytes that Postgres and capture would have sent: pgoutput messages of protocol 1, description frames and chunks of them, by hand.
 * For tests of what reads them. Source: PostgreSQL manual, "Logical Replication Message Formats".
 */
import type { ChunkHeader } from '../../src/change/chunk.js';
import { type FencePayload, PRUNE_PREFIX, type PrunePayload, RESTORE_PREFIX, type RestorePayload, signMessage } from '../../src/change/fence.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import type { Epoch } from '../../src/position/epoch.js';
import { lsn } from '../../src/position/lsn.js';
import { boundary, type Position } from '../../src/position/position.js';

export const FENCE_PREFIX_TEXT = 'tidemark.fence';
const POSTGRES_EPOCH_MICROS = 946_684_800_000_000n;

/** A column text, null for NULL, undefined for unchanged TOAST. */
export type Values = readonly (string | null | undefined)[];

export type TableDefinition = { relation: Relation; description: TableDescription };

/** A table of int8 key `id`, timestamptz `at` and text `note`, or other columns given as [name, type OID]. */
export function defineTable(
  options: {
    oid?: number;
    table?: string;
    columns?: readonly (readonly [name: string, typeOid: number])[];
    key?: readonly string[];
    identity?: Relation['identity'];
  } = {},
): TableDefinition {
  const { oid = 16400, table = 'prices', key = ['id'], identity = 'd' } = options;
  const columns = options.columns ?? [
    ['id', 20],
    ['at', 1184],
    ['note', 25],
  ];
  return {
    relation: {
      oid,
      schema: 'public',
      table,
      identity,
      columns: columns.map(([name, typeOid]) => ({ name, typeOid, typmod: -1, key: identity === 'f' || (identity !== 'n' && key.includes(name)) })),
    },
    description: {
      oid,
      schema: 'public',
      table,
      primaryKey: key,
      columnTypes: Object.fromEntries(columns.map(([name, typeOid]) => [name, String(typeOid)])),
      ddl: `CREATE TABLE ${table} ()`,
      types: {},
    },
  };
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function tuple(values: Values): Buffer {
  const parts = values.map((value) => {
    if (value === undefined) return Buffer.from('u');
    if (value === null) return Buffer.from('n');
    const text = Buffer.from(value);
    return Buffer.concat([Buffer.from('t'), u32(text.length), text]);
  });
  return Buffer.concat([u16(values.length), ...parts]);
}

export function relationMessage(relation: Relation): Buffer {
  const columns = relation.columns.map((column) =>
    Buffer.concat([Buffer.from([column.key ? 1 : 0]), cstring(column.name), u32(column.typeOid), i32(column.typmod)]),
  );
  return Buffer.concat([
    Buffer.from('R'),
    u32(relation.oid),
    cstring(relation.schema),
    cstring(relation.table),
    Buffer.from(relation.identity),
    u16(relation.columns.length),
    ...columns,
  ]);
}

export function descriptionMessage(description: TableDescription): Buffer {
  return Buffer.from(`d${JSON.stringify(description)}`);
}

export function insertMessage(oid: number, values: Values): Buffer {
  return Buffer.concat([Buffer.from('I'), u32(oid), Buffer.from('N'), tuple(values)]);
}

/** `old`: K (key) or O (whole row) tuple when it is sent. */
export function updateMessage(oid: number, values: Values, old?: { kind: 'K' | 'O'; values: Values }): Buffer {
  const before = old === undefined ? Buffer.alloc(0) : Buffer.concat([Buffer.from(old.kind), tuple(old.values)]);
  return Buffer.concat([Buffer.from('U'), u32(oid), before, Buffer.from('N'), tuple(values)]);
}

export function deleteMessage(oid: number, values: Values, kind: 'K' | 'O' = 'K'): Buffer {
  return Buffer.concat([Buffer.from('D'), u32(oid), Buffer.from(kind), tuple(values)]);
}

export function truncateMessage(oids: readonly number[]): Buffer {
  return Buffer.concat([Buffer.from('T'), u32(oids.length), Buffer.from([0]), ...oids.map(u32)]);
}

export function beginMessage(commitLsn: bigint, xid: number, committedAtMicros: bigint): Buffer {
  return Buffer.concat([Buffer.from('B'), u64(commitLsn), u64(committedAtMicros - POSTGRES_EPOCH_MICROS), u32(xid)]);
}

export function commitMessage(commitLsn: bigint, endLsn: bigint, committedAtMicros: bigint): Buffer {
  return Buffer.concat([Buffer.from('C'), Buffer.from([0]), u64(commitLsn), u64(endLsn), u64(committedAtMicros - POSTGRES_EPOCH_MICROS)]);
}

export function logicalMessage(at: bigint, prefix: string, content: string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from('M'), Buffer.from([1]), u64(at), cstring(prefix), u32(bytes.length), bytes]);
}

/** `u32 length` + bytes of each. */
export function framed(messages: readonly Buffer[]): Buffer {
  return Buffer.concat(messages.flatMap((message) => [u32(message.length), message]));
}

export type WrittenChunk = { readonly header: ChunkHeader; readonly payload: Buffer };

const ROW_TAGS = new Set('IUDT');
const COMMITTED_AT = 1_768_300_000_000_000n;
const COMMIT_BYTES = 0x30n;

/** A made-up server: transactions one behind the other, cut into chunks as capture does. Starts at `start`. */
export class WalWriter {
  readonly epoch: Epoch;
  readonly key: Buffer;
  readonly archive: string;
  #next: bigint;
  #end: Position;
  #xid = 700;

  constructor(options: { epoch: Epoch; key: Buffer; archive: string; start?: bigint }) {
    this.epoch = options.epoch;
    this.key = options.key;
    this.archive = options.archive;
    this.#next = options.start ?? 0x1000n;
    this.#end = boundary(lsn(this.#next));
  }

  /** Where the next transaction's commit record starts. */
  get next(): bigint {
    return this.#next;
  }

  /** End of what was written last. */
  get end(): Position {
    return this.#end;
  }

  /** Transaction id of the transaction written last. */
  get xid(): number {
    return this.#xid;
  }

  /** One transaction; `cuts`: chunk ends behind these row numbers. */
  transaction(tables: readonly TableDefinition[], rows: readonly Buffer[], options: { first?: Buffer; cuts?: readonly number[] } = {}): WrittenChunk[] {
    const commitLsn = this.#next;
    const endLsn = commitLsn + COMMIT_BYTES;
    this.#xid += 1;
    const begin = beginMessage(commitLsn, this.#xid, COMMITTED_AT + commitLsn);
    const heads = tables.flatMap(({ relation, description }) => [descriptionMessage(description), relationMessage(relation)]);
    const bounds = [...(options.cuts ?? []), rows.length];
    const chunks: WrittenChunk[] = [];
    let from = 0;
    for (const [i, to] of bounds.entries()) {
      const last = i === bounds.length - 1;
      const messages = [begin, ...(i === 0 && options.first ? [options.first] : []), ...heads, ...rows.slice(from, to)];
      if (last) messages.push(commitMessage(commitLsn, endLsn, COMMITTED_AT + commitLsn));
      chunks.push(this.#chunk(messages, last ? boundary(lsn(endLsn)) : { lsn: lsn(commitLsn), k: to }));
      from = to;
    }
    // The next commit record may start exactly where this one ends (facts.md).
    this.#next = endLsn;
    return chunks;
  }

  /** A fence, as a transaction of its own. */
  fence(nonce: string, horizon = String(this.#xid + 1)): WrittenChunk[] {
    const payload: FencePayload = { nonce, horizon, generation: this.epoch.generation, archive: this.archive };
    return this.transaction([], [], { first: logicalMessage(this.#next, FENCE_PREFIX_TEXT, signMessage(this.key, payload)) });
  }

  /** The message that marks a pruner's transaction: give it as `first`. */
  pruneMark(run: string, batch: string, key = this.key): Buffer {
    const payload: PrunePayload = { run, batch, archive: this.archive };
    return logicalMessage(this.#next, PRUNE_PREFIX, signMessage(key, payload));
  }

  /** The message that marks a transaction of restored rows. */
  restoreMark(run: string, batch: string, key = this.key): Buffer {
    const payload: RestorePayload = { run, batch, archive: this.archive };
    return logicalMessage(this.#next, RESTORE_PREFIX, signMessage(key, payload));
  }

  /** Several transactions in one chunk. */
  static join(chunks: readonly WrittenChunk[]): WrittenChunk {
    const [first, last] = [chunks[0] as WrittenChunk, chunks.at(-1) as WrittenChunk];
    return { header: { ...first.header, end: last.header.end }, payload: Buffer.concat(chunks.map((chunk) => chunk.payload)) };
  }

  #chunk(messages: readonly Buffer[], end: Position): WrittenChunk {
    const header: ChunkHeader = { kind: 'changes', epoch: this.epoch, prev: this.#end, end, fragment: { n: 1, of: 1 } };
    this.#end = end;
    return { header, payload: framed(messages) };
  }
}

/** A copy generation: copy-begin, one chunk per table, copy-end. `consistentPoint` is where streaming starts. */
export function copyChunks(
  epoch: Epoch,
  archive: string,
  consistentPoint: bigint,
  tables: readonly { definition: TableDefinition; rows: readonly Values[] }[],
): WrittenChunk[] {
  const at = lsn(consistentPoint);
  let k = 0;
  const chunk = (kind: ChunkHeader['kind'], rows: number, payload: Buffer): WrittenChunk => {
    const prev = { lsn: at, k };
    k += rows;
    return { header: { kind, epoch, prev, end: { lsn: at, k }, fragment: { n: 1, of: 1 } }, payload };
  };
  const point = `0/${consistentPoint.toString(16).toUpperCase()}`;
  const names = tables.map(({ definition }) => ({ oid: definition.relation.oid, schema: 'public', table: definition.relation.table }));
  const chunks = [chunk('copy-begin', 0, Buffer.from(JSON.stringify({ archive, consistentPoint: point, snapshot: '700:700:', tables: names })))];
  for (const { definition, rows } of tables) {
    if (rows.length === 0) continue;
    const messages = [
      descriptionMessage(definition.description),
      relationMessage(definition.relation),
      ...rows.map((values) => insertMessage(definition.relation.oid, values)),
    ];
    chunks.push(chunk('copy', rows.length, framed(messages)));
  }
  const perTable = tables.map(({ definition, rows }) => ({ oid: definition.relation.oid, rows: rows.length }));
  chunks.push(chunk('copy-end', 0, Buffer.from(JSON.stringify({ rows: k, tables: perTable }))));
  return chunks;
}

/** Counts the row messages among `messages`. */
export function countRows(messages: readonly Buffer[]): number {
  return messages.filter((message) => ROW_TAGS.has(String.fromCharCode(message[0] as number))).length;
}
