/** The columns that a segment holds beside the table's own, in their order. A table that has one of these names is refused by doctor. */
export const SYSTEM_COLUMNS = ['_op', '_lsn', '_ordinal', '_xid', '_committed_at', '_digest', '_unresolved', '_text'] as const;

/**
 * Why a table's column names cannot stand in one Parquet file beside ours, or undefined when they can. DuckDB does not tell names apart that differ in case only,
 * and JavaScript readers cannot hold `__proto__` as a name.
 */
export function nameCollision(names: readonly string[]): string | undefined {
  const seen = new Map<string, string>(SYSTEM_COLUMNS.map((name) => [name, `${name} of the file itself`]));
  for (const name of names) {
    if (name === '__proto__') return 'column __proto__ has a name that cannot be read back';
    const lower = name.toLowerCase();
    const other = seen.get(lower);
    if (other !== undefined) return `column ${JSON.stringify(name)} differs from ${other} in case at most`;
    seen.set(lower, JSON.stringify(name));
  }
  return undefined;
}

/** What a row of a segment records. */
export type Op = 'insert' | 'update' | 'delete' | 'copy' | 'prune' | 'truncate';

/** The boundary and transaction of one row. */
export type ChangeOrigin = {
  readonly op: Op;
  /** Start of the commit record; for copied rows the slot's consistent point minus one. */
  readonly lsn: bigint;
  /** k of the change, from 1. */
  readonly ordinal: number;
  readonly xid: number;
  /** Microseconds since 1970-01-01 UTC. */
  readonly committedAtMicros: bigint;
};

/** What the digest of a key holds beside the key: so that a keys file is proved like any other. */
export function boundaryText(origin: { readonly op: string; readonly lsn: bigint; readonly ordinal: number | bigint }): string {
  return `${origin.op} ${origin.lsn} ${origin.ordinal}`;
}

/** Reads a value of `_text`: column → Postgres text. Throws an Error without the value when it is damaged. */
export function parseKept(bytes: Buffer): Readonly<Record<string, string>> {
  try {
    return JSON.parse(bytes.toString('utf8')) as Record<string, string>;
  } catch {
    throw new Error('a value of _text is no JSON'); // the parser's own message quotes it
  }
}

/** The text of a column from there, null when it is not there. */
export function keptText(kept: Readonly<Record<string, string>> | undefined, column: string): string | null {
  return kept !== undefined && Object.hasOwn(kept, column) ? (kept[column] as string) : null;
}
