/** `tidemark status [--json] [--watch]`. Exit 0 when every part answered and the slot lives, 1 otherwise. */
import Table from 'cli-table3';
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { sleep } from '../../../src/runtime/service.js';
import type { HaltNotice } from '../../../src/status/halt-notice.js';
import { findHalts } from '../../../src/status/halts.js';
import { type PipelineStatus, readStatus, StatusMemory } from '../../../src/status/pipeline-state.js';
import { THRESHOLDS } from '../../../src/wal/slot-health.js';
import { runProblems } from '../last-run.js';
import { bytesText, colours, durationText, plainTable } from '../print.js';
import { Looks, type Rates } from '../rates.js';
import { Screen } from '../screen.js';
import { growth, HIDDEN, statusScreen } from '../status-screen.js';

const WATCH_MS = 2000;

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const follower = new ArchiveFollower(config.archive.dir);
  const memory = new StatusMemory(config);
  const look = async (): Promise<Look> => {
    const status = await readStatus(config, follower, memory);
    return { status, halts: await findHalts(status, follower) };
  };
  if (options['watch'] === true) return await watch(look, options['json'] === true);
  const { status, halts } = await look();
  process.stdout.write(options['json'] === true ? `${JSON.stringify({ ...status, halts })}\n` : render(status, null, halts));
  return status.slot?.walStatus === 'lost' || [status.postgres, status.stream, status.archive].some((part) => 'problem' in part) ? 1 : 0;
}

type Look = { readonly status: PipelineStatus; readonly halts: readonly HaltNotice[] };

/** Until SIGINT, SIGTERM or SIGHUP, or until nobody reads it any more: a screen on a terminal, one text or (`json`) one object a look elsewhere. */
async function watch(look: () => Promise<Look>, json: boolean): Promise<number> {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => controller.abort());
  process.stdout.on('error', () => controller.abort()); // `| head` has had enough
  using screen = process.stdout.isTTY === true && !json ? new Screen(process.stdout) : undefined;
  const looks = new Looks();
  while (!controller.signal.aborted) {
    const seen = await unlessAborted(look, controller.signal);
    if (seen === undefined) {
      screen?.[Symbol.dispose]();
      process.exit(0); // connections of a look that nobody waits for would keep the process for a while
    }
    const { status, halts } = seen;
    const rates = looks.add(status);
    if (screen) screen.show((size) => statusScreen(status, rates, size, colours, halts));
    else process.stdout.write(json ? `${JSON.stringify({ ...status, halts, rates })}\n` : `${render(status, rates, halts)}\n`);
    await sleep(WATCH_MS, controller.signal);
  }
  return 0;
}

/** A look may take its time-outs; a Ctrl-C does not wait for them: undefined then. */
async function unlessAborted<T>(look: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const over = new AbortController();
  const abort = new Promise<undefined>((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true, signal: over.signal });
    if (signal.aborted) resolve(undefined);
  });
  try {
    return await Promise.race([look(), abort]);
  } finally {
    over.abort();
  }
}

function lag(bytes: number | null, seconds: number | null): string {
  if (bytes === null) return 'lag unknown';
  return `${bytesText(bytes)} behind${seconds === null ? '' : `, ${seconds} s`}`;
}

/** `rates`: from an earlier look to this one. `halts`: those that are seen from outside. */
export function render(status: PipelineStatus, rates: Rates | null = null, halts: readonly HaltNotice[] = []): string {
  const lines: string[] = [`source ${status.source}`];
  lines.push(
    'problem' in status.postgres
      ? `postgres   ${status.postgres.problem}`
      : `postgres   insert ${status.postgres.insertLsn}, timeline ${status.postgres.timeline}`,
  );
  lines.push(
    'problem' in status.stream
      ? `stream     ${status.stream.problem}`
      : `stream     tail ${status.stream.tail ?? 'empty'}, ${lag(status.lag.publishedBytes, status.lag.publishedSeconds)}${status.lag.publishedHidden ? ` (${HIDDEN})` : ''}; ${status.stream.messages} messages, ${bytesText(status.stream.bytes)}`,
  );
  if ('problem' in status.archive) lines.push(`archive    ${status.archive.problem}`);
  else {
    lines.push(
      `archive    position ${status.archive.position ?? 'none yet'}, ${lag(status.lag.archivedBytes, status.lag.archivedSeconds)}; manifest ${status.archive.manifest}, fence ${status.archive.fence ?? 'none'}`,
    );
  }
  lines.push(slotLine(status));
  for (const { halt, where, seen, safe, remedy } of halts) lines.push(`HALT       ${halt} (${where}): ${seen} ${safe} → ${remedy}`);
  lines.push(...forecastLines(status), ...rateLine(rates), '');
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

function forecastLines({ forecast: { archive, stream } }: PipelineStatus): string[] {
  const lines: string[] = [];
  if (archive !== null) lines.push(`volume     ${bytesText(archive.freeBytes)} of ${bytesText(archive.sizeBytes)} free; the archive: ${growth(archive)}`);
  if (archive?.alarm) lines.push(`ALARM      volume: ${archive.alarm.seen} → ${archive.alarm.remedy}`);
  if (stream !== null)
    lines.push(
      `room       ${bytesText(stream.limitBytes - stream.bytes)} of ${bytesText(stream.limitBytes)} left in the stream; ${growth(stream)}${stream.fullInSeconds === null ? '' : ' if nothing is taken out'}`,
    );
  return lines;
}

function rateLine(rates: Rates | null): string[] {
  if (rates === null) return [];
  const bytes = (value: number | null): string => (value === null ? 'not known' : `${bytesText(Math.round(value))}/s`);
  const rows = (value: number | null): string => (value === null ? 'not known' : `${value} rows/s`);
  return [
    `rates      over ${durationText(rates.seconds)}: written ${bytes(rates.writtenBytes)}, published ${bytes(rates.publishedBytes)}, archived ${bytes(rates.archivedBytes)} and ${rows(rates.archivedRows)}, pruned ${rows(rates.prunedRows)}`,
  ];
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
  if (slot.lostInSeconds !== null) parts.push(`at the average rate of writing, in ${durationText(slot.lostInSeconds)}`);
  if (slot.catalogXminAge !== null) parts.push(`catalog xmin ${slot.catalogXminAge} transactions old`);
  const line = `slot       ${parts.join('; ')}`;
  return slot.alarm.level === 0 ? line : `${line}\nALARM      slot: ${slot.alarm.seen} (${THRESHOLDS})`;
}

function lastRun(status: PipelineStatus): string {
  const { lastRun: run } = status;
  if (run === null) return 'no prune run yet';
  const deleted = run.tables.reduce((sum, table) => sum + table.deleted, 0);
  return [
    `last prune run ${run.finishedAt}${run.dryRun ? ' (dry)' : ''}: ${deleted} rows ${run.dryRun ? 'would go' : 'deleted'}`,
    ...runProblems(status).map(({ table, problem }) => `  ${table === null ? '' : `${table}: `}${problem}`),
  ].join('\n');
}
