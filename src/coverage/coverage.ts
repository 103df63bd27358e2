/**
 * Which row versions are provably archived. Pure: state of the archive and identity of the server in, a horizon out. Unknown means not covered; it only narrows.
 */
import type { ArchiveState } from '../archive/manifest.js';
import type { ArchivedFence, TableState } from '../archive/manifest-format.js';
import { parseLsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';

/** covered: a live row whose xmin is older than `horizon` (64-bit transaction id) is archived as it stands. not: none is, and why. */
export type Coverage =
  | { readonly state: 'covered'; readonly table: TableState; readonly fence: ArchivedFence }
  | { readonly state: 'not'; readonly reason: string };

/** The part of a server's identity that an epoch is compared with. */
export type Server = { readonly systemId: string; readonly timeline: number /** The next 64-bit transaction id, decimal. */; readonly nextXid: string };

/** The live table. `published`: its entry in the publication. */
export type LiveTable = {
  readonly schema: string;
  readonly table: string;
  readonly oid: number;
  readonly published: string | null /** Configured. */;
  readonly timestamp: string;
};

/** A fence older than this many transaction ids cannot be compared with a row's 32-bit xmin any more. */
const OLDEST_FENCE = 2n ** 30n;

/** Coverage of a table. `state` undefined: there is no manifest yet. */
export function tableCoverage(state: ArchiveState | undefined, live: LiveTable, server: Server): Coverage {
  const not = (reason: string): Coverage => ({ state: 'not', reason });
  if (state === undefined) return not('the archive has no manifest yet');
  if (state.epoch === null || state.position === null) return not('the first copy of the tables is not complete');
  if (state.epoch.systemId !== server.systemId)
    return not(`the archive belongs to the server with system identifier ${state.epoch.systemId}, this one is ${server.systemId}`);
  if (state.epoch.timeline !== server.timeline) return not(`the archive was made on timeline ${state.epoch.timeline}, the server is on ${server.timeline}`);
  const found = state.tables.find((entry) => entry.oid === live.oid); // a table dropped and made again under its name is another one
  if (found === undefined) return not('it is not archived yet: its rows are copied when it is published');
  if (found.schema !== live.schema || found.table !== live.table) return not(`it was ${found.schema}.${found.table} when it was archived last`);
  if (found.timestamp !== live.timestamp)
    return not(`its timestamp column was ${found.timestamp} when it was archived last: its rows are not copied again yet`);
  if (found.coverage.state === 'closed') return not(found.coverage.reason);
  if (found.copied?.published !== live.published) return not('it was taken out of the publication, or that was altered: its rows are not copied again yet');
  const fence = state.fences.at(-1);
  if (fence === undefined) return not('no fence is archived yet: wait for the next flush (archive.flush.every)');
  if (parseLsn(fence.end) > parsePosition(state.position).lsn) return not('the newest fence lies beyond the archived position');
  const age = BigInt(server.nextXid) - BigInt(fence.horizon);
  if (age < 0n) return not('the newest fence is ahead of the server: this is another history');
  if (age >= OLDEST_FENCE) return not('the newest fence is too old to be compared with row versions; archiving lags by a thousand million transactions');
  return { state: 'covered', table: found, fence };
}
