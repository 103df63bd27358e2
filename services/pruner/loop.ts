/** The pruner service: runs by schedule and on request, one run at a time. Also how the command line prunes. */
import { setFlagsFromString } from 'node:v8';
import { Cron } from 'croner';
import type { NatsConnection } from 'nats';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { takeSettings } from '../../src/archive/settings.js';
import { archiveHere, otherArchive } from '../../src/archive/which-archive.js';
import { takeClock } from '../../src/prune/clock.js';
import { connectPruner } from '../../src/prune/connection.js';
import { prunePreflight } from '../../src/prune/preflight.js';
import { type PruneReply, type PruneRequest, parsePruneRequest } from '../../src/prune/request.js';
import { chosenTables, type PruneOptions, type PruneResult, runPrune } from '../../src/prune/run.js';
import type { Config } from '../../src/runtime/config.js';
import { configError, describeError, exitCodeOf, Halt, mayRetry, TidemarkError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { type Monitor, unwatched } from '../../src/runtime/monitor.js';
import { runWithRetry } from '../../src/runtime/service.js';
import { sayDenied } from '../../src/stream/denied.js';
import { type Tell, tellHalt, tellThrough } from '../../src/stream/events.js';
import { type Asked, requestReply, takeRequests } from '../../src/stream/request.js';
import { connectStream, requestSubject, type StreamConnection } from '../../src/stream/topology.js';
import { closeClient } from '../../src/wal/session.js';
import { tellRun } from './events.js';
import { PrunerMetrics } from './metrics.js';
import { flushRequester, recopyRequester, sealRequester } from './requesters.js';

const OFF = 'pruning is off (prune.enabled: false, or DATA_ARCHIVAL_ENABLED=0)';

/** Before anything else: what the clock says, and that a change of the configuration that would delete more than before is a person's. */
async function checkSettings(config: Config, log: Log): Promise<void> {
  if (!config.prune.enabled || config.prune.dryRun || (await new ArchiveFollower(config.archive.dir).refresh()) === undefined) return;
  await takeClock(config.archive.dir);
  for (const seen of await takeSettings(config.archive.dir, config)) log.info({ event: 'settings-changed', seen }, `changed since the last run: ${seen}`);
}

/** Until the signal aborts. Throws halts of the archive and mistakes of the configuration: they need a person. Without NATS the schedule goes on. */
export async function runPruner(config: Config, log: Log, signal: AbortSignal, monitor: Monitor = unwatched()): Promise<void> {
  const metrics = new PrunerMetrics(config, monitor);
  await tellHalt(config, 'pruner', () => prune(config, log, signal, metrics));
}

async function prune(config: Config, log: Log, signal: AbortSignal, metrics: PrunerMetrics): Promise<void> {
  setFlagsFromString('--heap-growing-percent=100'); // what batches leave behind is collected when the heap has doubled, not grown fourfold: 21 MB less over 600,000 rows, for about a tenth more CPU
  await checkSettings(config, log);
  await checkAtStart(config, log);
  const runs = new Runs(config, log, signal, metrics);
  const job: Cron = new Cron(config.prune.schedule, { timezone: 'UTC', paused: !config.prune.enabled }, () => runs.scheduled(job.nextRun() ?? undefined));
  log.info(
    { event: 'pruner-started', enabled: config.prune.enabled, schedule: config.prune.schedule, dryRun: config.prune.dryRun },
    config.prune.enabled ? (config.prune.dryRun ? 'dry runs by schedule (prune.dryRun)' : 'pruning by schedule') : `${OFF}; dry runs are answered`,
  );
  metrics.waits();
  const attempt = async (healthy: () => void): Promise<void> => {
    const stream = await connectStream(config, `tidemark-${config.source.name}-pruner`, sayDenied(log));
    metrics.connected(stream.connected);
    healthy();
    await answerRequests(config, stream, runs);
    if (!runs.signal.aborted) throw stream.denied() ?? new TidemarkError('transient', 'the connection to NATS ended');
  };
  try {
    await runWithRetry(log, runs.signal, attempt, () => metrics.failed());
  } finally {
    job.stop();
    await runs.ended();
  }
  if (runs.fatal !== undefined) throw runs.fatal;
}

/** Says what preflight finds. Throws `config` for what concerns every table, when something is to be deleted. A database that is not there yet is waited for. */
async function checkAtStart(config: Config, log: Log): Promise<void> {
  try {
    const client = await connectPruner(config);
    const checks = await prunePreflight(client, config).finally(() => closeClient(client));
    for (const { name, status, seen, remedy } of checks) if (status !== 'ok') log.warn({ event: 'preflight', check: name, status, seen, remedy }, 'check');
    const grave = checks.filter((check) => check.status === 'failed' && check.table === undefined);
    if (grave.length === 0 || !config.prune.enabled || config.prune.dryRun) return;
    throw configError(`pruning is refused\n${grave.map((check) => `  - ${check.name}: ${check.seen}${check.remedy ? ` → ${check.remedy}` : ''}`).join('\n')}`);
  } catch (error) {
    if (!mayRetry(error)) throw error;
    log.warn({ event: 'preflight', reason: describeError(error) }, 'the database could not be checked yet');
  }
}

/** Runs of one process: each waits for the one before. */
class Runs {
  readonly signal: AbortSignal;
  /** What ended the service. */
  fatal: unknown;
  /** Where days are handed to the archiver; undefined while NATS is not there. */
  connection: NatsConnection | undefined;
  /** Nobody is told while NATS is not there. */
  tell: Tell | undefined;
  readonly #config: Config;
  readonly #log: Log;
  readonly #metrics: PrunerMetrics;
  readonly #follower: ArchiveFollower;
  readonly #stop = new AbortController();
  #busy: Promise<unknown> = Promise.resolve();
  #scheduled = false;
  /** Of a run that takes its time: somebody waits for the one behind it. */
  #hurry = new AbortController();

  constructor(config: Config, log: Log, signal: AbortSignal, metrics: PrunerMetrics) {
    this.#config = config;
    this.#log = log;
    this.#metrics = metrics;
    this.#follower = new ArchiveFollower(config.archive.dir);
    this.signal = AbortSignal.any([signal, this.#stop.signal]);
  }

  /** The result, as soon as it stands; the next run starts when this one has also handed its days over. */
  start(trigger: 'schedule' | 'request', request: PruneRequest, spread?: () => PruneOptions['spread']): Promise<PruneResult> {
    const config = this.#config;
    const dryRun = request.dryRun === true || config.prune.dryRun;
    return new Promise((resolve, reject) => {
      const one = async (): Promise<void> => {
        const seal = this.connection ? sealRequester(this.connection, config, this.signal) : undefined;
        const recopy = this.connection ? recopyRequester(this.connection, config, this.#log) : undefined;
        const flush = this.connection ? flushRequester(this.connection, config) : undefined;
        const options = { config, log: this.#log, signal: this.signal, follower: this.#follower, trigger, table: request.table, dryRun, seal, flush, recopy };
        const batch: PruneOptions['batch'] = (table, rows, ms, rowsPerSecond) => this.#metrics.batch(table, { rows, ms, rowsPerSecond }, dryRun);
        let stands = false;
        const finished = (result: PruneResult): void => {
          if (!stands) this.#stands(result);
          stands = true;
          resolve(result);
        };
        this.#metrics.begins();
        finished(await runPrune({ ...options, spread: spread?.(), finished, batch }));
      };
      this.#busy = this.#busy.then(one).catch((error: unknown) => {
        this.#metrics.couldNot(describeError(error));
        if (error instanceof Halt || (error instanceof TidemarkError && error.kind === 'config')) this.#end(error);
        reject(error);
      });
    });
  }

  #stands(result: PruneResult): void {
    this.#metrics.ran(result);
    if (this.tell) tellRun(this.tell, result);
  }

  /** By somebody who waits: what is under way hurries from now on. */
  requested(request: PruneRequest): Promise<PruneResult> {
    this.#hurry.abort();
    return this.start('request', request);
  }

  /** By the clock; the run takes its time until `next`. A run that is still on is not followed by another of the same hour. */
  scheduled(next: Date | undefined): void {
    if (this.#scheduled || this.signal.aborted) return;
    this.#scheduled = true;
    this.#hurry = new AbortController();
    const hurry = this.#hurry.signal;
    const spread = (): PruneOptions['spread'] =>
      next === undefined ? undefined : { overMs: this.#config.prune.spread * (next.getTime() - Date.now()), hurry };
    this.start('schedule', {}, spread)
      .catch((error: unknown) => this.#log.warn({ event: 'prune-failed', reason: describeError(error) }, 'this run failed; the next one tries again'))
      .finally(() => {
        this.#scheduled = false;
      });
  }

  async ended(): Promise<void> {
    await this.#busy;
  }

  #end(error: unknown): void {
    this.fatal ??= error;
    this.#stop.abort();
  }
}

/** Until the runs end or the connection does. Of several pruners of a source one answers. */
async function answerRequests(config: Config, { connection, connected }: StreamConnection, runs: Runs): Promise<void> {
  const requests = takeRequests(connection, requestSubject(config.source.name, 'prune'), { queue: 'pruner' });
  const stop = (): void => requests.unsubscribe();
  runs.signal.addEventListener('abort', stop, { once: true });
  if (runs.signal.aborted) stop();
  const answers = new Set<Promise<void>>();
  runs.connection = connection;
  runs.tell = tellThrough(connection, config.source.name, connected);
  try {
    for await (const asked of requests) {
      const done = answer(config, asked, runs);
      answers.add(done);
      void done.then(() => answers.delete(done));
    }
    await Promise.allSettled(answers);
    await connection.flush().catch(() => undefined);
  } finally {
    runs.signal.removeEventListener('abort', stop);
    runs.connection = runs.tell = undefined;
    await connection.close().catch(() => undefined);
  }
}

/** Never throws: a failure is an answer too. */
async function answer(config: Config, asked: Asked, runs: Runs): Promise<void> {
  const reply = await serve(config, asked, runs).catch(
    (error: unknown): PruneReply => ({ ok: false, reason: describeError(error), exitCode: exitCodeOf(error) }),
  );
  asked.answer(reply);
}

async function serve(config: Config, { body, archive }: Asked, runs: Runs): Promise<PruneReply> {
  const { dir } = config.archive;
  const other = otherArchive(archive, await archiveHere(dir), dir);
  if (other !== undefined) return { ok: false, reason: other, exitCode: 2 };
  const request = parsePruneRequest(body);
  chosenTables(config, request.table);
  if (!config.prune.enabled && request.dryRun !== true) throw configError(OFF, 'a dry run is possible');
  return { ok: true, result: await runs.requested(request) };
}

/**
 * One run, now: by the running pruner when one answers on NATS, else in this process. `by` says who did it. Throws `config` when pruning is off (dry runs are possible then), or
 * what went wrong.
 */
export async function pruneOnce(
  config: Config,
  log: Log,
  request: PruneRequest,
  signal: AbortSignal,
): Promise<{ result: PruneResult; by: 'service' | 'command' }> {
  chosenTables(config, request.table);
  const stream = await connectStream(config, `tidemark-${config.source.name}-prune`).catch(() => undefined);
  const connection = stream?.connection;
  try {
    const archive = await archiveHere(config.archive.dir);
    const subject = requestSubject(config.source.name, 'prune');
    const reply = connection ? await requestReply<PruneReply>(connection, subject, request, { archive, signal }) : undefined;
    if (reply?.ok) return { result: reply.result, by: 'service' };
    if (reply) throw new TidemarkError(reply.exitCode === 2 ? 'config' : reply.exitCode === 3 ? 'halt' : 'failed', reply.reason);
    if (!config.prune.enabled && request.dryRun !== true) throw new TidemarkError('config', OFF, { remedy: 'use --dry-run, or set prune.enabled: true' });
    const dryRun = request.dryRun === true || config.prune.dryRun;
    const seal = connection ? sealRequester(connection, config, signal) : undefined;
    const recopy = connection ? recopyRequester(connection, config, log) : undefined;
    const flush = connection ? flushRequester(connection, config) : undefined;
    const follower = new ArchiveFollower(config.archive.dir);
    const result = await runPrune({ config, log, signal, follower, trigger: 'command', table: request.table, dryRun, seal, flush, recopy });
    if (stream) tellRun(tellThrough(stream.connection, config.source.name, stream.connected), result);
    return { result, by: 'command' };
  } finally {
    await connection?.close().catch(() => undefined);
  }
}
