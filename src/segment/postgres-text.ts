/** Values back to the text that Postgres prints for them under the session settings of src/wal/session.ts. Source: the types' output functions. */

/** float8out with extra_float_digits > 0: shortest digits, scientific below 1e-4 and from 1e15. */
export function float8Text(value: number): string {
  return floatText(value, Number.prototype.toExponential.call(value), 15);
}

/** float4out: shortest digits that read back as the same single, scientific below 1e-4 and from 1e6. */
export function float4Text(value: number): string {
  if (!Number.isFinite(value) || value === 0) return floatText(value, '0e+0', 6);
  for (let digits = 1; digits <= 9; digits += 1) {
    const text = value.toExponential(digits - 1);
    if (Math.fround(Number(text)) === value) return floatText(value, text, 6);
  }
  return floatText(value, value.toExponential(8), 6);
}

function floatText(value: number, exponential: string, fixedBelow: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  if (value === 0) return Object.is(value, -0) ? '-0' : '0';
  const split = exponential.indexOf('e');
  const exponent = Number(exponential.slice(split + 1));
  const mantissa = exponential.slice(0, split);
  const sign = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '').replace(/0+$/, '') || '0';
  if (exponent < -4 || exponent >= fixedBelow) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    const size = Math.abs(exponent);
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${size < 10 ? '0' : ''}${size}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  if (digits.length <= exponent + 1) return sign + digits + '0'.repeat(exponent + 1 - digits.length);
  return `${sign}${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`;
}

/** An unscaled integer as numeric with `scale` digits behind the point. */
export function decimalText(unscaled: bigint, scale: number): string {
  if (scale === 0) return unscaled.toString();
  const negative = unscaled < 0n;
  const digits = (negative ? -unscaled : unscaled).toString().padStart(scale + 1, '0');
  return `${negative ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

/** A big-endian two's complement number of any length, as Parquet stores long decimals. */
export function bigEndianInteger(bytes: Buffer): bigint {
  if (bytes.length === 16) {
    const high = bytes.readBigInt64BE(0);
    const low = bytes.readBigUInt64BE(8);
    return high === 0n ? low : (high << 64n) | low;
  }
  return BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex') || '0'}`));
}

const two = Array.from({ length: 100 }, (_, i) => String(i).padStart(2, '0'));
let lastDay = Number.NaN;
let lastDayText = '';

/** Days since 1970-01-01 as `2026-01-12`; years 1 to 9999. */
export function dateText(days: number): string {
  if (days === lastDay) return lastDayText;
  // Civil from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
  const z = days + 719_468;
  const era = Math.floor(z / 146_097);
  const doe = z - era * 146_097;
  const yoe = Math.floor((doe - Math.floor(doe / 1460) + Math.floor(doe / 36_524) - Math.floor(doe / 146_096)) / 365);
  const doy = doe - (365 * yoe + Math.floor(yoe / 4) - Math.floor(yoe / 100));
  const mp = Math.floor((5 * doy + 2) / 153);
  const month = mp < 10 ? mp + 3 : mp - 9;
  const year = yoe + era * 400 + (month <= 2 ? 1 : 0);
  lastDay = days;
  lastDayText = `${String(year).padStart(4, '0')}-${two[month]}-${two[doy - Math.floor((153 * mp + 2) / 5) + 1]}`;
  return lastDayText;
}

const DAY_MICROS = 86_400_000_000n;

/** Microseconds of a day as `10:11:12.5`. */
export function timeText(micros: number): string {
  const seconds = Math.floor(micros / 1_000_000);
  const fraction = micros - seconds * 1_000_000;
  const text = `${two[Math.floor(seconds / 3600)]}:${two[Math.floor(seconds / 60) % 60]}:${two[seconds % 60]}`;
  return fraction === 0 ? text : `${text}.${String(fraction).padStart(6, '0').replace(/0+$/, '')}`;
}

/** Microseconds since 1970-01-01 as `2026-01-12 10:11:12.5`. */
export function timestampText(micros: bigint): string {
  let days = micros / DAY_MICROS;
  let rest = micros % DAY_MICROS;
  if (rest < 0n) {
    days -= 1n;
    rest += DAY_MICROS;
  }
  return `${dateText(Number(days))} ${timeText(Number(rest))}`;
}
