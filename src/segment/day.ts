/**
 * The UTC day of a row, read from the text of its timestamp column: archiver and pruner decide it from the same characters, so they cannot differ.
 * Only plain four-digit years count; NULL, infinity, BC and later years have no day (`undated`, never pruned).
 */
const PLAIN = /^\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(?:\+00)?)?$/;

/** `2026-01-12`, or null. `text`: date, timestamp or timestamptz as Postgres prints it under DateStyle ISO and TimeZone UTC. */
export function dayOf(text: string | null): string | null {
  return text !== null && PLAIN.test(text) ? text.slice(0, 10) : null;
}

const DAY_MS = 86_400_000;

/** The day after: `2026-01-31` → `2026-02-01`. */
export function nextDay(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + DAY_MS).toISOString().slice(0, 10);
}
