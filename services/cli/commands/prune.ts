/** `tidemark prune [TABLE] [--dry-run] [--json]`: exit 0 when the run went through, 1 when a table or the run had a problem, 3 when a table halted. */
import Table from 'cli-table3';
import { loadConfig } from '../../../src/runtime/config.js';
import { createLog } from '../../../src/runtime/log.js';
import { pruneOnce } from '../../pruner/loop.js';
import { plainTable } from '../print.js';

export async function run([table]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  const request = { ...(table === undefined ? {} : { table }), dryRun: options['dryRun'] === true };
  const { result, by } = await pruneOnce(config, createLog('pruner', { level: 'warn' }), request, controller.signal);
  if (by === 'command') for (const notice of config.notices) process.stderr.write(`${notice}\n`);
  const failed = result.ran && (result.problem != null || result.tables.some((entry) => entry.problem !== null && entry.problem !== 'prune: false'));
  if (options['json'] === true) process.stdout.write(`${JSON.stringify({ by, ...result })}\n`);
  else {
    const rows = result.tables.map((entry) => [
      entry.schema === 'public' ? entry.table : `${entry.schema}.${entry.table}`,
      String(entry.nominated),
      String(entry.deleted),
      Object.entries(entry.left)
        .map(([reason, count]) => `${count} ${reason}`)
        .join(', '),
      entry.problem ?? '',
    ]);
    const head = ['table', 'old and covered', result.dryRun ? 'would be deleted' : 'deleted', 'left', 'problem'];
    process.stdout.write(`${plainTable(Table, head, rows)}\n`);
    if (result.problem != null) process.stdout.write(`${result.problem}\n`);
    process.stdout.write(
      `run ${result.run}${result.dryRun ? ' (dry run: nothing was deleted)' : ''}, by the ${by === 'service' ? 'running pruner' : 'command itself'}\n`,
    );
  }
  if (result.halts.length > 0) return 3;
  return failed ? 1 : 0;
}
