/**
 * A chunk = one stream message (or several fragments of one): the changes of a span of positions, each decodable alone: it repeats the Begin of
 * the transaction it starts in, and the Relation and description of every table it has rows of.
 *
 * Payload: frames, each `u32 big-endian length` + bytes. The first byte of a frame is its type: pgoutput's own (B C R I U D T M O Y), or `d` = a
 * TableDescription as JSON (ours; lower case, which pgoutput never uses). Header fields below carry what continuity needs.
 */
import { type Epoch, formatEpoch, parseEpoch } from '../position/epoch.js';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import { formatPosition, type Position, parsePosition } from '../position/position.js';

export const CHUNK_FORMAT = 1;

const KINDS = ['changes', 'copy-begin', 'copy', 'copy-end', 'recopy-begin', 'recopy', 'recopy-end', 'fork'] as const;

/**
 * `changes`: streamed transactions, prev/end are positions. `copy-begin`, `copy`, `copy-end`: a copy generation; prev/end have the slot's
 * consistent point as lsn and count rows of the whole generation in k, a lane of its own beside the streamed positions. `recopy-begin`, `recopy`,
 * `recopy-end`: rows of one table copied (again) while the stream goes on; prev and end are both the streamed position before them. `fork`: from here on the chunks are
 * of its own epoch, another timeline of the same server; prev and end as those of a re-copy.
 */
export type ChunkKind = (typeof KINDS)[number];

/** Where a chunk stands in a re-copy: rows (prev, end] of copy `id`, whose rows stand at `at`. */
export type RecopySpan = { readonly id: string; readonly at: Lsn; readonly prev: number; readonly end: number };

export type ChunkHeader = {
  readonly kind: ChunkKind;
  readonly epoch: Epoch;
  readonly prev: Position;
  readonly end: Position;
  /** 1-based number of this fragment and how many there are; 1/1 when whole. */
  readonly fragment: { readonly n: number; readonly of: number };
  /** Of re-copies. */
  readonly recopy?: RecopySpan;
};

/** Payload of `copy-begin` (JSON, one frame-less document). */
export type CopyBegin = {
  readonly archive: string;
  readonly consistentPoint: string;
  /** pg_current_snapshot() of the copy: `xmin:xmax:xip,…` (64-bit ids). */
  readonly snapshot: string;
  readonly tables: readonly {
    readonly oid: number;
    readonly schema: string;
    readonly table: string /** Names its entry in the publication: another one after it was taken out. */;
    readonly published: string;
  }[];
};

/** Payload of `copy-end`. */
export type CopyEnd = { readonly rows: number; readonly tables: readonly { readonly oid: number; readonly rows: number }[] };

/** Payload of `recopy-begin`. Copied rows stand at `at` − 1: behind everything that committed before it, and all of that is visible in the snapshot. */
export type RecopyBegin = {
  readonly archive: string;
  readonly id: string;
  readonly at: string;
  readonly snapshot: string;
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** Every row of the table; else only rows that were asked for. */
  readonly whole: boolean;
  readonly published: string;
};

/** Payload of `recopy-end`. `form`: frames of the description and the Relation of its rows, base64. */
export type RecopyEnd = { readonly rows: number; readonly form: string };

/** Payload of `fork`: the server that took over left the timeline of `from` (an epoch) at `at`, behind everything published before. */
export type ForkFound = { readonly archive: string; readonly from: string; readonly at: string /** What was seen, for people. */; readonly seen: string };

/** NATS header names. */
const NAMES = {
  format: 'Tidemark-Format',
  kind: 'Tidemark-Kind',
  epoch: 'Tidemark-Epoch',
  prev: 'Tidemark-Prev',
  end: 'Tidemark-End',
  fragment: 'Tidemark-Fragment',
  recopy: 'Tidemark-Recopy',
} as const;

export function encodeChunkHeader(header: ChunkHeader): Record<string, string> {
  return {
    [NAMES.format]: String(CHUNK_FORMAT),
    [NAMES.kind]: header.kind,
    [NAMES.epoch]: formatEpoch(header.epoch),
    [NAMES.prev]: formatPosition(header.prev),
    [NAMES.end]: formatPosition(header.end),
    [NAMES.fragment]: `${header.fragment.n}/${header.fragment.of}`,
    ...(header.recopy === undefined ? {} : { [NAMES.recopy]: formatSpan(header.recopy) }),
  };
}

/** Throws SyntaxError when the message is not one of ours or of a newer format. */
export function decodeChunkHeader(get: (name: string) => string | undefined): ChunkHeader {
  const format = get(NAMES.format);
  if (format !== String(CHUNK_FORMAT)) throw new SyntaxError(`chunk format ${JSON.stringify(format ?? '')} is not ${CHUNK_FORMAT}`);
  const kind = get(NAMES.kind) as ChunkKind;
  if (!KINDS.includes(kind)) throw new SyntaxError(`unknown chunk kind ${JSON.stringify(kind)}`);
  const fragment = /^(\d+)\/(\d+)$/.exec(get(NAMES.fragment) ?? '');
  if (!fragment) throw new SyntaxError('chunk without fragment header');
  const recopy = get(NAMES.recopy);
  if (kind.startsWith('recopy') !== (recopy !== undefined))
    throw new SyntaxError(`a ${kind} chunk ${recopy === undefined ? 'without' : 'with'} ${NAMES.recopy}`);
  return {
    kind,
    epoch: parseEpoch(get(NAMES.epoch) ?? ''),
    prev: parsePosition(get(NAMES.prev) ?? ''),
    end: parsePosition(get(NAMES.end) ?? ''),
    fragment: { n: Number(fragment[1]), of: Number(fragment[2]) },
    ...(recopy === undefined ? {} : { recopy: parseSpan(recopy) }),
  };
}

function formatSpan({ id, at, prev, end }: RecopySpan): string {
  return `${id} ${formatLsn(at)} ${prev}-${end}`;
}

function parseSpan(text: string): RecopySpan {
  const match = /^([0-9a-f-]{36}) (\S+) (\d+)-(\d+)$/.exec(text);
  if (!match) throw new SyntaxError(`${JSON.stringify(text)} is no place in a re-copy`);
  return { id: match[1] as string, at: parseLsn(match[2] as string), prev: Number(match[3]), end: Number(match[4]) };
}
