/** Types of DuckDB that met in one column, because a table's column was given another type: is there one that holds every value of all of them? Left to itself DuckDB rounds. Pure. */

const FAMILIES: readonly RegExp[] = [/^(FLOAT|DOUBLE)$/, /^(DATE|TIMESTAMP|TIMESTAMPTZ)$/];
const DIGITS: Readonly<Record<string, number>> = { SMALLINT: 5, INTEGER: 10, BIGINT: 19 };
/** A decimal has no more: of two that need more together DuckDB takes less of the one or the other. */
const MOST_DIGITS = 38;
const LIST = /(\[\])*$/;

/** Digits before and behind the point; undefined: it is no exact number. */
function digitsOf(type: string): { readonly whole: number; readonly scale: number } | undefined {
  const whole = DIGITS[type];
  if (whole !== undefined) return { whole, scale: 0 };
  const decimal = /^DECIMAL\((\d+), (\d+)\)$/.exec(type);
  return decimal === null ? undefined : { whole: Number(decimal[1]) - Number(decimal[2]), scale: Number(decimal[2]) };
}

function fitTogether(types: readonly string[]): boolean {
  const digits = types.map(digitsOf);
  const most = (of: 'whole' | 'scale'): number => Math.max(...digits.map((one) => one?.[of] ?? MOST_DIGITS + 1));
  return most('whole') + most('scale') <= MOST_DIGITS;
}

/** Are they of one kind, of which the larger holds every value of the smaller? */
export function areOneKind(types: readonly string[]): boolean {
  return new Set(types).size === 1 || FAMILIES.some((family) => types.every((type) => family.test(type))) || fitTogether(types);
}

/** Does DuckDB, reading files of all of these as one, change a value, or fail? Whatever meets a text is text. */
export function loseTogether(types: readonly string[]): boolean {
  const depths = types.map((type) => (LIST.exec(type) as RegExpExecArray)[0].length);
  if (new Set(depths).size > 1) return true;
  const elements = types.map((type) => type.replace(LIST, ''));
  if (elements.includes('VARCHAR') || areOneKind(elements)) return false;
  const exact = elements.filter((type) => digitsOf(type) !== undefined);
  const floats = elements.filter((type) => /^(FLOAT|DOUBLE)$/.test(type));
  if (exact.length > 0 && floats.length > 0) return !(floats.includes('DOUBLE') && exact.every((type) => type === 'SMALLINT' || type === 'INTEGER'));
  return exact.length > 1 && !fitTogether(exact);
}
