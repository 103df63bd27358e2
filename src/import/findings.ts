/** What an import finds in old files that cannot be taken over exactly, counted: file, column, how many, and where the first one stands. Never a value. */

/** `row`: the first such row of the file, from 1; null: the file or column as a whole. `column`: null: the file. */
export type Finding = { readonly file: string; readonly column: string | null; readonly seen: string; readonly count: number; readonly row: number | null };

export class Findings {
  readonly #file: string;
  readonly #found = new Map<string, { column: string | null; seen: string; count: number; row: number | null }>();

  constructor(file: string) {
    this.#file = file;
  }

  /** One more of these. `row`: from 1. */
  add(column: string | null, seen: string, row: number | null, count = 1): void {
    const name = JSON.stringify([column, seen]);
    const known = this.#found.get(name);
    if (known === undefined) this.#found.set(name, { column, seen, count, row });
    else known.count += count;
  }

  all(): Finding[] {
    return [...this.#found.values()].map((finding) => ({ file: this.#file, ...finding }));
  }
}
