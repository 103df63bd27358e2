/**
 * What the stream says of a table: the Relation message of pgoutput (names, type OIDs, identity flags) and our description (what a type
 * OID means), because an offline reader has no catalog to ask. Source: PostgreSQL manual, "Logical Replication Message Formats".
 */

export type RelationColumn = {
  readonly name: string;
  readonly typeOid: number;
  /** atttypmod, -1 when the type has none. */
  readonly typmod: number;
  /** Part of the replica identity (under FULL every column is). */
  readonly key: boolean;
};

/** d = DEFAULT, n = NOTHING, f = FULL, i = INDEX. */
export type ReplicaIdentity = 'd' | 'n' | 'f' | 'i';

export type Relation = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly identity: ReplicaIdentity;
  readonly columns: readonly RelationColumn[];
};

/** pg_type.typtype of a type that is not built in, with what it is built upon. */
export type TypeDescription = {
  readonly name: string;
  /** b base · c composite · d domain · e enum · p pseudo · r range · m multirange */
  readonly kind: string;
  /** Domains: the base type and its typmod. */
  readonly baseOid?: number;
  readonly baseTypmod?: number;
  /** Arrays: the element type. */
  readonly elementOid?: number;
};

/** Sent before the first rows of a relation version, frame type `d`. */
export type TableDescription = {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** Primary key columns in key order; empty when there is none. */
  readonly primaryKey: readonly string[];
  /** format_type() of every column by name, NOT NULL appended where it holds: for people and for the file's metadata. */
  readonly columnTypes: Readonly<Record<string, string>>;
  /** CREATE TABLE text for the Parquet file's key-value metadata. */
  readonly ddl: string;
  /** Types with OID ≥ 16384 that the columns use, by OID, elements and bases included. */
  readonly types: Readonly<Record<string, TypeDescription>>;
  /** Declared dimensions of the array columns that have more than one, by name: pg_attribute.attndims. */
  readonly dimensions?: Readonly<Record<string, number>>;
};

/** Equal signatures = rows of the same schema version: names, types, typmods and declared dimensions in order. */
export function relationSignature(relation: Pick<Relation, 'columns'>, dimensions: TableDescription['dimensions'] = {}): string {
  return relation.columns
    .map(({ name, typeOid, typmod }) => `${JSON.stringify(name)}:${typeOid}:${typmod}${dimensions[name] === undefined ? '' : `:${dimensions[name]}`}`)
    .join(',');
}

/** Do both say the same? Asked for each chunk: cheaper than two signatures. */
export function isSameRelation(a: Relation, b: Relation): boolean {
  if (a.oid !== b.oid || a.schema !== b.schema || a.table !== b.table || a.identity !== b.identity || a.columns.length !== b.columns.length) return false;
  return a.columns.every((column, i) => {
    const other = b.columns[i] as RelationColumn;
    return column.name === other.name && column.typeOid === other.typeOid && column.typmod === other.typmod && column.key === other.key;
  });
}
