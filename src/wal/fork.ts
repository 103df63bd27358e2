/**
 * A server that writes another timeline than the archive's: where its history left that timeline, and whether everything archived and published lies before it. Then the archive stands
 * on the line that both have in common and a planned switchover is no halt. Only reads; that it is the same history is proved by the fences that must come again (anchor.ts).
 */
import { type Epoch, formatEpoch, sameEpoch } from '../position/epoch.js';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import { boundary, comparePositions, formatPosition, type Position } from '../position/position.js';
import { applicationName } from './identifier.js';
import type { ServerIdentity } from './identity.js';
import { closeClient, connectClient } from './session.js';

/** A timeline that the server's own descends from, and where it left it. Source: manual, "TIMELINE_HISTORY". */
export type Ancestor = { readonly timeline: number; readonly until: Lsn };

/** Reads the lines of a history file: `1<tab>0/3000060<tab>reason`. Throws SyntaxError on anything else. */
export function parseHistory(text: string): Ancestor[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const match = /^(\d+)\s+(\S+)/.exec(line);
      if (!match) throw new SyntaxError(`not a line of a timeline history: ${JSON.stringify(line)}`);
      return { timeline: Number(match[1]), until: parseLsn(match[2] as string) };
    });
}

/** The history of the timeline that `server` writes, asked on a replication connection. Empty when another server answers there. */
export async function readHistory(url: string, source: string, server: ServerIdentity): Promise<Ancestor[]> {
  const client = await connectClient(url, { applicationName: applicationName(source, 'control'), replication: true, queryTimeoutMs: 30_000 });
  try {
    const here = (await client.query<{ systemid: string; timeline: string }>('IDENTIFY_SYSTEM')).rows[0];
    if (here?.systemid !== server.systemId || Number(here.timeline) !== server.timeline) return [];
    const { rows } = await client.query<{ content: string }>(`TIMELINE_HISTORY ${server.timeline}`);
    return parseHistory(rows[0]?.content ?? '');
  } finally {
    await closeClient(client);
  }
}

export type ForkFacts = {
  readonly server: ServerIdentity;
  readonly history: readonly Ancestor[];
  /** The archive's, and what it holds. */
  readonly epoch: Epoch;
  readonly w: Position;
  readonly fences: number;
  /** How the stream ends. */
  readonly tail: { readonly epoch: Epoch; readonly end: Position } | undefined;
};

/** common: the archive and the stream lie on the line that both timelines share up to `at` · lost: they do not, or nothing proves it, and why. */
export type ForkVerdict = { readonly verdict: 'common'; readonly at: Lsn } | { readonly verdict: 'lost'; readonly seen: string };

/** Pure. Asked only when the server writes another timeline than the archive's, under the same system identifier. */
export function judgeFork({ server, history, epoch, w, fences, tail }: ForkFacts): ForkVerdict {
  const lost = (seen: string): ForkVerdict => ({ verdict: 'lost', seen });
  const at = history.find((ancestor) => ancestor.timeline === epoch.timeline)?.until;
  if (at === undefined || server.timeline < epoch.timeline) return lost('its history does not come from there: a backup was restored');
  const from = `its history left that timeline at ${formatLsn(at)}`;
  if (w.lsn > at) return lost(`${from}, before the archived position ${formatPosition(w)}: what is archived beyond that is in no table any more`);
  if (fences === 0) return lost(`${from}; no fence is archived that would prove the rest`);
  if (tail === undefined || sameEpoch(tail.epoch, { ...epoch, timeline: server.timeline })) return { verdict: 'common', at };
  if (!sameEpoch(tail.epoch, epoch)) return lost(`${from}; the stream ends in epoch ${formatEpoch(tail.epoch)}`);
  if (comparePositions(tail.end, boundary(at)) > 0) return lost(`${from}, before the end of the stream (${formatPosition(tail.end)})`);
  return { verdict: 'common', at };
}
