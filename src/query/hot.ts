/**
 * Rows of Postgres, as of a moment, into a table of DuckDB in exactly the types that the archive would give them: by the builder and the reader that segments are made with. A piece at a time: what is not read
 * in yet waits in Postgres. Owns its spool files.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type pg from 'pg';
import type { ArchiveState } from '../archive/manifest.js';
import type { RelationColumn } from '../change/relation.js';
import { SegmentBuilder, type SegmentShape } from '../segment/builder.js';
import { selectSpool, systemIdentifier } from '../segment/sql.js';
import { quoteIdentifier, quoteLiteral } from '../wal/identifier.js';
import { tableFrames } from '../wal/table-rows.js';
import type { Engine } from './engine.js';
import type { HotTable } from './moment.js';
import type { Range, Reading } from './reading.js';
import { type Form, OWN_SCHEMA, type QueriedTable, type Shape } from './table.js';

/** `sql`: a SELECT of them in the table's shape. */
export type HotRows = { readonly sql: string; readonly rows: number };

const SPOOL_BYTES = 64 * 1024 * 1024;
/** In an Insert message behind its length: tag, OID, `N`. */
const TUPLE_AT = 4 + 1 + 4 + 1;
const ORIGIN = { op: 'copy', lsn: 0n, ordinal: 0, xid: 0, committedAtMicros: 0n } as const;

/** The columns of the table now. The key, which decides the type of an array in it, is that of its segments where there are any. */
export function hotForm({ relation, description }: HotTable, state: ArchiveState | undefined): Form {
  const archived = state?.tables.findLast(({ oid }) => oid === relation.oid);
  const flagged = relation.identity === 'i' ? relation.columns.filter(({ key }) => key).map(({ name }) => name) : description.primaryKey;
  const key = archived === undefined || archived.signature === '' ? flagged : archived.key;
  return { columns: relation.columns, types: description.types, dimensions: description.dimensions ?? {}, key };
}

/** Reads what `reading` asks for. `name`: of the table to make, free in our schema; `folder`: for spools. */
export async function loadHotRows(
  engine: Engine,
  client: pg.Client,
  from: {
    readonly table: QueriedTable;
    readonly hot: HotTable;
    readonly form: Form;
    readonly shape: Shape;
    readonly reading: Reading;
    readonly name: string /** `xmin`, as Postgres prints it, of rows that count in the archive. */;
    readonly restored: readonly string[];
  },
  folder: string,
): Promise<HotRows> {
  const { table, hot, form, shape, reading, name } = from;
  const own = [...form.columns];
  // Whatever may stand in the column of texts is asked for with it.
  const wanted = reading.columns.has(shape.text) ? own : own.filter((column) => has(reading.columns, column.name));
  const columns = wanted.length > 0 ? wanted : own.slice(0, 1);
  const segment: SegmentShape = {
    kind: 'segment',
    relation: { ...hot.relation, columns },
    description: hot.description,
    key: form.key,
    timestamp: table.timestamp,
    day: null,
  };
  const target = `${OWN_SCHEMA}.${name}`;
  let made = false;
  let rows = 0;
  let pieces = 0;
  const take = async (builder: SegmentBuilder): Promise<void> => {
    const spool = builder.finish();
    try {
      const text = `${systemIdentifier('text', columns)} AS ${systemIdentifier('text', form.columns)}`;
      const list = [...columns.map((column) => quoteIdentifier(column.name)), text].join(', ');
      const select = `SELECT ${list} FROM (${selectSpool(spool)})`;
      await engine.run(made ? `INSERT INTO ${target} ${select}` : `CREATE TABLE ${target} AS ${select}`);
      made = true;
      rows += spool.rows;
    } finally {
      await rm(spool.file, { force: true });
    }
  };
  const begin = (): SegmentBuilder => {
    pieces += 1;
    return new SegmentBuilder(segment, path.join(folder, `${name}-${pieces}.csv`));
  };
  let builder = begin();
  try {
    for await (const frames of tableFrames(client, segment.relation, `${rangeSql(table, form.columns, reading.range)} AND ${notOf(from.restored)}`)) {
      for (let at = 0; at < frames.length; at += 4 + frames.readUInt32BE(at)) builder.append(frames, at + TUPLE_AT, ORIGIN);
      if (builder.bytes < SPOOL_BYTES) continue;
      await take(builder);
      builder = begin();
    }
  } catch (error) {
    builder.discard();
    throw error;
  }
  await take(builder);
  const loaded = new Set([...columns.map((column) => column.name), shape.text]);
  return { sql: shape.segmentSql(form, `${target} r`, loaded), rows };
}

/** SQL condition: none of these transactions put the row in. As one array Postgres hashes it; every batch of a restore is one, and a comparison each would be thousands for each row. */
function notOf(xmins: readonly string[]): string {
  return xmins.length === 0 ? 'true' : `xmin <> ALL (${quoteLiteral(`{${xmins.join(',')}}`)}::xid[])`;
}

function has(names: ReadonlySet<string>, name: string): boolean {
  return names.has(name) || [...names].some((one) => one.toLowerCase() === name.toLowerCase());
}

const TIME_TYPES: Readonly<Record<number, string>> = { 1082: 'date', 1114: 'timestamp', 1184: 'timestamptz' };

/** SQL condition for Postgres: at least all rows of the range. Values that DuckDB's type cannot hold may come too; DuckDB's own condition leaves them out. */
function rangeSql({ timestamp }: QueriedTable, columns: readonly RelationColumn[], { from, to }: Range): string {
  const type = TIME_TYPES[columns.find(({ name }) => name === timestamp)?.typeOid ?? 0];
  if (type === undefined) return 'true';
  const ends = [from === undefined ? [] : [['>=', from]], to === undefined ? [] : [['<=', to]]].flat();
  return ['true', ...ends.map(([operator, value]) => `${quoteIdentifier(timestamp)} ${operator} ${quoteLiteral(value as string)}::${type}`)].join(' AND ');
}
