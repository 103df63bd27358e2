/** The wish that the archive comes up to a position soon, on `tidemark.<source>.flush`: the archiver takes note of it at once. Nothing depends on it; whoever waits asks again. */
import { type NatsConnection, StringCodec } from 'nats';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import type { Config } from '../runtime/config.js';
import { requestSubject } from './names.js';
import { connectStream, type StreamConnection } from './topology.js';

const text = StringCodec();
const TAKEN_MS = 1000;

/** False: no archiver took it, or NATS is not there. Never throws. */
export async function requestFlush(connection: NatsConnection, source: string, upTo: Lsn): Promise<boolean> {
  try {
    await connection.request(requestSubject(source, 'flush'), text.encode(formatLsn(upTo)), { timeout: TAKEN_MS });
    return true;
  } catch {
    return false;
  }
}

/** Hands every wish to `take`, and answers. What is no LSN is not answered. */
export function answerFlushes(connection: NatsConnection, source: string, take: (upTo: Lsn) => void): { unsubscribe(): void } {
  return connection.subscribe(requestSubject(source, 'flush'), {
    callback: (error, message) => {
      if (error !== null) return; // the subject is not permitted: said by the connection
      try {
        take(parseLsn(text.decode(message.data)));
      } catch (wrong) {
        if (wrong instanceof SyntaxError) return;
        throw wrong;
      }
      message.respond();
    },
  });
}

/** A command's way to the archiver: connects when something is asked first. Close it. */
export class FlushAsker implements AsyncDisposable {
  readonly #config: Config;
  #stream: Promise<StreamConnection | undefined> | undefined;

  constructor(config: Config) {
    this.#config = config;
  }

  /** As requestFlush. */
  readonly ask = async (upTo: Lsn): Promise<boolean> => {
    const { name } = this.#config.source;
    this.#stream ??= connectStream(this.#config, `tidemark-${name}-flush`).catch(() => undefined);
    const stream = await this.#stream;
    if (stream === undefined) this.#stream = undefined; // tried again
    return stream !== undefined && (await requestFlush(stream.connection, name, upTo));
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#stream)?.connection.close().catch(() => undefined);
  }
}
