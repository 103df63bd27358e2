/**
 * A table's entry in the publication, named so that it is another one once the table was taken out and put back, or once the publication's operations were altered:
 * changes in between were not sent, and nothing else tells of it (protocol P8).
 */
import type pg from 'pg';

/** SQL text expression over PUBLISHED. */
export const PUBLICATION_ENTRY = `pr.oid::text || ':' || pr.xmin::text || ':' || p.oid::text || ':' || p.xmin::text`;

/** SQL: the entries of publications, `pr` and `p`. A partition whose changes are published as those of its root (publish_via_partition_root, and the root is in the publication) is not among them. */
export const PUBLISHED = `pg_catalog.pg_publication_rel pr JOIN pg_catalog.pg_publication p ON p.oid = pr.prpubid
  AND EXISTS (SELECT FROM pg_catalog.pg_get_publication_tables(p.pubname) sent WHERE sent.relid = pr.prrelid)`;

export type PublishedTable = { readonly oid: number; readonly schema: string; readonly table: string; readonly published: string };

/** The tables of a publication; those of other kinds of publication than ours (FOR ALL TABLES) have no entries. */
export async function readPublished(client: pg.Client, publication: string): Promise<PublishedTable[]> {
  const { rows } = await client.query<Record<'oid' | 'schema' | 'table' | 'published', string>>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS table, ${PUBLICATION_ENTRY} AS published
       FROM ${PUBLISHED}
       JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`,
    [publication],
  );
  return rows.map((row) => ({ ...row, oid: Number(row.oid) }));
}
