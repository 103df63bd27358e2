/**
 * Requests whose work may take hours: the asker waits as long as the answerer has the request, and no longer. The answerer says so on `<subject>.alive` from a request's arrival until its
 * answer; of one that NATS lost, or whose answer it lost, nobody says it, though the answerer lives. Such a request is asked again under its name, so that whoever has it after all does it once.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { headers, type Msg, type NatsConnection, StringCodec } from 'nats';
import { TidemarkError } from '../runtime/errors.js';
import { deniedError } from './denied.js';

const text = StringCodec();
const LONGEST_MS = 24 * 3_600_000;
const ASK_EVERY_MS = 1500;
/** So often in a row nobody may have it: a restart of NATS is no loss. Each time it is asked again: NATS gives requests to a connection that is dead as long as it has not noticed. */
const SILENCES = 10;
/** Names a request, so that it can be asked for. A person's request needs none. */
const ID = 'Tidemark-Request';
/** Id of the archive that the request is about. */
const ARCHIVE = 'Tidemark-Archive';

/** A request as it came. It is known until `answer` was called, which must be. */
/** `archive`: what it is about; undefined when a person asks. */
export type Asked = { readonly body: string; readonly archive: string | undefined; answer(reply: unknown): void };

export type TakenRequests = AsyncIterable<Asked> & { unsubscribe(): void };

/** Requests on `subject` in the order of their arrival. Ends with the connection, or by unsubscribing. `queue`: of several answerers one takes each. */
export function takeRequests(connection: NatsConnection, subject: string, options: { queue?: string } = {}): TakenRequests {
  /** What is to be answered, by its name: more than one message when it was asked again. */
  const known = new Map<string, Msg[]>();
  let arrive: (asked: Asked) => void = () => undefined;
  let end: () => void = () => undefined;
  const unsubscribe = (): void => {
    requests.unsubscribe();
    alive.unsubscribe();
  };
  const waiting = new ReadableStream<Asked>({
    start(controller) {
      arrive = (asked) => controller.enqueue(asked);
      end = () => controller.close();
    },
    cancel() {
      arrive = end = () => undefined;
      unsubscribe();
    },
  });
  const alive = connection.subscribe(`${subject}.alive`, {
    callback: (error, message) => {
      if (error !== null) return; // the subject is not permitted: said by the connection
      const id = text.decode(message.data);
      if (id === '' || known.has(id)) message.respond();
    },
  });
  const requests = connection.subscribe(subject, {
    ...options,
    callback: (error, message) => {
      if (error !== null) return;
      const id = message.headers?.get(ID) ?? '';
      const again = known.get(id);
      if (again !== undefined) return void again.push(message);
      const asked = [message];
      if (id !== '') known.set(id, asked);
      arrive({
        body: text.decode(message.data),
        archive: message.headers?.get(ARCHIVE) || undefined,
        answer: (reply) => {
          for (const each of asked) each.respond(text.encode(JSON.stringify(reply)));
          known.delete(id);
        },
      });
    },
  });
  void requests.closed.then(() => end());
  return { [Symbol.asyncIterator]: () => waiting.values(), unsubscribe };
}

/** `archive`: id of the archive that is meant (archiveHere). */
export type AskOptions = { readonly archive?: string; readonly signal?: AbortSignal | undefined };

/** The JSON reply to a JSON request; undefined when nobody answers this subject. Throws `transient` when the request or its answer is lost, the answerer gone, or `signal` aborts. */
export async function requestReply<T>(
  connection: NatsConnection,
  subject: string,
  request: unknown,
  { archive, signal }: AskOptions = {},
): Promise<T | undefined> {
  const over = new AbortController();
  const id = randomUUID();
  const named = headers();
  named.set(ID, id);
  if (archive !== undefined) named.set(ARCHIVE, archive);
  const ask = (): Promise<Msg> => {
    const answer = connection.request(subject, text.encode(JSON.stringify(request)), { timeout: LONGEST_MS, headers: named });
    answer.catch(() => undefined); // ends with the connection
    return answer;
  };
  try {
    const asked = [ask(), askAgain(connection, subject, id, ask, over.signal)];
    const message = await Promise.race([...asked, ...(signal ? [aborted(signal, over.signal)] : [])]);
    return JSON.parse(text.decode(message.data)) as T;
  } catch (error) {
    if ((error as { code?: string }).code === '503') return undefined;
    throw deniedError(error) ?? error;
  } finally {
    over.abort();
  }
}

/** `over` takes its listener away: the signal is that of a whole service, which asks a thousand times. */
async function aborted(signal: AbortSignal, over: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort', { signal: over });
  throw new TidemarkError('transient', 'stopped while waiting for an answer');
}

/** Asks again as often as nobody has the request; throws when that was too often. An answer to one of these is an answer. */
async function askAgain(connection: NatsConnection, subject: string, id: string, ask: () => Promise<Msg>, signal: AbortSignal): Promise<Msg> {
  const answers: Promise<Msg>[] = [];
  for (let silent = 0; ; ) {
    const look = lookAfter(connection, subject, id);
    const seen = await Promise.race([look, ...answers]);
    if (typeof seen !== 'boolean') return seen;
    if (signal.aborted) return new Promise<never>(() => undefined);
    silent = seen ? 0 : silent + 1;
    if (silent >= SILENCES)
      throw new TidemarkError('transient', `nobody is at work on what was asked on ${subject}: the request or its answer is lost`, {
        remedy: 'look at the log of the service, then ask again',
      });
    if (silent > 0) answers.push(ask().catch(() => new Promise<never>(() => undefined)));
  }
}

/** A while later: is somebody at work on the request? */
async function lookAfter(connection: NatsConnection, subject: string, id: string): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS).unref());
  return await connection.request(`${subject}.alive`, text.encode(id), { timeout: ASK_EVERY_MS }).then(
    () => true,
    () => false,
  );
}
