/** Progress on long work: a bar with rate and time left on a terminal, nothing in a pipe. It stands on stderr, so that what a command prints stays what it is. */
import { SingleBar } from 'cli-progress';
import { ProgressRate, timeText } from '../../src/runtime/progress-rate.js';
import { bytesText } from './print.js';

export type Progress = {
  update(done: number, all: number): void;
  /** Prints a line on stdout that the bar does not run into. */
  print(line: string): void;
  /** Takes the bar away. May be called more than once. */
  stop(): void;
};

/** `unit`: what is counted, for instance `rows`; `bytes` are shown as people read them. */
export function progressBar(label: string, unit: string): Progress {
  if (process.stderr.isTTY !== true) return { update: () => undefined, print: (line) => void process.stdout.write(`${line}\n`), stop: () => undefined };
  const rate = new ProgressRate();
  const bar = new SingleBar({ format: `${label} {bar} {percentage}% {text}`, stream: process.stderr, barsize: 24, clearOnComplete: true, fps: 5 });
  let started = false;
  return {
    update(done, all) {
      const text = progressText(rate, { done, all, unit }, performance.now());
      if (!started) bar.start(all, 0, { text });
      started = true;
      bar.setTotal(all);
      bar.update(done, { text });
    },
    print(line) {
      if (started) process.stderr.write('\r\u001b[K'); // drawn again with the next update
      process.stdout.write(`${line}\n`);
    },
    stop() {
      if (started) bar.stop();
      started = false;
    },
  };
}

/** `12 of 30 files, 2.4 files/s, 8 s left`. */
export function progressText(
  rate: ProgressRate,
  { done, all, unit }: { readonly done: number; readonly all: number; readonly unit: string },
  now: number,
): string {
  rate.note(done, now);
  const perSecond = rate.perSecond;
  const left = rate.secondsLeft(all);
  const amount = (value: number): string => (unit === 'bytes' ? bytesText(Math.round(value)) : String(Math.round(value)));
  const speed =
    perSecond === undefined ? '' : `, ${unit !== 'bytes' && perSecond < 10 ? perSecond.toFixed(1) : amount(perSecond)}${unit === 'bytes' ? '' : ` ${unit}`}/s`;
  return `${amount(done)} of ${amount(all)}${unit === 'bytes' ? '' : ` ${unit}`}${speed}${left === undefined ? '' : `, ${timeText(left)} left`}`;
}
