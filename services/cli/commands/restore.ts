/** `tidemark restore TABLE`: archive → Postgres. Exit 0 when it went through, 1 when it stopped, 2 for what cannot be asked. */

import { type RestoreResult, restoreTable } from '../../../src/restore/run.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { FlushAsker } from '../../../src/stream/flush-request.js';
import { changedLines, leftLines } from '../left-rows.js';
import { progressBar } from '../progress.js';
import { parseRestoreOptions } from '../restore-options.js';

export async function run([table]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const { selection, policy, keepMs } = parseRestoreOptions(options);
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort());
  const bar = progressBar(`restoring ${table}`, 'rows');
  await using asker = new FlushAsker(config);
  const result = await restoreTable({
    config,
    table: String(table),
    selection,
    into: options['into'] === undefined ? undefined : String(options['into']),
    policy,
    dryRun: options['dryRun'] === true,
    keepMs,
    signal: controller.signal,
    progress: (done, all) => bar.update(done, all),
    flush: asker.ask,
    notice: (text) => process.stderr.write(`${text}\n`),
  }).finally(() => bar.stop());
  process.stdout.write(
    options['json'] === true ? `${JSON.stringify(result)}\n` : render(result, String(options['keep'] ?? '24h'), options['into'] === undefined),
  );
  return result.problem === null ? 0 : 1;
}

function render(result: RestoreResult, keep: string, own: boolean): string {
  const lines: string[] = [];
  for (const table of result.tables) {
    const { into, restored, batches } = table;
    if (result.created)
      lines.push(`${into} was not there: ${result.dryRun ? 'it would be made' : 'made'} as the archive knows it (columns, types, NOT NULL, key)`);
    const verb = result.dryRun ? 'would be restored' : 'restored';
    const replaced = result.replaced > 0 ? `, ${result.replaced} of them in the place of others` : '';
    lines.push(`${into}: ${restored} rows ${verb}${replaced}${result.dryRun ? '' : ` in ${batches} batch${batches === 1 ? '' : 'es'}`}`);
    lines.push(...leftLines(table));
    if (restored === 0 && Object.keys(table.left).length === 0 && result.problem === null)
      lines.push('  no archived row is meant; those that somebody deleted are none (deletes: history): they lie in _tidemark/history once their day is sealed');
    lines.push(...changedLines(result.changed));
    if (result.lost.length > 0) lines.push(`  the table has no column ${result.lost.join(', ')} any more: these values stay in the archive only`);
    if (own && restored > 0 && !result.dryRun) lines.push(`  the pruner leaves them for ${keep}`);
  }
  if (result.problem !== null) lines.push(result.problem);
  lines.push(`run ${result.run}${result.dryRun ? ' (dry run: nothing was written)' : ''}`);
  return `${lines.join('\n')}\n`;
}
