/**
 * The skeleton every service shares: one abort signal, back-off in one place, a halt or a mistake in the configuration ends the process
 * with its exit code, anything that may pass is tried again.
 */
import { setTimeout as sleepFor } from 'node:timers/promises';
import { describeError, exitCodeOf, Halt, mayRetry, placeOf, TidemarkError } from './errors.js';
import type { Log } from './log.js';
import { sayLastWords } from './supervision.js';

/** Resolves after `ms`, or at once (without throwing) when the signal aborts. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await sleepFor(ms, undefined, signal ? { signal } : {}).catch(() => undefined);
}

const BACKOFF_FIRST_MS = 200;
const BACKOFF_MOST_MS = 10_000;

/** Waiting time before try number `attempt` (from 0): doubles from 0.2 s to 10 s. */
export function backoffMs(attempt: number): number {
  return Math.min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS * 2 ** attempt);
}

/**
 * Runs `body` until it returns, the signal aborts, or it fails with what trying again cannot mend (then throws that). `body` gets
 * `healthy`, to be called when it has reached steady work: the next failure starts the back-off afresh. `failed` hears of each failure that is tried again.
 */
export async function runWithRetry(
  log: Log,
  signal: AbortSignal,
  body: (healthy: () => void) => Promise<void>,
  failed: (error: unknown) => void = () => undefined,
): Promise<void> {
  let attempt = 0;
  while (!signal.aborted) {
    try {
      await body(() => {
        attempt = 0;
      });
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!mayRetry(error)) throw error;
      const waitMs = backoffMs(attempt);
      attempt += 1;
      failed(error);
      log.warn({ event: 'retry', attempt, waitMs, reason: describeError(error) }, 'will try again');
      await sleep(waitMs, signal);
    }
  }
}

/** The same Ctrl-C may come from the terminal and again from who started us. */
const ONE_WISH_MS = 1000;

/**
 * The main of a service process: SIGTERM and SIGINT abort `body`, which then drains and returns. Uncaught errors end the process
 * with a non-zero code; it never goes on.
 */
export async function runMain(log: Log, body: (signal: AbortSignal) => Promise<void>): Promise<never> {
  const controller = new AbortController();
  const fatal = (error: unknown): never => {
    const fields: Record<string, unknown> = { event: error instanceof Halt ? 'halt' : 'failed', reason: describeError(error) };
    if (error instanceof Halt) fields['halt'] = error.halt;
    if (error instanceof TidemarkError && error.remedy) fields['remedy'] = error.remedy;
    if (!(error instanceof TidemarkError) && error instanceof Error) fields['stack'] = placeOf(error);
    log.fatal(fields, 'stopped');
    sayLastWords(error);
    process.exit(exitCodeOf(error));
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  let asked = 0;
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted && Date.now() - asked < ONE_WISH_MS) return;
      if (controller.signal.aborted) process.exit(1); // asked twice
      asked = Date.now();
      log.info({ event: 'stopping', signal: name }, 'stopping');
      controller.abort();
    });
  }
  try {
    await body(controller.signal);
    log.info({ event: 'stopped' }, 'stopped');
    process.exit(0);
  } catch (error) {
    return fatal(error);
  }
}
