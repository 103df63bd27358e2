/** What the last prune run left undone, as a person reads it now: what held it back then may be over. Pure. */
import type { PipelineStatus } from '../../src/status/pipeline-state.js';

export type RunProblem = { readonly table: string | null; readonly problem: string };

/** Of the run, then of its tables. A pause that was taken back since is said as that, once. */
export function runProblems({ lastRun: run, paused }: Pick<PipelineStatus, 'lastRun' | 'paused'>): RunProblem[] {
  if (run === null) return [];
  const found: RunProblem[] = run.problem == null ? [] : [{ table: null, problem: run.problem }];
  let over = false;
  for (const { table, problem } of run.tables) {
    if (problem === null || problem === 'prune: false') continue;
    if (paused === null && problem.startsWith('paused since ')) over = true;
    else found.push({ table, problem });
  }
  return over ? [...found, { table: null, problem: 'pruning was paused then and is not now: the next run goes on' }] : found;
}
