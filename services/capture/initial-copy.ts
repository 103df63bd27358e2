/** The initial copy on its way into the stream: copy-begin, rows, copy-end, as one generation. A copy that is stopped leaves a generation that the next one replaces. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { newestLsn } from '../../src/archive/resync.js';
import type { ChunkKind, CopyBegin, CopyEnd } from '../../src/change/chunk.js';
import { TAG } from '../../src/change/pgoutput.js';
import type { Epoch } from '../../src/position/epoch.js';
import { formatLsn, LSN_ZERO, type Lsn } from '../../src/position/lsn.js';
import { boundary } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { Halt } from '../../src/runtime/errors.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import { ProgressRate } from '../../src/runtime/progress-rate.js';
import type { ChunkPublisher } from '../../src/stream/publish.js';
import type { StreamTail } from '../../src/stream/tail.js';
import type { StreamConnection } from '../../src/stream/topology.js';
import type { ArchivedState } from '../../src/wal/confirm.js';
import { InitialCopy } from '../../src/wal/copy.js';
import { slotName } from '../../src/wal/identifier.js';
import { readServerIdentity } from '../../src/wal/identity.js';
import type { ArchivedTable } from '../../src/wal/recopy.js';
import type { SlotDecision } from '../../src/wal/slot.js';
import type { CaptureMetrics } from './metrics.js';

/** What capture reads in a manifest. */
export type CapturedArchive = ArchivedState & { readonly tables: readonly ArchivedTable[] } & Pick<ArchiveState, 'files'>;

/** What every step of capture works with. */
export type CaptureContext = {
  readonly config: Config;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly control: pg.Client;
  readonly stream: StreamConnection;
  readonly publisher: ChunkPublisher;
  readonly archive: string;
  readonly key: Buffer;
  readonly archived: () => Promise<CapturedArchive | undefined>;
  readonly metrics: CaptureMetrics;
};

/** So often the log says how far the copy is: soon at first, later every half minute. */
const PROGRESS_MS = 2000;
const PROGRESS_MOST_MS = 30_000;

/** Makes the slot and publishes the whole copy; all of it is stored when this returns. undefined: stopped meanwhile. */
export async function runInitialCopy(context: CaptureContext): Promise<Extract<SlotDecision, { act: 'resume' }> | undefined> {
  const { config, log, signal, control, publisher, metrics } = context;
  metrics.at('waiting for every transaction that writes: the copy begins behind them', Number.POSITIVE_INFINITY);
  await using copy = await InitialCopy.begin(
    { url: config.source.url.reveal(), source: config.source.name, slot: slotName(config.source.name), tables: config.tables },
    { onWaiting: (reason) => log.info({ event: 'copy-waiting', reason }, 'waiting'), signal },
  );
  const server = await readServerIdentity(control);
  refuseBehind(copy.consistentPoint, await context.archived());
  const epoch: Epoch = { systemId: server.systemId, timeline: server.timeline, generation: randomUUID() };
  const lane = new CopyLane(publisher, epoch, copy);
  log.info(
    { event: 'copy-begin', tables: copy.relations.length, estimatedRows: copy.estimatedRows, consistentPoint: formatLsn(copy.consistentPoint) },
    'copying',
  );
  metrics.at('copying the tables', Number.POSITIVE_INFINITY);
  await lane.begin(context.archive);
  const names = new Map(copy.relations.map((relation) => [relation.oid, `${relation.schema}.${relation.table}`]));
  const rate = new ProgressRate();
  const began = performance.now();
  let sayAt = began + PROGRESS_MS;
  rate.note(0, began);
  for await (const part of copy.parts(signal)) {
    if (signal.aborted) return undefined;
    await lane.part(part);
    metrics.copied(part.rows);
    faultPoint('C4');
    const now = performance.now();
    rate.note(lane.rows, now);
    if (now < sayAt) continue;
    sayAt = now + Math.min(PROGRESS_MOST_MS, Math.max(PROGRESS_MS, (now - began) / 5));
    const said = {
      rows: lane.rows,
      estimatedRows: copy.estimatedRows,
      rowsPerSecond: rounded(rate.perSecond),
      secondsLeft: rounded(rate.secondsLeft(copy.estimatedRows)),
    };
    log.info({ event: 'copy-progress', table: names.get(part.oid), ...said }, 'copying');
  }
  await lane.end();
  log.info({ event: 'copy-end', rows: lane.rows }, 'copied');
  return { act: 'resume', epoch, slotAt: copy.consistentPoint, resumeAt: boundary(copy.consistentPoint), anchored: false };
}

const rounded = (value: number | undefined): number | null => (value === undefined ? null : Math.round(value));

/** An archive that goes on after a resync holds changes already: copied rows must stand behind all of them. */
function refuseBehind(consistentPoint: Lsn, archived: CapturedArchive | undefined): void {
  const newest = archived === undefined ? LSN_ZERO : newestLsn(archived);
  if (consistentPoint > newest + 1n) return;
  throw new Halt('LSN_BACKWARD', {
    seen: `the copy would stand at ${formatLsn(consistentPoint)}, before the newest archived change (${formatLsn(newest)}): the server went back.`,
    safe: 'Nothing was copied, published or confirmed.',
    remedy: 'stop the services, `tidemark resync` (it has the server write on), and start them',
  });
}

/** Numbers the rows of a generation. */
class CopyLane {
  rows = 0;
  readonly #publisher: ChunkPublisher;
  readonly #epoch: Epoch;
  readonly #copy: InitialCopy;
  readonly #perTable = new Map<number, number>();

  constructor(publisher: ChunkPublisher, epoch: Epoch, copy: InitialCopy) {
    this.#publisher = publisher;
    this.#epoch = epoch;
    this.#copy = copy;
  }

  async begin(archive: string): Promise<void> {
    const payload: CopyBegin = {
      archive,
      consistentPoint: formatLsn(this.#copy.consistentPoint),
      snapshot: this.#copy.snapshot,
      tables: this.#copy.relations.map(({ oid, schema, table }) => ({ oid, schema, table, published: this.#copy.published.get(oid) ?? '' })),
    };
    await this.#publish('copy-begin', 0, Buffer.from(JSON.stringify(payload)));
  }

  async part(part: { oid: number; payload: Buffer; rows: number }): Promise<void> {
    this.#perTable.set(part.oid, (this.#perTable.get(part.oid) ?? 0) + part.rows);
    await this.#publish('copy', part.rows, part.payload);
  }

  /** What the rows of each table look like, also where there are none; then the end. Resolves when the whole copy is stored. */
  async end(): Promise<void> {
    for await (const form of this.#copy.forms()) await this.#publish('copy', 0, form);
    const payload: CopyEnd = { rows: this.rows, tables: this.#copy.relations.map(({ oid }) => ({ oid, rows: this.#perTable.get(oid) ?? 0 })) };
    await this.#publish('copy-end', 0, Buffer.from(JSON.stringify(payload)));
    await this.#publisher.drain();
  }

  async #publish(kind: ChunkKind, rows: number, payload: Buffer): Promise<void> {
    const lsn = this.#copy.consistentPoint;
    const prev = { lsn, k: this.rows };
    this.rows += rows;
    await this.#publisher.publish({ kind, epoch: this.#epoch, prev, end: { lsn, k: this.rows }, fragment: { n: 1, of: 1 } }, payload);
  }
}

/** The Begin message that the stream's last chunk starts with; undefined when it holds none (a copy, or nothing). */
export function tailBeginOf(tail: StreamTail | undefined): Buffer | undefined {
  if (tail?.header.kind !== 'changes' || tail.first.length < 5) return undefined;
  const length = tail.first.readUInt32BE(0);
  const frame = tail.first.subarray(4, 4 + length);
  return frame[0] === TAG.begin && frame.length === length ? frame : undefined;
}
