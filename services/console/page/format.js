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

const plain = (value) => String(Number(value.toFixed(2)));

/** Marks of an axis of seconds, all in the unit of the highest: rounded apart from each other two would read alike. */
export function durationMarks(ticks) {
  const most = Math.max(...ticks);
  const [length, unit] = most < 120 ? [1, 's'] : most < 7200 ? [60, 'min'] : most < 172_800 ? [3600, 'h'] : [86_400, 'd'];
  return ticks.map((tick) => (tick === 0 ? '0' : `${plain(tick / length)}\u202f${unit}`));
}

/** Marks of an axis of rows a second. */
export function rateMarks(ticks) {
  return ticks.map((tick) => (tick < 10 ? plain(tick) : count(tick)));
}

/** The end of an axis of seconds above `most`: quarters of it are told in the unit that people use. */
export function durationTop(most) {
  return (
    [0.2, 0.4, 1, 2, 4, 10, 20, 40, 60, 120, 240, 480, 1200, 2400, 3600, 7200, 14_400, 28_800, 57_600, 86_400].find((top) => top >= most * 1.02) ??
    172_800 * 2 ** Math.ceil(Math.log2(Math.max(1, (most * 1.02) / 172_800)))
  );
}
