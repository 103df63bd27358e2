/** Names and texts as they are written into SQL and into replication commands, which take no parameters. */

/** `weird "name"` → `"weird ""name"""`. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** `public`, `prices` → `"public"."prices"`. */
export function quoteTable(schema: string, table: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`;
}

/** A text literal; backslashes need no care because standard_conforming_strings is set on our connections and is fixed in replication commands. */
export function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Name of the slot and of the publication of a source. */
export function slotName(source: string): string {
  return `tidemark_${source}`;
}

/** application_name of a connection: fixed and unique, so that it can be told apart in pg_stat_activity and synchronous_standby_names. */
export function applicationName(source: string, role: 'capture' | 'pruner' | 'restore' | 'control'): string {
  return `tidemark_${source}_${role}`;
}
