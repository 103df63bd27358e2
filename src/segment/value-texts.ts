/**
 * The texts of decoded values as bytes: no string, no BigInt and no object for a value where its column is a typed array. The same bytes as the form's `text` in UTF-8: a test holds both against each
 * other. Owns the digits. What is packed in another way, or beyond what a double counts exactly, goes through `text`.
 */

import { putAscii, putDigits, putInteger, putTwo } from './digits.js';
import { PackedBooleans, PackedBytes, type Values } from './packed-values.js';
import { dateText, float4Text, float8Text } from './postgres-text.js';
import type { RawValue } from './raw-value.js';
import { putDouble } from './shortest-double.js';

/** Puts the text of value `index` into place; undefined when these values are not packed as it reads them. */
export type PlaceOf = (values: Values) => ((index: number, texts: ValueTexts) => void) | undefined;

/** What a number, a moment or a boolean takes at most, bytes. */
const SHORT_BYTES = 64;

/** The text of one value at a time: after `at`, the bytes of `buffer` from `start` to before `end`, until the next call. */
export class ValueTexts {
  buffer: Buffer;
  start = 0;
  end = 0;
  /** For texts that are made. */
  readonly scratch = Buffer.alloc(SHORT_BYTES);
  readonly #place: (index: number, texts: ValueTexts) => void;

  /** `text`: of values that `place` does not know. */
  constructor(values: Values, place: PlaceOf | undefined, text: (raw: RawValue) => string) {
    this.buffer = this.scratch;
    this.#place = place?.(values) ?? ((index) => this.whole(Buffer.from(text(values.at(index) as RawValue), 'utf8')));
  }

  at(index: number): void {
    this.#place(index, this);
  }

  /** As a string. */
  text(): string {
    return this.buffer.toString(this.buffer === this.scratch ? 'latin1' : 'utf8', this.start, this.end);
  }

  /** The text is what was written to `scratch` before `end`. */
  made(end: number): void {
    this.buffer = this.scratch;
    this.start = 0;
    this.end = end;
  }

  /** The text is all of these bytes. */
  whole(bytes: Buffer): void {
    this.buffer = bytes;
    this.start = 0;
    this.end = bytes.length;
  }
}

/** From so many bytes on a call is cheaper than a loop. */
const LONG = 48;

/** The texts of a column by row. */
export class RowTexts {
  readonly #texts: ValueTexts;
  readonly #at: Int32Array | undefined;
  readonly #kept: (row: number) => string | null;

  /** `at`: index into the values by row, -1 for none, undefined where each row has one. `kept`: the text of a row without a value, null for NULL. */
  constructor(texts: ValueTexts, at: Int32Array | undefined, kept: (row: number) => string | null) {
    this.#texts = texts;
    this.#at = at;
    this.#kept = kept;
  }

  /** The text of a row until the next call; undefined for NULL. */
  at(row: number): ValueTexts | undefined {
    const index = this.#at === undefined ? row : (this.#at[row] as number);
    if (index >= 0) this.#texts.at(index);
    else {
      const kept = this.#kept(row);
      if (kept === null) return undefined;
      this.#texts.whole(Buffer.from(kept, 'utf8'));
    }
    return this.#texts;
  }

  /** Is it, byte for byte, the text at [start, end)? `start` below 0: is it NULL? */
  is(row: number, bytes: Uint8Array, start: number, end: number): boolean {
    const texts = this.at(row);
    if (texts === undefined || start < 0) return texts === undefined && start < 0;
    const length = end - start;
    const { buffer, start: from } = texts;
    if (texts.end - from !== length) return false;
    if (length >= LONG) return Buffer.compare(buffer.subarray(from, texts.end), bytes.subarray(start, end)) === 0;
    for (let i = 0; i < length; i += 1) if (buffer[from + i] !== bytes[start + i]) return false;
    return true;
  }
}

const ZERO = 0x30;
const DASH = 0x2d;
const DOT = 0x2e;

/** Microseconds, less than a day: `10:11:12.5`. */
function putTime(out: Uint8Array, at: number, micros: number): number {
  const all = Math.floor(micros / 1_000_000);
  const fraction = (micros - all * 1_000_000) | 0;
  const minutes = (all / 60) | 0;
  const hours = (minutes / 60) | 0;
  let end = putTwo(out, at, hours);
  out[end] = 0x3a;
  end = putTwo(out, end + 1, minutes - hours * 60);
  out[end] = 0x3a;
  end = putTwo(out, end + 1, (all | 0) - minutes * 60);
  if (fraction === 0) return end;
  out[end] = DOT;
  const upper = (fraction / 10_000) | 0;
  const lower = fraction - upper * 10_000;
  const middle = (lower / 100) | 0;
  end = putTwo(out, putTwo(out, putTwo(out, end + 1, upper), middle), lower - middle * 100);
  while (out[end - 1] === ZERO) end -= 1;
  return end;
}

const DAY_MICROS = 86_400_000_000;

/** The number at an index where a double holds it, else NaN. */
function exactAt(values: BigInt64Array): (index: number) => number {
  const low = new Uint32Array(values.buffer, values.byteOffset, values.length * 2);
  const high = new Int32Array(values.buffer, values.byteOffset, values.length * 2);
  return (index) => {
    const upper = high[index * 2 + 1] as number; // little-endian, like every machine that this runs on
    return upper >= -0x20_0000 && upper < 0x20_0000 ? upper * 0x1_0000_0000 + (low[index * 2] as number) : Number.NaN;
  };
}

const integers: PlaceOf = (values) => {
  if (values instanceof Int32Array) return (index, texts) => texts.made(putInteger(texts.scratch, 0, values[index] as number));
  if (!(values instanceof BigInt64Array)) return undefined;
  const exact = exactAt(values);
  return (index, texts) => {
    const value = exact(index);
    texts.made(Number.isNaN(value) ? putAscii(texts.scratch, 0, String(values[index])) : putInteger(texts.scratch, 0, value));
  };
};

/** `behind`: what stands behind the time. Moments of a common date are exact in a double until the year 2255. */
const moments =
  (behind: string, text: (raw: RawValue) => string): PlaceOf =>
  (values) => {
    if (!(values instanceof BigInt64Array)) return undefined;
    const exact = exactAt(values);
    let day = Number.NaN; // whose date stands at the beginning of `scratch`: that of the moment before, most times
    let behindDate = 0;
    return (index, texts) => {
      const micros = exact(index);
      const { scratch } = texts;
      const its = Math.floor(micros / DAY_MICROS);
      if (its !== day) {
        day = its;
        if (Number.isNaN(micros)) return texts.made(putAscii(scratch, 0, text(values[index] as bigint)));
        behindDate = putAscii(scratch, 0, `${dateText(its)} `);
      }
      texts.made(putAscii(scratch, putTime(scratch, behindDate, micros - its * DAY_MICROS), behind));
    };
  };

const times =
  (text: (raw: RawValue) => string): PlaceOf =>
  (values) => {
    if (!(values instanceof BigInt64Array)) return undefined;
    const exact = exactAt(values);
    return (index, texts) => {
      const micros = exact(index);
      const { scratch } = texts;
      texts.made(micros >= 0 && micros < DAY_MICROS ? putTime(scratch, 0, micros) : putAscii(scratch, 0, text(values[index] as bigint)));
    };
  };

const dates: PlaceOf = (values) =>
  values instanceof Int32Array ? (index, texts) => texts.made(putAscii(texts.scratch, 0, dateText(values[index] as number))) : undefined;

const booleans: PlaceOf = (values) =>
  values instanceof PackedBooleans ? (index, texts) => texts.made(putAscii(texts.scratch, 0, values.at(index) ? 't' : 'f')) : undefined;

const doubles: PlaceOf = (values) => {
  if (!(values instanceof Float64Array)) return undefined;
  return (index, texts) => {
    const value = values[index] as number;
    const whole = Number.isInteger(value) && value < 1e15 && value > -1e15 && !Object.is(value, -0);
    const end = whole ? putInteger(texts.scratch, 0, value) : putDouble(texts.scratch, 0, value);
    texts.made(end < 0 ? putAscii(texts.scratch, 0, float8Text(value)) : end);
  };
};

const singles: PlaceOf = (values) =>
  values instanceof Float32Array ? (index, texts) => texts.made(putAscii(texts.scratch, 0, float4Text(values[index] as number))) : undefined;

/** Unscaled integers with `scale` digits behind the point. */
const decimals =
  (scale: number, text: (raw: RawValue) => string): PlaceOf =>
  (values) => {
    const unscaled = unscaledAt(values);
    if (unscaled === undefined || scale > 15) return undefined;
    const unit = 10 ** scale;
    return (index, texts) => {
      const { scratch } = texts;
      const value = unscaled(index);
      if (Number.isNaN(value)) return texts.made(putAscii(scratch, 0, text(values.at(index) as RawValue)));
      let end = 0;
      if (value < 0) scratch[end++] = DASH;
      const size = Math.abs(value);
      // Both exact, and faster than the remainder of doubles: a quotient that was rounded up is one too many.
      let whole = Math.floor(size / unit);
      if (whole * unit > size) whole -= 1;
      const fraction = size - whole * unit;
      end = putDigits(scratch, end, whole, 1);
      if (scale > 0) {
        scratch[end] = DOT;
        end = putDigits(scratch, end + 1, fraction, scale);
      }
      texts.made(end);
    };
  };

/** The unscaled integer at an index where a double holds it, else NaN: of 16 bytes, the highest first, or, of few digits, of 4 or 8. */
function unscaledAt(values: Values): ((index: number) => number) | undefined {
  if (values instanceof Int32Array) return (index) => values[index] as number;
  if (values instanceof BigInt64Array) return exactAt(values);
  if (!(values instanceof PackedBytes)) return undefined;
  const { bytes, starts, ends } = values;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (index) => {
    const at = starts[index] as number;
    return (ends[index] as number) - at === 16 ? exactInteger(view, at) : Number.NaN;
  };
}

/** 16 bytes as a number, NaN when a double cannot hold it. */
function exactInteger(bytes: DataView, at: number): number {
  const sign = bytes.getInt32(at);
  if ((sign !== 0 && sign !== -1) || bytes.getInt32(at + 4) !== sign) return Number.NaN;
  const high = bytes.getUint32(at + 8) - (sign === 0 ? 0 : 0x1_0000_0000);
  return high < 0x20_0000 && high >= -0x20_0000 ? high * 0x1_0000_0000 + bytes.getUint32(at + 12) : Number.NaN;
}

/** Bytes that are the text. */
const verbatim: PlaceOf = (values) => {
  if (!(values instanceof PackedBytes)) return (index, texts) => texts.whole(values.at(index) as Buffer);
  const { bytes, starts, ends } = values;
  return (index, texts) => {
    texts.buffer = bytes;
    texts.start = starts[index] as number;
    texts.end = ends[index] as number;
  };
};

/** By what a column's values are. */
export const PLACES = { integers, moments, times, dates, booleans, doubles, singles, decimals, verbatim } as const;
