/** `tidemark status [--json] [--watch]`. Exit 0 when every part answered and the slot lives, 1 otherwise. */
import Table from 'cli-table3';
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { sleep } from '../../../src/runtime/service.js';
import { THRESHOLDS } from '../../../src/wal/slot-health.js';
import { type PipelineStatus, readStatus } from '../pipeline-state.js';
import { bytesText, plainTable } from '../print.js';

const WATCH_MS = 2000;

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const follower = new ArchiveFollower(config.archive.dir);
  const show = async (): Promise<number> => {
    const status = await readStatus(config, follower);
    const text = options['json'] === true ? `${JSON.stringify(status)}\n` : render(status);
    if (options['watch'] === true && process.stdout.isTTY === true) process.stdout.write('\u001b[2J\u001b[H');
    process.stdout.write(text);
    return status.slot?.walStatus === 'lost' || [status.postgres, status.stream, status.archive].some((part) => 'problem' in part) ? 1 : 0;
  };
  if (options['watch'] !== true) return show();
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  while (!controller.signal.aborted) {
    await show();
    await sleep(WATCH_MS, controller.signal);
  }
  return 0;
}

function lag(bytes: number | null, seconds: number | null): string {
  if (bytes === null) return 'lag unknown';
  return `${bytesText(bytes)} behind${seconds === null ? '' : `, ${seconds} s`}`;
}

/** `3 d`, `5 h`, `12 min`. */
function duration(seconds: number): string {
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)} d`;
  return seconds >= 2 * 3600 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 60)} min`;
}

export function render(status: PipelineStatus): string {
  const lines: string[] = [`source ${status.source}`];
  lines.push(
    'problem' in status.postgres
      ? `postgres   ${status.postgres.problem}`
      : `postgres   insert ${status.postgres.insertLsn}, timeline ${status.postgres.timeline}`,
  );
  lines.push(
    'problem' in status.stream
      ? `stream     ${status.stream.problem}`
      : `stream     tail ${status.stream.tail ?? 'empty'}, ${lag(status.lag.publishedBytes, status.lag.publishedSeconds)}; ${status.stream.messages} messages, ${bytesText(status.stream.bytes)}`,
  );
  if ('problem' in status.archive) lines.push(`archive    ${status.archive.problem}`);
  else {
    lines.push(
      `archive    position ${status.archive.position ?? 'none yet'}, ${lag(status.lag.archivedBytes, status.lag.archivedSeconds)}; manifest ${status.archive.manifest}, fence ${status.archive.fence ?? 'none'}`,
    );
  }
  lines.push(slotLine(status), '');
  const rows = status.tables.map((table) => [
    table.table,
    table.hotRows === null ? 'unknown' : String(table.hotRows),
    String(table.archivedRows),
    String(table.segments),
    String(table.sealedDays),
    bytesText(table.bytes),
    table.prunable ? 'yes' : `no: ${table.why}`,
  ]);
  lines.push(plainTable(Table, ['table', 'hot (estimate)', 'archived versions', 'segments', 'sealed days', 'size', 'prunable'], rows), '');
  lines.push(lastRun(status));
  return `${lines.join('\n')}\n`;
}

function slotLine({ postgres, slot, lag: { confirmedBytes, confirmedSeconds } }: PipelineStatus): string {
  if (slot === null) return `slot       ${'problem' in postgres ? 'not known: the database cannot be asked' : 'none'}`;
  const parts = [
    `confirmed ${slot.confirmedLsn ?? 'nothing'}, ${lag(confirmedBytes, confirmedSeconds)}`,
    `holds ${bytesText(slot.heldBytes)} of WAL`,
    slot.active ? 'active' : 'NOT ACTIVE',
  ];
  if (slot.walStatus !== null) parts.push(`wal_status ${slot.walStatus}`);
  if (slot.alarm.level < 4)
    parts.push(
      slot.safeWalBytes === null ? 'no bound (max_slot_wal_keep_size = -1): it can fill the disk' : `is lost after ${bytesText(slot.safeWalBytes)} more WAL`,
    );
  if (slot.lostInSeconds !== null) parts.push(`at the average rate of writing, in ${duration(slot.lostInSeconds)}`);
  if (slot.catalogXminAge !== null) parts.push(`catalog xmin ${slot.catalogXminAge} transactions old`);
  const line = `slot       ${parts.join('; ')}`;
  return slot.alarm.level === 0 ? line : `${line}\nALARM      slot: ${slot.alarm.seen} (${THRESHOLDS})`;
}

function lastRun({ lastRun: run }: PipelineStatus): string {
  if (run === null) return 'no prune run yet';
  const deleted = run.tables.reduce((sum, table) => sum + table.deleted, 0);
  const problems = run.tables.filter((table) => table.problem !== null && table.problem !== 'prune: false').map((table) => `${table.table}: ${table.problem}`);
  return [
    `last prune run ${run.finishedAt}${run.dryRun ? ' (dry)' : ''}: ${deleted} rows deleted${run.problem ? `; ${run.problem}` : ''}`,
    ...problems.map((problem) => `  ${problem}`),
  ].join('\n');
}
