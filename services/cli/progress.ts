/** Progress on long work: a bar with rate and time left on a terminal, nothing in a pipe. */
import { SingleBar } from 'cli-progress';

export type Progress = { update(done: number, all: number): void; stop(): void };

/** `unit`: what is counted, for instance `files`. */
export function progressBar(label: string, unit: string): Progress {
  if (process.stderr.isTTY !== true) return { update: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    format: `${label} {bar} {percentage}% {value}/{total} ${unit}, {eta_formatted} left`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  let started = false;
  return {
    update(done, all) {
      if (!started) bar.start(all, 0);
      started = true;
      bar.setTotal(all);
      bar.update(done);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
