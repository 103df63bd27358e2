/**
 * Rows of one table copied while the stream goes on → rows of the batch, which count from the manifest that completes their re-copy. They stand at `at` − 1: behind
 * all that their snapshot saw, before all that it did not (protocol P8). Owns which re-copy is the newest, and how far it has come. A part that is missing breaks a
 * re-copy and nothing else: capture copies again.
 */
import type { RecopyState } from '../../src/archive/manifest-format.js';
import type { RecopyBegin, RecopyEnd, RecopySpan } from '../../src/change/chunk.js';
import { type RowChange, visitFrames } from '../../src/change/pgoutput.js';
import type { Relation, TableDescription } from '../../src/change/relation.js';
import { parseLsn } from '../../src/position/lsn.js';
import type { Log } from '../../src/runtime/log.js';
import type { StreamChunk } from '../../src/stream/consume.js';
import type { Batch } from './batch.js';
import { InsertsOnly } from './copy-lane.js';
import type { CopiedTable, RestoredCopies, WasRestored } from './restored-copies.js';
import type { ArchivedTable, TableBook } from './tables.js';
import { rowDay } from './transactions.js';

export class RecopyLane {
  readonly #log: Log;
  readonly #tables: TableBook;
  readonly #batch: () => Batch;
  readonly #restored: RestoredCopies;
  #systemId = '';
  #newest: RecopyState | null;
  #reader: RecopyReader | undefined;

  /** `newest`: what the manifest knows. */
  constructor(log: Log, tables: TableBook, batch: () => Batch, newest: RecopyState | null, restored: RestoredCopies) {
    this.#restored = restored;
    this.#log = log;
    this.#tables = tables;
    this.#batch = batch;
    this.#newest = newest;
  }

  /** To be awaited before a chunk is taken: which rows of the re-copy were restored before. */
  async prepare({ header }: StreamChunk): Promise<void> {
    this.#systemId = header.epoch.systemId;
    const running = this.#newest;
    if (header.kind === 'recopy' && running?.id === header.recopy?.id && running !== null) await this.#restored.prepare(this.#copied(running));
  }

  #copied({ oid, snapshotXmax }: RecopyState): CopiedTable {
    return { oid, snapshotXmax, systemId: this.#systemId };
  }

  /** Takes a chunk of a re-copy. False: it says nothing new. Throws SyntaxError when it is not what its header says. */
  take(chunk: StreamChunk, archive: string | undefined): boolean {
    const { header, payload } = chunk;
    const span = header.recopy as RecopySpan;
    if (header.kind === 'recopy-begin') return this.#begin(JSON.parse(payload.toString('utf8')) as RecopyBegin, archive);
    const running = this.#newest;
    if (running?.id !== span.id || running.state !== 'running') return false;
    if (header.kind === 'recopy-end') return this.#end(running, JSON.parse(payload.toString('utf8')) as RecopyEnd);
    if (span.end <= running.rows) return false;
    if (span.prev > running.rows) return this.#break(running, `rows ${running.rows + 1} to ${span.prev} are missing`);
    this.#reader ??= new RecopyReader(running, this.#tables, this.#batch, this.#restored.of(this.#copied(running)));
    this.#reader.read(payload, span, running.rows);
    this.#reached({ ...running, rows: span.end });
    return true;
  }

  #begin(begin: RecopyBegin, archive: string | undefined): boolean {
    const before = this.#newest;
    if (archive !== undefined && begin.archive !== archive) return false;
    if (before !== null && parseLsn(begin.at) <= parseLsn(before.at)) return false;
    if (before?.state === 'running') this.#break(before, 'another one began');
    const { id, at, oid, schema, table, whole, published } = begin;
    this.#reader = undefined;
    this.#reached({ id, state: 'running', at, oid, schema, table, whole, published, snapshotXmax: begin.snapshot.split(':')[1] ?? '0', rows: 0 });
    this.#log.info({ event: 'recopy-begin', table: `${schema}.${table}`, whole }, 'rows of a table are copied again');
    return true;
  }

  #end(running: RecopyState, end: RecopyEnd): boolean {
    if (end.rows !== running.rows) return this.#break(running, `${running.rows} of ${end.rows} rows came`);
    this.#reached({ ...running, state: 'complete' });
    this.#batch().completed.push(running.id);
    const { oid, schema, table, snapshotXmax, published } = running;
    if (running.whole) {
      const form = new RecopyReader(running, this.#tables, this.#batch, () => false).form(Buffer.from(end.form, 'base64'));
      this.#tables.copied({ oid, schema, table }, form, { snapshotXmax, published });
      if (form !== undefined) this.#batch().copied(form, parseLsn(running.at) - 1n);
    }
    this.#reader = undefined;
    this.#log.info({ event: 'recopy-end', table: `${schema}.${table}`, rows: running.rows }, 'copied again');
    return true;
  }

  #break(running: RecopyState, reason: string): boolean {
    this.#log.warn({ event: 'recopy-broken', table: `${running.schema}.${running.table}`, reason }, 'a re-copy did not come whole: it is copied again');
    this.#batch().dropRecopy(running.id);
    this.#reader = undefined;
    this.#reached({ ...running, state: 'broken' });
    return true;
  }

  #reached(state: RecopyState): void {
    this.#newest = state;
    const batch = this.#batch();
    batch.recopy = state;
    batch.touch();
  }
}

/** Rows of one re-copy. Its columns are those of its own snapshot, which the stream may not have reached, or have left. */
class RecopyReader extends InsertsOnly {
  readonly #id: string;
  readonly #oid: number;
  readonly #tables: TableBook;
  readonly #batch: () => Batch;
  readonly #restored: WasRestored;
  #description: TableDescription | undefined;
  #mine = 0;
  #k = 0;
  table: ArchivedTable | undefined;

  constructor(recopy: RecopyState, tables: TableBook, batch: () => Batch, restored: WasRestored) {
    super(parseLsn(recopy.at) - 1n);
    this.#restored = restored;
    this.#id = recopy.id;
    this.#oid = recopy.oid;
    this.#tables = tables;
    this.#batch = batch;
  }

  read(payload: Buffer, span: RecopySpan, mine: number): void {
    this.#mine = mine;
    this.#k = span.prev;
    visitFrames(payload, this);
    if (this.#k !== span.end) throw new SyntaxError(`its rows end at number ${this.#k}, its header says ${span.end}`);
  }

  /** The table that its rows are of; undefined = not archived. */
  form(frames: Buffer): ArchivedTable | undefined {
    visitFrames(frames, this);
    return this.table;
  }

  description(description: TableDescription): void {
    this.#description = description;
  }

  relation(relation: Relation): void {
    this.table ??= this.#tables.version(relation, this.#description);
  }

  protected insert({ oid, buffer, newTuple }: RowChange): void {
    if (oid !== this.#oid) throw new SyntaxError(`a row of relation ${oid} in a copy of ${this.#oid}`);
    this.#k += 1;
    if (this.#k <= this.#mine || this.table === undefined) return;
    this.origin.ordinal = this.#k;
    this.origin.op = this.#restored(buffer, newTuple) ? 'restore' : 'copy';
    this.#batch().recopied(this.#id, this.table, rowDay(this.table, buffer, newTuple), buffer, newTuple, this.origin);
  }
}
