/** Names of a source's stream and subjects. */

/** `TIDEMARK_goat`. */
export function streamName(source: string): string {
  return `TIDEMARK_${source}`;
}

/** The one ordered subject of a source's changes. */
export function walSubject(source: string): string {
  return `tidemark.${source}.wal`;
}

/** Request–reply: `prune` is answered by the pruner, `seal`, `import`, `expire` and `flush` by the archiver, `recopy` by capture. */
export function requestSubject(source: string, what: 'prune' | 'seal' | 'import' | 'expire' | 'flush' | 'recopy'): string {
  return `tidemark.${source}.${what}`;
}

/** What is told of a source to whoever listens. */
export function eventSubject(source: string, what: 'segment' | 'prune' | 'seal' | 'halt'): string {
  return `tidemark.${source}.events.${what}`;
}

/** Nobody depends on it: an event, or the wish for a flush. */
export function isDispensable(subject: string): boolean {
  return /^tidemark\.[a-z0-9_]+\.(events\.|flush$)/.test(subject);
}
