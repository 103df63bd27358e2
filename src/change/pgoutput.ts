/**
 * Reads pgoutput messages of protocol version 1 (text values) in place: no object per row, rows are offsets into the payload.
 * Source: PostgreSQL manual, "Logical Replication Message Formats". Both the framer (capture) and the archiver stand on this file.
 */
import type { Lsn } from '../position/lsn.js';
import type { Relation, RelationColumn, ReplicaIdentity, TableDescription } from './relation.js';

/** Message type bytes. */
export const TAG = {
  begin: 0x42,
  commit: 0x43,
  relation: 0x52,
  insert: 0x49,
  update: 0x55,
  delete: 0x44,
  truncate: 0x54,
  type: 0x59,
  origin: 0x4f,
  message: 0x4d,
  /** Ours: a TableDescription as JSON. */
  description: 0x64,
} as const;

export type Begin = {
  readonly commitLsn: Lsn /** Microseconds since 1970-01-01 UTC. */;
  readonly committedAtMicros: bigint /** 32-bit id, unsigned. */;
  readonly xid: number;
};
export type Commit = { readonly commitLsn: Lsn; readonly endLsn: Lsn };
export type LogicalMessage = { readonly transactional: boolean; readonly lsn: Lsn; readonly prefix: string; readonly content: string };

/** A row change, by offsets into `buffer`. Reused between calls: copy what must outlive the callback. */
export type RowChange = {
  op: 'insert' | 'update' | 'delete';
  oid: number;
  buffer: Buffer;
  /** Offset of the new TupleData (its column count), -1 for deletes. */
  newTuple: number;
  /** Offset of the old TupleData, -1 when the message has none. */
  oldTuple: number;
  /** What the old tuple holds: the key columns only (others NULL), or the whole old row (FULL). */
  oldKind: 'key' | 'row' | 'none';
  /** Offset behind the message. */
  end: number;
};

export interface ChangeVisitor {
  begin(begin: Begin): void;
  commit(commit: Commit): void;
  relation(relation: Relation): void;
  description(description: TableDescription): void;
  message(message: LogicalMessage): void;
  /** Insert, update and delete: each counts one in k. */
  row(change: RowChange): void;
  /** Counts one in k. */
  truncate(oids: readonly number[], options: { cascade: boolean; restartIdentity: boolean }): void;
}

const POSTGRES_EPOCH_MICROS = 946_684_800_000_000n; // 2000-01-01 UTC
const change: RowChange = { op: 'insert', oid: 0, buffer: Buffer.alloc(0), newTuple: -1, oldTuple: -1, oldKind: 'none', end: 0 };

/** Walks the frames of a chunk payload. Throws RangeError or SyntaxError on bytes that are not frames of pgoutput. */
export function visitFrames(payload: Buffer, visitor: ChangeVisitor): void {
  let at = 0;
  while (at < payload.length) {
    const length = payload.readUInt32BE(at);
    at += 4;
    if (length === 0 || at + length > payload.length) throw new SyntaxError(`frame of ${length} bytes at ${at} leaves a payload of ${payload.length}`);
    visitMessage(payload, at, at + length, visitor);
    at += length;
  }
}

/** Reads one message at [start, end). */
export function visitMessage(buffer: Buffer, start: number, end: number, visitor: ChangeVisitor): void {
  switch (buffer[start]) {
    case TAG.insert:
      return visitInsert(buffer, start, end, visitor);
    case TAG.update:
      return visitUpdate(buffer, start, end, visitor);
    case TAG.delete:
      return visitDelete(buffer, start, end, visitor);
    case TAG.begin:
      return visitor.begin(readBegin(buffer, start));
    case TAG.commit:
      return visitor.commit({ commitLsn: readLsn(buffer, start + 2), endLsn: readLsn(buffer, start + 10) });
    case TAG.relation:
      return visitor.relation(readRelation(buffer, start));
    case TAG.description:
      return visitor.description(JSON.parse(buffer.toString('utf8', start + 1, end)) as TableDescription);
    case TAG.message:
      return visitor.message(readMessage(buffer, start));
    case TAG.truncate:
      return visitTruncate(buffer, start, visitor);
    case TAG.type:
    case TAG.origin:
      return undefined; // our descriptions say more
    default:
      throw new SyntaxError(`unknown pgoutput message 0x${(buffer[start] ?? 0).toString(16)}`);
  }
}

export function readLsn(buffer: Buffer, at: number): Lsn {
  return buffer.readBigUInt64BE(at) as Lsn;
}

export function readBegin(buffer: Buffer, start: number): Begin {
  return {
    commitLsn: readLsn(buffer, start + 1),
    committedAtMicros: buffer.readBigInt64BE(start + 9) + POSTGRES_EPOCH_MICROS,
    xid: buffer.readUInt32BE(start + 17),
  };
}

export function readMessage(buffer: Buffer, start: number): LogicalMessage {
  const prefixEnd = buffer.indexOf(0, start + 10);
  const length = buffer.readUInt32BE(prefixEnd + 1);
  return {
    transactional: (buffer[start + 1] as number) === 1,
    lsn: readLsn(buffer, start + 2),
    prefix: buffer.toString('utf8', start + 10, prefixEnd),
    content: buffer.toString('utf8', prefixEnd + 5, prefixEnd + 5 + length),
  };
}

export function readRelation(buffer: Buffer, start: number): Relation {
  let at = start + 1;
  const oid = buffer.readUInt32BE(at);
  at += 4;
  const text = (): string => {
    const stop = buffer.indexOf(0, at);
    const value = buffer.toString('utf8', at, stop);
    at = stop + 1;
    return value;
  };
  const schema = text() || 'pg_catalog';
  const table = text();
  const identity = String.fromCharCode(buffer[at] as number) as ReplicaIdentity;
  const count = buffer.readUInt16BE(at + 1);
  at += 3;
  const columns: RelationColumn[] = [];
  for (let i = 0; i < count; i += 1) {
    const key = ((buffer[at] as number) & 1) === 1;
    at += 1;
    const name = text();
    columns.push({ name, typeOid: buffer.readUInt32BE(at), typmod: buffer.readInt32BE(at + 4), key });
    at += 8;
  }
  return { oid, schema, table, identity, columns };
}

function visitInsert(buffer: Buffer, start: number, end: number, visitor: ChangeVisitor): void {
  if (start + 8 > end) throw new RangeError('insert message too short');
  change.op = 'insert';
  change.oid = buffer.readUInt32BE(start + 1);
  change.buffer = buffer;
  change.newTuple = start + 6;
  change.oldTuple = -1;
  change.oldKind = 'none';
  change.end = end;
  visitor.row(change);
}

function visitUpdate(buffer: Buffer, start: number, end: number, visitor: ChangeVisitor): void {
  change.op = 'update';
  change.oid = buffer.readUInt32BE(start + 1);
  change.buffer = buffer;
  const kind = buffer[start + 5];
  if (kind === 0x4b || kind === 0x4f) {
    change.oldKind = kind === 0x4b ? 'key' : 'row';
    change.oldTuple = start + 6;
    const after = skipTuple(buffer, start + 6);
    if (after >= end || buffer[after] !== 0x4e) throw new SyntaxError('update message without its new tuple');
    change.newTuple = after + 1;
  } else if (kind === 0x4e) {
    change.oldKind = 'none';
    change.oldTuple = -1;
    change.newTuple = start + 6;
  } else throw new SyntaxError(`update message with tuple kind 0x${(kind ?? 0).toString(16)}`);
  change.end = end;
  visitor.row(change);
}

function visitDelete(buffer: Buffer, start: number, end: number, visitor: ChangeVisitor): void {
  if (start + 8 > end) throw new RangeError('delete message too short');
  change.op = 'delete';
  change.oid = buffer.readUInt32BE(start + 1);
  change.buffer = buffer;
  change.oldKind = buffer[start + 5] === 0x4b ? 'key' : 'row';
  change.oldTuple = start + 6;
  change.newTuple = -1;
  change.end = end;
  visitor.row(change);
}

function visitTruncate(buffer: Buffer, start: number, visitor: ChangeVisitor): void {
  const count = buffer.readUInt32BE(start + 1);
  const options = buffer[start + 5] as number;
  const oids = Array.from({ length: count }, (_, i) => buffer.readUInt32BE(start + 6 + 4 * i));
  visitor.truncate(oids, { cascade: (options & 1) === 1, restartIdentity: (options & 2) === 2 });
}

/** Column kinds inside TupleData. */
export const COLUMN = { null: 0x6e, unchanged: 0x75, text: 0x74 } as const;

/** Offset just behind the TupleData at `at`. */
export function skipTuple(buffer: Buffer, at: number): number {
  const count = buffer.readUInt16BE(at);
  let next = at + 2;
  for (let i = 0; i < count; i += 1) {
    next = buffer[next] === COLUMN.text ? next + 5 + buffer.readUInt32BE(next + 1) : next + 1;
  }
  return next;
}

/** The column texts of a TupleData: null = NULL, undefined = unchanged TOAST. For small work (keys, tests), not for the hot path. */
export function readTuple(buffer: Buffer, at: number): (string | null | undefined)[] {
  const count = buffer.readUInt16BE(at);
  let next = at + 2;
  const values: (string | null | undefined)[] = [];
  for (let i = 0; i < count; i += 1) {
    const kind = buffer[next];
    if (kind === COLUMN.text) {
      const length = buffer.readUInt32BE(next + 1);
      values.push(buffer.toString('utf8', next + 5, next + 5 + length));
      next += 5 + length;
    } else {
      values.push(kind === COLUMN.null ? null : undefined);
      next += 1;
    }
  }
  return values;
}
