/**
 * Dates and times of old files as Postgres prints them. pandas counts nanoseconds and often drops the zone: what lies below a microsecond is not rounded away in silence, and what has no
 * zone is read in the zone that the import was told.
 */
import {
  type DuckDBDateValue, type DuckDBTimeNSValue, type DuckDBTimestampMillisecondsValue, type DuckDBTimestampNanosecondsValue, type DuckDBTimestampSecondsValue, type DuckDBTimestampTZValue,
  type DuckDBTimestampValue, type DuckDBTimeValue, type DuckDBType, DuckDBTypeId,
} from '@duckdb/node-api'; // biome-ignore format: types
import { dateText, timestampText, timeText } from '../segment/postgres-text.js';
import { type Carried, type Reading, unreadable } from './carried.js';

/** Microseconds since 1970, and whether there was more. */
type Moment = { readonly micros: bigint; readonly finer: boolean };

const DAY = 86_400_000_000n;
/** 0001-01-01 and 10000-01-01: DuckDB's infinities lie beyond. */
const LEAST = -62_135_596_800_000_000n;
const MOST = 253_402_300_800_000_000n;

function momentReader(type: DuckDBType): ((value: unknown) => Moment) | undefined {
  const plain = (micros: bigint): Moment => ({ micros, finer: false });
  if (type.typeId === DuckDBTypeId.TIMESTAMP_NS) {
    return (value) => {
      const { nanos } = value as DuckDBTimestampNanosecondsValue;
      const rest = ((nanos % 1000n) + 1000n) % 1000n;
      return { micros: (nanos - rest) / 1000n, finer: rest !== 0n };
    };
  }
  if (type.typeId === DuckDBTypeId.TIMESTAMP_MS) return (value) => plain((value as DuckDBTimestampMillisecondsValue).millis * 1000n);
  if (type.typeId === DuckDBTypeId.TIMESTAMP_S) return (value) => plain((value as DuckDBTimestampSecondsValue).seconds * 1_000_000n);
  if (type.typeId === DuckDBTypeId.TIMESTAMP) return (value) => plain((value as DuckDBTimestampValue).micros);
  if (type.typeId === DuckDBTypeId.TIMESTAMP_TZ) return (value) => plain((value as DuckDBTimestampTZValue).micros);
  if (type.typeId === DuckDBTypeId.DATE) return (value) => plain(BigInt((value as DuckDBDateValue).days) * DAY);
  return undefined;
}

/** What is finer than a microsecond, in DuckDB's words of types: read apart (finer-than-micros.ts), because DuckDB cuts it off. */
export const FINER = 'is finer than a microsecond';

/** timestamp (not `aware`) and timestamptz. `utc`: the zone of what says none is UTC; any other zone is Postgres' to reckon with. */
export function momentReading(type: DuckDBType, aware: boolean, utc: boolean): Reading {
  if (type.typeId === DuckDBTypeId.VARCHAR) return (value) => momentOfText((value as string).trim(), aware, utc);
  const read = momentReader(type);
  if (read === undefined) return unreadable(type.toString());
  const told = type.typeId === DuckDBTypeId.TIMESTAMP_TZ;
  const suffix = aware ? '+00' : '';
  return (value) => {
    const { micros, finer } = read(value);
    if (micros < LEAST || micros >= MOST) return { inexact: 'is no date of the years 1 to 9999', nearest: null };
    const text = timestampText(micros);
    const plain = told === aware || utc;
    if (finer) return { inexact: FINER, nearest: plain ? `${text}${suffix}` : null };
    return plain ? `${text}${suffix}` : told ? { ask: `${text}+00`, as: 'aware' } : { ask: text, as: 'naive' };
  };
}

/** True when values of this type say their zone: others are read in the one that was told. */
export function isNaive(type: DuckDBType): boolean {
  return type.typeId !== DuckDBTypeId.TIMESTAMP_TZ && momentReader(type) !== undefined;
}

const TEXT = /^(\d{4,6}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}(?::\d{2})?)(?:\.(\d+))?)?\s*(Z|[+-]\d{2}(?::?\d{2}){0,2})?(\s+BC)?$/i;

/** Texts of pandas and Python in UTC are taken as they are; years beyond 9999 or before Christ and other zones are Postgres' to read. */
function momentOfText(word: string, aware: boolean, utc: boolean): Carried {
  if (/^-?infinity$/i.test(word)) return word.toLowerCase();
  const match = TEXT.exec(word);
  if (match === null) return { inexact: 'is no timestamp in a form that is known', nearest: null };
  const [, date = '', time = '00:00:00', fraction = '', zone = '', era = ''] = match;
  if (/[1-9]/.test(fraction.slice(6))) return { inexact: FINER, nearest: null };
  const digits = fraction.slice(0, 6).replace(/0+$/, '');
  const text = `${date} ${time}${digits === '' ? '' : `.${digits}`}`;
  const inUtc = zone === '' ? utc || !aware : /^(Z|[+-]00(:?00)?)$/i.test(zone) && (aware || utc);
  if (inUtc && era === '' && isCalendar(date, time)) return aware ? `${text}+00` : text;
  return { ask: `${text}${zone.toUpperCase() === 'Z' ? '+00' : zone}${era}`, as: zone === '' ? 'naive' : 'aware' };
}

function isCalendar(date: string, time: string): boolean {
  const at = new Date(`${date}T${time}Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(`${date}T${time}`);
}

export function dateReading(type: DuckDBType): Reading {
  if (type.typeId === DuckDBTypeId.VARCHAR) return (value) => ({ ask: (value as string).trim(), as: 'value' });
  const read = momentReader(type);
  if (read === undefined) return unreadable(type.toString());
  return (value) => {
    const { micros, finer } = read(value);
    if (micros < LEAST || micros >= MOST) return { inexact: 'is no date of the years 1 to 9999', nearest: null };
    const days = micros >= 0n ? micros / DAY : -((DAY - 1n - micros) / DAY);
    const nearest = dateText(Number(days));
    return micros % DAY === 0n && !finer ? nearest : { inexact: 'has a time of day', nearest };
  };
}

export function timeReading(type: DuckDBType): Reading {
  if (type.typeId === DuckDBTypeId.TIME) return (value) => timeText(Number((value as DuckDBTimeValue).micros));
  if (type.typeId === DuckDBTypeId.TIME_NS) {
    return (value) => {
      const { nanos } = value as DuckDBTimeNSValue;
      const nearest = timeText(Number(nanos / 1000n));
      return nanos % 1000n === 0n ? nearest : { inexact: FINER, nearest };
    };
  }
  if (type.typeId === DuckDBTypeId.VARCHAR)
    return (value) => (/\.\d{7,}/.test(value as string) ? { inexact: FINER, nearest: null } : { ask: value as string, as: 'value' });
  return unreadable(type.toString());
}
