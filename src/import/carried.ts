/** What becomes of a value of an old file: its Postgres text, or why it has none. */

/** Postgres has to read this text as the column's type and print it. `as`: a time without a zone, one with, or any other value. */
export type Ask = { readonly ask: string; readonly as: 'naive' | 'aware' | 'value' };

/** It cannot be carried exactly, in words. `nearest`: what an explicit wish takes for it; null: nothing comes near. */
export type Inexact = { readonly inexact: string; readonly nearest: string | null | Ask };

/** A string is the text that Postgres prints for the value; null is NULL. */
export type Carried = string | null | Ask | Inexact;

export function isInexact(carried: Carried): carried is Inexact {
  return carried !== null && typeof carried === 'object' && 'inexact' in carried;
}

export function isAsk(carried: Carried): carried is Ask {
  return carried !== null && typeof carried === 'object' && 'ask' in carried;
}

/** Reads a value as @duckdb/node-api hands it out; never called with null. */
export type Reading = (value: unknown) => Carried;

/** The column cannot be read as its type at all. `seen`: the file's type. */
export function unreadable(seen: string): Reading {
  return () => ({ inexact: `is ${seen} in the file`, nearest: null });
}
