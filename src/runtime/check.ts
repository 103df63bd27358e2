/** One precondition of doctor: what was looked at, what was seen, and the remedy in SQL or as a setting. */
export type Check = {
  /** Stable short name: `wal_level`, `replica identity public.prices`. */
  readonly name: string;
  /** `failed` stops the service it belongs to, `warning` is said and work goes on. */
  readonly status: 'ok' | 'warning' | 'failed';
  readonly seen: string;
  /** What to do, one line of SQL or one setting; absent when ok. */
  readonly remedy?: string;
  /** SQL that `doctor --fix` may run by itself: safe, repeatable, takes nothing away. */
  readonly fix?: string;
  /** The failing table only keeps its own rows from being pruned or archived; others go on. */
  readonly table?: string;
};
