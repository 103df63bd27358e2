/** The thread of SegmentVerifier: one proof after the other, in the order in which they are asked for. */
import { parentPort } from 'node:worker_threads';
import type { VerifyReply, VerifyTask } from './verifier.js';
import { verifyDaily, verifySegment } from './verify.js';

let last: Promise<void> = Promise.resolve();
parentPort?.on('message', (task: VerifyTask) => {
  last = last.then(() => prove(task));
});

async function prove({ id, file, expected, daily }: VerifyTask): Promise<void> {
  const reply: VerifyReply = await (daily ? verifyDaily : verifySegment)(file, expected).then(
    () => ({ id }),
    (error: Error & { code?: string }) => ({
      id,
      problem: { name: error.name, message: error.message, ...(error.code === undefined ? {} : { code: error.code }) },
    }),
  );
  parentPort?.postMessage(reply);
}
