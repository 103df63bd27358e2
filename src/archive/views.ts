/**
 * Views over the archive for DuckDB, one for each table: the last version of each life of a row, of sealed and open days, user-deleted rows taken out.
 * `_unresolved` names the columns of a row whose value is not known yet. They stay right while days are merged and sealed: which files count is read from the manifests within
 * the query, once; which manifests there are is looked up before which files there are, and files that a manifest dropped stay for a while. Pure text.
 */

import { systemName, systemPrefix } from '../change/system-columns.js';
import { segmentColumn } from '../segment/columns.js';
import type { SegmentMetadata } from '../segment/metadata.js';
import { loseTogether } from '../segment/one-type.js';
import { exactPath, identifier, literal, NOT_PARTITIONED } from '../segment/sql.js';
import { manifestName } from './layout.js';
import { endsSql, eventColumns, type Identities, identitiesOf, SUPERSEDED, USER_DELETED, versionColumns } from './view.js';

/** A table as its files have it. `forms`: one metadata for each form of its columns, newest first; none before its first row. */
export type ViewedTable = {
  readonly schema: string;
  readonly table: string;
  readonly group: string;
  readonly forms: readonly SegmentMetadata[];
  readonly deletes: 'history' | 'keep';
  /** Set when tables of this name have been renamed. */
  readonly renamed?: Renamed | undefined;
};

export type Renamed = {
  /** Where else its files lie: under names that it had. */
  readonly places: readonly { readonly group: string; readonly table: string }[];
  /** OIDs of tables whose files are its own, whatever their name, and of those whose files are not, although they have its name. */
  readonly own: readonly number[];
  readonly others: readonly number[];
  /** Nothing lies under the name that it has now: a view could not follow what comes. */
  readonly unheard: boolean;
};

/** The script. `dir`: absolute path of the archive; `checkpoint`: a manifest that lists all files, from which on manifests are read. */
export function viewsSql(dir: string, checkpoint: number, tables: readonly ViewedTable[]): string {
  const schemas = [...new Set(tables.map(({ schema }) => schema))].filter((schema) => schema !== 'public');
  const names = viewNames(tables);
  return [
    comment(
      `Views over the archive in ${dir}, for DuckDB. They follow the archive by themselves; a column that is added to a table is in its view when they are made again.`,
    ),
    ...schemas.map((schema) => `CREATE SCHEMA IF NOT EXISTS ${identifier(schema)};`),
    filesView(dir, checkpoint),
    ...tables.map((table) =>
      table.forms.length > 0
        ? tableView(dir, table, names.get(table) as string)
        : comment(`${table.schema}.${table.table} has no archived row yet: make the views again when it has.`),
    ),
    '',
  ].join('\n\n');
}

const FILES = 'tidemark_files';

/** DuckDB does not tell names apart that differ in case only, and `public` is its `main`: the second of two such tables gets a number, so that no view takes the place of another. */
function viewNames(tables: readonly ViewedTable[]): Map<ViewedTable, string> {
  const taken = new Set([`main.${FILES}`]);
  const names = new Map<ViewedTable, string>();
  // Names of public first: a name without a schema is one of them.
  for (const view of [...tables].sort((a, b) => Number(b.schema === 'public') - Number(a.schema === 'public'))) {
    const { schema, table } = view;
    const place = schema === 'public' ? 'main' : schema.toLowerCase();
    let name = table;
    for (let n = 2; taken.has(`${place}.${name.toLowerCase()}`); n += 1) name = `${table}_${n}`;
    taken.add(`${place}.${name.toLowerCase()}`);
    names.set(view, schema === 'public' ? identifier(name) : `${identifier(schema)}.${identifier(name)}`);
  }
  return names;
}

/** Every file that the newest manifest names. */
function filesView(dir: string, checkpoint: number): string {
  const entry = `STRUCT(file VARCHAR, kind VARCHAR, oid BIGINT, "schema" VARCHAR, "table" VARCHAR, "pendingCopy" VARCHAR)`;
  const folder = `${dir}/_tidemark/manifest`;
  return `CREATE OR REPLACE VIEW ${FILES} AS
WITH m AS (
  SELECT number, files, add AS added, "drop" AS dropped
  FROM read_json(${literal(`${exactPath(folder)}/*.json`)}, ${NOT_PARTITIONED}, format = 'newline_delimited', maximum_object_size = 1073741824, filename = 'manifest_file',
    columns = {number: 'BIGINT', add: ${literal(`${entry}[]`)}, "drop": 'VARCHAR[]', files: ${literal(`${entry}[]`)}})
  WHERE manifest_file >= ${literal(`${folder}/${manifestName(checkpoint)}`)}),
base AS (SELECT max(number) AS number FROM m WHERE files IS NOT NULL),
said AS (
  SELECT number, 0 AS step, entry.file AS file, entry FROM (SELECT number, unnest(files) AS entry FROM m WHERE number = (SELECT number FROM base))
  UNION ALL SELECT number, 1, unnest(dropped), NULL FROM m WHERE number > (SELECT number FROM base)
  UNION ALL SELECT number, 2, entry.file, entry FROM (SELECT number, unnest(added) AS entry FROM m WHERE number > (SELECT number FROM base)))
SELECT file, entry.kind AS kind, entry.oid AS oid, entry."schema" AS "schema", entry."table" AS "table"
FROM (SELECT file, arg_max(step, number * 4 + step) AS step, arg_max(entry, number * 4 + step) AS entry FROM said GROUP BY file)
WHERE step <> 1 AND entry."pendingCopy" IS NULL;`;
}

function tableView(dir: string, view: ViewedTable, name: string): string {
  const { schema, table, group, forms, deletes } = view;
  const [newest] = forms as [SegmentMetadata];
  const names = columnNames(forms);
  const full = `${schema}.${table}`;
  if (forms.some((form) => prefixOf(form) !== prefixOf(newest)))
    return comment(`${full}: a column that it got later has the name of a system column of its older files; it has no view`);
  const lost = names.find((name) => loseTogether(typesOf(forms, name)));
  if (lost !== undefined)
    return comment(`${full}: column ${lost} has had types that DuckDB would not read as one without a loss; it has no view, tidemark query reads it as text`);
  if (view.renamed?.unheard)
    return comment(`${full} has another name than before, and nothing is archived under this one yet: make the views again when there is.`);
  const p = internalPrefix(names);
  const places = [{ group, table }, ...(view.renamed?.places ?? [])];
  const read = (...patterns: string[]): string =>
    `read_parquet([${patterns.map(literal).join(', ')}], union_by_name = true, ${NOT_PARTITIONED}, filename = '${p}file')`;
  const open = places.map((place) => exactPath(`${dir}/_tidemark/open/${place.group}/${place.table}`));
  const segments = read(...open.flatMap((start) => [`${start}_????-??-??_*.parquet`, `${start}_undated_*.parquet`]));
  const daily = read(...places.map((place) => dailyStart(dir, place)).flatMap((start) => [`${start}_????-??-??*.parquet`, `${start}_undated_*.parquet`]));
  // `live` stands first: DuckDB lists the files of a FROM from left to right, and a merged file must not be named by a manifest that was listed after its folder.
  const of = (kind: string, files: string): string => `live l JOIN ${files} r ON r.${p}file = l.path AND l.file_kind = '${kind}'`;
  const found = identitiesOf(forms);
  const identities = found.keys.length === 1 ? found : { ...found, keys: [...found.keys, found.names] };
  // Of several identities a row does not say which was its own: inserts end what is equal in every column of every key.
  const ofVersion = { oid: 'l.table_oid', p, identity: String(identities.keys.length - 1) };
  const ofEvent = { oid: 'l.table_oid', p, identity: identityOfEvent(found, newest) };
  const keyless = found.keys.some((one) => one.length === 0);
  const columns = [...names, systemName('text', names)].map((name) => `r.${identifier(name)}`);
  const unresolved = identifier(systemName('unresolved', names));
  const lived = [...columns.map((column) => column.slice(2)), unresolved];
  const ended = deletes === 'keep' ? SUPERSEDED : `(${SUPERSEDED} OR ${USER_DELETED})`;
  return `CREATE OR REPLACE VIEW ${name} AS
WITH live AS MATERIALIZED (SELECT ${literal(`${dir}/`)} || file AS path, kind AS file_kind, oid AS table_oid FROM ${FILES} WHERE ${isOf(view)}),
v AS (SELECT ${versionColumns(identities, newest, ofVersion)}, ${lived.map((column) => `r.${column}`).join(', ')} FROM ${of('segment', segments)}),
w AS (SELECT * EXCLUDE (${lived.join(', ')}) FROM v WHERE false),
k AS (SELECT ${eventColumns(identities, newest, ofEvent, found.names, keyless)} FROM ${of('keys', read(...open.map((start) => `${start}_keys_*.parquet`)))}),
lives AS (WITH ${endsSql(identities, lived.map((column) => `v.${column}`).join(', '), { p })})
SELECT ${lived.join(', ')} FROM lives WHERE NOT ${ended}
UNION ALL
SELECT ${columns.join(', ')}, NULL FROM ${of('daily', daily)};`;
}

/** A group's folder may have no file yet: the pattern also finds the empty one in Tidemark's own. */
function dailyStart(dir: string, { group, table }: Renamed['places'][number]): string {
  const first = /^[A-Za-z0-9]/.test(group) ? `[_${group[0]}]` : '';
  return `${exactPath(dir)}/${first}*/${exactPath(table)}`;
}

/** SQL condition: a file is the table's. */
function isOf({ schema, table, renamed }: ViewedTable): string {
  const named = `"schema" = ${literal(schema)} AND "table" = ${literal(table)}`;
  if (renamed === undefined) return named;
  const among = (oids: readonly number[]): string => (oids.length === 0 ? 'false' : `oid IN (${oids.join(', ')})`);
  return `(${among(renamed.own)} OR (${named} AND NOT ${among(renamed.others)}))`;
}

/** SQL of the identity by which an event names its row: the one whose columns it has. Fails for one that came after the view was made: it could not be told which row is meant. */
function identityOfEvent({ names, keys }: Identities, { schema, table, columns }: SegmentMetadata): string {
  const own = columns.map(({ name }) => name);
  const digest = systemName('digest', own);
  const has = (key: readonly string[]): string =>
    [...names, ...(keys.some((one) => one.length === 0) ? [digest] : [])]
      .map((name) => `${identifier(name)} IS ${key.includes(name) ? 'NOT NULL' : 'NULL'}`)
      .join(' AND ');
  const cases = keys.map((key, g) => `WHEN ${has(key.length === 0 ? [digest] : key)} THEN ${g}`);
  const unknown = `error(${literal(`the key or replica identity of ${schema}.${table} has changed: make the views again (tidemark views)`)})`;
  return `CASE WHEN ${identifier(systemName('op', own))} IN ('truncate', 'copied') THEN NULL ${cases.join(' ')} ELSE ${unknown} END`;
}

function prefixOf({ columns }: SegmentMetadata): string {
  return systemPrefix(columns.map(({ name }) => name));
}

/** For names within a view: no column begins with it. */
function internalPrefix(columns: readonly string[]): string {
  let prefix = 'tm_';
  while (columns.some((name) => name.toLowerCase().startsWith(prefix))) prefix += '_';
  return prefix;
}

function comment(text: string): string {
  return `-- ${text.replace(/[\r\n]/g, ' ')}`;
}

/** Types that a column has in the files. */
function typesOf(forms: readonly SegmentMetadata[], name: string): string[] {
  return forms.flatMap((form) =>
    form.columns
      .filter((column) => column.name.toLowerCase() === name.toLowerCase())
      .flatMap((column) => {
        const { fileType, dailyType = fileType } = segmentColumn(column, form);
        return [fileType, dailyType];
      }),
  );
}

/** Columns of all forms: those of the newest in their order, then those that only older files have. Names that differ in case only are one to DuckDB. */
function columnNames(forms: readonly SegmentMetadata[]): string[] {
  const names = forms.flatMap((form) => form.columns.map((column) => column.name));
  return names.filter((name, i) => names.findIndex((one) => one.toLowerCase() === name.toLowerCase()) === i);
}
