/**
 * Requests whose work may take hours: the asker waits as long as the answerer is alive, and no longer. The answerer says so on `<subject>.alive`, also while it works.
 */
import { once } from 'node:events';
import { type NatsConnection, StringCodec } from 'nats';
import { TidemarkError } from '../runtime/errors.js';

const text = StringCodec();
const LONGEST_MS = 24 * 3_600_000;
const ASK_EVERY_MS = 2000;
/** So often in a row the answerer may be silent: a restart of NATS is no death. */
const SILENCES = 5;

/** Subscribes the answerer's sign of life. Ends with the connection, or by unsubscribing. */
export function answerAlive(connection: NatsConnection, subject: string): { unsubscribe(): void } {
  return connection.subscribe(`${subject}.alive`, { callback: (_error, message) => void message.respond() });
}

/** The JSON reply to a JSON request; undefined when nobody answers this subject. Throws `transient` when the answerer is gone before its answer, or `signal` aborts. */
export async function requestReply<T>(connection: NatsConnection, subject: string, request: unknown, signal?: AbortSignal): Promise<T | undefined> {
  const over = new AbortController();
  const answered = connection.request(subject, text.encode(JSON.stringify(request)), { timeout: LONGEST_MS });
  try {
    const message = await Promise.race([answered, watchAlive(connection, subject, over.signal), ...(signal ? [aborted(signal, over.signal)] : [])]);
    return JSON.parse(text.decode(message.data)) as T;
  } catch (error) {
    if ((error as { code?: string }).code === '503') return undefined;
    throw error;
  } finally {
    over.abort();
    answered.catch(() => undefined); // ends with the connection
  }
}

/** `over` takes its listener away: the signal is that of a whole service, which asks a thousand times. */
async function aborted(signal: AbortSignal, over: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort', { signal: over });
  throw new TidemarkError('transient', 'stopped while waiting for an answer');
}

/** Throws when the answerer has been silent for too long. */
async function watchAlive(connection: NatsConnection, subject: string, signal: AbortSignal): Promise<never> {
  let silent = 0;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS).unref());
    if (signal.aborted) return new Promise<never>(() => undefined);
    const alive = await connection.request(`${subject}.alive`, undefined, { timeout: ASK_EVERY_MS }).then(
      () => true,
      () => false,
    );
    silent = alive ? 0 : silent + 1;
    if (silent >= SILENCES)
      throw new TidemarkError('transient', `nobody answers on ${subject} any more`, { remedy: 'look at the log of the service, then ask again' });
  }
}
