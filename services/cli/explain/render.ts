/** What explain found, as lines for people. */

import type { RowHistory, ShownVersion } from './history.js';
import type { Ended } from './lives.js';

export type Explanation = {
  readonly table: string;
  /** Why its old rows are not prunable; empty when they are. */
  readonly reasons: readonly string[];
  row?: { readonly key: readonly string[]; readonly hot: boolean; readonly reasons: readonly string[]; readonly archived: RowHistory };
};

export function render({ table, reasons, row }: Explanation): string {
  const lines = [reasons.length === 0 ? `${table}: its old rows are prunable` : `${table}: not prunable`, ...reasons.map((reason) => `  ${reason}`)];
  if (row !== undefined) {
    const { key, hot, archived } = row;
    lines.push(`row ${key.join(', ')}: ${hot ? 'in Postgres' : 'not in Postgres'}${hot && row.reasons.length === 0 ? ', may go with the next run' : ''}`);
    lines.push(...row.reasons.map((reason) => `  ${reason}`));
    lines.push(archived.versions.length === 0 ? `  ${nowhere(archived)}` : '  archived, oldest first:', ...archived.versions.flatMap(versionLines));
    lines.push(...receiptLines(archived));
  }
  return `${lines.join('\n')}\n`;
}

function nowhere({ expired }: RowHistory): string {
  if (expired === null) return 'archived nowhere';
  const { days, first, last } = expired;
  return `in no file; ${days === 1 ? `the day ${first} of this table` : `${days} days of this table, ${first} to ${last},`} left the archive by keep: _tidemark/expired.jsonl`;
}

function versionLines(version: ShownVersion): string[] {
  const { files, kind, day, op, lsn, ordinal, committedAt, unresolved, earlierTable, ended } = version;
  const place = [
    day === null ? 'undated' : `day ${day}`,
    kind === 'restored' ? 'restored: a reader finds it where it was' : kind === 'segment' ? 'open' : 'sealed',
  ].join(', ');
  const parts = [(op ?? 'last').padEnd(6), place, ...(lsn === null ? [] : [`${lsn}:${ordinal}`]), ...(committedAt === null ? [] : [committedAt])];
  if (earlierTable !== null) parts.push(`of an earlier table of that name, OID ${earlierTable}`);
  if (unresolved !== null) parts.push(`without ${unresolved}, which the stream did not carry`);
  return [`    ${parts.join('  ')}`, ...files.map((file) => `      in ${file}`), `      ${ended === null ? 'the newest version' : endText(ended, kind)}`];
}

const ENDS: Readonly<Record<Ended['by'], string>> = {
  update: 'superseded by an update',
  insert: 'superseded by another insert of its key',
  copy: 'superseded: copied again',
  delete: 'deleted by the user',
  truncate: 'ended by TRUNCATE',
  prune: 'pruned',
  unseen: 'deleted while changes were not sent: the table was copied anew without it',
  unknown: 'its life ended before the day was sealed; no receipt names it',
};

function endText({ by, at, lsn, run }: Ended, kind: ShownVersion['kind']): string {
  if (by === 'delete' && at === null && kind !== 'segment') return `${ENDS.delete}, nobody knows when`;
  const parts = [ENDS[by], ...(at === null ? [] : [at]), ...(lsn === null ? [] : [`at ${lsn}`])];
  if (by === 'prune') parts.push(run === null ? '(no receipt names it)' : `by run ${run}`);
  return parts.join(' ');
}

function receiptLines({ receipts, missing, expired }: RowHistory): string[] {
  const lines = receipts.map(({ run, at, outcome }) =>
    outcome === 'committed'
      ? `  run ${run} deleted a version at ${at} that no file holds`
      : outcome === undefined
        ? `  run ${run} meant to delete it at ${at}; its outcome is not known yet`
        : `  run ${run} meant to delete it at ${at} and was rolled back`,
  );
  if (missing === 0) return lines;
  return [...lines, `  → ${expired === null ? '' : 'it was of a day that left by keep; if not: '}tidemark verify, and a copy of the archive`];
}
