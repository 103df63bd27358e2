/**
 * A table's entry in the publication, named so that it is another one once the table was taken out and put back, or once the publication's operations were altered:
 * changes in between were not sent, and nothing else tells of it (protocol P8).
 */
import type pg from 'pg';

/** SQL text expression over `pr` (pg_publication_rel) and `p` (pg_publication). */
export const PUBLICATION_ENTRY = `pr.oid::text || ':' || pr.xmin::text || ':' || p.oid::text || ':' || p.xmin::text`;

export type PublishedTable = { readonly oid: number; readonly schema: string; readonly table: string; readonly published: string };

/** The tables of a publication; those of other kinds of publication than ours (FOR ALL TABLES) have no entries. */
export async function readPublished(client: pg.Client, publication: string): Promise<PublishedTable[]> {
  const { rows } = await client.query<Record<'oid' | 'schema' | 'table' | 'published', string>>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS table, ${PUBLICATION_ENTRY} AS published
       FROM pg_catalog.pg_publication_rel pr JOIN pg_catalog.pg_publication p ON p.oid = pr.prpubid
       JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`,
    [publication],
  );
  return rows.map((row) => ({ ...row, oid: Number(row.oid) }));
}
