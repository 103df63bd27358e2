/** What a row of a segment records of the change that wrote it. */

/** copied: of a whole copy of a table, which begins anew there · restore: of a row that the archive has already. */
export type Op = 'insert' | 'restore' | 'update' | 'delete' | 'copy' | 'prune' | 'truncate' | 'copied';

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
