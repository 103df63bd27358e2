/** What a file of ours says of itself: the `tidemark` entry of its Parquet key-value metadata. */
import type { RelationColumn, TypeDescription } from '../change/relation.js';
import { relationSignature } from '../change/relation.js';
import type { SegmentShape } from './builder.js';

export type SegmentMetadata = {
  readonly formatVersion: number;
  readonly archive: string;
  readonly kind: 'segment' | 'restored' | 'keys' | 'daily' | 'history' | 'changes';
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly day: string | null;
  readonly timestamp: string;
  readonly key: readonly string[];
  readonly signature: string;
  readonly columns: readonly RelationColumn[];
  /** Described types (OID ≥ 16384), by OID. */
  readonly types: Readonly<Record<string, TypeDescription>>;
  /** Declared dimensions of array columns that have more than one. */
  readonly dimensions?: Readonly<Record<string, number>>;
  readonly columnTypes: Readonly<Record<string, string>>;
  /** CREATE TABLE text. */
  readonly ddl: string;
};

/** The JSON for `tidemark`. */
export function segmentMetadata(shape: SegmentShape, archive: string, kind: SegmentMetadata['kind'] = shape.kind): string {
  const metadata: SegmentMetadata = {
    formatVersion: 1,
    archive,
    kind,
    oid: shape.relation.oid,
    schema: shape.relation.schema,
    table: shape.relation.table,
    day: shape.day,
    timestamp: shape.timestamp,
    key: shape.key,
    signature: relationSignature(shape.relation, shape.description?.dimensions),
    columns: shape.relation.columns,
    types: shape.description?.types ?? {},
    dimensions: shape.description?.dimensions ?? {},
    columnTypes: shape.description?.columnTypes ?? {},
    ddl: shape.description?.ddl ?? '',
  };
  return JSON.stringify(metadata);
}

/** Reads it from a file's metadata. Throws an Error that names the file when it is missing or newer than this program. */
export function parseMetadata(metadata: Readonly<Record<string, string>>, file: string): SegmentMetadata {
  const text = metadata['tidemark'];
  if (text === undefined) throw new Error(`${file} is not a file of Tidemark: it has no such metadata`);
  let parsed: SegmentMetadata;
  try {
    parsed = JSON.parse(text) as SegmentMetadata;
  } catch (error) {
    throw new Error(`${file}: its metadata of Tidemark cannot be read (${(error as Error).message})`, { cause: error });
  }
  if (parsed.formatVersion !== 1) throw new Error(`${file} has format version ${parsed.formatVersion}; this program reads 1`);
  return parsed;
}
