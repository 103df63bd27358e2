/** Which rows of a table a person means: a day, a span of its timestamp, a condition. Pure text for DuckDB, which reads the files. */
import type { FileEntry } from '../archive/manifest-format.js';
import { UNDATED } from '../archive/seal.js';
import { configError } from '../runtime/errors.js';
import { segmentColumn } from '../segment/columns.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { identifier, literal } from '../segment/sql.js';

export type Selection = {
  /** `2026-01-12`, or `undated`. */
  readonly day?: string | undefined;
  /** Instants: from here on, and before there. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** A condition of DuckDB's SQL on the table's columns. */
  readonly where?: string | undefined;
};

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const TIME = /^(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?))?(Z|[+-]\d{2}(?::?\d{2})?)?$/;

/** A day as a person writes it: of the calendar, or `undated`. Throws `config`. */
export function parseDay(text: string): string {
  if (text === UNDATED || (DAY.test(text) && isReal(text))) return text;
  throw configError(`--day: ${JSON.stringify(text)} is not a day`, 'write it as 2026-01-12, or undated');
}

/** Checks what was written. Throws `config` with the option's name. */
export function parseSelection({ day, from, to, where }: Selection): Selection {
  if (day !== undefined) parseDay(day);
  if (day !== undefined && (from !== undefined || to !== undefined)) throw configError('--day and --from, --to: one or the other', 'give a day, or a span');
  for (const [name, time] of [
    ['--from', from],
    ['--to', to],
  ] as const) {
    if (time !== undefined && !isReal(time))
      throw configError(`${name}: ${JSON.stringify(time)} is not a time`, "write for instance 2026-01-12, '2026-01-12 10:30' or 2026-01-12T10:30:00Z");
  }
  if (from !== undefined && to !== undefined && micros(from) >= micros(to))
    throw configError(`--from: ${from} is not before --to, ${to}`, 'give the earlier one to --from; --to itself is not among the rows');
  if (where !== undefined && where.trim() === '') throw configError('--where: it is empty', "write for instance --where 'id > 100'");
  return { day, from, to, where };
}

/** A span of times and nothing more: what it does not hold, no condition has left out. */
export function isSpan({ from, to, where }: Selection): boolean {
  return (from !== undefined || to !== undefined) && where === undefined;
}

/** A day of the calendar, an hour of the day, an offset that there can be: not the 30th of February. */
function isReal(time: string): boolean {
  const [, day, clock = '00:00', zone = 'Z'] = TIME.exec(time) ?? [];
  if (day === undefined || Number(/^[+-](\d{2})/.exec(zone)?.[1] ?? 0) > 15) return false;
  const at = Date.parse(`${day}T${clock.padEnd(8, ':00')}Z`);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(`${day}T${clock.slice(0, 5)}`);
}

/** Microseconds since 1970, as UTC without an offset. */
function micros(time: string): bigint {
  const [, day, clock = '00:00', zone] = TIME.exec(time) ?? [];
  const [seconds, fraction = ''] = clock.split('.');
  return BigInt(Date.parse(`${day}T${seconds}${offset(zone)}`)) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

/** May a file of this day hold rows of the selection? A day more on both sides: a time with an offset may be of the next. */
export function mayHold(entry: Pick<FileEntry, 'day'>, { day, from, to }: Selection): boolean {
  if (day !== undefined) return entry.day === (day === UNDATED ? null : day);
  if (from === undefined && to === undefined) return true;
  if (entry.day === null) return false;
  return (from === undefined || entry.day >= shifted(from, -1)) && (to === undefined || entry.day <= shifted(to, 1));
}

function shifted(time: string, days: number): string {
  return new Date(Date.parse(`${time.slice(0, 10)}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** SQL condition on the columns of a file. `names`: columns of all forms of the table; what this one lacks is NULL in `from`. */
export function conditionSql({ from, to, where }: Selection, metadata: SegmentMetadata): string {
  const parts: string[] = [];
  const column = metadata.columns.find(({ name }) => name === metadata.timestamp);
  for (const [operator, time] of [
    ['>=', from],
    ['<', to],
  ] as const) {
    if (time === undefined) continue;
    if (column === undefined) return 'false';
    parts.push(`${identifier(column.name)} ${operator} ${instant(time, segmentColumn(column, metadata).fileType, column.name)}`);
  }
  if (where !== undefined) parts.push(`(${where}\n)`);
  return parts.length === 0 ? 'true' : parts.join(' AND ');
}

function instant(time: string, type: string, column: string): string {
  const [, day, clock = '00:00', zone] = TIME.exec(time) as unknown as [string, string, string | undefined, string | undefined];
  const wall = `${day} ${clock.length === 5 ? `${clock}:00` : clock}`;
  if (type === 'TIMESTAMPTZ') return `CAST(${literal(wall + offset(zone))} AS TIMESTAMPTZ)`;
  if (type !== 'TIMESTAMP' && type !== 'DATE') throw configError(`--from, --to: ${column} is kept as text`, 'use --where or --day');
  if (zone !== undefined) throw configError(`--from, --to: ${column} has no time zone, ${time} has one`, 'write the time as it stands in the column');
  return `CAST(${literal(wall)} AS TIMESTAMP)`;
}

/** `Z`, `+02`, `+0200` as `+02:00`. */
function offset(zone = 'Z'): string {
  return zone === 'Z' ? '+00:00' : `${zone.slice(0, 3)}:${zone.slice(3).replace(':', '') || '00'}`;
}

/** SQL of a file's rows with every column of `names`; `file`: what read_parquet gives. */
export function withColumns(file: string, metadata: SegmentMetadata, names: Iterable<string>): string {
  const own = new Set(metadata.columns.map(({ name }) => name));
  const missing = [...names].filter((name) => !own.has(name)).map((name) => `NULL AS ${identifier(name)}`);
  return `(SELECT ${['*', ...missing].join(', ')} FROM ${file})`;
}
