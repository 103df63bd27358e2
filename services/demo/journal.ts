/**
 * The load generator's own record of what was committed: per row the fingerprint of its texts as Postgres returned them. What the audit holds Postgres and the archive against. Knows
 * nothing of how Tidemark stores anything.
 */
import { createHash } from 'node:crypto';
import type { DemoColumn, DemoTable } from './rows.js';

/** A value brought to one form, so that the text of Postgres and what a Parquet reader gives can be compared: floats and times as numbers, all else as it stands. */
export function normalText(type: string, text: string | null): string | null {
  if (text === null) return null;
  if (type === 'double precision' || type === 'real') return String(Number(text));
  if (type.startsWith('timestamp')) return String(microsOf(text));
  return text;
}

/** `2026-01-12 10:11:12.5` → microseconds since 1970. */
function microsOf(text: string): bigint {
  const match = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))?$/.exec(text);
  if (!match) throw new Error(`not a plain timestamp: ${text}`);
  return BigInt(Date.parse(`${match[1]}T${match[2]}Z`)) * 1000n + BigInt((match[3] ?? '').padEnd(6, '0'));
}

/** Fingerprint of a row of normal texts. */
export function fingerprint(texts: readonly (string | null)[]): string {
  return createHash('md5').update(JSON.stringify(texts)).digest('base64').slice(0, 16);
}

export class TableJournal {
  readonly table: DemoTable;
  /** Key → fingerprint of the newest committed version. */
  readonly live = new Map<string, string>();
  /** Keys of rows that the user deleted. */
  readonly deleted = new Set<string>();
  /** Rows and versions ever committed. */
  written = 0;
  /** Bytes of text of all committed versions. */
  textBytes = 0;
  /** Number for the next generated row. */
  next = 1;
  readonly #keyAt: readonly number[];

  constructor(table: DemoTable) {
    this.table = table;
    this.#keyAt = table.key.map((name) => table.columns.findIndex((column) => column.name === name));
  }

  /** The same, for a database that holds the same rows. */
  copy(): TableJournal {
    const copy = new TableJournal(this.table);
    for (const [key, print] of this.live) copy.live.set(key, print);
    for (const key of this.deleted) copy.deleted.add(key);
    copy.written = this.written;
    copy.textBytes = this.textBytes;
    copy.next = this.next;
    return copy;
  }

  keyOf(row: readonly (string | null)[]): string {
    return this.#keyAt.map((at) => row[at]).join('|');
  }

  /** Rows as Postgres returned them (`RETURNING *`, texts in column order), once their transaction is committed. */
  committed(rows: readonly (readonly (string | null)[])[]): void {
    for (const row of rows) {
      this.live.set(this.keyOf(row), fingerprintOf(this.table.columns, row));
      this.written += 1;
      for (const text of row) this.textBytes += (text?.length ?? 0) + 1;
    }
  }

  removed(rows: readonly (readonly (string | null)[])[]): void {
    for (const row of rows) {
      const key = this.keyOf(row);
      this.live.delete(key);
      this.deleted.add(key);
    }
  }
}

export function fingerprintOf(columns: readonly DemoColumn[], row: readonly (string | null)[]): string {
  return fingerprint(columns.map((column, i) => normalText(column.type, row[i] ?? null)));
}
