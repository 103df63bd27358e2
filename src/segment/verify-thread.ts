/**
 * The thread of SegmentVerifier: of flushed segments one proof after the other, in the order in which they are asked for; beside them one of what was merged or sealed, which stops before each column
 * for the flushed ones that are asked for by then. So a day of any size is proved without rows waiting for it, and flushes without end do not keep it from being proved.
 */
import { parentPort } from 'node:worker_threads';
import type { VerifyReply, VerifyTask } from './verifier.js';
import { type GiveWay, verifyDaily, verifySegment } from './verify.js';

let flushed: Promise<void> = Promise.resolve();
let housework: Promise<void> = Promise.resolve();
parentPort?.on('message', (task: VerifyTask) => {
  if (task.kind === 'flushed') flushed = flushed.then(() => prove(task));
  else housework = housework.then(() => prove(task));
});

const giveWay: GiveWay = async () => {
  await new Promise(setImmediate); // what is asked for comes in
  await flushed;
};

async function prove({ id, file, expected, kind }: VerifyTask): Promise<void> {
  const proof =
    kind === 'flushed' ? verifySegment(file, expected) : kind === 'merged' ? verifySegment(file, expected, giveWay) : verifyDaily(file, expected, giveWay);
  const reply: VerifyReply = await proof.then(
    (sha256) => ({ id, sha256 }),
    (error: Error & { code?: string }) => ({
      id,
      problem: { name: error.name, message: error.message, ...(error.code === undefined ? {} : { code: error.code }) },
    }),
  );
  parentPort?.postMessage(reply);
}
