/** `tidemark tail [TABLE] [--from PLACE] [--no-follow] [--all]`: the stream as JSON lines. Exit 0 at the end, at Ctrl-C, and when the reader has enough. */
import { loadConfig } from '../../../src/runtime/config.js';
import { configError } from '../../../src/runtime/errors.js';
import { configuredTable } from '../configured-table.js';
import { LineOutput } from '../tail/output.js';
import { parseFrom } from '../tail/start.js';
import { tail } from '../tail/tail.js';

export async function run([name]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const from = parseFrom(options['from'] === undefined ? undefined : String(options['from']), Date.now());
  const follow = options['follow'] !== false;
  if (!follow && from.kind === 'now') throw configError('--no-follow: from now on there is nothing yet', 'say where to begin: --from 10m, --from start');
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort());
  await tail(config, {
    table: name === undefined ? undefined : configuredTable(config, name),
    from,
    follow,
    all: options['all'] === true,
    output: new LineOutput(process.stdout),
    signal: controller.signal,
    notice: (text) => process.stderr.write(`${text}\n`),
  });
  return 0;
}
