/** The archiver's housework beside the stream: merges small segments, takes archived chunks out of the stream, removes files whose grace is over, and lets days beyond `keep` go. */
import { describeError, mayRetry } from '../../src/runtime/errors.js';
import { sleep } from '../../src/runtime/service.js';
import type { StreamConnection } from '../../src/stream/topology.js';
import type { ArchiverContext } from './context.js';
import { expireByItself } from './expire.js';
import { mergeAll } from './merge.js';
import { purge } from './purge.js';

const EVERY_MS = 2000;
const PURGE_EVERY_MS = 30_000;
const EXPIRE_EVERY_MS = 600_000;

/** Runs until the signal aborts. */
export async function maintain(context: ArchiverContext, stream: StreamConnection, signal: AbortSignal): Promise<void> {
  let purgeAt = performance.now() + PURGE_EVERY_MS / 10; // monotonic: of a clock that was set back the stream would fill up
  let expireAt = performance.now();
  while (!signal.aborted) {
    await context.writer.requireNewest();
    await context.removeRetired();
    await context.housework(() => mergeAll(context, context.config.archive.flush, signal));
    if (performance.now() >= purgeAt) {
      purgeAt = performance.now() + PURGE_EVERY_MS;
      await tryPurge(context, stream);
    }
    if (performance.now() >= expireAt) {
      expireAt = performance.now() + EXPIRE_EVERY_MS;
      await expireByItself(context);
    }
    await sleep(EVERY_MS, signal);
  }
}

/** A stream that does not answer now is purged later. */
async function tryPurge(context: ArchiverContext, stream: StreamConnection): Promise<void> {
  try {
    await purge(context, stream);
  } catch (error) {
    if (!mayRetry(error)) throw error;
    context.log.debug({ event: 'purge-later', reason: describeError(error) }, 'the stream does not answer');
  }
}
