/**
 * What a statement reads of each table, taken from DuckDB's own plan of it: the columns, and the range of the timestamp outside which no row can matter. Pure. Where the plan says
 * something that is not understood, everything is read: a reading is too wide at worst, never too narrow.
 */

/** Texts of timestamps as DuckDB prints them in UTC, both inclusive; undefined: open. A row whose timestamp is NULL is outside every range that has an end. */
export type Range = { readonly from: string | undefined; readonly to: string | undefined };

export type Reading = { readonly columns: ReadonlySet<string>; readonly range: Range };

/** A scanned table, as a plan names it; its names are such that a plan shows them as they are. `columns`: all that it has, in their order. */
export type Scanned = { readonly planName: string; readonly columns: readonly string[]; readonly timestamp: string };

type PlanNode = { readonly name: string; readonly children?: readonly PlanNode[]; readonly extra_info?: Readonly<Record<string, unknown>> };

export const EVERYTHING: Range = { from: undefined, to: undefined };
const DAY_MS = 86_400_000;

/** The clock of a plan is not that of its execution: what is compared with it may move meanwhile. */
const CLOCK =
  /\b(now|today|yesterday|tomorrow|ago|age|current_\w+|pg_conf_load_time|pg_postmaster_start_time|get_current_\w+|local_?time\w*|transaction_timestamp)\b/i;

/** By planName; a table that is not scanned has no entry. `plan`: JSON of EXPLAIN; `sql`: the statement. Throws an Error for a scan of a table that is none of them: it would be taken for empty. */
export function readings(plan: string, sql: string, tables: readonly Scanned[]): Map<string, Reading> {
  const found = new Map<string, Reading>();
  const visit = (node: PlanNode): void => {
    const info = node.extra_info ?? {};
    const named = tables.filter(({ planName }) => planName === info['Table']);
    if (info['Table'] !== undefined && named.length === 0) throw new Error(`the plan reads a table that is not known: ${JSON.stringify(info['Table'])}`);
    for (const table of named) found.set(table.planName, united(found.get(table.planName), readingOf(info, table)));
    for (const child of node.children ?? []) visit(child);
  };
  for (const node of JSON.parse(plan) as PlanNode[]) visit(node);
  if (CLOCK.test(sql)) for (const [name, { columns, range }] of found) found.set(name, { columns, range: widened(range) });
  return found;
}

/** Table functions that a plan calls, in lower case, each once. */
export function calledFunctions(plan: string): string[] {
  const found = new Set<string>();
  const visit = ({ extra_info, children = [] }: PlanNode): void => {
    const called = extra_info?.['Function'];
    if (typeof called === 'string') found.add(called.toLowerCase());
    children.forEach(visit);
  };
  for (const node of JSON.parse(plan) as PlanNode[]) visit(node);
  return [...found];
}

function readingOf(info: Readonly<Record<string, unknown>>, { columns, timestamp }: Scanned): Reading {
  const filters = texts(info['Filters']);
  const projected = new Set(texts(info['Projections']).map((name) => name.toLowerCase()));
  const wanted = columns.filter((name) => projected.has(name.toLowerCase()) || filters.some((filter) => filter.toLowerCase().includes(name.toLowerCase())));
  return { columns: new Set(wanted), range: filters.map((filter) => rangeOf(filter, timestamp)).reduce(narrowed, EVERYTHING) };
}

function texts(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === 'string' && value !== '' ? [value] : [];
}

const TIME = String.raw`'(\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}:\d{2}(?:\.\d+)?(?:\+00)?)?)'::(?:TIMESTAMP WITH TIME ZONE|TIMESTAMP|DATE)`;
const COMPARISON = new RegExp(`^(>=|<=|>|<|=)${TIME}$`);
/** A comparison with another type of time, as of a `timestamp` with now(): in UTC it is one of the column itself. */
const CAST_COMPARISON = new RegExp(String.raw`^(TIMESTAMP WITH TIME ZONE|TIMESTAMP|DATE)\) (?:(>=|<=|>|<|=) ${TIME}|BETWEEN ${TIME} AND ${TIME})\)$`);

/**
 * The range that one filter leaves: `at>='2026-01-12 00:00:00'::TIMESTAMP AND at<'…'::TIMESTAMP`, or `(CAST(at AS DATE) = '2026-01-12'::DATE)`. All of a filter is about the column that it begins
 * with; parts of another form are left out of account.
 */
export function rangeOf(filter: string, timestamp: string): Range {
  const cast = `(CAST(${timestamp} AS `;
  if (filter.startsWith(cast)) return castRange(filter.slice(cast.length));
  if (!filter.startsWith(timestamp) || / OR /i.test(filter)) return EVERYTHING;
  const parts = filter.split(' AND ').map((part) => (part.startsWith(timestamp) ? COMPARISON.exec(part.slice(timestamp.length)) : null));
  if (parts[0] === null && !filter.slice(timestamp.length).startsWith('!=')) return EVERYTHING;
  return parts.map((part) => (part === null ? EVERYTHING : ends(part[1] as string, part[2] as string))).reduce(narrowed, EVERYTHING);
}

function castRange(comparison: string): Range {
  const match = CAST_COMPARISON.exec(comparison);
  if (match === null) return EVERYTHING;
  const [, type, operator, value, least, most] = match as unknown as [string, string, string | undefined, string, string, string];
  const { from, to } = operator === undefined ? { from: least, to: most } : ends(operator, value);
  return { from, to: type === 'DATE' && to !== undefined ? `${to.slice(0, 10)} 23:59:59.999999` : to };
}

function ends(operator: string, value: string): Range {
  const from = operator.startsWith('<') ? undefined : value;
  const to = operator.startsWith('>') ? undefined : operator === '<' ? lastBefore(value) : value;
  return { from, to };
}

/** What lies before a midnight, ends with the day before; any other end may stay inside. */
function lastBefore(text: string): string {
  const midnight = /^(\d{4}-\d{2}-\d{2})( 00:00:00)?(\+00)?$/.exec(text);
  if (midnight === null) return text;
  const [, day, time, zone = ''] = midnight as unknown as [string, string, string | undefined, string | undefined];
  const before = moved(day, -1);
  if (before === undefined) return text;
  return time === undefined ? before : `${before} 23:59:59.999999${zone}`;
}

/** So many days later; undefined: no day that text can be compared as. Beyond the year 9999 and before the year 1 neither Postgres nor a day of the archive is written so. */
function moved(text: string, days: number): string | undefined {
  const at = Date.parse(`${text.slice(0, 10)}T00:00:00Z`) + days * DAY_MS;
  const day = Number.isNaN(at) ? '' : new Date(at).toISOString().slice(0, 10);
  return /^\d{4}-/.test(day) && !day.startsWith('0000') ? day : undefined;
}

function narrowed(a: Range, b: Range): Range {
  const later = a.from === undefined || (b.from !== undefined && b.from > a.from) ? b.from : a.from;
  const earlier = a.to === undefined || (b.to !== undefined && b.to < a.to) ? b.to : a.to;
  return { from: later, to: earlier };
}

function united(a: Reading | undefined, b: Reading): Reading {
  if (a === undefined) return b;
  const from = a.range.from === undefined || b.range.from === undefined ? undefined : a.range.from < b.range.from ? a.range.from : b.range.from;
  const to = a.range.to === undefined || b.range.to === undefined ? undefined : a.range.to > b.range.to ? a.range.to : b.range.to;
  return { columns: new Set([...a.columns, ...b.columns]), range: { from, to } };
}

/** By a day on each side. */
function widened({ from, to }: Range): Range {
  return { from: from === undefined ? undefined : moved(from, -1), to: to === undefined ? undefined : moved(to, 2) };
}

/** True when rows of that UTC day can lie in the range; null: rows without a day. */
export function dayMatches(day: string | null, { from, to }: Range): boolean {
  if (day === null) return from === undefined && to === undefined;
  return (from === undefined || day >= from.slice(0, 10)) && (to === undefined || day <= to.slice(0, 10));
}
