/** `restore --where` is a condition on the table's columns and nothing else: DuckDB parses it, runs nothing of it, and what it parsed is looked at. A subquery could read any file of this machine. */
import { configError } from '../runtime/errors.js';
import type { SegmentEncoder } from '../segment/encoder.js';
import { literal } from '../segment/sql.js';

type Parsed = {
  readonly error: boolean;
  readonly error_message?: string;
  readonly statements?: readonly { readonly node: { readonly type: string; readonly modifiers: readonly unknown[]; readonly where_clause?: unknown } }[];
};

const REMEDY = "write a condition of DuckDB's SQL on the table's columns";

/** Throws `config` for what is no condition, or more than one. */
export async function requireCondition(duckdb: SegmentEncoder, where: string): Promise<void> {
  const [row] = await duckdb.query<{ parsed: string }>(`SELECT json_serialize_sql(${literal(`SELECT 1 WHERE (${where}\n)`)})::VARCHAR AS parsed`);
  const parsed = JSON.parse(row?.parsed ?? '{"error":true}') as Parsed;
  if (parsed.error) throw configError(`--where: ${parsed.error_message ?? 'it cannot be read'}`, REMEDY);
  const node = parsed.statements?.[0]?.node;
  if (node?.type !== 'SELECT_NODE' || node.modifiers.length > 0) throw configError('--where: it is more than a condition', REMEDY);
  if (holdsSubquery(node.where_clause)) throw configError('--where: it holds a subquery', `${REMEDY}, without SELECT`);
}

function holdsSubquery(node: unknown): boolean {
  if (typeof node !== 'object' || node === null) return false;
  return ('class' in node && node.class === 'SUBQUERY') || Object.values(node).some(holdsSubquery);
}
