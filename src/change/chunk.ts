/**
 * A chunk = one stream message (or several fragments of one): the changes of a span of positions, each decodable alone: it repeats the Begin of
 * the transaction it starts in, and the Relation and description of every table it has rows of.
 *
 * Payload: frames, each `u32 big-endian length` + bytes. The first byte of a frame is its type: pgoutput's own (B C R I U D T M O Y), or `d` = a
 * TableDescription as JSON (ours; lower case, which pgoutput never uses). Header fields below carry what continuity needs.
 */
import { type Epoch, formatEpoch, parseEpoch } from '../position/epoch.js';
import { formatPosition, type Position, parsePosition } from '../position/position.js';

export const CHUNK_FORMAT = 1;

/**
 * `changes`: streamed transactions, prev/end are positions. `copy-begin`, `copy`, `copy-end`: a copy generation; prev/end have the slot's
 * consistent point as lsn and count rows of the whole generation in k, a lane of its own beside the streamed positions.
 */
export type ChunkKind = 'changes' | 'copy-begin' | 'copy' | 'copy-end';

export type ChunkHeader = {
  readonly kind: ChunkKind;
  readonly epoch: Epoch;
  readonly prev: Position;
  readonly end: Position;
  /** 1-based number of this fragment and how many there are; 1/1 when whole. */
  readonly fragment: { readonly n: number; readonly of: number };
};

/** Payload of `copy-begin` (JSON, one frame-less document). */
export type CopyBegin = {
  readonly archive: string;
  readonly consistentPoint: string;
  /** pg_current_snapshot() of the copy: `xmin:xmax:xip,…` (64-bit ids). */
  readonly snapshot: string;
  readonly tables: readonly { readonly oid: number; readonly schema: string; readonly table: string }[];
};

/** Payload of `copy-end`. */
export type CopyEnd = { readonly rows: number; readonly tables: readonly { readonly oid: number; readonly rows: number }[] };

/** NATS header names. */
const NAMES = {
  format: 'Tidemark-Format',
  kind: 'Tidemark-Kind',
  epoch: 'Tidemark-Epoch',
  prev: 'Tidemark-Prev',
  end: 'Tidemark-End',
  fragment: 'Tidemark-Fragment',
} as const;

export function encodeChunkHeader(header: ChunkHeader): Record<string, string> {
  return {
    [NAMES.format]: String(CHUNK_FORMAT),
    [NAMES.kind]: header.kind,
    [NAMES.epoch]: formatEpoch(header.epoch),
    [NAMES.prev]: formatPosition(header.prev),
    [NAMES.end]: formatPosition(header.end),
    [NAMES.fragment]: `${header.fragment.n}/${header.fragment.of}`,
  };
}

/** Throws SyntaxError when the message is not one of ours or of a newer format. */
export function decodeChunkHeader(get: (name: string) => string | undefined): ChunkHeader {
  const format = get(NAMES.format);
  if (format !== String(CHUNK_FORMAT)) throw new SyntaxError(`chunk format ${JSON.stringify(format ?? '')} is not ${CHUNK_FORMAT}`);
  const kind = get(NAMES.kind) as ChunkKind;
  if (!['changes', 'copy-begin', 'copy', 'copy-end'].includes(kind)) throw new SyntaxError(`unknown chunk kind ${JSON.stringify(kind)}`);
  const fragment = /^(\d+)\/(\d+)$/.exec(get(NAMES.fragment) ?? '');
  if (!fragment) throw new SyntaxError('chunk without fragment header');
  return {
    kind,
    epoch: parseEpoch(get(NAMES.epoch) ?? ''),
    prev: parsePosition(get(NAMES.prev) ?? ''),
    end: parsePosition(get(NAMES.end) ?? ''),
    fragment: { n: Number(fragment[1]), of: Number(fragment[2]) },
  };
}
