/**
 * How each version of a row ended. Pure. For open days the rule of sealing (src/archive/view.ts) for one row: the next event that names it, the next version of its key, the next truncate, or
 * the beginning of a copy that does not hold it. For sealed days what the file says. What was pruned is told by the receipts, by digest.
 */
import type { RowPrune } from '../../../src/archive/row-receipts.js';
import { formatLsn, type Lsn } from '../../../src/position/lsn.js';
import type { Event, Moment, RowFiles, Version } from './versions.js';

/** `unseen`: it was gone when the table was copied anew. `unknown`: a sealed day does not say, and no receipt names it. */
export type EndedBy = 'update' | 'insert' | 'copy' | 'delete' | 'truncate' | 'prune' | 'unseen' | 'unknown';

export type Ended = {
  readonly by: EndedBy;
  /** ISO; null where nobody knows. */
  readonly at: string | null;
  /** Start of the commit record of what ended it; null where the files do not say. */
  readonly lsn: string | null;
  /** Of prunes, from the receipt. */
  readonly run: string | null;
};

export type Life = { readonly version: Version /** null: it goes on. */; readonly ended: Ended | null };

const lsnText = (lsn: bigint): string => formatLsn(lsn as Lsn);
export const isoOf = (micros: bigint | null): string | null => (micros === null || micros === 0n ? null : new Date(Number(micros / 1000n)).toISOString());

/** Versions oldest first, each with its end; `left`: committed receipts of versions that no file holds. */
export function livesOf({ versions, events }: RowFiles, prunes: readonly RowPrune[]): { readonly lives: Life[]; readonly left: RowPrune[] } {
  const sorted = [...versions].sort(byPlace);
  const free = prunes.filter(({ outcome }) => outcome !== 'rolled-back');
  const take = (matches: (prune: RowPrune) => boolean): RowPrune | undefined => {
    const at = free.findIndex(matches);
    return at < 0 ? undefined : free.splice(at, 1)[0];
  };
  const lives = sorted.map((version): Life => {
    const same = (prune: RowPrune): boolean => prune.digest === String(version.digest);
    if (version.kind === 'daily') {
      const prune = take(same);
      return { version, ended: prune === undefined ? { by: 'unknown', at: null, lsn: null, run: null } : pruned(prune, null) };
    }
    if (version.kind !== 'segment' && version.kind !== 'restored') {
      const { by = null, micros = null } = version.ended ?? {};
      if (by === 'prune') return { version, ended: pruned(take(same), micros) };
      return { version, ended: by === null ? null : { by: by as EndedBy, at: isoOf(micros), lsn: null, run: null } };
    }
    // A copy does not bring restored rows: that it did not is no sign.
    const found = endOfOpen(version, sorted, events);
    const end = found === 'unseen' && version.kind === 'restored' ? undefined : found;
    if (end === undefined || end === 'unseen') return { version, ended: end === undefined ? null : { by: end, at: null, lsn: null, run: null } };
    const { op, moment } = end;
    if (op === 'prune') {
      const prune = take((one) => same(one) && Number(BigInt.asUintN(32, BigInt(one.xid))) === moment.xid);
      return { version, ended: { ...pruned(prune, moment.micros), lsn: lsnText(moment.lsn) } };
    }
    return { version, ended: { by: op as EndedBy, at: isoOf(moment.micros), lsn: lsnText(moment.lsn), run: null } };
  });
  // What was restored and pruned again the archive holds once.
  const held = new Set(sorted.map(({ digest }) => String(digest)));
  return { lives, left: free.filter(({ outcome, digest }) => outcome === 'committed' && !held.has(digest)) };
}

function pruned(prune: RowPrune | undefined, micros: bigint | null): Ended {
  return { by: 'prune', at: isoOf(micros) ?? prune?.at ?? null, lsn: null, run: prune?.run ?? null };
}

type End = { readonly op: string; readonly moment: Moment };

/** What came first after a version of an open day. */
function endOfOpen(version: Version, versions: readonly Version[], events: readonly Event[]): End | 'unseen' | undefined {
  const after = ({ moment }: { moment: Moment | null }): boolean => moment !== null && version.moment !== null && compareMoments(moment, version.moment) > 0;
  const ours = events.filter((event) => event.oid === version.oid && after(event));
  const names = (event: Event): boolean => event.columns.length > 0 && event.columns.every((name, i) => version.identity.get(name) === event.texts[i]);
  const ends: End[] = ours.filter((event) => event.op === 'truncate' || names(event));
  for (const { op, moment, oid } of versions.filter(after))
    if (oid === version.oid && (op === 'insert' || op === 'copy')) ends.push({ op, moment: moment as Moment });
  const first = earliest(ends);
  const copied = earliest(ours.filter(({ op }) => op === 'copied'));
  if (copied === undefined || (first !== undefined && compareMoments(first.moment, copied.moment) <= 0)) return first;
  // The table began anew: a change behind the copy shows that the copy had the row, and so does the copied row itself.
  const wasCopied =
    first !== undefined && (['update', 'delete', 'prune'].includes(first.op) || (first.op === 'copy' && first.moment.lsn === copied.moment.lsn));
  return wasCopied ? first : 'unseen';
}

function earliest(ends: readonly End[]): End | undefined {
  return [...ends].sort((a, b) => compareMoments(a.moment, b.moment))[0];
}

function compareMoments(a: Moment, b: Moment): number {
  if (a.lsn !== b.lsn) return a.lsn < b.lsn ? -1 : 1;
  return a.ordinal < b.ordinal ? -1 : a.ordinal > b.ordinal ? 1 : 0;
}

/** By moment where it is known; a sealed day stands where its last change does. */
function byPlace(a: Version, b: Version): number {
  if (a.moment !== null && b.moment !== null) return compareMoments(a.moment, b.moment);
  const [x, y] = [a.moment?.lsn ?? a.fileLsn, b.moment?.lsn ?? b.fileLsn];
  return x < y ? -1 : x > y ? 1 : 0;
}
