/** The pruner service: runs by schedule and on request, one run at a time. Also how the command line prunes. */
import { Cron } from 'croner';
import { type NatsConnection, StringCodec } from 'nats';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import type { SealRequest } from '../../src/prune/empty-days.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import type { Config } from '../../src/runtime/config.js';
import { describeError, mayRetry, TidemarkError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { runWithRetry } from '../../src/runtime/service.js';
import { connectStream, requestSubject } from '../../src/stream/topology.js';
import { sealRequester } from './seal-requester.js';

/** What a request may ask for; its reply is a PruneReply. */
export type PruneRequest = { readonly table?: string; readonly dryRun?: boolean };
export type PruneReply = { readonly ok: true; readonly result: PruneResult } | { readonly ok: false; readonly reason: string; readonly exitCode: number };

const text = StringCodec();

export async function runPruner(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  const follower = new ArchiveFollower(config.archive.dir);
  let connection: NatsConnection | undefined;
  let busy: Promise<unknown> = Promise.resolve();
  /** Runs wait for each other: never two at once. */
  const run = (trigger: 'schedule' | 'request', request: PruneRequest): Promise<PruneResult> => {
    const next = busy.then(() =>
      runPrune({
        config,
        log,
        signal,
        follower,
        trigger,
        table: request.table,
        dryRun: request.dryRun === true || config.prune.dryRun,
        seal: connection ? sealRequester(connection, config) : undefined,
      }),
    );
    busy = next.catch(() => undefined);
    return next;
  };

  let scheduled = false;
  const job = new Cron(config.prune.schedule, { timezone: 'UTC', paused: !config.prune.enabled }, () => {
    if (scheduled || signal.aborted) return; // the run before is still on
    scheduled = true;
    run('schedule', {})
      .catch((error: unknown) => {
        if (!mayRetry(error) && error instanceof TidemarkError && error.kind === 'config') throw error;
        log.warn({ event: 'prune-failed', reason: describeError(error) }, 'this run failed; the next one tries again');
      })
      .finally(() => {
        scheduled = false;
      });
  });
  log.info(
    { event: 'pruner-started', enabled: config.prune.enabled, schedule: config.prune.schedule, dryRun: config.prune.dryRun },
    config.prune.enabled ? 'pruning by schedule' : 'pruning is off (prune.enabled)',
  );
  try {
    await runWithRetry(log, signal, async (healthy) => {
      const { connection: open } = await connectStream(config, `tidemark-${config.source.name}-pruner`);
      connection = open;
      healthy();
      const subscription = open.subscribe(requestSubject(config.source.name, 'prune'));
      const stop = (): void => subscription.unsubscribe();
      signal.addEventListener('abort', stop, { once: true });
      try {
        for await (const message of subscription) {
          const reply = await answer(config, text.decode(message.data), run);
          message.respond(text.encode(JSON.stringify(reply)));
        }
      } finally {
        signal.removeEventListener('abort', stop);
        connection = undefined;
        await open.close().catch(() => undefined);
      }
      if (!signal.aborted) throw new TidemarkError('transient', 'the connection to NATS ended');
    });
  } finally {
    job.stop();
    await busy;
  }
}

async function answer(config: Config, body: string, run: (trigger: 'request', request: PruneRequest) => Promise<PruneResult>): Promise<PruneReply> {
  try {
    const request = (body.trim() === '' ? {} : JSON.parse(body)) as PruneRequest;
    if (!config.prune.enabled && request.dryRun !== true)
      return { ok: false, reason: 'pruning is off (prune.enabled: false, or DATA_ARCHIVAL_ENABLED=0); a dry run is possible', exitCode: 2 };
    return { ok: true, result: await run('request', request) };
  } catch (error) {
    return { ok: false, reason: describeError(error), exitCode: error instanceof TidemarkError ? error.exitCode : 1 };
  }
}

/** How long a run of the service may take before the command stops waiting for its answer. */
const REPLY_MS = 24 * 3_600_000;

/**
 * One run, now: by the running pruner when one answers on NATS, else in this process. `asked` says who did it.
 * Throws `config` when pruning is off (dry runs are possible then), or what went wrong.
 */
export async function pruneOnce(
  config: Config,
  log: Log,
  request: PruneRequest,
  signal: AbortSignal,
): Promise<{ result: PruneResult; by: 'service' | 'command' }> {
  const connection = await connectStream(config, `tidemark-${config.source.name}-prune`).then(
    ({ connection: open }) => open,
    () => undefined,
  );
  try {
    const reply = connection ? await askService(connection, config, request) : undefined;
    if (reply?.ok) return { result: reply.result, by: 'service' };
    if (reply) throw new TidemarkError(reply.exitCode === 2 ? 'config' : 'failed', reply.reason);
    if (!config.prune.enabled && request.dryRun !== true)
      throw new TidemarkError('config', 'pruning is off (prune.enabled: false, or DATA_ARCHIVAL_ENABLED=0)', {
        remedy: 'use --dry-run, or set prune.enabled: true',
      });
    const follower = new ArchiveFollower(config.archive.dir);
    const seal = connection ? sealRequester(connection, config) : undefined;
    const result = await runPrune({
      config,
      log,
      signal,
      follower,
      trigger: 'command',
      table: request.table,
      dryRun: request.dryRun === true || config.prune.dryRun,
      seal,
    });
    return { result, by: 'command' };
  } finally {
    await connection?.close().catch(() => undefined);
  }
}

/** undefined: no pruner is running. */
async function askService(connection: NatsConnection, config: Config, request: PruneRequest): Promise<PruneReply | undefined> {
  try {
    const message = await connection.request(requestSubject(config.source.name, 'prune'), text.encode(JSON.stringify(request)), { timeout: REPLY_MS });
    return JSON.parse(text.decode(message.data)) as PruneReply;
  } catch (error) {
    if ((error as { code?: string }).code === '503') return undefined;
    throw error;
  }
}

export type { SealRequest };
