/**
 * Builds the rows of one segment to be: one table version, one day. Takes tuples as pgoutput sends them and appends them to a spool, with digest, extremes and counts on the way.
 * No object per row. Never decides what belongs together: its caller does.
 */

import { COLUMN } from '../change/pgoutput.js';
import type { Relation, TableDescription } from '../change/relation.js';
import { nameCollision, systemName } from '../change/system-columns.js';
import { TidemarkError } from '../runtime/errors.js';
import { viewOf } from './byte-view.js';
import { holdsAll, type SegmentColumn, segmentColumn } from './columns.js';
import { DigestSum, RowDigest } from './digest.js';
import { timestampText } from './postgres-text.js';
import { SpoolText, SpoolWriter } from './spool.js';
import { boundaryText, type ChangeOrigin } from './system-columns.js';
import { TextRange } from './text-range.js';

/** What all rows of a segment share. */
export type SegmentShape = {
  /** `restored`: a segment like any other, of rows that the archive has already. */
  readonly kind: 'segment' | 'restored' | 'keys';
  readonly relation: Relation;
  readonly description: TableDescription | undefined;
  /** Columns that identify a row, in key order; may be empty. */
  readonly key: readonly string[];
  /** The table's timestamp column. */
  readonly timestamp: string;
  readonly day: string | null;
};

/** A finished spool: input of the encoder. */
export type Spool = {
  readonly shape: SegmentShape;
  readonly columns: readonly SegmentColumn[];
  readonly file: string;
  readonly rows: number;
  /** Bytes of CSV. */
  readonly bytes: number;
  readonly longestLine: number;
  /** Sum of the rows' digests, decimal; of keys: of key and boundary. */
  readonly digestSum: string;
  readonly minTimestamp: string | null;
  readonly maxTimestamp: string | null;
  readonly minLsn: bigint;
  readonly maxLsn: bigint;
};

/** Values for columns whose unchanged TOAST was found again, by column index. */
export type ResolvedValues = ReadonlyMap<number, Uint8Array | null>;

const TEXT_FORM = segmentColumn({ name: '', typeOid: 25, typmod: -1, key: false });

/** Columns of a segment of this shape: all of the table, or the key's as text. Throws a TidemarkError when their names cannot stand in one file. */
export function shapeColumns(shape: SegmentShape): SegmentColumn[] {
  const { schema, table, columns } = shape.relation;
  const collision = nameCollision(columns.map((column) => column.name));
  if (collision !== undefined) {
    throw new TidemarkError('failed', `${schema}.${table}: ${collision}`, { remedy: 'rename the column, or take the table out of the configuration' });
  }
  if (shape.kind === 'keys') return keyNames(shape.key, columns).map((name) => ({ ...TEXT_FORM, name }));
  const context = { ...shape.description, key: shape.key };
  return shape.relation.columns.map((column) => segmentColumn(column, context));
}

/** Columns of a keys file: those of the key, all as text; of a table without one the digest of the whole old row. `columns`: of the table. */
export function keyNames(key: readonly string[], columns: readonly { readonly name: string }[]): readonly string[] {
  const names = columns.map(({ name }) => name);
  return key.length > 0 ? key : [systemName('digest', names)];
}

/** As it is, in quotes, after a look at what its column can hold, in a form of its own. */
const MANNER = { raw: 0, quoted: 1, checked: 2, encoded: 3 } as const;

function mannerOf({ encode, quoted, fits }: SegmentColumn): number {
  if (encode !== undefined) return MANNER.encoded;
  if (fits !== holdsAll) return MANNER.checked;
  return quoted ? MANNER.quoted : MANNER.raw;
}

const NO_TEXT = new SpoolText('');

export class SegmentBuilder {
  readonly shape: SegmentShape;
  readonly columns: readonly SegmentColumn[];
  readonly #spool: SpoolWriter;
  readonly #digest = new RowDigest();
  readonly #sum = new DigestSum();
  readonly #timestampIndex: number;
  /** How each column's values are written: its columns looked up by a number instead of by what each says. */
  readonly #manners: Uint8Array;
  /** keys: where each key column stands in the tuple. */
  readonly #keyIndexes: readonly number[];
  readonly #offsets: Int32Array;
  #rows = 0;
  readonly #timestamps = new TextRange();
  #minLsn = -1n;
  #maxLsn = -1n;
  /** Text of what a transaction's rows share, made once per transaction. */
  #originOf: ChangeOrigin | undefined;
  #lsnText = NO_TEXT;
  #originText = NO_TEXT;
  #op = '';
  #opText = NO_TEXT;
  /** When the first row came, monotonic milliseconds. */
  readonly since = performance.now();

  /** `file`: the spool to create. */
  constructor(shape: SegmentShape, file: string) {
    this.shape = shape;
    this.columns = shapeColumns(shape);
    this.#manners = Uint8Array.from(this.columns, mannerOf);
    this.#spool = new SpoolWriter(file);
    const names = shape.relation.columns.map((column) => column.name);
    this.#timestampIndex = shape.kind !== 'keys' ? names.indexOf(shape.timestamp) : -1;
    this.#keyIndexes = shape.key.map((name) => names.indexOf(name));
    this.#offsets = new Int32Array(names.length);
  }

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#spool.bytes;
  }

  /** Appends the row version of the TupleData at `at`. Returns false when a column was unchanged TOAST and stays unresolved. Throws on a tuple of another shape or a full disk. */
  append(buffer: Buffer, at: number, origin: ChangeOrigin, resolved?: ResolvedValues): boolean {
    const count = buffer.readUInt16BE(at);
    if (count !== this.columns.length) throw new SyntaxError(`tuple of ${count} columns for ${this.shape.relation.table} of ${this.columns.length}`);
    this.#digest.reset();
    let unresolved: string[] | undefined;
    let misfits: Record<string, string> | undefined;
    const view = viewOf(buffer);
    let next = at + 2;
    for (let i = 0; i < count; i += 1) {
      const kind = buffer[next];
      next += 1;
      if (kind === COLUMN.text) {
        const start = next + 4;
        next = start + view.getUint32(next);
        if (next > buffer.length) throw new RangeError('tuple leaves its message');
        if (!this.#value(i, buffer, start, next)) misfits = this.#misfit(misfits, i, buffer, start, next);
      } else if (kind === COLUMN.null) {
        this.#digest.nullValue();
      } else if (kind === COLUMN.unchanged) {
        const found = resolved?.get(i);
        if (found === undefined) {
          this.#digest.unchanged();
          unresolved ??= [];
          unresolved.push((this.columns[i] as SegmentColumn).name);
        } else if (found === null) this.#digest.nullValue();
        else if (!this.#value(i, found, 0, found.length)) misfits = this.#misfit(misfits, i, found, 0, found.length);
      } else throw new SyntaxError(`column kind 0x${(kind ?? 0).toString(16)} in a tuple of ${this.shape.relation.table}`);
      this.#spool.tab();
    }
    this.#system(origin);
    const { high } = this.#digest;
    const low = this.#digest.low(high);
    this.#spool.integer(high);
    this.#spool.tab();
    this.#spool.integer(low);
    this.#sum.add(high, low);
    this.#spool.tab();
    if (unresolved) this.#text(unresolved.join(','));
    this.#spool.tab();
    if (misfits) this.#text(JSON.stringify(misfits));
    this.#spool.endLine();
    return unresolved === undefined;
  }

  /** One value: digest, spool. False when the typed column cannot hold it: then the column stays NULL. */
  #value(index: number, buffer: Uint8Array, start: number, end: number): boolean {
    if (index === this.#timestampIndex) this.#timestamps.see(buffer, start, end);
    const manner = this.#manners[index];
    if (manner === MANNER.raw || manner === MANNER.quoted) {
      this.#spool.digested(buffer, start, end, this.#digest, manner === MANNER.quoted);
      return true;
    }
    const { encode, fits, quoted } = this.columns[index] as SegmentColumn;
    if (manner === MANNER.checked && fits(buffer, start, end)) {
      this.#spool.digested(buffer, start, end, this.#digest, quoted);
      return true;
    }
    this.#digest.bytes(buffer, start, end);
    const bytes = encode?.(buffer, start, end);
    if (bytes !== undefined) this.#spool.quoted(bytes);
    return bytes !== undefined;
  }

  /** Keeps the text of a value that the typed column cannot hold. */
  #misfit(misfits: Record<string, string> | undefined, index: number, buffer: Uint8Array, start: number, end: number): Record<string, string> {
    const text = Buffer.from(buffer.buffer, buffer.byteOffset + start, end - start).toString('utf8');
    return { ...misfits, [(this.columns[index] as SegmentColumn).name]: text };
  }

  /** keys: appends the key columns of the TupleData at `at` (the old key when the message has one, else the new row); `at` -1 for a truncate. */
  appendKey(buffer: Buffer, at: number, origin: ChangeOrigin): void {
    if (at >= 0) readOffsets(buffer, at, this.#offsets);
    const whole = at >= 0 && this.#keyIndexes.length === 0 ? Buffer.from(this.#rowDigest(buffer)) : undefined;
    this.#digest.reset();
    if (this.#keyIndexes.length === 0) {
      if (whole === undefined) this.#digest.nullValue();
      else this.#spool.digested(whole, 0, whole.length, this.#digest, true);
      this.#spool.tab();
    }
    for (const index of this.#keyIndexes) {
      const offset = at < 0 ? -1 : (this.#offsets[index] as number);
      if (offset >= 0 && buffer[offset] === COLUMN.text) {
        const start = offset + 5;
        this.#spool.digested(buffer, start, start + buffer.readUInt32BE(offset + 1), this.#digest, true);
      } else if (offset < 0 || buffer[offset] === COLUMN.null) this.#digest.nullValue();
      else throw new SyntaxError(`a key of ${this.shape.relation.table} without its value`);
      this.#spool.tab();
    }
    this.#digest.text(boundaryText(origin));
    this.#sum.addRow(this.#digest);
    this.#system(origin);
    this.#spool.endLine();
  }

  /** `_digest` of the tuple whose offsets were read. */
  #rowDigest(buffer: Buffer): string {
    this.#digest.reset();
    for (const offset of this.#offsets) {
      if (buffer[offset] === COLUMN.text) this.#digest.bytes(buffer, offset + 5, offset + 5 + buffer.readUInt32BE(offset + 1));
      else if (buffer[offset] === COLUMN.null) this.#digest.nullValue();
      else this.#digest.unchanged();
    }
    return this.#digest.value.toString();
  }

  #text(text: string): void {
    this.#spool.quoted(Buffer.from(text));
  }

  /** `_op _lsn _ordinal _xid _committed_at`, each followed by a tab. */
  #system(origin: ChangeOrigin): void {
    if (this.#originOf?.lsn !== origin.lsn || this.#originOf.xid !== origin.xid) {
      this.#originOf = { ...origin };
      this.#lsnText = new SpoolText(`${origin.lsn}\t`);
      this.#originText = new SpoolText(`\t${origin.xid}\t${timestampText(origin.committedAtMicros)}+00\t`);
      if (this.#minLsn < 0n || origin.lsn < this.#minLsn) this.#minLsn = origin.lsn;
      if (origin.lsn > this.#maxLsn) this.#maxLsn = origin.lsn;
    }
    if (this.#op !== origin.op) {
      this.#op = origin.op;
      this.#opText = new SpoolText(`${origin.op}\t`);
    }
    this.#spool.text(this.#opText);
    this.#spool.text(this.#lsnText);
    this.#spool.integer(origin.ordinal);
    this.#spool.text(this.#originText);
    this.#rows += 1;
  }

  /** Closes the spool. The builder is spent. */
  finish(): Spool {
    this.#spool.finish();
    return {
      shape: this.shape,
      columns: this.columns,
      file: this.#spool.file,
      rows: this.#rows,
      bytes: this.#spool.bytes,
      longestLine: this.#spool.longestLine,
      digestSum: this.#sum.toString(),
      minTimestamp: this.#timestamps.min,
      maxTimestamp: this.#timestamps.max,
      minLsn: this.#minLsn,
      maxLsn: this.#maxLsn,
    };
  }

  /** Throws the spool away. */
  discard(): void {
    this.#spool.discard();
  }
}

/** Offsets of the columns' kind bytes in the TupleData at `at`. Throws on a tuple of another length or one that leaves its message. */
function readOffsets(buffer: Buffer, at: number, offsets: Int32Array): void {
  const count = buffer.readUInt16BE(at);
  if (count !== offsets.length) throw new SyntaxError(`key tuple of ${count} columns, the table has ${offsets.length}`);
  let next = at + 2;
  for (let i = 0; i < count; i += 1) {
    offsets[i] = next;
    next = buffer[next] === COLUMN.text ? next + 5 + buffer.readUInt32BE(next + 1) : next + 1;
  }
  if (next > buffer.length) throw new RangeError('key tuple leaves its message');
}
