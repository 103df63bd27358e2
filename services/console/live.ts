/** One browser's stream of events: the history once, then each picture; to a browser that is slow, only the newest. Ends with the browser, or with the console. */
import type { Context } from 'hono';
import { type SSEStreamingApi, streamSSE } from 'hono/streaming';
import { sleep } from '../../src/runtime/service.js';
import { FIELDS } from './history.js';
import { type Picture, pictureText } from './picture.js';
import type { Poll } from './poll.js';

/** A proxy in between may end a stream that is silent for longer. */
const SILENCE_MS = 15_000;

export function live(c: Context, poll: Poll): Response {
  c.header('X-Accel-Buffering', 'no'); // nginx would keep it back
  return streamSSE(c, async (stream) => {
    const newest = new Newest();
    const stop = (): void => newest.wake();
    poll.signal.addEventListener('abort', stop, { once: true });
    stream.onAbort(stop);
    const leave = poll.watch((picture) => newest.put(picture));
    try {
      await stream.writeSSE({ event: 'history', data: JSON.stringify({ fields: FIELDS, rows: poll.history.rows() }) });
      while (!stream.aborted && !poll.signal.aborted) await sendNext(stream, newest);
    } finally {
      leave();
      poll.signal.removeEventListener('abort', stop);
    }
  });
}

async function sendNext(stream: SSEStreamingApi, newest: Newest): Promise<void> {
  const silence = new AbortController();
  await Promise.race([newest.there(), sleep(SILENCE_MS, silence.signal)]);
  silence.abort();
  const picture = newest.take();
  if (picture === undefined) await stream.write(': still here\n\n');
  else await stream.writeSSE({ event: 'picture', data: pictureText(picture) });
}

/** The newest picture that was not taken yet. */
class Newest {
  #picture: Picture | undefined;
  #wake: () => void = () => undefined;

  put(picture: Picture): void {
    this.#picture = picture;
    this.#wake();
  }

  take(): Picture | undefined {
    const picture = this.#picture;
    this.#picture = undefined;
    return picture;
  }

  /** Ends the waiting, picture or not. */
  wake(): void {
    this.#wake();
  }

  async there(): Promise<void> {
    if (this.#picture === undefined) await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}
