/**
 * What every benchmark shares: baseline and Tidemark measured alternately in one run, the ratio of their medians with its extremes, printed and kept as JSON.
 * Compares nothing with a target by itself: whoever reads it does. No test depends on a time taken here.
 */
import { readFileSync } from 'node:fs';

/** What one run of one side took. */
export type Measured = {
  readonly seconds: number;
  readonly rows: number;
  readonly bytes: number;
  /** Bytes; of the process that did the work. */
  readonly peakMemory: number;
  /** Seconds of CPU by process. */
  readonly cpu?: Readonly<Record<string, number>>;
};

export type Side = { readonly name: string; readonly run: (round: number) => Promise<Measured> };

/** One row of the table in docs/performance.md. */
export type Comparison = {
  readonly what: string;
  /** What is divided: Tidemark's by the baseline's. */
  readonly of: 'seconds' | 'seconds a row' | 'bytes' | 'memory';
  /** In words. */
  readonly target: string;
  readonly baseline: string;
  readonly runs: readonly { readonly baseline: Measured; readonly tidemark: Measured }[];
  /** What else was found, a line each. */
  readonly notes: readonly string[];
};

export type Benchmark = {
  readonly name: string;
  readonly about: string;
  /** Makes its own data in `scratch`, which is removed afterwards. */
  readonly run: (scratch: string, say: (line: string) => void) => Promise<readonly Comparison[] | { readonly skipped: string }>;
};

/** Of one benchmark, by --rounds. */
let mostRounds = Number.POSITIVE_INFINITY;

export function limitRounds(most: number): void {
  mostRounds = most;
}

/** Runs both sides `rounds` times, or as often as --rounds allows; who begins alternates, so that neither always finds the warmer cache. */
export async function alternate(rounds: number, baseline: Side, tidemark: Side, say: (line: string) => void): Promise<Comparison['runs']> {
  const runs: { baseline: Measured; tidemark: Measured }[] = [];
  for (let round = 0; round < Math.min(rounds, mostRounds); round += 1) {
    const found = new Map<Side, Measured>();
    for (const side of round % 2 === 0 ? [baseline, tidemark] : [tidemark, baseline]) {
      const measured = await side.run(round);
      found.set(side, measured);
      say(`  ${side.name}: ${describe(measured)}`);
    }
    runs.push({ baseline: found.get(baseline) as Measured, tidemark: found.get(tidemark) as Measured });
  }
  return runs;
}

function describe({ seconds, rows, bytes, peakMemory, cpu = {} }: Measured): string {
  const perRow = Object.entries(cpu).map(([name, used]) => `, ${name} ${((used / rows) * 1e6).toFixed(2)} µs of CPU a row`);
  return `${rows} rows in ${duration(seconds)}${Number.isNaN(bytes) ? '' : `, ${megabytes(bytes)}`}${Number.isNaN(peakMemory) ? '' : `, at most ${megabytes(peakMemory)} of memory`}${perRow.join('')}`;
}

/** Seconds in words. */
export function duration(seconds: number): string {
  return seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(1)} s`;
}

/** Tidemark's median over the baseline's, and the least and the greatest ratio of a round. */
export function ratio({ of, runs }: Pick<Comparison, 'of' | 'runs'>): { readonly median: number; readonly least: number; readonly most: number } {
  const each = runs.map(({ baseline, tidemark }) => amount(of, tidemark) / amount(of, baseline));
  const median = medianOf(runs.map(({ tidemark }) => amount(of, tidemark))) / medianOf(runs.map(({ baseline }) => amount(of, baseline)));
  return { median, least: Math.min(...each), most: Math.max(...each) };
}

function amount(of: Comparison['of'], { seconds, rows, bytes, peakMemory }: Measured): number {
  return { seconds, 'seconds a row': seconds / rows, bytes, memory: peakMemory }[of];
}

export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** The value that a part of all values (0.99: all but a hundredth) does not exceed. */
export function quantileOf(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN;
}

/** A side that is a bound and was not measured, or of which one figure is known only. */
export function only(of: Partial<Measured>): Measured {
  return { seconds: Number.NaN, rows: 1, bytes: Number.NaN, peakMemory: Number.NaN, ...of };
}

/** The lines printed for a comparison. */
export function summary(comparison: Comparison): string[] {
  const { median, least, most } = ratio(comparison);
  const peak = Math.max(...comparison.runs.map(({ tidemark }) => tidemark.peakMemory));
  const memory = Number.isNaN(peak) ? '' : `, at most ${megabytes(peak)} of memory`;
  const rounds = comparison.runs.length;
  return [
    `${comparison.what}: ${median.toFixed(2)} of the ${comparison.of} of ${comparison.baseline} (${least.toFixed(2)}–${most.toFixed(2)}, ${rounds} ${rounds === 1 ? 'run' : 'runs'})${memory}`,
    `  target: ${comparison.target}`,
    ...comparison.notes.map((note) => `  ${note}`),
  ];
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** The most memory a running process has held, bytes: VmHWM. NaN where the system does not say. */
export function peakMemory(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readProcess(pid, 'status'))?.[1] ?? Number.NaN) * 1024;
}

/** Seconds of CPU that a running process has used, user and system. NaN where the system does not say. */
export function cpuSeconds(pid: number): number {
  const fields = readProcess(pid, 'stat').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100; // USER_HZ
}

function readProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
