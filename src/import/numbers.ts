/** Numbers of old files as Postgres prints them. pandas makes float64 of integers with NULLs and, where it was told to, of numerics: what such a double cannot tell apart is not guessed. */
import { type DuckDBDecimalValue, type DuckDBType, DuckDBTypeId } from '@duckdb/node-api';
import { decimalText, float4Text, float8Text } from '../segment/postgres-text.js';
import { type Carried, type Reading, unreadable } from './carried.js';

const NAN: Carried = { inexact: 'is NaN in the file, which pandas also writes for NULL', nearest: null };
const WHOLE = new Set<number>([
  DuckDBTypeId.TINYINT, DuckDBTypeId.SMALLINT, DuckDBTypeId.INTEGER, DuckDBTypeId.BIGINT, DuckDBTypeId.HUGEINT,
  DuckDBTypeId.UTINYINT, DuckDBTypeId.USMALLINT, DuckDBTypeId.UINTEGER, DuckDBTypeId.UBIGINT, DuckDBTypeId.UHUGEINT,
]); // biome-ignore format: a table

export function isWhole(type: DuckDBType): boolean {
  return WHOLE.has(type.typeId);
}

export function isFloating(type: DuckDBType): boolean {
  return type.typeId === DuckDBTypeId.DOUBLE || type.typeId === DuckDBTypeId.FLOAT;
}

/** integer types. `bits`: of the column. */
export function wholeReading(type: DuckDBType, bits: 16 | 32 | 64): Reading {
  const most = 2n ** BigInt(bits - 1);
  const held = (value: bigint): Carried => (value >= -most && value < most ? value.toString() : { inexact: 'is out of range', nearest: null });
  if (isWhole(type)) return (value) => held(BigInt(value as number | bigint));
  if (isFloating(type)) {
    return (value) => {
      const number = value as number;
      if (Number.isNaN(number)) return NAN;
      if (!Number.isInteger(number)) return { inexact: 'is no whole number', nearest: null };
      if (Number.isSafeInteger(number)) return held(BigInt(number));
      const nearest = held(BigInt(number));
      return { inexact: 'is a float64 beyond 2^53: its last digits may be lost', nearest: typeof nearest === 'string' ? nearest : null };
    };
  }
  if (type.typeId === DuckDBTypeId.DECIMAL) {
    return (value) => {
      const { value: unscaled, scale } = value as DuckDBDecimalValue;
      const unit = 10n ** BigInt(scale);
      return unscaled % unit === 0n ? held(unscaled / unit) : { inexact: 'is no whole number', nearest: null };
    };
  }
  if (type.typeId === DuckDBTypeId.VARCHAR)
    return (value) => (/^\s*[+-]?\d+\s*$/.test(value as string) ? held(BigInt((value as string).trim().replace('+', ''))) : noNumber());
  return unreadable(type.toString());
}

const noNumber = (): Carried => ({ inexact: 'is no number', nearest: null });

/** real and double precision. */
export function floatReading(type: DuckDBType, single: boolean): Reading {
  const text = (number: number): Carried => {
    if (Number.isNaN(number)) return NAN;
    if (!single) return float8Text(number);
    const nearest = float4Text(Math.fround(number));
    // The float64 of a real is either the real itself or the double nearest to its text.
    return Math.fround(number) === number || Number(nearest) === number ? nearest : { inexact: 'has more digits than a real holds', nearest };
  };
  if (isFloating(type)) return (value) => text(value as number);
  if (isWhole(type))
    return (value) =>
      Number.isSafeInteger(Number(value)) ? text(Number(value)) : { inexact: 'has more digits than a double holds', nearest: float8Text(Number(value)) };
  if (type.typeId === DuckDBTypeId.DECIMAL) return (value) => text(Number((value as DuckDBDecimalValue).toString()));
  if (type.typeId === DuckDBTypeId.VARCHAR) {
    return (value) => {
      const word = (value as string).trim();
      if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word)) return text(Number(word));
      if (/^[+-]?inf(inity)?$/i.test(word)) return word.startsWith('-') ? '-Infinity' : 'Infinity';
      return /^nan$/i.test(word) ? 'NaN' : noNumber();
    };
  }
  return unreadable(type.toString());
}

/** numeric. `scale` and `precision`: as declared; undefined: numeric without either. */
export function numericReading(type: DuckDBType, declared: { readonly precision: number; readonly scale: number } | undefined): Reading {
  const exact = (unscaled: bigint, scale: number): Carried =>
    declared === undefined ? decimalText(unscaled, Math.max(0, scale)) : fitted(unscaled, scale, declared);
  if (isWhole(type)) return (value) => exact(BigInt(value as number | bigint), 0);
  if (type.typeId === DuckDBTypeId.DECIMAL) return (value) => exact((value as DuckDBDecimalValue).value, (value as DuckDBDecimalValue).scale);
  if (isFloating(type)) {
    return (value) => {
      const number = value as number;
      if (Number.isNaN(number)) return NAN;
      if (!Number.isFinite(number)) return { inexact: 'is infinite', nearest: null };
      return declared === undefined ? looseNumeric(number) : scaledNumeric(number, declared);
    };
  }
  if (type.typeId === DuckDBTypeId.VARCHAR) {
    return (value) => {
      const word = (value as string).trim();
      if (/^nan$/i.test(word)) return 'NaN';
      const parsed = parseDecimal(word);
      return parsed === undefined ? noNumber() : exact(parsed.unscaled, parsed.scale);
    };
  }
  return unreadable(type.toString());
}

/** With exactly the declared digits behind the point. */
function fitted(unscaled: bigint, scale: number, declared: { readonly precision: number; readonly scale: number }): Carried {
  const more = declared.scale - scale;
  if (more >= 0) return inPrecision(unscaled * 10n ** BigInt(more), declared);
  const unit = 10n ** BigInt(-more);
  if (unscaled % unit === 0n) return inPrecision(unscaled / unit, declared);
  const half = unscaled < 0n ? -unit / 2n : unit / 2n;
  const nearest = inPrecision((unscaled + half) / unit, declared);
  return { inexact: `has more than ${declared.scale} digits behind the point`, nearest: typeof nearest === 'string' ? nearest : null };
}

function inPrecision(unscaled: bigint, { precision, scale }: { readonly precision: number; readonly scale: number }): Carried {
  const size = unscaled < 0n ? -unscaled : unscaled;
  return size < 10n ** BigInt(precision) ? decimalText(unscaled, scale) : { inexact: `has more than ${precision} digits`, nearest: null };
}

/** The one decimal of that scale which this double can stand for; where two lie as near, none is taken. */
function scaledNumeric(number: number, declared: { readonly precision: number; readonly scale: number }): Carried {
  if (Math.abs(number) >= 1e21) return { inexact: 'is a float64 of more digits than it holds', nearest: null };
  const text = number.toFixed(declared.scale);
  const nearest = inPrecision(parseDecimal(text)?.unscaled ?? 0n, declared);
  const only = Number(text) === number && spacing(number) < 10 ** -declared.scale;
  if (only || typeof nearest !== 'string') return nearest;
  return {
    inexact:
      Number(text) === number ? 'is a float64 that several numerics are nearest to' : `is a float64 with more than ${declared.scale} digits behind the point`,
    nearest,
  };
}

/** A numeric without a scale was this double's shortest text only as far as 15 digits go. */
function looseNumeric(number: number): Carried {
  const parsed = parseDecimal(String(number)) as { unscaled: bigint; scale: number };
  const text = decimalText(parsed.unscaled, parsed.scale);
  const digits = parsed.unscaled.toString().replace('-', '').replace(/0+$/, '').length;
  return digits <= 15 ? text : { inexact: 'is a float64 of more than 15 digits: the numeric may have had others', nearest: text };
}

/** Distance to the next double. */
function spacing(number: number): number {
  const size = Math.abs(number);
  if (size < 2 ** -1022) return 2 ** -1074;
  let exponent = Math.floor(Math.log2(size));
  if (2 ** exponent > size) exponent -= 1;
  else if (2 ** (exponent + 1) <= size) exponent += 1;
  return 2 ** (exponent - 52);
}

/** `-12.50`, `1E+3` as a whole number and its scale (never negative); undefined for what is no decimal, or a monstrous one. */
function parseDecimal(word: string): { readonly unscaled: bigint; readonly scale: number } | undefined {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(word);
  if (match === null || `${match[2] ?? ''}${match[3] ?? ''}` === '') return undefined;
  const fraction = match[3] ?? '';
  const scale = fraction.length - Number(match[4] ?? 0);
  if (Math.abs(scale) > 20_000) return undefined;
  const digits = BigInt(`${match[2] ?? ''}${fraction}`) * (scale < 0 ? 10n ** BigInt(-scale) : 1n);
  return { unscaled: match[1] === '-' ? -digits : digits, scale: Math.max(0, scale) };
}
