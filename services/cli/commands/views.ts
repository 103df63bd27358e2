/** `tidemark views > archive.sql`: SQL for DuckDB, one view per table over sealed and open days. Reads the archive only. */
import { isCheckpoint } from '../../../src/archive/chain.js';
import { filesOfName, metadataOf } from '../../../src/archive/groups.js';
import { noArchive } from '../../../src/archive/identity.js';
import { ArchiveFollower, type ArchiveState } from '../../../src/archive/manifest.js';
import type { FileEntry, TableState } from '../../../src/archive/manifest-format.js';
import { type Renamed, type ViewedTable, viewsSql } from '../../../src/archive/views.js';
import { parseLsn } from '../../../src/position/lsn.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { segmentColumn } from '../../../src/segment/columns.js';
import type { SegmentMetadata } from '../../../src/segment/metadata.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const state = await new ArchiveFollower(config.archive.dir).refresh();
  if (state === undefined) throw await noArchive(config.archive.dir);
  const tables: ViewedTable[] = [];
  for (const table of newestOfEachName(state)) {
    const forms = await formsOf(config.archive.dir, state, table);
    tables.push({ ...table, forms, deletes: deletesOf(config, table), renamed: renamedOf(state, table) });
  }
  process.stdout.write(viewsSql(config.archive.dir, checkpointOf(state), tables));
  return 0;
}

/** A table made again under its name is in the same view; its newest form tells the key. */
function newestOfEachName(state: ArchiveState): TableState[] {
  return [...new Map(state.tables.map((table) => [`${table.schema}.${table.table}`, table])).values()];
}

function deletesOf(config: Config, { schema, table }: TableState): 'history' | 'keep' {
  return config.tables.find((one) => one.schema === schema && one.table === table)?.deletes ?? 'history';
}

/** What has this name now and had another, or had it and has another now. undefined: nothing. */
function renamedOf(state: ArchiveState, { schema, table }: TableState): Renamed | undefined {
  const isNamed = (one: { readonly schema: string; readonly table: string }): boolean => one.schema === schema && one.table === table;
  const own = new Set(state.tables.filter(isNamed).map(({ oid }) => oid));
  const foreign = new Set(state.tables.filter((one) => !isNamed(one)).map(({ oid }) => oid));
  const files = filesOfName(state, { schema, table });
  const places = new Map(files.filter((file) => !isNamed(file)).map((file) => [`${placeOf(file)}/${file.table}`, { group: placeOf(file), table: file.table }]));
  const others = [...new Set([...state.files.values()].filter((file) => isNamed(file) && foreign.has(file.oid)).map(({ oid }) => oid))];
  if (places.size === 0 && others.length === 0) return undefined;
  return { places: [...places.values()], own: [...own], others, unheard: files.every((file) => !isNamed(file)) };
}

/** The group of a file: the folder that it lies in, within Tidemark's own or not. */
function placeOf({ file }: FileEntry): string {
  return file.split('/').at(-2) as string;
}

/**
 * One metadata for each form of the table, newest first: other columns, or, in open days, another key (of equal columns, when only the replica identity changed). Keys do not
 * matter to sealed rows: their lives are over.
 */
async function formsOf(dir: string, state: ArchiveState, name: TableState): Promise<SegmentMetadata[]> {
  const entries = filesOfName(state, name).sort(newestFirst);
  const forms = new Map<string, SegmentMetadata>();
  for (const entry of entries.filter(({ kind }) => kind === 'segment' || kind === 'keys')) {
    const metadata = await metadataOf(dir, entry);
    const form = `${entry.signature} ${JSON.stringify(metadata.key)}`;
    if (!forms.has(form)) forms.set(form, metadata);
  }
  const daily = entries.filter(({ kind }) => kind === 'daily');
  for (const signature of new Set(daily.map((entry) => entry.signature))) {
    const same = daily.filter((entry) => entry.signature === signature);
    // The oldest too: an array that was part of the key then is text in its files.
    for (const entry of new Set([same.at(0), same.at(-1)] as FileEntry[])) {
      const metadata = await metadataOf(dir, entry);
      const known = [...forms.values()].filter((form) => form.signature === signature).map(typesText);
      if (!known.includes(typesText(metadata))) forms.set(entry.file, metadata);
    }
  }
  return [...forms.values()];
}

function typesText(form: SegmentMetadata): string {
  return form.columns.map((column) => segmentColumn(column, form).fileType).join();
}

function newestFirst(a: FileEntry, b: FileEntry): number {
  const [x, y] = [parseLsn(a.maxLsn), parseLsn(b.maxLsn)];
  return x < y ? 1 : x > y ? -1 : 0;
}

function checkpointOf(state: ArchiveState): number {
  let number = state.number;
  while (number > 1 && !isCheckpoint(number)) number -= 1;
  return number;
}
