/** Wishes to prune now: handed to the running pruner, as `tidemark prune` does, one at a time; the last one is remembered with its answer. Never deletes anything itself. */
import { archiveHere } from '../../src/archive/which-archive.js';
import type { PruneReply, PruneRequest } from '../../src/prune/request.js';
import type { Config } from '../../src/runtime/config.js';
import { describeError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, requestSubject } from '../../src/stream/topology.js';

/** What was wished, and what became of it. `at`, `endedAt`: ISO times of the console's clock. `deleted`: in a dry run, what would be. */
export type Wish = {
  readonly table: string | null;
  readonly dryRun: boolean;
  readonly at: string;
  readonly endedAt: string | null;
  readonly run: string | null;
  readonly deleted: number | null;
  /** Rows that were left, and tables with a problem. */
  readonly left: number | null;
  readonly problems: readonly string[];
};

export class PruneWishes {
  readonly #config: Config;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  #busy: Promise<void> | undefined;
  #last: Wish | null = null;
  /** Called when the last wish changed. */
  changed: () => void = () => undefined;

  constructor(config: Config, log: Log, signal: AbortSignal) {
    this.#config = config;
    this.#log = log;
    this.#signal = signal;
  }

  get last(): Wish | null {
    return this.#last;
  }

  /** Begins it. Undefined while another one is on its way. */
  begin({ table, dryRun = false }: PruneRequest): Wish | undefined {
    if (this.#busy !== undefined) return undefined;
    const wish: Wish = { table: table ?? null, dryRun, at: new Date().toISOString(), endedAt: null, run: null, deleted: null, left: null, problems: [] };
    this.#log.info({ event: 'prune-wished', table: table ?? null, dryRun }, 'a prune was asked for in the console');
    this.#set(wish);
    this.#busy = this.#ask(table === undefined ? { dryRun } : { table, dryRun })
      .catch((error: unknown) => ({ ok: false as const, reason: describeError(error), exitCode: 1 }))
      .then((reply) => {
        this.#busy = undefined;
        this.#set({ ...wish, endedAt: new Date().toISOString(), ...outcome(reply) });
      });
    return wish;
  }

  async ended(): Promise<void> {
    await this.#busy;
  }

  #set(wish: Wish): void {
    this.#last = wish;
    this.changed();
  }

  async #ask(request: PruneRequest): Promise<PruneReply> {
    const { name } = this.#config.source;
    const { connection } = await connectStream(this.#config, `tidemark-${name}-console`);
    try {
      const archive = await archiveHere(this.#config.archive.dir);
      const reply = await requestReply<PruneReply>(connection, requestSubject(name, 'prune'), request, { archive, signal: this.#signal });
      return reply ?? { ok: false, reason: 'no pruner is running → start it (tidemark run), or use `tidemark prune`', exitCode: 1 };
    } finally {
      await connection.close().catch(() => undefined);
    }
  }
}

function outcome(reply: PruneReply): Pick<Wish, 'run' | 'deleted' | 'left' | 'problems'> {
  if (!reply.ok) return { run: null, deleted: null, left: null, problems: [reply.reason] };
  const { run, tables, problem } = reply.result;
  const troubles = tables.flatMap((entry) => (entry.problem === null || entry.problem === 'prune: false' ? [] : [`${entry.table}: ${entry.problem}`]));
  return {
    run,
    deleted: tables.reduce((sum, table) => sum + table.deleted, 0),
    left: tables.reduce((sum, table) => sum + Object.values(table.left).reduce((a, b) => a + b, 0), 0),
    problems: problem == null ? troubles : [problem, ...troubles],
  };
}
