/** What is told of a finished run: the run itself, and each table that it halted. Counts and names, no row. */
import type { PruneResult } from '../../src/prune/run.js';
import type { Tell } from '../../src/stream/events.js';

export function tellRun(tell: Tell, result: PruneResult): void {
  if (!result.ran) return;
  const { run, dryRun, trigger = 'command', at: startedAt, finishedAt, problem = null } = result;
  const tables = result.tables.map(({ schema, table, nominated, deleted, left, problem: why }) => ({
    table: `${schema}.${table}`,
    nominated,
    deleted,
    left,
    problem: why,
  }));
  const deleted = dryRun ? 0 : tables.reduce((sum, table) => sum + table.deleted, 0);
  tell('prune', { run, trigger, dryRun, startedAt, finishedAt, deleted, tables, problem });
  for (const { table, halt, seen, remedy } of result.halted) tell('halt', { service: 'pruner', halt, seen, remedy, table });
}
