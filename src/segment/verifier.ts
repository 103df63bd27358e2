/**
 * verifySegment in threads of their own: the proof of a segment goes on while the next rows are taken in, and two go on at once. Owns the threads: begun when there is something to prove, begun
 * again after one died, unreferenced at rest.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Expected, SegmentMismatch } from './verify.js';

const THREAD = new URL('./verify-thread.js', import.meta.url);
const MOST_THREADS = Math.min(2, availableParallelism());

/** A proof that is asked for. */
export type VerifyTask = { readonly id: number; readonly file: string; readonly expected: Expected };
/** Its end; `problem`: what was thrown. */
export type VerifyReply = { readonly id: number; readonly problem?: { readonly name: string; readonly message: string; readonly code?: string } };

export class SegmentVerifier {
  readonly #threads = new Set<VerifyThread>();

  /** As verifySegment. Throws what it throws, and an Error when the thread ends before its answer. */
  verify(file: string, expected: Expected): Promise<void> {
    const free = [...this.#threads].sort((a, b) => a.tasks - b.tasks)[0];
    if (free !== undefined && (free.tasks === 0 || this.#threads.size >= MOST_THREADS)) return free.verify(file, expected);
    const thread = new VerifyThread(() => this.#threads.delete(thread));
    this.#threads.add(thread);
    return thread.verify(file, expected);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => thread.close()));
  }
}

type Waiting = { readonly resolve: () => void; readonly reject: (error: Error) => void };

class VerifyThread {
  readonly #worker = new Worker(THREAD);
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  /** `ended` is called when it takes no more. */
  constructor(ended: () => void) {
    const died = (error: Error): void => {
      ended();
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
    this.#worker.on('message', (reply: VerifyReply) => this.#answered(reply));
    this.#worker.on('error', died);
    this.#worker.on('exit', () => died(new Error('the thread that decodes segments ended')));
  }

  /** Proofs that it has yet to give. */
  get tasks(): number {
    return this.#waiting.size;
  }

  async verify(file: string, expected: Expected): Promise<void> {
    const id = this.#next;
    this.#next += 1;
    this.#worker.ref();
    this.#worker.postMessage({ id, file, expected } satisfies VerifyTask);
    await new Promise<void>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #answered({ id, problem }: VerifyReply): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (problem === undefined) waiting?.resolve();
    else waiting?.reject(errorOf(problem));
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function errorOf({ name, message, code }: NonNullable<VerifyReply['problem']>): Error {
  if (name === 'SegmentMismatch') return new SegmentMismatch(message);
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}
