/** Values back to the text that Postgres prints for them under the session settings of src/wal/session.ts. Source: the types' output functions. */

/**
 * float8out with extra_float_digits > 0: the shortest digits strictly inside the interval that reads back as this double, scientific below 1e-4 and from 1e15.
 * JavaScript also takes digits on the interval's edge (1e23, where Postgres prints 9.999999999999999e+22). Such an edge has few digits only among integers of more than 53 bits:
 * (2m+1)·2^(e-1) = d·10^k needs 5^k < 2^54. Source: src/common/d2s.c, "STRICTLY_SHORTEST".
 */
export function float8Text(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e15) return String(value); // neither writes an exponent there
  if (size < 2 ** 53 || size >= 1e41 || !Number.isFinite(value)) return floatText(value, value.toExponential(), 15);
  const bits = doubleBits(size);
  const mantissa = (bits & 0xf_ffff_ffff_ffffn) | 0x10_0000_0000_0000n;
  return floatText(value, sign(value) + strictlyShortest(mantissa, Number(bits >> 52n) - 1075, mantissa === 0x10_0000_0000_0000n), 15);
}

/** float4out: the same for singles, scientific from 1e6. Source: src/common/f2s.c. */
export function float4Text(value: number): string {
  if (!Number.isFinite(value) || value === 0) return floatText(value, '0e+0', 6);
  const size = Math.abs(value);
  single[0] = size;
  const bits = singleBits[0] as number;
  const fraction = bits & 0x7f_ffff;
  const exponent = Math.max(bits >>> 23, 1) - 150;
  // A power of two has a shorter interval below it than above: there the closest digits need not be the ones.
  if (fraction !== 0) {
    const half = 2 ** (exponent - 1);
    // Every text of six digits survives a normal single, so six digits are the shortest ones with zeros behind.
    for (let digits = bits >>> 23 === 0 ? 1 : 6; digits <= 9; digits += 1) {
      const text = size.toExponential(digits - 1);
      const read = Number(text);
      if (read < size - half || read > size + half) continue;
      // On the edge, or so close to it that only exact numbers tell; or two are equally close: JavaScript takes the larger, Postgres the even one.
      if (read === size - half || read === size + half || halfway(size, digits)) break;
      return floatText(value, sign(value) + text, 6);
    }
  }
  const mantissa = bits >>> 23 === 0 ? fraction : fraction | 0x80_0000;
  return floatText(value, sign(value) + strictlyShortest(BigInt(mantissa), exponent, fraction === 0 && exponent > -149), 6);
}

/** True when the value lies (but for what a double cannot tell) in the middle between two numbers of so many digits. */
function halfway(size: number, digits: number): boolean {
  const longer = size.toExponential(digits);
  return longer[digits + 1] === '5' && Number(longer) === size;
}

const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);
const double = new DataView(new ArrayBuffer(8));

function doubleBits(value: number): bigint {
  double.setFloat64(0, value);
  return double.getBigUint64(0);
}

const sign = (value: number): string => (value < 0 ? '-' : '');

/**
 * Digits of mantissa·2^exponent as `d.ddde±n`: the fewest strictly between the halfway points to its neighbours, the closest of those. In exact integers.
 * `closerBelow`: the neighbour below is at half the distance, as it is for powers of two.
 */
function strictlyShortest(mantissa: bigint, exponent: number, closerBelow: boolean): string {
  const places = Math.max(0, 2 - exponent);
  const unit = places > 0 ? 5n ** BigInt(places) : 1n << BigInt(exponent - 2);
  const exact = 4n * mantissa * unit;
  const above = exact + 2n * unit;
  const below = exact - (closerBelow ? 1n : 2n) * unit;
  let removed = Math.max(0, above.toString().length - 18);
  let step = 10n ** BigInt(removed);
  while ((above - 1n) / (step * 10n) > below / (step * 10n)) {
    step *= 10n;
    removed += 1;
  }
  let digits = exact / step;
  const rest = exact % step;
  if (digits * step <= below || rest * 2n > step || (rest * 2n === step && digits % 2n === 1n)) digits += 1n;
  const text = digits.toString();
  return `${text[0]}.${text.slice(1)}e${removed - places + text.length - 1}`;
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

/** The same of a big-endian two's complement number, as Parquet stores long decimals. */
export function decimalTextOfBytes(bytes: Buffer, scale: number): string {
  const exact = scale > 0 && scale <= 15 && bytes.length === 16 ? exactInteger(bytes) : undefined;
  if (exact === undefined) return decimalText(bigEndianInteger(bytes), scale);
  const unit = 10 ** scale;
  const size = Math.abs(exact);
  const whole = Math.floor(size / unit);
  return `${exact < 0 ? '-' : ''}${whole}.${String(size - whole * unit).padStart(scale, '0')}`;
}

/** 16 bytes as a number, when that is exact. */
function exactInteger(bytes: Buffer): number | undefined {
  const sign = bytes.readInt32BE(0);
  if ((sign !== 0 && sign !== -1) || bytes.readInt32BE(4) !== sign) return undefined;
  const high = bytes.readUInt32BE(8) - (sign === 0 ? 0 : 0x1_0000_0000);
  return high < 0x10_0000 && high >= -0x10_0000 ? high * 0x1_0000_0000 + bytes.readUInt32BE(12) : undefined;
}

/** A big-endian two's complement number of any length. */
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
const DAY_MICROS_EXACT = 86_400_000_000;

/** Microseconds of a day as `10:11:12.5`. */
export function timeText(micros: number): string {
  const seconds = Math.floor(micros / 1_000_000);
  const fraction = micros - seconds * 1_000_000;
  const text = `${two[Math.floor(seconds / 3600)]}:${two[Math.floor(seconds / 60) % 60]}:${two[seconds % 60]}`;
  if (fraction === 0) return text;
  let [digits, places] = [fraction, 6];
  for (; digits % 10 === 0; places -= 1) digits /= 10;
  return `${text}.${String(digits).padStart(places, '0')}`;
}

/** Microseconds since 1970-01-01 as `2026-01-12 10:11:12.5`. */
export function timestampText(micros: bigint): string {
  const exact = Number(micros); // of every year up to 2255
  if (Number.isSafeInteger(exact)) {
    const day = Math.floor(exact / DAY_MICROS_EXACT);
    return `${dateText(day)} ${timeText(exact - day * DAY_MICROS_EXACT)}`;
  }
  let days = micros / DAY_MICROS;
  let rest = micros % DAY_MICROS;
  if (rest < 0n) {
    days -= 1n;
    rest += DAY_MICROS;
  }
  return `${dateText(Number(days))} ${timeText(Number(rest))}`;
}
