/**
 * Runs the three services as child processes, and the console where the configuration has one: restarts what died, leaves alone what halted, stops all in order. A child that loses its IPC channel stops by itself, so
 * nothing outlives the supervisor, however it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Config } from '../../src/runtime/config.js';
import { describeError } from '../../src/runtime/errors.js';
import type { Log } from '../../src/runtime/log.js';
import { backoffMs, sleep } from '../../src/runtime/service.js';
import { applicationName, slotName } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { readSlot } from '../../src/wal/slot.js';
import { showCopy } from './copy-bar.js';
import { ServiceReports } from './service-reports.js';

/** In the order of stopping: what deletes first, what makes durable last. */
const SERVICES = ['console', 'pruner', 'capture', 'archiver'] as const;
type ServiceName = (typeof SERVICES)[number];

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const STOP_MS = 20_000;
/** The same Ctrl-C may come from the terminal and again from who started us. */
const ONE_WISH_MS = 1000;
/** A service that ran this long starts its back-off afresh. */
const STEADY_MS = 30_000;

const EXIT_FAILED = 1;
const EXIT_CONFIG = 2;
const EXIT_HALT = 3;

/** Runs until SIGTERM or SIGINT, or until no service is left. The worst exit code of what ended for good. */
export async function supervise(config: Config, log: Log): Promise<number> {
  for (const notice of config.notices) log.info({ event: 'notice' }, notice);
  const controller = new AbortController();
  let asked = 0;
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted && Date.now() - asked < ONE_WISH_MS) return;
      if (controller.signal.aborted) process.exit(1);
      asked = Date.now();
      log.info({ event: 'stopping', signal: name }, 'stopping all services');
      controller.abort();
    });
  }
  const children = new Map<ServiceName, ChildProcess>();
  const reports = new ServiceReports();
  const wanted = SERVICES.filter((name) => name !== 'console' || config.console !== undefined);
  const kept = wanted.map((name) => keepRunning(name, { config, log, controller, children, reports }));
  const over = new AbortController();
  const shown = showCopy(config, AbortSignal.any([controller.signal, over.signal]));
  const stopping = once(controller.signal, 'abort').then(() => stopInOrder(children));
  const codes = await Promise.all(kept);
  over.abort();
  await shown;
  if (controller.signal.aborted) await stopping;
  await sayWhatTheSlotHolds(config, log);
  return Math.max(...codes);
}

type Supervision = {
  readonly config: Config;
  readonly log: Log;
  readonly controller: AbortController;
  readonly children: Map<ServiceName, ChildProcess>;
  readonly reports: ServiceReports;
};

/** Starts a service again and again. Resolves with its exit code when it ended for good. */
async function keepRunning(name: ServiceName, { config, log, controller, children, reports }: Supervision): Promise<number> {
  const { signal } = controller;
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const started = Date.now();
    const child = startService(name, config);
    children.set(name, child);
    reports.started(name, child);
    log.info({ event: 'service-started', child: name, childPid: child.pid }, `${name} started`);
    const [code, killedBy] = await endOf(child);
    children.delete(name);
    if (signal.aborted) {
      reports.ended(name, 'stopped');
      return killedBy === 'SIGTERM' ? 0 : (code ?? EXIT_FAILED); // asked while it was still loading: it had done nothing yet
    }
    if (code === EXIT_CONFIG || code === EXIT_HALT) {
      log.error(
        { event: 'service-exited', child: name, code, signal: killedBy },
        code === EXIT_HALT
          ? `${name} HALTED and needs a person; the others go on`
          : `${name} refuses to run as it is configured; ${name === 'console' ? 'the others go on' : 'everything stops'}`,
      );
      reports.ended(name, code === EXIT_HALT ? 'halted' : 'refused');
      // Nobody's rows depend on the console.
      if (code === EXIT_CONFIG && name !== 'console') controller.abort();
      return code;
    }
    if (Date.now() - started > STEADY_MS) attempt = 0;
    const restartInMs = backoffMs(attempt);
    reports.ended(name, 'waiting');
    log.warn({ event: 'service-exited', child: name, code, signal: killedBy, restartInMs }, `${name} ended; it starts again`);
    await sleep(restartInMs, signal);
  }
  return 0;
}

/** In a process group of its own: a Ctrl-C of the terminal reaches the supervisor only, which stops the services in their order, each asked once. */
function startService(name: ServiceName, config: Config): ChildProcess {
  const args = [...process.execArgv, MAIN, 'run', name, '-c', config.file];
  return spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true });
}

/** A process that could not even be started has failed. */
async function endOf(child: ChildProcess): Promise<[code: number | null, signal: NodeJS.Signals | null]> {
  return await new Promise((resolve) => {
    child.once('exit', (code, killedBy) => resolve([code, killedBy]));
    child.once('error', () => child.pid === undefined && resolve([EXIT_FAILED, null]));
  });
}

async function stopInOrder(children: ReadonlyMap<ServiceName, ChildProcess>): Promise<void> {
  for (const name of SERVICES) {
    const child = children.get(name);
    if (child === undefined) continue;
    const ended = endOf(child);
    child.kill('SIGTERM');
    const hard = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(hard);
  }
}

/** From now on the slot holds WAL back: whoever stops us should know how much it is. */
async function sayWhatTheSlotHolds(config: Config, log: Log): Promise<void> {
  try {
    const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control'), queryTimeoutMs: 5000 });
    try {
      const slot = await readSlot(client, slotName(config.source.name));
      if (slot === undefined) return;
      const { rows } = await client.query<{ held: string }>(
        `SELECT pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)) AS held FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`,
        [slotName(config.source.name)],
      );
      log.warn(
        { event: 'slot-holds-wal', slot: slotName(config.source.name), held: rows[0]?.held },
        `the slot holds ${rows[0]?.held ?? 'some'} of WAL, and more from now on until capture runs again`,
      );
    } finally {
      await closeClient(client);
    }
  } catch (error) {
    log.debug({ event: 'slot-unknown', reason: describeError(error) }, 'the database did not say what the slot holds');
  }
}
