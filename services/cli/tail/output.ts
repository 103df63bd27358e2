/** Lines to a pipe, a file or a terminal, no faster than it takes them. A reader that has gone ends the work quietly: that is how `| head` says that it has enough. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';

/** Text is handed over in parts of about this size. */
const PART = 64 * 1024;

export class LineOutput {
  readonly #stream: Writable;
  readonly #gone = new AbortController();
  #failure: Error | undefined;
  #text = '';

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') this.#failure = error;
      this.#gone.abort();
    });
  }

  /** Aborts when nobody reads any more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Resolves when there is room for more, or `signal` aborts. */
  async write(text: string, signal: AbortSignal): Promise<void> {
    this.#text += text;
    if (this.#text.length >= PART) await this.flush(signal);
  }

  /** Hands over what is there. Throws what writing failed with, a reader that has gone excepted. */
  async flush(signal: AbortSignal): Promise<void> {
    const text = this.#text;
    this.#text = '';
    if (text !== '' && !this.#gone.signal.aborted && !this.#stream.write(text)) await once(this.#stream, 'drain', { signal }).catch(() => undefined);
    if (this.#failure !== undefined) throw this.#failure;
  }
}
