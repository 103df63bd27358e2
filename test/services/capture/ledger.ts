/**
 * The simplest archive there can be, for tests of capture alone: reads the stream, proves continuity from positions, keeps every change in memory, and commits real
 * manifests with W and the newest fence, but no files.
 */
import assert from 'node:assert/strict';
import { type ArchiveState, createArchive, type ManifestChange, ManifestWriter, readKey } from '../../../src/archive/manifest.js';
import type { ArchivedFence } from '../../../src/archive/manifest-format.js';
import type { CopyBegin, CopyEnd } from '../../../src/change/chunk.js';
import { FENCE_PREFIX, type FencePayload, openMessage } from '../../../src/change/fence.js';
import { type ChangeVisitor, readTuple, visitFrames } from '../../../src/change/pgoutput.js';
import type { Relation } from '../../../src/change/relation.js';
import { formatLsn, type Lsn, parseLsn } from '../../../src/position/lsn.js';
import { boundary, comparePositions, formatPosition, type Position } from '../../../src/position/position.js';
import { meet } from '../../../src/position/span.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { readChunks, type StreamChunk } from '../../../src/stream/consume.js';
import { connectStream, type StreamConnection } from '../../../src/stream/topology.js';

export type Seen = {
  readonly op: string;
  readonly table: string;
  readonly at: Position;
  readonly xid: number;
  readonly values: readonly (string | null | undefined)[];
};

export class Ledger implements AsyncDisposable {
  readonly config: Config;
  readonly copied: Seen[] = [];
  readonly changes: Seen[] = [];
  /** Transactions whole, in order. */
  readonly commits: { readonly start: Lsn; readonly end: Lsn }[] = [];
  readonly fences: ArchivedFence[] = [];
  readonly chunks: { readonly kind: string; readonly prev: string; readonly end: string; readonly bytes: number }[] = [];
  generations = 0;
  copyEnd: CopyEnd | undefined;
  #begin: CopyBegin | undefined;
  duplicates = 0;
  failure: unknown;
  #mine: Position | undefined;
  #writer: ManifestWriter;
  #key: Buffer;
  #stream: StreamConnection;
  #stop = new AbortController();
  #reading: Promise<void>;
  #relations = new Map<number, Relation>();
  #described = new Set<number>();

  private constructor(config: Config, writer: ManifestWriter, key: Buffer, stream: StreamConnection) {
    this.config = config;
    this.#writer = writer;
    this.#key = key;
    this.#stream = stream;
    this.#reading = this.#read().catch((error: unknown) => {
      this.failure = error;
    });
  }

  static async open(configFile: string): Promise<Ledger> {
    const config = loadConfig(configFile, {}, {});
    await createArchive(config.archive.dir, config.source.name);
    const writer = await ManifestWriter.claim(config.archive.dir, config.source.name);
    return new Ledger(config, writer, await readKey(config.archive.dir), await connectStream(config, 'ledger'));
  }

  get stream(): StreamConnection {
    return this.#stream;
  }

  get position(): Position | undefined {
    return this.#mine;
  }

  /** Commits what is there: W at the last whole transaction, and the newest fence. */
  async archive(): Promise<ArchiveState> {
    if (this.failure !== undefined) throw this.failure;
    const last = this.commits.at(-1);
    const fence = this.fences.at(-1);
    return await this.#commit({
      reason: 'flush',
      ...(last === undefined ? {} : { position: formatPosition(boundary(last.end)) }),
      fences: fence === undefined ? [] : [...this.#writer.state.fences.filter((old) => old.nonce !== fence.nonce), fence],
    });
  }

  #last: Promise<unknown> = Promise.resolve();

  /** One commit after the other. */
  #commit(change: ManifestChange): Promise<ArchiveState> {
    const next = this.#last.then(() => this.#writer.commit(change));
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #read(): Promise<void> {
    for await (const chunk of readChunks(this.#stream, {}, this.#stop.signal)) await this.#take(chunk);
  }

  async #take(chunk: StreamChunk): Promise<void> {
    const { header } = chunk;
    this.chunks.push({ kind: header.kind, prev: formatPosition(header.prev), end: formatPosition(header.end), bytes: chunk.payload.length });
    if (header.kind === 'copy-begin') return await this.#copyBegin(chunk);
    if (header.kind === 'copy-end') return await this.#copyEnd(chunk);
    if (header.kind === 'copy') {
      assert.equal(header.prev.k, this.copied.length, 'rows of a copy are numbered without a gap');
      visitFrames(chunk.payload, this.#visitor(this.copied, header.prev, undefined));
      assert.equal(header.end.k, this.copied.length);
      return;
    }
    const mine = this.#mine as Position;
    const meeting = meet(header, mine);
    assert.notEqual(meeting, 'gap', `gap: mine ${formatPosition(mine)}, chunk ${formatPosition(header.prev)} to ${formatPosition(header.end)}`);
    if (meeting === 'duplicate') {
      this.duplicates += 1;
      return;
    }
    visitFrames(chunk.payload, this.#visitor(this.changes, header.prev, mine));
    this.#mine = header.end;
  }

  async #copyBegin(chunk: StreamChunk): Promise<void> {
    const begin = JSON.parse(chunk.payload.toString()) as CopyBegin;
    const { generation } = chunk.header.epoch;
    if (this.copyEnd !== undefined) throw new Error('a copy after a whole copy');
    this.generations += 1;
    this.copied.length = 0;
    await this.#commit({
      reason: 'copy-begin',
      epoch: chunk.header.epoch,
      copy: { generation, state: 'running', consistentPoint: begin.consistentPoint, rows: 0 },
    });
    this.#begin = begin;
  }

  async #copyEnd(chunk: StreamChunk): Promise<void> {
    this.copyEnd = JSON.parse(chunk.payload.toString()) as CopyEnd;
    assert.equal(this.copyEnd.rows, this.copied.length);
    const point = chunk.header.end.lsn;
    this.#mine = boundary(point);
    const copy = this.#writer.state.copy;
    assert.ok(copy);
    await this.#commit({
      reason: 'copy-end',
      position: formatPosition(boundary(point)),
      copy: { ...copy, state: 'complete', rows: this.copied.length },
      tables: (this.#begin?.tables ?? []).map(({ oid, schema, table, published }) => ({
        oid,
        schema,
        table,
        group: table,
        timestamp: '',
        key: [],
        signature: '',
        coverage: { state: 'open', since: 1 },
        copied: { snapshotXmax: '0', published },
        columnTypes: {},
        ddl: '',
      })),
    });
  }

  /** Every chunk must be decodable alone: relations and descriptions are forgotten between chunks. */
  #visitor(into: Seen[], prev: Position, mine: Position | undefined): ChangeVisitor {
    this.#relations = new Map();
    this.#described = new Set();
    let open: { lsn: Lsn; xid: number } | undefined;
    let k = 0;
    let fence: FencePayload | undefined;
    const see = (op: string, oid: number, values: readonly (string | null | undefined)[]): void => {
      const relation = this.#relations.get(oid);
      assert.ok(relation && this.#described.has(oid), 'a row before its relation and description');
      k += 1;
      const at = open === undefined ? { lsn: prev.lsn, k: prev.k + k } : { lsn: open.lsn, k };
      if (mine !== undefined && comparePositions(at, mine) <= 0) return;
      into.push({ op, table: relation.table, at, xid: open?.xid ?? 0, values });
    };
    return {
      begin: (begin) => {
        // A transaction that goes on from the chunk before begins with that one's k.
        k = prev.lsn === begin.commitLsn ? prev.k : 0;
        open = { lsn: begin.commitLsn, xid: begin.xid };
        fence = undefined;
      },
      commit: (commit) => {
        const known = this.commits.at(-1);
        if (known === undefined || commit.commitLsn >= known.end) {
          this.commits.push({ start: commit.commitLsn, end: commit.endLsn });
          if (fence) this.fences.push({ lsn: formatLsn(commit.commitLsn), end: formatLsn(commit.endLsn), nonce: fence.nonce, horizon: fence.horizon });
        }
        open = undefined;
      },
      relation: (relation) => {
        this.#relations.set(relation.oid, relation);
      },
      description: (description) => {
        this.#described.add(description.oid);
      },
      message: (message) => {
        if (message.prefix === FENCE_PREFIX) fence = openMessage<FencePayload>(this.#key, message.content);
      },
      row: (change) => see(change.op, change.oid, readTuple(change.buffer, change.newTuple >= 0 ? change.newTuple : change.oldTuple)),
      truncate: (oids) => {
        for (const oid of oids) see('truncate', oid, []);
        k -= oids.length - 1;
      },
    };
  }

  /** True when everything that ended before `lsn` has been read. */
  has(lsn: string): boolean {
    if (this.failure !== undefined) throw this.failure;
    const last = this.commits.at(-1);
    return last !== undefined && last.end >= parseLsn(lsn);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#reading;
    await this.#stream.connection.close();
  }
}
