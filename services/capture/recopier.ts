/**
 * Copies rows of a table (again) while the stream goes on: every row of a table that is new, or whose changes may have been missed, and single rows that the pruner
 * could not prove. One at a time. Whether it is needed is read from the manifest, so nothing is lost with this process; a copy that fails is begun again.
 */
import type pg from 'pg';
import type { ChunkHeader, RecopyBegin, RecopyEnd } from '../../src/change/chunk.js';
import type { Epoch } from '../../src/position/epoch.js';
import { formatLsn } from '../../src/position/lsn.js';
import { comparePositions, type Position, parsePosition } from '../../src/position/position.js';
import type { Config } from '../../src/runtime/config.js';
import { describeError, Halt } from '../../src/runtime/errors.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import { backoffMs, sleep } from '../../src/runtime/service.js';
import { answerRecopies } from '../../src/stream/recopy-request.js';
import type { StreamConnection } from '../../src/stream/topology.js';
import { slotName } from '../../src/wal/identifier.js';
import { readPublished } from '../../src/wal/publication-entry.js';
import { type RecopyWish, TableRecopy, tablesToCopy } from '../../src/wal/recopy.js';
import type { CapturedArchive } from './initial-copy.js';
import type { CaptureMetrics } from './metrics.js';

const LOOK_MS = 2000;
const PROGRESS_MS = 2000;
/** A copy that was sent is not sent again before the archive had this much time beyond its flush interval. */
const ARRIVE_MS = 60_000;
/** More rows of a table than this are copied with all the others. */
const MOST_KEYS = 10_000;

export type RecopierParts = {
  readonly config: Config;
  readonly log: Log;
  readonly control: pg.Client;
  readonly stream: StreamConnection;
  readonly archive: string;
  readonly epoch: Epoch;
  readonly archived: () => Promise<CapturedArchive | undefined>;
  readonly metrics: CaptureMetrics;
  /** Resolves with the streamed position that the chunk stands behind. */
  readonly publish: (chunk: Pick<ChunkHeader, 'kind' | 'recopy'> & { readonly payload: Buffer }) => Promise<Position>;
};

/** A whole copy that was sent: under which entry in the publication, behind which streamed position it ended, and when, milliseconds of the monotonic clock. */
export type SentCopy = { readonly published: string; readonly behind: Position; readonly at: number };

/**
 * Is it still to be expected in the archive? Not when that has come behind the end of the copy some time ago: it did not come whole. An archive that does not go on has not seen it:
 * another one would only lie behind it in the stream. `w`: the archived position. Pure.
 */
export function mayArrive(
  sent: SentCopy,
  { published, w, now, patienceMs }: { published: string; w: string | null; now: number; patienceMs: number },
): boolean {
  if (sent.published !== published) return false;
  return now - sent.at <= patienceMs || w === null || comparePositions(parsePosition(w), sent.behind) <= 0;
}

export class Recopier {
  readonly #parts: RecopierParts;
  /** Wished by the pruner, by table. */
  readonly #wishes = new Map<string, RecopyWish>();
  /** By OID. */
  readonly #sent = new Map<number, SentCopy>();

  constructor(parts: RecopierParts) {
    this.#parts = parts;
  }

  /** Runs until the signal aborts. Throws halts only. */
  async run(signal: AbortSignal): Promise<void> {
    const { stream, config, log } = this.#parts;
    const answering = answerRecopies(stream.connection, config.source.name, (wish) => this.#take(wish));
    let attempt = 0;
    try {
      while (!signal.aborted) {
        try {
          const wish = await this.#next();
          if (wish !== undefined) await this.#copy(wish, signal);
          attempt = 0;
          if (wish === undefined) await sleep(LOOK_MS, signal);
        } catch (error) {
          if (error instanceof Halt) throw error;
          if (signal.aborted) return;
          log.warn({ event: 'recopy-failed', reason: describeError(error) }, 'rows were not copied again yet');
          await sleep(backoffMs(attempt++), signal);
        }
      }
    } finally {
      answering.unsubscribe();
    }
  }

  #take(wish: RecopyWish): void {
    const name = `${wish.schema}.${wish.table}`;
    const before = this.#wishes.get(name);
    const keys = before === undefined ? wish.keys : before.keys && wish.keys && [...before.keys, ...wish.keys];
    const { schema, table } = wish;
    this.#wishes.set(name, keys === undefined || keys.length > MOST_KEYS ? { schema, table } : { schema, table, keys });
  }

  /** What to copy now: whole tables first, they open coverage. */
  async #next(): Promise<RecopyWish | undefined> {
    const { config, control, archived, epoch } = this.#parts;
    const state = await archived();
    if (state?.copy?.state !== 'complete' || state.epoch?.generation !== epoch.generation) return undefined;
    const needed = tablesToCopy(await readPublished(control, slotName(config.source.name)), config.tables, state.tables);
    const [w, now, patienceMs] = [state.position, performance.now(), config.archive.flush.every + ARRIVE_MS];
    for (const { oid, schema, table, published } of needed) {
      const sent = this.#sent.get(oid);
      if (sent === undefined || !mayArrive(sent, { published, w, now, patienceMs })) return { schema, table };
    }
    const [name, wish] = [...this.#wishes][0] ?? [];
    if (name !== undefined) this.#wishes.delete(name);
    return wish;
  }

  async #copy(wish: RecopyWish, signal: AbortSignal): Promise<void> {
    const { config, log, archive, publish, metrics } = this.#parts;
    const source = { url: config.source.url.reveal(), source: config.source.name, publication: slotName(config.source.name) };
    const name = `${wish.schema}.${wish.table}`;
    await using copy = await TableRecopy.begin(source, wish, signal, (reason) => log.info({ event: 'recopy-waiting', table: name, reason }, 'waiting'));
    if (copy === undefined) return;
    const { id, at, relation, snapshot, whole, published } = copy;
    const { oid, schema, table } = relation;
    log.info({ event: 'recopy-begin', table: name, whole, rows: wish.keys?.length, at: formatLsn(at) }, 'copying again');
    const begin: RecopyBegin = { archive, id, at: formatLsn(at), snapshot, oid, schema, table, whole, published };
    await publish({ kind: 'recopy-begin', recopy: { id, at, prev: 0, end: 0 }, payload: Buffer.from(JSON.stringify(begin)) });
    await copy.begun();
    let rows = 0;
    let sayAt = Date.now() + PROGRESS_MS;
    for await (const part of copy.parts(signal)) {
      if (signal.aborted) return;
      await publish({ kind: 'recopy', recopy: { id, at, prev: rows, end: rows + part.rows }, payload: part.payload });
      rows += part.rows;
      metrics.copied(part.rows);
      faultPoint('C4');
      if (Date.now() < sayAt) continue;
      sayAt = Date.now() + PROGRESS_MS;
      log.info({ event: 'recopy-progress', table: name, rows }, 'copying again');
    }
    const end: RecopyEnd = { rows, form: (await copy.form()).toString('base64') };
    const behind = await publish({ kind: 'recopy-end', recopy: { id, at, prev: rows, end: rows }, payload: Buffer.from(JSON.stringify(end)) });
    if (whole) this.#sent.set(oid, { published, behind, at: performance.now() });
    log.info({ event: 'recopy-end', table: name, rows }, 'copied again');
  }
}
