/** A backlog that waits in the slot: how fast it becomes durable, covered segments, against pg_recvlogical, which throws the same changes away. */
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { findClientTool } from '../pipeline/client-tools.js';
import { type Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { CpuWatch } from './cpu-watch.js';
import { alternate, type Benchmark, type Comparison, type Measured } from './frame.js';
import { decode, walsenderOf } from './recvlogical.js';
import { MadeRows, TRADES } from './trades.js';

const SLOT = 'baseline';
const ROUNDS = 5;
const PATIENCE_MS = 600_000;

type Load = {
  readonly table: string;
  readonly timestamp: string;
  readonly rows: number;
  /** Rows of a transaction; absent: all in one statement. */
  readonly transaction?: number;
};

/** A database with one archived table, a slot that only pg_recvlogical reads, and services that run only while they are measured. */
class Backlog implements AsyncDisposable {
  readonly #load: Load;
  readonly #tool: string;
  readonly #made: MadeRows;
  #filled = -1;
  #end = '0/0';

  private constructor(load: Load, tool: string, made: MadeRows) {
    this.#load = load;
    this.#tool = tool;
    this.#made = made;
  }

  static async start(load: Load): Promise<Backlog | undefined> {
    const made = await MadeRows.start({ ...load, age: '1 hour' });
    const tool = await findClientTool('pg_recvlogical', made.pipeline);
    if (tool === undefined) {
      await made[Symbol.asyncDispose]();
      return undefined;
    }
    const backlog = new Backlog(load, tool, made);
    await backlog.#services(async () => void (await backlog.pipeline.archived(PATIENCE_MS)));
    await backlog.pipeline.query(`SELECT pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`);
    return backlog;
  }

  get pipeline(): Pipeline {
    return this.#made.pipeline;
  }

  async #services<T>(body: (services: Readonly<Record<'capture' | 'archiver', Service>>) => Promise<T>): Promise<T> {
    const services = { archiver: this.pipeline.service('archiver'), capture: this.pipeline.service('capture') };
    try {
      return await body(services);
    } finally {
      for (const service of Object.values(services)) await service.stop();
    }
  }

  /** The backlog of a round, written when its first side begins. */
  async #fill(round: number): Promise<void> {
    if (this.#filled === round) return;
    this.#filled = round;
    const { rows, transaction } = this.#load;
    const { pipeline } = this;
    await pipeline.query(`TRUNCATE ${this.#load.table}`); // the rows of a round have the keys of the one before
    if (transaction === undefined) await pipeline.query(this.#made.insert(1, rows));
    else {
      const of = this.#made.insert(`i * ${transaction} + 1`, `(i + 1) * ${transaction}`);
      await pipeline.query('SET synchronous_commit = off'); // by itself: two statements in one message are one transaction
      await pipeline.query(`DO $$ BEGIN FOR i IN 0..${Math.ceil(rows / transaction) - 1} LOOP ${of}; COMMIT; END LOOP; END $$`);
    }
    await pipeline.query('CHECKPOINT');
    const [{ lsn }] = (await pipeline.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')) as [{ lsn: string }];
    this.#end = lsn;
    await pipeline.query('INSERT INTO beat DEFAULT VALUES');
  }

  async baseline(round: number): Promise<Measured> {
    await this.#fill(round);
    const options = ['proto_version=1', 'publication_names=tidemark_test'];
    return await decode(this.pipeline, { tool: this.#tool, slot: SLOT, end: this.#end, rows: this.#load.rows, options });
  }

  async tidemark(round: number): Promise<Measured> {
    await this.#fill(round);
    const follower = new ArchiveFollower(this.pipeline.archiveDir);
    const archivedRows = async (): Promise<number> => {
      const files = [...((await follower.refresh())?.files.values() ?? [])].filter(({ kind, table }) => kind === 'segment' && table === this.#load.table);
      return files.reduce((sum, { rows }) => sum + rows, 0);
    };
    const whole = (await archivedRows()) + this.#load.rows;
    const began = performance.now();
    return await this.#services(async ({ archiver, capture }) => {
      const pids = { archiver: archiver.process.pid, capture: capture.process.pid, nats: this.pipeline.nats.pid };
      const watch = new CpuWatch(async () => ({ ...pids, walsender: await walsenderOf(this.pipeline, 'tidemark_test') }));
      await until('every row of the backlog is in a segment that a manifest names', async () => (await archivedRows()) >= whole, PATIENCE_MS);
      const seconds = (performance.now() - began) / 1000;
      const { cpu, memory } = await watch.end();
      // Else the walsender of the next round reads the rows of this one again, to throw them away.
      await until('the slot needs nothing of this round', () => this.#leaves(this.#end), PATIENCE_MS);
      return { seconds, rows: this.#load.rows, bytes: Number.NaN, peakMemory: Math.max(memory['archiver'] ?? 0, memory['capture'] ?? 0), cpu };
    });
  }

  /** Has the slot moved beyond `lsn`, with what it would read again after a restart? It does with the next record of running transactions. */
  async #leaves(lsn: string): Promise<boolean> {
    await this.pipeline.query('CHECKPOINT');
    await this.pipeline.query('INSERT INTO beat DEFAULT VALUES');
    const [found] = await this.pipeline.query<{ left: string }>(
      `SELECT (restart_lsn >= '${lsn}'::pg_lsn)::text AS left FROM pg_replication_slots WHERE slot_name = 'tidemark_test'`,
    );
    return found?.left === 'true';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#made[Symbol.asyncDispose]();
  }
}

const drain = (name: string, about: string, load: Load, target: string): Benchmark => ({
  name,
  about,
  run: async (_scratch, say): Promise<readonly Comparison[] | { readonly skipped: string }> => {
    await using backlog = await Backlog.start(load);
    if (backlog === undefined) return { skipped: 'there is no pg_recvlogical on this machine' };
    const runs = await alternate(
      ROUNDS,
      { name: 'pg_recvlogical', run: (round) => backlog.baseline(round) },
      { name: 'Tidemark', run: (round) => backlog.tidemark(round) },
      say,
    );
    return [{ what: about, of: 'seconds', target, baseline: 'pg_recvlogical -f /dev/null', runs, notes: [] }];
  },
});

const RATES = 'at most 1.25 of its seconds (0.8 of its rows a second; required: 1.67)';

export const drains: readonly Benchmark[] = [
  drain('drain', 'a backlog of 1.5 M trades of one statement', { ...TRADES, rows: 1_500_000 }, RATES),
  drain('drain-small', 'a backlog of 1.5 M trades in transactions of 10', { ...TRADES, rows: 1_500_000, transaction: 10 }, RATES),
  drain(
    'drain-wide',
    'a backlog of 150,000 rows of 250 columns',
    { table: 'buyin_trail_minutes', timestamp: 'created_at', rows: 150_000 },
    'at most 1.67 of its seconds (0.6 of its rows a second)',
  ),
];
