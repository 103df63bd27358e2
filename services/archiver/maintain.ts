/** The archiver's housework beside the stream: removes files whose grace is over. */
import { sleep } from '../../src/runtime/service.js';
import type { StreamConnection } from '../../src/stream/topology.js';
import type { ArchiverContext } from './context.js';

const EVERY_MS = 5000;

/** Runs until the signal aborts. */
export async function maintain(context: ArchiverContext, _stream: StreamConnection, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await context.removeRetired();
    await sleep(EVERY_MS, signal);
  }
}
