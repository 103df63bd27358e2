/**
 * Where `tail` begins: `--from` in its forms → a message of the stream. Only looks: the stream is asked for single messages, by halving, and nothing is left in it.
 * A place before the replay window is refused: what would be shown instead has a hole that nobody sees. A time before a stream that still has its first copy is none: nothing was taken out of it.
 */
import type { ChunkHeader } from '../../../src/change/chunk.js';
import { formatLsn, type Lsn, parseLsn } from '../../../src/position/lsn.js';
import { boundary, comparePositions } from '../../../src/position/position.js';
import { duration } from '../../../src/runtime/config-values.js';
import { configError, TidemarkError } from '../../../src/runtime/errors.js';
import { storedHeader } from '../../../src/stream/stray.js';
import { findMessage, readTail } from '../../../src/stream/tail.js';
import { findStream, type StreamConnection } from '../../../src/stream/topology.js';

export type From =
  | { readonly kind: 'now' }
  | { readonly kind: 'start' }
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  /** Microseconds since 1970, as commit times are. */
  | { readonly kind: 'time'; readonly micros: bigint };

/** `sequence`: the first message to be read, undefined: whatever is first. `last`: the newest there is now, 0: none. `notice`: what a person should know of it. */
export type Start = { readonly sequence: number | undefined; readonly created: string; readonly last: number; readonly notice?: string };

/** Clocks of Postgres and NATS may differ by as much (law 12): so much earlier is looked, and then left out by the commit time. */
const CLOCKS_MS = 300_000;

const TIME = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|[+-]\d{2}(?::?\d{2})?)?)?$/i;

/** Reads `--from`: an LSN, a time (UTC without an offset), a duration ago, or `start`. `now`: ms since 1970. Throws `config` for anything else. */
export function parseFrom(text: string | undefined, now: number): From {
  if (text === undefined) return { kind: 'now' };
  const trimmed = text.trim();
  if (trimmed === 'start') return { kind: 'start' };
  if (/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(trimmed)) return { kind: 'lsn', lsn: parseLsn(trimmed) };
  const ago = duration.safeParse(trimmed);
  if (ago.success) return { kind: 'time', micros: BigInt(now - ago.data) * 1000n };
  const time = TIME.exec(trimmed);
  if (time !== null) {
    const offset = (time[3] ?? 'Z').toUpperCase().replace(/^([+-]\d{2}):?(\d{2})?$/, (_, hours: string, minutes?: string) => `${hours}:${minutes ?? '00'}`);
    const ms = Date.parse(`${time[1]}T${time[2] ?? '00:00'}${offset}`);
    const beyond = /\.\d{3}(\d{1,3})/.exec(time[2] ?? '')?.[1] ?? ''; // Date ends at milliseconds
    if (!Number.isNaN(ms)) return { kind: 'time', micros: BigInt(ms) * 1000n + BigInt(beyond.padEnd(3, '0')) };
  }
  throw configError(
    `--from: ${JSON.stringify(text)} is no place in the stream`,
    'give an LSN (0/1F76560), a time (2026-01-12T10:00:00Z), how long ago (10m), or start',
  );
}

/** Finds it. Throws `config` when it lies before the replay window, `failed` without a stream. */
export async function findStart(stream: StreamConnection, from: From): Promise<Start> {
  const info = await findStream(stream.manager, stream.source);
  if (info === undefined)
    throw new TidemarkError('failed', `there is no stream ${stream.name} yet`, { remedy: 'start capture, or correct stream.url and source.name' });
  const { created } = info;
  const { first_seq: first, last_seq: last, messages } = info.state;
  if (messages === 0) return { sequence: last + 1, created, last };
  if (from.kind === 'start') return { sequence: undefined, created, last };
  if (from.kind === 'now') return { sequence: await newest(stream, last), created, last };
  const oldest = await headerAt(stream, first);
  if (oldest === undefined) return await findStart(stream, from); // taken out meanwhile
  if (from.kind === 'lsn') {
    if (from.lsn < oldest.header.prev.lsn || (from.lsn === oldest.header.prev.lsn && oldest.header.prev.k > 0)) throw beforeWindow(formatLsn(from.lsn), oldest);
    const wanted = boundary(from.lsn);
    const sequence = await firstWhere(stream, first, last + 1, ({ header }) => comparePositions(endOf(header), wanted) > 0);
    return { sequence, created, last };
  }
  const ms = Number(from.micros / 1000n);
  if (ms < oldest.time.getTime()) {
    const asked = new Date(ms).toISOString();
    if (!isBeginning(first, oldest)) throw beforeWindow(asked, oldest);
    const notice = `--from: ${asked} lies before the stream, which begins at ${windowOf(oldest)}; nothing was taken out of it, so all of it follows`;
    return { sequence: undefined, created, last, notice };
  }
  const sequence = await firstWhere(stream, first, last + 1, ({ time }) => time.getTime() >= ms - CLOCKS_MS);
  return { sequence, created, last };
}

/** Behind the newest message; at the beginning of its chunk when that is not whole yet. */
async function newest(stream: StreamConnection, last: number): Promise<number> {
  const { header, whole } = await readTail(stream, last);
  return whole ? last + 1 : last - header.fragment.n + 1;
}

/** Rows of copies stand beside the streamed positions, and count in k. */
function endOf({ kind, end }: ChunkHeader): ChunkHeader['end'] {
  return kind === 'changes' ? end : boundary(end.lsn);
}

type Stored = { readonly header: ChunkHeader; readonly time: Date };

async function headerAt(stream: StreamConnection, sequence: number): Promise<Stored | undefined> {
  const message = await findMessage(stream.manager, stream.name, sequence);
  if (message === undefined) return undefined;
  return { header: storedHeader(message), time: message.time };
}

/** The first sequence in [first, end) that `holds`, which then holds for all behind it; `end` when none does. What has been taken out meanwhile lies before it. */
async function firstWhere(stream: StreamConnection, first: number, end: number, holds: (stored: Stored) => boolean): Promise<number> {
  let [low, high] = [first, end];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const stored = await headerAt(stream, middle);
    if (stored !== undefined && holds(stored)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Nothing was purged, and the stream began with a copy of the tables. One that was removed and filled again from the slot (`repair --stream`) begins with changes: it has lost those before. */
function isBeginning(first: number, { header }: Stored): boolean {
  return first === 1 && header.kind === 'copy-begin';
}

const windowOf = ({ header, time }: Stored): string => `${formatLsn(header.prev.lsn)}, ${time.toISOString()}`;

function beforeWindow(asked: string, oldest: Stored): Error {
  return configError(
    `--from: ${asked} lies before the replay window, which begins at ${windowOf(oldest)}`,
    '--from start begins there; what is older is in the archive (docs/reading.md)',
  );
}
