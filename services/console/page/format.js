/** Numbers and times as people read them. Pure. Unknown is an en dash, everywhere. */
export const UNKNOWN = '–';

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** 1536 → ['1.5', 'KB']; three digits at most. */
export function bytesParts(bytes) {
  if (bytes === null || bytes === undefined) return [UNKNOWN, ''];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [unit === 0 || value >= 99.5 ? String(Math.round(value)) : value.toFixed(1), UNITS[unit]];
}

export function bytes(value) {
  return bytesParts(value).join('\u202f').trim();
}

/** 12345 → `12 345`. */
export function count(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** 0.4 s, 12 s, 5 min, 3.2 h, 4 d. */
export function durationParts(seconds) {
  if (seconds === null || seconds === undefined) return [UNKNOWN, ''];
  if (seconds < 10) return [seconds.toFixed(1).replace(/\.0$/, ''), 's'];
  if (seconds < 120) return [String(Math.round(seconds)), 's'];
  if (seconds < 7200) return [String(Math.round(seconds / 60)), 'min'];
  if (seconds < 172_800) return [(seconds / 3600).toFixed(1), 'h'];
  return [String(Math.floor(seconds / 86_400)), 'd'];
}

export function duration(seconds) {
  return durationParts(seconds).join('\u202f').trim();
}

/** Rows a second: 0.4, 12, 1 234. */
export function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

const two = (n) => String(n).padStart(2, '0');

/** `12:04:09`, UTC. */
export function clock(ms) {
  const date = new Date(ms);
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
}

/** `2026-11-26 12:04:09`, UTC, from an ISO time. */
export function stamp(iso) {
  return iso.slice(0, 19).replace('T', ' ');
}

/** Seconds from `iso` to `ms`. */
export function since(iso, ms) {
  return Math.max(0, (ms - Date.parse(iso)) / 1000);
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
