/**
 * How far the first copy is, for `tidemark run` on a terminal: one line below the log, drawn again and again. Counts what the archive holds, not what is on its way. The services write their
 * log to the same terminal: the line leaves the cursor at its beginning, and each log line begins by clearing it (runtime/log.ts).
 */
import { ArchiveFollower } from '../../src/archive/manifest.js';
import type { Config } from '../../src/runtime/config.js';
import { ProgressRate } from '../../src/runtime/progress-rate.js';
import { sleep } from '../../src/runtime/service.js';
import { applicationName, quoteTable } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { estimatedRows } from '../../src/wal/table-estimate.js';
import { progressText } from './progress.js';

const LOOK_MS = 500;
const CLEAR = '\u001b[K';

/** Draws until the copy is complete or `signal` aborts. Nothing without a terminal, and nothing when there is no copy to be made. Never throws: whether the copy goes well is the services' to say. */
export async function showCopy(config: Config, signal: AbortSignal, terminal: NodeJS.WriteStream = process.stderr): Promise<void> {
  if (terminal.isTTY !== true) return;
  const follower = new ArchiveFollower(config.archive.dir);
  const rate = new ProgressRate();
  let expected: number | undefined;
  while (!signal.aborted) {
    const copy = await follower.refresh().then(
      (state) => state?.copy,
      () => undefined,
    );
    if (copy?.state === 'complete') break;
    if (copy?.state === 'running') {
      expected ??= await expectedRows(config).catch(() => 0);
      const text = progressText(rate, { done: copy.rows, all: Math.max(expected, copy.rows), unit: 'rows' }, performance.now());
      terminal.write(`\r${`copy: about ${text}`.slice(0, (terminal.columns || 80) - 1)}${CLEAR}\r`);
    }
    await sleep(LOOK_MS, signal);
  }
  if (expected !== undefined) terminal.write(CLEAR);
}

async function expectedRows(config: Config): Promise<number> {
  const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control'), queryTimeoutMs: 5000 });
  try {
    const { rows } = await client.query<{ oid: string }>(
      'SELECT to_regclass(name)::oid::text AS oid FROM unnest($1::text[]) name WHERE to_regclass(name) IS NOT NULL',
      [config.tables.map(({ schema, table }) => quoteTable(schema, table))],
    );
    return await estimatedRows(
      client,
      rows.map(({ oid }) => Number(oid)),
    );
  } finally {
    await closeClient(client);
  }
}
