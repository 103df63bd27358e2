/** How commands print: tables that are plain in a pipe, sizes and times as people read them. */
import type CliTable from 'cli-table3';
import pc from 'picocolors';

/** Colours on a terminal only: picocolors by itself also paints in CI logs. */
export const colours = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);

/** A table without frames, columns two spaces apart. */
export function plainTable(Table: typeof CliTable, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: ' ',
  };
  const table = new Table({ head: [...head], chars: none, style: { head: [], border: [], 'padding-left': 0, 'padding-right': 1 } });
  for (const row of rows) table.push([...row]);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** 1536 → `1.5 KB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** `3 d`, `5 h`, `12 min`, `40 s`: rounded down. */
export function durationText(seconds: number): string {
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)} d`;
  if (seconds >= 2 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return seconds >= 120 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds)} s`;
}
