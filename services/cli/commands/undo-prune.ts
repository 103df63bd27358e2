/** `tidemark undo-prune RUN`: the rows of one prune run back where they were. Exit 0 when it went through, 1 when it or one of its tables stopped (3 for a halt), 2 for a run that there is not. */
import { ReceiptIndex } from '../../../src/archive/receipts.js';
import { textOf } from '../../../src/restore/target.js';
import { prunedBy, undoPrune } from '../../../src/restore/undo.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { confirm } from '../confirm.js';
import { changedLines, leftLines } from '../left-rows.js';
import { progressBar } from '../progress.js';
import { parseKeep } from '../restore-options.js';

export async function run([prune]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const keep = options['keep'] === undefined ? '24h' : String(options['keep']);
  const keepMs = parseKeep(keep);
  const dryRun = options['dryRun'] === true;
  const json = options['json'] === true;
  const pruned = await prunedBy(config, new ReceiptIndex(config.archive.dir), String(prune));
  const say = (text: string): void => void (json ? process.stderr : process.stdout).write(text);
  if (!dryRun && pruned.length > 0) {
    say(
      `run ${prune} deleted ${pruned.map((table) => `${table.rows} rows of ${textOf(table)}`).join(', ')}; this puts them back, and the pruner leaves them for ${keep}\n`,
    );
    await confirm('undo-prune', config.source.name, options['yes']);
  }
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort());
  const bar = progressBar('restoring', 'rows');
  const progress = (done: number, all: number): void => bar.update(done, all);
  const { receipt: result, failure } = await undoPrune({ config, run: String(prune), dryRun, keepMs, signal: controller.signal, progress }).finally(() =>
    bar.stop(),
  );
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else {
    if (result.tables.length === 0) process.stdout.write('that run deleted nothing\n');
    for (const table of result.tables) {
      process.stdout.write(`${textOf(table)}: ${table.restored} rows ${dryRun ? 'would go back' : 'back'}\n`);
      for (const line of [...changedLines(table.changed), ...leftLines(table)]) process.stdout.write(`${line}\n`);
      if (table.problem !== undefined) process.stdout.write(`  stopped: ${table.problem}\n`);
    }
    process.stdout.write(
      `${result.problem === null || failure !== undefined ? '' : `${result.problem}\n`}run ${result.run}${dryRun ? ' (dry run: nothing was written)' : ''}\n`,
    );
  }
  if (failure !== undefined) throw failure;
  return result.problem === null ? 0 : 1;
}
