/**
 * verifySegment and verifyDaily in a thread of its own: the proof of a file goes on while the next rows are taken in. Owns the thread: begun when there is something to prove, begun again after it died,
 * unreferenced at rest. Two, each with the usual young generation, were measured: 100 MB and 6 µs of CPU a row more.
 */
import { Worker } from 'node:worker_threads';
import { type DailyExpected, type Expected, SegmentMismatch } from './verify.js';

const THREAD = new URL('./verify-thread.js', import.meta.url);
/** Little of what is decoded lives long: it is collected before it grows old, and with it the pages beside it (some 7 MB less than with 12 MB, for up to a tenth more of the archiver's CPU). */
const YOUNG_MB = 6;

/** `flushed`: rows wait for it. `merged`: a segment, `sealed`: a daily, history or changes file, of which `expected` has rows and digests; both give way to what was flushed. */
export type VerifyKind = 'flushed' | 'merged' | 'sealed';
/** A proof that is asked for. */
export type VerifyTask = { readonly id: number; readonly file: string; readonly expected: Expected; readonly kind: VerifyKind };
/** Its end: the file's SHA-256, or what was thrown. */
export type VerifyReply = {
  readonly id: number;
  readonly sha256?: string;
  readonly problem?: { readonly name: string; readonly message: string; readonly code?: string };
};

export class SegmentVerifier {
  #thread: VerifyThread | undefined;

  /** As verifySegment. Throws what it throws, and an Error when the thread ends before its answer. */
  verify(file: string, expected: Expected): Promise<string> {
    return this.#begun().verify(file, expected, 'flushed');
  }

  /** The same for a segment that takes the place of others: nothing waits for it. */
  verifyMerged(file: string, expected: Expected): Promise<string> {
    return this.#begun().verify(file, expected, 'merged');
  }

  /** As verifyDaily. Nothing waits for it. */
  verifyDaily(file: string, expected: DailyExpected): Promise<string> {
    return this.#begun().verify(file, expected, 'sealed');
  }

  #begun(): VerifyThread {
    this.#thread ??= new VerifyThread((ended) => {
      if (this.#thread === ended) this.#thread = undefined;
    });
    return this.#thread;
  }

  async close(): Promise<void> {
    await this.#thread?.close();
  }
}

type Waiting = { readonly resolve: (sha256: string) => void; readonly reject: (error: Error) => void };

class VerifyThread {
  readonly #worker = new Worker(THREAD, { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } });
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  /** `ended` is called when it takes no more. */
  constructor(ended: (thread: VerifyThread) => void) {
    const died = (error: Error): void => {
      ended(this);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
    this.#worker.on('message', (reply: VerifyReply) => this.#answered(reply));
    this.#worker.on('error', died);
    this.#worker.on('exit', () => died(new Error('the thread that decodes segments ended')));
  }

  async verify(file: string, expected: Expected, kind: VerifyKind): Promise<string> {
    const id = this.#next;
    this.#next += 1;
    this.#worker.ref();
    this.#worker.postMessage({ id, file, expected, kind } satisfies VerifyTask);
    return await new Promise<string>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #answered({ id, sha256, problem }: VerifyReply): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (sha256 !== undefined) waiting?.resolve(sha256);
    else waiting?.reject(problem === undefined ? new Error('no answer') : errorOf(problem));
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function errorOf({ name, message, code }: NonNullable<VerifyReply['problem']>): Error {
  if (name === 'SegmentMismatch') return new SegmentMismatch(message);
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}
