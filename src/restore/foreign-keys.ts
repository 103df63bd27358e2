/**
 * Foreign keys of a table that rows go into: which of them refer to a row that is not there, so that the others can go in without them. Read by SELECT before the insert; what changes in between,
 * and the keys that may not be looked at, Postgres itself refuses.
 */
import type pg from 'pg';
import { quoteIdentifier } from '../wal/identifier.js';
import type { Stage } from './stage.js';
import { quoted, type RestoreTarget, textOf } from './target.js';

type Pair = readonly [theirs: string, ours: string, operatorSchema: string, operator: string];

type ForeignKey = {
  /** For people: what is wrong with a row that it leads nowhere for. */
  readonly reason: string;
  readonly pairs: readonly Pair[];
  /** SQL of the table that is referred to. */
  readonly parent: string;
  /** OIDs of that table and its partitions. */
  readonly parents: readonly number[];
};

/** Rows of a batch that have to wait, or to stay away, by their numbers: why. */
export type Orphans = ReadonlyMap<number, string>;

type Row = { name: string; schema: string; table: string; relkind: string; parents: string; pairs: string };

/** Those that are enforced for this session's inserts, by equality, and whose parent it may read as it is. */
const QUERY = `
SELECT f.conname AS name, n.nspname AS schema, p.relname AS table, p.relkind, k.pairs::text AS pairs,
  (SELECT jsonb_agg(t.oid::int8) FROM (SELECT f.confrelid AS oid UNION SELECT pt.relid::oid FROM pg_catalog.pg_partition_tree(f.confrelid) pt) t)::text AS parents
FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class p ON p.oid = f.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace,
  LATERAL (SELECT jsonb_agg(jsonb_build_array(theirs.attname, ours.attname, ons.nspname, op.oprname)) AS pairs, bool_and(op.oprname = '=') AS equal,
       bool_and(pg_catalog.has_column_privilege(p.oid, x.parent, 'SELECT')) AS readable
     FROM unnest(f.conkey, f.confkey, f.conpfeqop) x(child, parent, op) JOIN pg_catalog.pg_attribute theirs ON theirs.attrelid = f.conrelid AND theirs.attnum = x.child
     JOIN pg_catalog.pg_attribute ours ON ours.attrelid = p.oid AND ours.attnum = x.parent
     JOIN pg_catalog.pg_operator op ON op.oid = x.op JOIN pg_catalog.pg_namespace ons ON ons.oid = op.oprnamespace) k
WHERE f.contype = 'f' AND f.conrelid = $1::oid AND k.equal AND k.readable AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND NOT pg_catalog.row_security_active(p.oid)
  AND EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgconstraint = f.oid AND g.tgrelid = f.conrelid AND (g.tgtype & 4) <> 0 AND g.tgenabled IN ('O', 'A'))
ORDER BY f.oid`;

export class ForeignKeys {
  readonly #client: pg.Client;
  readonly #keys: readonly ForeignKey[];
  readonly #own: number;
  readonly #foretold: ForetoldRows | undefined;

  private constructor(client: pg.Client, keys: readonly ForeignKey[], own: number, foretold: ForetoldRows | undefined) {
    this.#client = client;
    this.#keys = keys;
    this.#own = own;
    this.#foretold = foretold;
  }

  /** `foretold`: of a dry run. */
  static async read(client: pg.Client, target: RestoreTarget, foretold: ForetoldRows | undefined): Promise<ForeignKeys> {
    const { rows } = await client.query<Row>(QUERY, [target.oid]);
    const keys = rows.map(({ name, schema, table, relkind, parents, pairs }) => ({
      reason: `refers to a row of ${textOf({ schema, table })} that is not there (${name})`,
      pairs: JSON.parse(pairs) as Pair[],
      parent: `${relkind === 'p' ? '' : 'ONLY '}${quoted({ schema, table })}`,
      parents: JSON.parse(parents) as number[],
    }));
    const known = new Set(target.columns.map(({ name }) => name));
    await foretold?.open(target);
    return new ForeignKeys(
      client,
      keys.filter(({ pairs }) => pairs.every(([theirs]) => known.has(theirs))), // a generated column is not among them
      target.oid,
      foretold,
    );
  }

  /** Staged rows but `left` that would refer to nothing, though all others went in. */
  async orphans(stage: Stage, left: readonly number[]): Promise<Orphans> {
    const found = new Map<number, string>();
    // A row that refers to an orphan of its own table is one too.
    for (let before = -1; before < found.size; ) {
      before = found.size;
      for (const key of this.#keys) {
        const { rows } = await this.#client.query<{ n: string }>(this.#orphansSql(stage, key), [[...left, ...found.keys()]]);
        for (const { n } of rows) found.set(Number(n), key.reason);
      }
    }
    return found;
  }

  #orphansSql(stage: Stage, { pairs, parent, parents }: ForeignKey): string {
    const goesIn = (alias: string): string => `${alias}.${stage.number} <> ALL ($1::int4[])`;
    const equal = pairs.map(
      ([theirs, ours, schema, operator]) => `p.${quoteIdentifier(ours)} OPERATOR(${quoteIdentifier(schema)}.${operator}) s.${quoteIdentifier(theirs)}`,
    );
    const nowhere = (from: string, condition = 'true'): string => `NOT EXISTS (SELECT FROM ${from} p WHERE ${condition} AND ${equal.join(' AND ')})`;
    const conditions = [goesIn('s'), ...pairs.map(([theirs]) => `s.${quoteIdentifier(theirs)} IS NOT NULL`), nowhere(parent)];
    if (parents.includes(this.#own)) conditions.push(nowhere(stage.table, goesIn('p')));
    for (const oid of parents) {
      const foretold = this.#foretold?.table(oid);
      if (foretold !== undefined) conditions.push(nowhere(foretold));
    }
    return `SELECT s.${stage.number} AS n FROM ${stage.table} s WHERE ${conditions.join(' AND ')}`;
  }

  /** Dry run: staged rows but `left` count as there from now on. Lasts beyond a COMMIT. */
  async foretell(stage: Stage, left: readonly number[]): Promise<void> {
    await this.#foretold?.add(stage, left);
  }
}

/** Rows that a dry run would have put back, in temporary tables: what other rows may refer to of them. One for each dry run. */
export class ForetoldRows {
  readonly #client: pg.Client;
  /** By OID of the table whose rows they are. */
  readonly #tables = new Map<number, { readonly name: string; readonly columns: readonly string[] }>();

  constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Makes the place for a table's rows, when a foreign key refers to it. Call outside a transaction. */
  async open(target: RestoreTarget): Promise<void> {
    if (this.#tables.has(target.oid)) return;
    const { rows } = await this.#client.query<{ column: string }>(
      `SELECT DISTINCT a.attname AS column FROM pg_catalog.pg_constraint f, unnest(f.confkey) k(attnum)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attnum = k.attnum WHERE f.contype = 'f' AND f.confrelid = $1::oid`,
      [target.oid],
    );
    const columns = rows.map(({ column }) => quoteIdentifier(column));
    if (columns.length === 0) return;
    const name = `tidemark_foretold_${target.oid}`;
    await this.#client.query(`CREATE TEMPORARY TABLE ${name} AS SELECT ${columns.join(', ')} FROM ONLY ${quoted(target)} WITH NO DATA`);
    this.#tables.set(target.oid, { name: `pg_temp.${name}`, columns });
  }

  /** Its name in SQL. */
  table(oid: number): string | undefined {
    return this.#tables.get(oid)?.name;
  }

  async add(stage: Stage, left: readonly number[]): Promise<void> {
    const table = this.#tables.get(stage.target.oid);
    if (table === undefined) return;
    const columns = table.columns.map((column) => `s.${column}`).join(', ');
    await this.#client.query(
      `INSERT INTO ${table.name} (${table.columns.join(', ')}) SELECT ${columns} FROM ${stage.table} s WHERE s.${stage.number} <> ALL ($1::int4[])`,
      [left],
    );
  }
}
