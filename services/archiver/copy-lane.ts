/**
 * Copied rows → rows of the batch. Those of the first copy stand before everything streamed: `_lsn` is the slot's consistent point minus one, `_ordinal` the row's
 * number in the generation. Drops exactly the rows that are archived already.
 */
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { CopyState } from '../../src/archive/manifest-format.js';
import type { CopyEnd } from '../../src/change/chunk.js';
import { type ChangeVisitor, type RowChange, visitFrames } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { parseLsn } from '../../src/position/lsn.js';
import type { ChangeOrigin } from '../../src/segment/system-columns.js';
import type { Batch } from './batch.js';
import type { LargeValues } from './large-values.js';
import type { RestoredCopies, WasRestored } from './restored-copies.js';
import type { TableBook } from './tables.js';
import { rowDay } from './transactions.js';

/** What the end of a copy says, of which so many rows came; undefined when some are missing. Throws SyntaxError when there were more. */
export function endOfCopy(payload: Buffer, rows: number): CopyEnd | undefined {
  const end = JSON.parse(payload.toString('utf8')) as CopyEnd;
  if (end.rows < rows) throw new SyntaxError(`a copy of ${end.rows} rows, of which ${rows} came`);
  return end.rows > rows ? undefined : end;
}

/** What any copy is made of: descriptions, relations, inserts, and nothing else. */
export abstract class InsertsOnly implements ChangeVisitor {
  /** Of all its rows; `ordinal` changes from row to row. */
  protected readonly origin: { -readonly [Name in keyof ChangeOrigin]: ChangeOrigin[Name] };

  protected constructor(lsn: bigint) {
    this.origin = { op: 'copy', lsn, ordinal: 0, xid: 0, committedAtMicros: 0n };
  }

  abstract relation(relation: Relation): void;
  abstract description(description: TableDescription): void;
  protected abstract insert(change: RowChange): void;

  row(change: RowChange): void {
    if (change.op !== 'insert') throw new SyntaxError(`an ${change.op} in a copy`);
    this.insert(change);
  }

  begin(): void {
    throw new SyntaxError('a Begin in a copy');
  }

  commit(): void {
    throw new SyntaxError('a Commit in a copy');
  }

  message(): void {
    throw new SyntaxError('a message in a copy');
  }

  truncate(): void {
    throw new SyntaxError('a truncate in a copy');
  }
}

/** Rows of the first copy, in which every table is its newest version. */
export class CopyReader extends InsertsOnly {
  readonly #tables: TableBook;
  readonly #batch: () => Batch;
  readonly #large: LargeValues;
  readonly #restored: RestoredCopies;
  /** Of each copied table, by OID. */
  #wasRestored = new Map<number, WasRestored>();
  #mine = 0;
  #k = 0;

  constructor(tables: TableBook, batch: () => Batch, large: LargeValues, restored: RestoredCopies) {
    super(0n);
    this.#restored = restored;
    this.#large = large;
    this.#tables = tables;
    this.#batch = batch;
  }

  /** To be awaited before a chunk is read: which rows of the copy were restored before. */
  async prepare(systemId: string): Promise<void> {
    this.#wasRestored = new Map();
    for (const { oid, copied } of this.#tables.states()) {
      if (copied === null) continue;
      const table = { oid, systemId, snapshotXmax: copied.snapshotXmax };
      await this.#restored.prepare(table);
      this.#wasRestored.set(oid, this.#restored.of(table));
    }
  }

  /** Reads a `copy` chunk that begins behind row `prev` of the generation; rows up to `mine` are archived. Throws SyntaxError when it does not end at `end`. */
  read(payload: Buffer, copy: CopyState, span: { readonly prev: number; readonly end: number }, mine: number): void {
    this.origin.lsn = parseLsn(copy.consistentPoint) - 1n;
    this.#mine = mine;
    this.#k = span.prev;
    visitFrames(payload, this);
    if (this.#k !== span.end) throw new SyntaxError(`its rows end at number ${this.#k}, its header says ${span.end}`);
  }

  /** The copy is whole. After a resync the archive has rows already: those that this copy does not hold went while nobody looked. */
  end(copy: CopyState, before: ArchiveState): void {
    const earlier = new Set([...before.files.values()].filter((entry) => entry.pendingCopy === null).map((entry) => entry.oid));
    for (const { oid } of this.#tables.states()) {
      const table = earlier.has(oid) ? this.#tables.route(oid) : undefined;
      if (table !== undefined) this.#batch().copied(table, parseLsn(copy.consistentPoint) - 1n);
    }
  }

  relation(relation: Relation): void {
    this.#tables.relate(relation);
  }

  description(description: TableDescription): void {
    this.#tables.describe(description);
  }

  protected insert({ oid, buffer, newTuple, end }: RowChange): void {
    this.#k += 1;
    if (this.#k <= this.#mine) return;
    const table = this.#tables.route(oid);
    if (table === undefined) return;
    this.origin.ordinal = this.#k;
    this.origin.op = this.#wasRestored.get(oid)?.(buffer, newTuple) === true ? 'restore' : 'copy';
    this.#batch().row(table, rowDay(table, buffer, newTuple), buffer, newTuple, this.origin);
    this.#large.version(table, buffer, newTuple, newTuple, end - newTuple);
  }
}
