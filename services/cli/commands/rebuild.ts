/** `tidemark rebuild --into DIR [--check]`: exit 4 when the two archives differ. */
import { loadConfig } from '../../../src/runtime/config.js';
import { createLog } from '../../../src/runtime/log.js';
import { rebuildArchive } from '../../archiver/rebuild.js';
import { progressBar } from '../progress.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  const bar = progressBar('rebuild', 'messages');
  const compare = progressBar('compare', 'days');
  const result = await rebuildArchive(config, {
    into: String(options['into']),
    check: options['check'] === true,
    log: createLog('rebuild', { level: 'warn' }),
    signal: controller.signal,
    progress: (done, all) => bar.update(done, all),
    comparing: (done, all) => {
      bar.stop();
      compare.update(done, all);
    },
  }).finally(() => {
    bar.stop();
    compare.stop();
  });
  if (options['json'] === true) process.stdout.write(`${JSON.stringify(result)}\n`);
  else {
    const name = (entry: { schema: string; table: string; day: string | null }): string => `${entry.schema}.${entry.table} ${entry.day ?? 'undated'}`;
    for (const entry of result.differences) process.stdout.write(`DIFFERS  ${name(entry)}: ${entry.seen}\n`);
    for (const entry of result.skipped) process.stdout.write(`skipped  ${name(entry)}: ${entry.seen}\n`);
    process.stdout.write(`rebuilt ${result.rows} rows from ${result.from ?? 'the first copy on'}, position ${result.position ?? 'none'}\n`);
    if (result.equal !== undefined) process.stdout.write(`${result.equal ? 'equal' : 'DIFFERENT'}: ${result.compared} tables and days compared\n`);
  }
  return result.equal === false ? 4 : 0;
}
