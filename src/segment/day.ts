/**
 * The UTC day of a row, read from the text of its timestamp column: archiver and pruner decide it from the same characters, so they cannot differ.
 * Only plain four-digit years count; NULL, infinity, BC and later years have no day (`undated`, never pruned).
 */
const PLAIN = /^\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(?:\+00)?)?$/;

/** `2026-01-12`, or null. `text`: date, timestamp or timestamptz as Postgres prints it under DateStyle ISO and TimeZone UTC. */
export function dayOf(text: string | null): string | null {
  return text !== null && PLAIN.test(text) ? text.slice(0, 10) : null;
}

const LENGTH = 10;
/** The day that was read last: many rows in a row have it. None at first: no text has these bytes. */
const last = { bytes: new Uint8Array(LENGTH).fill(0xff), day: '' };

/** The same of the text at [start, end), for every row: a string is made where the day changes. */
export function dayOfBytes(bytes: Uint8Array, start: number, end: number): string | null {
  if (end - start !== LENGTH && !isTime(bytes, start + LENGTH, end)) return null;
  for (let i = 0; i < LENGTH; i += 1) if (bytes[start + i] !== last.bytes[i]) return anotherDay(bytes.subarray(start, start + LENGTH));
  return last.day;
}

function anotherDay(bytes: Uint8Array): string | null {
  const day = dayOf(Buffer.from(bytes).toString('latin1'));
  if (day === null) return null;
  last.bytes.set(bytes);
  last.day = day;
  return day;
}

/** ` 10:11:12`, up to six digits behind a point, and `+00` or nothing. */
function isTime(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < TIME.length) return false;
  for (let i = 0; i < TIME.length; i += 1) {
    const byte = bytes[start + i] as number;
    if (TIME[i] === ZERO ? !isDigit(byte) : byte !== TIME[i]) return false;
  }
  let at = start + TIME.length;
  if (bytes[at] === DOT && at < end) {
    const first = at + 1;
    for (at = first; at < end && isDigit(bytes[at] as number); ) at += 1;
    if (at === first || at - first > 6) return false;
  }
  return at === end || (end - at === 3 && bytes[at] === PLUS && bytes[at + 1] === ZERO && bytes[at + 2] === ZERO);
}

const ZERO = 0x30;
const DOT = 0x2e;
const PLUS = 0x2b;
/** A zero stands for any digit. */
const TIME = Buffer.from(' 00:00:00');
const isDigit = (byte: number): boolean => byte >= ZERO && byte <= 0x39;

const DAY_MS = 86_400_000;

/** The day after: `2026-01-31` → `2026-02-01`. */
export function nextDay(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + DAY_MS).toISOString().slice(0, 10);
}
