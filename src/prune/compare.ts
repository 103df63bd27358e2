/** Is the row that Postgres is about to lose the one the archive holds? Pure; column by column; unknown is never equal. */
import type { Archived } from './proof.js';
import type { Target } from './target.js';

/**
 * equal: every live column has the archived text · absent: no version of this key is archived · unresolved: the archived version lacks a value · widened: equal in every column that the archived
 * version had, but others have come since, with a value or another name · other-schema: differs, and was archived under other columns, or in a column whose text depends on the catalog · rewritten: differs, and the live version is of another transaction than the archived one: ALTER TABLE wrote it, no row change
 * · differs: differs under the same columns and is the very version, which must never be.
 */
export type Verdict = 'equal' | 'absent' | 'unresolved' | 'widened' | 'other-schema' | 'rewritten' | 'differs';

/**
 * A row as Postgres gives it back. `xmin`: its 32-bit transaction id. The text of column i of `target.columns` is the bytes from `starts[i]` to before `ends[i]`; a start of -1 is NULL.
 */
export type LiveRow = { readonly xmin: number; readonly bytes: Uint8Array; readonly starts: ArrayLike<number>; readonly ends: ArrayLike<number> };

/** `copiedBefore`: the 64-bit transaction id from which on nothing was in the table's last copy. A column added since the version was archived is equal when it is NULL. */
export function compareRow(target: Target, live: LiveRow, archived: Archived | undefined, copiedBefore: string): Verdict {
  if (archived === undefined) return 'absent';
  if (archived.unresolved) return 'unresolved';
  const { bytes, starts, ends } = live;
  const isEqual = (column: Target['columns'][number], i: number): boolean => archived.is(column.name, bytes, starts[i] as number, ends[i] as number);
  if (target.columns.every(isEqual)) return 'equal';
  const different = target.columns.filter((column, i) => !isEqual(column, i));
  if (different.every(({ name }) => !archived.has(name))) return 'widened';
  if (archived.signature !== target.signature || different.every((column) => followsCatalog(column.typeOid))) return 'other-schema';
  return isSameVersion(live.xmin, archived, copiedBefore) ? 'differs' : 'rewritten';
}

/** reg*, aclitem, and every type that is not built in: an enum's label may be renamed, a composite's column be retyped. */
const CATALOG_TYPES: ReadonlySet<number> = new Set([24, 1033, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191]);
const FIRST_USER_OID = 16_384;

function followsCatalog(typeOid: number): boolean {
  return typeOid >= FIRST_USER_OID || CATALOG_TYPES.has(typeOid);
}

/** A subtransaction's rows have an xmin of their own: they count as another version, and are copied again rather than accused. */
function isSameVersion(xmin: number, archived: Archived, copiedBefore: string): boolean {
  if (archived.op !== 'copy' && archived.xid !== 0) return xmin === archived.xid;
  const behind = (xmin - Number(BigInt.asUintN(32, BigInt(copiedBefore)))) | 0;
  return behind < 0;
}
