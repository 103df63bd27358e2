/**
 * A WAL location (pg_lsn). The only place where its text is read or written.
 * Source: PostgreSQL manual, "pg_lsn Type": two hexadecimal numbers of up to 8 digits, high and low 32 bits.
 */
declare const lsnBrand: unique symbol;
export type Lsn = bigint & { readonly [lsnBrand]: true };

export const LSN_ZERO = 0n as Lsn;

/** An Lsn from a raw 64-bit number. Throws RangeError outside 0 … 2^64-1. */
export function lsn(value: bigint): Lsn {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`not an LSN: ${value}`);
  return value as Lsn;
}

/** Reads `16/B374D848`. Throws SyntaxError on anything else. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) throw new SyntaxError(`not an LSN: ${JSON.stringify(text)}`);
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Writes it as Postgres prints it: `16/B374D848`. */
export function formatLsn(value: Lsn): string {
  return `${(value >> 32n).toString(16).toUpperCase()}/${(value & 0xffff_ffffn).toString(16).toUpperCase()}`;
}
