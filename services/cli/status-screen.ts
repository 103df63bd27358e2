/** The screen of `tidemark status --watch`: every stage from WAL to prune, the room that is left, and the tables, in the width and height that there are. Pure. */
import type { Colors } from 'picocolors/types.js';
import type { HaltNotice } from '../../src/status/halt-notice.js';
import type { PipelineStatus, TableStatus } from '../../src/status/pipeline-state.js';
import { THRESHOLDS } from '../../src/wal/slot-health.js';
import { type Cell, cell, columns, cut, type Line, lineText, wrap } from './grid.js';
import { runProblems } from './last-run.js';
import { bytesText, durationText } from './print.js';
import type { Rates } from './rates.js';
import type { Size } from './screen.js';

/** More than this behind is shown in yellow. */
const LATE_SECONDS = 120;
const SOON_SECONDS = 7 * 86_400;

type Paint = Pick<Colors, 'red' | 'yellow' | 'green' | 'dim' | 'bold' | 'cyan'>;

/** The lines of the screen, the first on top. Empty ones only where there is room for them. `halts`: those that are seen from outside. */
export function statusScreen(status: PipelineStatus, rates: Rates | null, { width, height }: Size, paint: Paint, halts: readonly HaltNotice[] = []): string[] {
  const stopped = halts.flatMap((halt) => haltLines(halt, width, paint));
  const blocks = [[title(status, rates, width, paint)], ...(stopped.length > 0 ? [stopped] : []), stages(status, rates, paint), room(status, paint)];
  const foot = [lastRun(status, paint)];
  const needed = [...blocks, foot].reduce((sum, block) => sum + block.length, 0);
  const gaps = needed + status.tables.length + 1 + blocks.length + 1 <= height;
  const all = [...blocks, tables(status, rates, paint, Math.max(1, height - needed)), foot];
  const lines: Line[] = all.flatMap((block, at) => (gaps && at > 0 ? [[], ...block] : block));
  return lines.slice(0, height).map((line) => lineText(line, width));
}

/** A halt is no good without its remedy: both in as many lines as they need. */
function haltLines({ halt, where, seen, remedy }: HaltNotice, width: number, paint: Paint): Line[] {
  const text = [...wrap(`HALT ${halt} (${where}): ${seen}`, width), ...wrap(`→ ${remedy}`, width)];
  return text.map((line) => [cell(line, paint.red)]);
}

function title({ source, at }: PipelineStatus, rates: Rates | null, width: number, paint: Paint): Line {
  const left = `tidemark  ${source}`;
  const right = `${at.slice(0, 19).replace('T', ' ')} UTC${rates === null ? '' : `, rates over ${durationText(rates.seconds)}`}, Ctrl-C ends`;
  const space = Math.max(2, width - left.length - right.length);
  return [cell(left, paint.bold), cell(' '.repeat(space)), cell(right, paint.dim)];
}

const perSecond = (bytes: number | null | undefined): string => (bytes == null ? '' : `${bytesText(Math.round(bytes))}/s`);
const rowsPerSecond = (rows: number | null | undefined): string => (rows == null ? '' : `${rows.toFixed(rows < 10 ? 1 : 0)} rows/s`);
/** Said where the seconds of the stream are not known for want of a right. */
export const HIDDEN = 'no seconds without pg_read_all_stats: tidemark doctor';

const behind = (bytes: number | null): string => (bytes === null ? '?' : bytesText(bytes));
const since = (seconds: number | null): string => (seconds === null ? '?' : seconds < 10 ? `${seconds} s` : durationText(seconds));

function late(seconds: number | null, paint: Paint): Cell {
  return cell(since(seconds), seconds !== null && seconds > LATE_SECONDS ? paint.yellow : undefined);
}

function stages(status: PipelineStatus, rates: Rates | null, paint: Paint): Line[] {
  const { postgres, stream, archive, slot, lag } = status;
  const heading = ['stage', 'position', 'behind', 'for', 'rate', ''].map((text) => cell(text, paint.dim));
  const problem = (name: string, { problem: seen }: { problem: string }): Line => [cell(name), cell(seen, paint.red)];
  const rows: Line[] = [];
  const problems: Line[] = [];
  if ('problem' in postgres) problems.push(problem('WAL', postgres));
  else
    rows.push([
      cell('WAL'),
      cell(postgres.insertLsn),
      cell(''),
      cell(''),
      cell(perSecond(rates?.writtenBytes)),
      cell(`timeline ${postgres.timeline}`, paint.dim),
    ]);
  if ('problem' in stream) problems.push(problem('stream', stream));
  else {
    const more = `${stream.messages} messages, ${bytesText(stream.bytes)}${lag.publishedHidden ? `; ${HIDDEN}` : ''}`;
    rows.push([
      cell('stream'),
      cell(stream.tail ?? 'empty'),
      cell(behind(lag.publishedBytes)),
      late(lag.publishedSeconds, paint),
      cell(perSecond(rates?.publishedBytes)),
      cell(more, paint.dim),
    ]);
  }
  if ('problem' in archive) problems.push(problem('archive', archive));
  else {
    const more = [rowsPerSecond(rates?.archivedRows), `manifest ${archive.manifest}`, archive.fence === null ? 'no fence yet' : `fence ${archive.fence}`];
    rows.push([
      cell('archive'),
      cell(archive.position?.replace(/:0$/, '') ?? 'none yet'),
      cell(behind(lag.archivedBytes)),
      late(lag.archivedSeconds, paint),
      cell(perSecond(rates?.archivedBytes)),
      cell(more.filter((text) => text !== '').join(', '), paint.dim),
    ]);
  }
  if (slot !== null) {
    const more = slot.active ? cell('active', paint.dim) : cell('NOT ACTIVE', paint.red);
    rows.push([
      cell('slot'),
      cell(slot.confirmedLsn ?? 'nothing'),
      cell(behind(lag.confirmedBytes)),
      late(lag.confirmedSeconds, paint),
      cell(perSecond(rates?.confirmedBytes)),
      more,
    ]);
  }
  const pruned = rates?.prunedRows == null ? '' : `${rowsPerSecond(rates.prunedRows)}`;
  const total = status.tables.reduce((sum, table) => sum + table.prunedRows, 0);
  rows.push([cell('prune'), cell(''), cell(''), cell(''), cell(pruned), cell(`${total} rows so far`, paint.dim)]);
  return [...columns([heading, ...rows], new Set([2, 3, 4])), ...columns(problems)];
}

/** Slot, volume and stream: how much is left, and for how long. */
function room({ slot, forecast, archive }: PipelineStatus, paint: Paint): Line[] {
  const rows: Line[] = [];
  if (slot !== null) {
    const parts = [`holds ${bytesText(slot.heldBytes)} of WAL`, slot.walStatus === null ? '' : `wal_status ${slot.walStatus}`];
    parts.push(slot.safeWalBytes === null ? 'no bound' : `lost after ${bytesText(slot.safeWalBytes)} more`);
    if (slot.lostInSeconds !== null) parts.push(`in ${durationText(slot.lostInSeconds)} at the average rate of writing`);
    rows.push([cell('slot', slot.alarm.level > 0 ? paint.red : paint.dim), cell(parts.filter((text) => text !== '').join(', '))]);
    if (slot.alarm.level > 0) rows.push([cell('ALARM', paint.red), cell(`${slot.alarm.seen} (${THRESHOLDS})`, paint.red)]);
  }
  const { archive: volume, stream } = forecast;
  if (volume !== null) {
    const own = 'problem' in archive ? '' : `${bytesText(archive.bytes)} in ${archive.files} files, `;
    rows.push([
      cell('volume', paint.dim),
      cell(`${own}${bytesText(volume.freeBytes)} of ${bytesText(volume.sizeBytes)} free, ${growth(volume)}`, soon(volume.fullInSeconds, paint)),
    ]);
    if (volume.alarm !== null) rows.push([cell('ALARM', paint.red), cell(`${volume.alarm.seen} → ${volume.alarm.remedy}`, paint.red)]);
  }
  if (stream !== null) {
    const text = `${bytesText(stream.bytes)} of ${bytesText(stream.limitBytes)}, ${growth(stream)}${stream.fullInSeconds === null ? '' : ' if nothing is taken out'}`;
    rows.push([cell('stream', paint.dim), cell(text, soon(stream.fullInSeconds, paint))]);
  }
  return columns(rows);
}

/** `+1.2 GB a day, full in 67 d`. */
export function growth({ bytesPerDay, fullInSeconds }: { readonly bytesPerDay: number | null; readonly fullInSeconds: number | null }): string {
  if (bytesPerDay === null) return 'growth not known yet';
  const rate = `${bytesPerDay < 0 ? '-' : '+'}${bytesText(Math.abs(bytesPerDay))} a day`;
  return fullInSeconds === null ? rate : `${rate}, full in ${durationText(fullInSeconds)}`;
}

function soon(seconds: number | null, paint: Paint): ((text: string) => string) | undefined {
  return seconds === null || seconds > SOON_SECONDS ? undefined : seconds > 86_400 ? paint.yellow : paint.red;
}

/** Tables that need a look first when there is no room for all. */
function tables({ tables: all }: PipelineStatus, rates: Rates | null, paint: Paint, most: number): Line[] {
  const needsLook = ({ why }: TableStatus): boolean => why !== null && why !== 'prune: false';
  const fits = all.length + 1 <= most;
  const shown = fits ? all : [...all].sort((a, b) => Number(needsLook(b)) - Number(needsLook(a))).slice(0, Math.max(0, most - 2));
  const heading = ['table', 'hot', 'archived', 'rows/s', 'pruned', 'days', 'size', 'prunable'].map((text) => cell(text, paint.dim));
  const rows = shown.map((table) => {
    const rate = rates?.tables.find((one) => one.table === table.table)?.archivedRows;
    return [
      cell(cut(table.table, 40)),
      cell(table.hotRows === null ? '?' : String(table.hotRows)),
      cell(String(table.archivedRows)),
      cell(rate == null ? '' : rate.toFixed(rate < 10 ? 1 : 0)),
      cell(String(table.prunedRows)),
      cell(String(table.sealedDays)),
      cell(bytesText(table.bytes)),
      table.prunable ? cell('yes', paint.green) : cell(`no: ${table.why}`, needsLook(table) ? paint.yellow : paint.dim),
    ];
  });
  const more = all.length - shown.length;
  return [
    ...columns([heading, ...rows], new Set([1, 2, 3, 4, 5, 6])),
    ...(more > 0 ? [[cell(`… and ${more} more: a higher window shows them`, paint.dim)]] : []),
  ];
}

function lastRun(status: PipelineStatus, paint: Paint): Line {
  const { lastRun: run } = status;
  if (run === null) return [cell('no prune run yet', paint.dim)];
  const deleted = run.tables.reduce((sum, table) => sum + table.deleted, 0);
  const problem = runProblems(status)[0]?.problem ?? null;
  const text = `last prune run ${run.finishedAt.slice(0, 19).replace('T', ' ')}${run.dryRun ? ' (dry)' : ''}: ${deleted} rows${run.dryRun ? ' would go' : ' deleted'}`;
  return [cell(text, paint.dim), cell(problem === null ? '' : `; ${problem}`, paint.yellow)];
}
