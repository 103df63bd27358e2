/**
 * What the archiver knows of each table by OID: newest Relation, description and configuration, and the TableState that goes into the manifest.
 * Learns only from the stream. Must never merge two OIDs: a table made again under its name is another table.
 */
import type { TableState } from '../../src/archive/manifest-format.js';
import { type Relation, relationSignature, type TableDescription } from '../../src/change/relation.js';
import type { TableConfig } from '../../src/runtime/config.js';

/** A table whose rows are archived, as of its newest Relation. */
export type ArchivedTable = {
  readonly config: TableConfig;
  readonly relation: Relation;
  readonly description: TableDescription;
  readonly signature: string;
  /** Columns that identify a row in updates and deletes; empty when there are none. */
  readonly key: readonly string[];
  readonly keyIndexes: readonly number[];
  /** Index of the timestamp column, -1 when the table has lost it. */
  readonly timestampIndex: number;
};

/** What an old tuple carries, in key order: the replica identity index, else the primary key. */
export function keyOf(relation: Relation, description: Pick<TableDescription, 'primaryKey'>): string[] {
  const names = relation.columns.map((column) => column.name);
  const flagged = relation.columns.filter((column) => column.key).map((column) => column.name);
  if (relation.identity === 'n') return [];
  if (relation.identity === 'i') return flagged;
  const primary = description.primaryKey.filter((name) => names.includes(name));
  if (primary.length > 0) return primary;
  return relation.identity === 'f' ? [] : flagged;
}

const NOT_COPIED: TableState['coverage'] = { state: 'closed', reason: 'the rows it had before it was archived were not copied' };
const COPY_RUNNING: TableState['coverage'] = { state: 'closed', reason: 'its copy is not complete' };

export class TableBook {
  readonly #configured = new Map<string, TableConfig>();
  readonly #states = new Map<number, TableState>();
  readonly #descriptions = new Map<number, TableDescription>();
  readonly #routes = new Map<number, { readonly seen: string; readonly table: ArchivedTable | undefined }>();
  readonly #ignored: (name: string) => void;

  /** `ignored` hears once of every table that is not configured. */
  constructor(configured: readonly TableConfig[], states: readonly TableState[], ignored: (name: string) => void) {
    for (const table of configured) this.#configured.set(`${table.schema}.${table.table}`, table);
    for (const state of states) this.#states.set(state.oid, state);
    this.#ignored = ignored;
  }

  describe(description: TableDescription): void {
    this.#descriptions.set(description.oid, description);
  }

  /** Takes a Relation message, which comes again in every chunk. */
  relate(relation: Relation): void {
    const description = this.#descriptions.get(relation.oid) ?? emptyDescription(relation);
    const signature = relationSignature(relation);
    const seen = `${relation.schema}.${relation.table} ${relation.identity} ${signature} ${description.primaryKey.join()} ${description.ddl}`;
    if (this.#routes.get(relation.oid)?.seen === seen) return;
    const config = this.#configured.get(`${relation.schema}.${relation.table}`);
    if (config === undefined && !this.#routes.has(relation.oid)) this.#ignored(`${relation.schema}.${relation.table}`);
    const table = config === undefined ? undefined : archivedTable(config, relation, description, signature);
    this.#routes.set(relation.oid, { seen, table });
    if (table !== undefined) this.#states.set(relation.oid, stateOf(table, this.#states.get(relation.oid)?.coverage ?? NOT_COPIED));
  }

  /** The table of a row: undefined = not archived. Throws SyntaxError when its Relation never came. */
  route(oid: number): ArchivedTable | undefined {
    const route = this.#routes.get(oid);
    if (route === undefined) throw new SyntaxError(`a row of relation ${oid}, which was not announced`);
    return route.table;
  }

  /** Begins a copy generation: its tables, and no others. */
  beginCopy(tables: readonly { readonly oid: number; readonly schema: string; readonly table: string }[]): void {
    this.#states.clear();
    this.#routes.clear();
    this.#descriptions.clear();
    for (const { oid, schema, table } of tables) {
      const config = this.#configured.get(`${schema}.${table}`);
      if (config === undefined) continue;
      const { group, timestamp } = config;
      this.#states.set(oid, { oid, schema, table, group, timestamp, key: [], signature: '', coverage: COPY_RUNNING, columnTypes: {}, ddl: '' });
    }
  }

  states(): TableState[] {
    return [...this.#states.values()];
  }
}

function archivedTable(config: TableConfig, relation: Relation, description: TableDescription, signature: string): ArchivedTable {
  const names = relation.columns.map((column) => column.name);
  const key = keyOf(relation, description);
  return {
    config,
    relation,
    description,
    signature,
    key,
    keyIndexes: key.map((name) => names.indexOf(name)),
    timestampIndex: names.indexOf(config.timestamp),
  };
}

function stateOf(table: ArchivedTable, coverage: TableState['coverage']): TableState {
  const { config, relation, description, signature, key } = table;
  return {
    oid: relation.oid,
    schema: relation.schema,
    table: relation.table,
    group: config.group,
    timestamp: config.timestamp,
    key,
    signature,
    coverage,
    columnTypes: description.columnTypes,
    ddl: description.ddl,
  };
}

function emptyDescription(relation: Relation): TableDescription {
  return { oid: relation.oid, schema: relation.schema, table: relation.table, primaryKey: [], columnTypes: {}, ddl: '', types: {} };
}
