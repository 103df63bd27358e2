/** Runs cases of the fault table, so many at a time, and prints what came of each as it ends. */
import type { Case } from './matrix.js';
import { CannotInject } from './volume.js';

export type Result = { id: string; name: string; outcome: 'passed' | 'FAILED' | 'skipped'; seconds: number; detail: string };

export type RunOptions = {
  readonly jobs: number;
  readonly major: number | undefined;
  readonly seconds?: number | undefined;
  /** Begins no more, and says nothing of what was stopped. */
  readonly signal?: AbortSignal;
  /** Hears of each result as it comes, one after the other. */
  readonly ended?: ((result: Result) => Promise<void>) | undefined;
};

export async function runAll(cases: readonly { id: string; case: Case }[], options: RunOptions): Promise<Result[]> {
  const results: (Result | undefined)[] = cases.map(() => undefined);
  let next = 0;
  let said: Promise<void> = Promise.resolve();
  const isOver = (): boolean => options.signal?.aborted === true;
  const worker = async (): Promise<void> => {
    while (next < cases.length && !isOver()) {
      const index = next++;
      const { id, case: one } = cases[index] as (typeof cases)[number];
      const started = Date.now();
      const { outcome, detail } = await outcomeOf(one, options.major, options.seconds);
      if (isOver()) return;
      const seconds = Math.round((Date.now() - started) / 100) / 10;
      const result: Result = { id, name: one.name, outcome, seconds, detail };
      results[index] = result;
      said = said.then(() => options.ended?.(result));
      console.log(`${outcome.padEnd(7)} ${id.padEnd(4)} ${one.name} (${seconds} s): ${detail}`);
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, worker));
  await said;
  return results as Result[];
}

async function outcomeOf(one: Case, major: number | undefined, seconds: number | undefined): Promise<Pick<Result, 'outcome' | 'detail'>> {
  try {
    return { outcome: 'passed', detail: await one.run(major, seconds) };
  } catch (error) {
    if (error instanceof CannotInject) return { outcome: 'skipped', detail: error.message };
    return { outcome: 'FAILED', detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** A line for each row or step: how many of its cases passed. */
export function table(results: readonly Result[]): string {
  const ids = [...new Set(results.map(({ id }) => id))];
  const lines = ids.map((id) => {
    const of = results.filter((result) => result.id === id);
    const count = (outcome: Result['outcome']): number => of.filter((result) => result.outcome === outcome).length;
    const skipped = of.filter(({ outcome }) => outcome === 'skipped').map(({ detail }) => detail);
    const verdict = count('FAILED') > 0 ? 'FAILED' : count('passed') > 0 ? 'passed' : 'skipped';
    const seconds = Math.round(of.reduce((sum, { seconds: each }) => sum + each, 0));
    return `${id.padEnd(5)} ${verdict.padEnd(7)} ${`${count('passed')}/${of.length}`.padEnd(7)} ${String(seconds).padStart(5)} s${skipped.length > 0 ? `  skipped: ${[...new Set(skipped)].join('; ')}` : ''}`;
  });
  const total = (outcome: Result['outcome']): number => results.filter((result) => result.outcome === outcome).length;
  return ['fault result  cases    time', ...lines, '', `${total('passed')} passed, ${total('FAILED')} failed, ${total('skipped')} skipped`].join('\n');
}
