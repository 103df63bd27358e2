/** Answers seal requests on `tidemark.<source>.seal`, one at a time. A request is refused with its reason; only what ends the archiver is thrown. */
import { parseSealRequest, type SealReply } from '../../src/archive/seal.js';
import { describeError, mayRetry, TidemarkError } from '../../src/runtime/errors.js';
import { takeRequests } from '../../src/stream/request.js';
import { requestSubject, type StreamConnection } from '../../src/stream/topology.js';
import type { ArchiverContext } from './context.js';
import { sealDay } from './seal.js';

/** Runs until the signal aborts. */
export async function answerRequests(context: ArchiverContext, stream: StreamConnection, signal: AbortSignal): Promise<void> {
  const requests = takeRequests(stream.connection, requestSubject(context.config.source.name, 'seal'));
  const end = (): void => requests.unsubscribe();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  try {
    for await (const asked of requests) asked.answer(await answer(context, asked.body, signal));
  } finally {
    signal.removeEventListener('abort', end);
  }
}

async function answer(context: ArchiverContext, text: string, signal: AbortSignal): Promise<SealReply> {
  try {
    return await sealDay(context, parseSealRequest(text), signal);
  } catch (error) {
    if (error instanceof TidemarkError && !mayRetry(error)) throw error;
    context.log.warn({ event: 'seal-failed', reason: describeError(error) }, 'a day was not sealed');
    return { ok: false, reason: describeError(error) };
  }
}
