/** Answers requests on `tidemark.<source>.seal`, `.import` and `.expire`: of each kind one at a time; and takes wishes for a flush. A request is refused with its reason; only what ends the archiver is thrown. */
import { parseExpireRequest } from '../../src/archive/expire.js';
import { parseImportRequest } from '../../src/archive/import.js';
import { parseSealRequest } from '../../src/archive/seal.js';
import { otherArchive } from '../../src/archive/which-archive.js';
import { describeError, mayRetry, TidemarkError } from '../../src/runtime/errors.js';
import { answerFlushes } from '../../src/stream/flush-request.js';
import { type Asked, takeRequests } from '../../src/stream/request.js';
import { requestSubject, type StreamConnection } from '../../src/stream/topology.js';
import type { ArchiverContext } from './context.js';
import { expireAsked } from './expire.js';
import { importStaged } from './import.js';
import { sealDay } from './seal.js';

type Answer = (context: ArchiverContext, body: string, signal: AbortSignal) => Promise<unknown>;

const ANSWERS: Readonly<Record<'seal' | 'import' | 'expire', Answer>> = {
  seal: (context, body, signal) => sealDay(context, parseSealRequest(body), signal),
  import: (context, body, signal) => importStaged(context, parseImportRequest(body), signal),
  expire: (context, body) => expireAsked(context, parseExpireRequest(body)),
};

/** Runs until the signal aborts, or one of them throws. */
export async function answerRequests(context: ArchiverContext, stream: StreamConnection, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const kinds = Object.keys(ANSWERS) as (keyof typeof ANSWERS)[];
  const fail = (error: unknown): never => {
    stop.abort();
    throw error;
  };
  const flushes = answerFlushes(stream.connection, context.config.source.name, (upTo) => context.flush(upTo));
  // A user of NATS that may not hear one of them still hears the others.
  const ended = await Promise.allSettled(kinds.map((kind) => answerKind(context, stream, kind, until).catch(fail)));
  flushes.unsubscribe();
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

async function answerKind(context: ArchiverContext, stream: StreamConnection, kind: keyof typeof ANSWERS, signal: AbortSignal): Promise<void> {
  const requests = takeRequests(stream.connection, requestSubject(context.config.source.name, kind));
  const end = (): void => requests.unsubscribe();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  try {
    for await (const asked of requests) asked.answer(await answer(context, kind, asked, signal));
  } finally {
    signal.removeEventListener('abort', end);
  }
}

async function answer(context: ArchiverContext, kind: keyof typeof ANSWERS, { body, archive }: Asked, signal: AbortSignal): Promise<unknown> {
  const other = otherArchive(archive, context.archive, context.dir);
  if (other !== undefined) return { ok: false, reason: other };
  try {
    return await ANSWERS[kind](context, body, signal);
  } catch (error) {
    if (error instanceof TidemarkError && !mayRetry(error)) throw error;
    context.log.warn({ event: `${kind}-failed`, reason: describeError(error) }, 'a request was not carried out');
    return { ok: false, reason: describeError(error) };
  }
}
