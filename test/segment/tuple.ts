/** Tuples as pgoutput sends them, for tests. */
import type { Relation } from '../../src/change/relation.js';

/** TupleData bytes; null = NULL, undefined = unchanged TOAST. */
export function tupleBytes(values: readonly (string | null | undefined)[]): Buffer {
  const parts: Buffer[] = [Buffer.from([values.length >> 8, values.length & 0xff])];
  for (const value of values) {
    if (value === null || value === undefined) {
      parts.push(Buffer.from(value === null ? 'n' : 'u'));
      continue;
    }
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    parts.push(Buffer.from('t'), length, bytes);
  }
  return Buffer.concat(parts);
}

/** A relation of these columns: name → [type OID, typmod]. The first column is the key. */
export function relationOf(columns: Record<string, [typeOid: number, typmod: number]>, table = 't', oid = 20_000): Relation {
  return {
    oid,
    schema: 'public',
    table,
    identity: 'd',
    columns: Object.entries(columns).map(([name, [typeOid, typmod]], i) => ({ name, typeOid, typmod, key: i === 0 })),
  };
}
