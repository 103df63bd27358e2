/**
 * What the archiver knows of each table by OID: newest Relation, description and configuration, and the TableState that goes into the manifest.
 * Learns only from the stream. Must never merge two OIDs: a table made again under its name is another table.
 */
import type { ArchiveState } from '../../src/archive/manifest.js';
import type { TableState } from '../../src/archive/manifest-format.js';
import { isSameRelation, type Relation, relationSignature, type TableDescription } from '../../src/change/relation.js';
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

/**
 * What an old tuple carries, in key order: the replica identity index, else the primary key. The description is of the moment it was asked for: a primary key that is not the one of the
 * Relation is that of a later time, and an old tuple has no values of it.
 */
export function keyOf(relation: Relation, description: Pick<TableDescription, 'primaryKey'>): string[] {
  const names = relation.columns.map((column) => column.name);
  const flagged = relation.columns.filter((column) => column.key).map((column) => column.name);
  if (relation.identity === 'n') return [];
  if (relation.identity === 'i') return flagged;
  const primary = description.primaryKey.every((name) => names.includes(name)) ? description.primaryKey : [];
  if (relation.identity === 'f' || flagged.length === 0) return [...primary];
  return primary.length === flagged.length && primary.every((name) => flagged.includes(name)) ? [...primary] : flagged;
}

type Coverage = TableState['coverage'];

const NOT_COPIED: Coverage = { state: 'closed', reason: 'the rows it had before it was archived are not copied yet' };
const COPY_RUNNING: Coverage = { state: 'closed', reason: 'its copy is not complete' };
const LEFT_OUT: Coverage = { state: 'closed', reason: 'it was not in the configuration for a while: its rows are not copied again yet' };
/** Open from the manifest that this goes into (stampCoverage). */
const OPEN_NOW: Coverage = { state: 'open', since: 0 };

/** A table of a copy that begins. */
export type CopiedTable = { readonly oid: number; readonly schema: string; readonly table: string; readonly published: string };

/** What the manifest after `before` says of coverage: a table that stays open keeps the number since which it is. */
export function stampCoverage(before: ArchiveState, tables: readonly TableState[]): TableState[] {
  const known = new Map(before.tables.map((table) => [table.oid, table.coverage]));
  return tables.map((table) => {
    const { coverage } = table;
    if (coverage.state === 'closed' || coverage.since > 0) return table;
    const earlier = known.get(table.oid);
    return { ...table, coverage: earlier?.state === 'open' ? earlier : { state: 'open', since: before.number + 1 } };
  });
}

/** Where a table's rows go, and the form of it that this was made from. */
type Route = { readonly relation: Relation; readonly description: TableDescription; readonly table: ArchivedTable | undefined };

export class TableBook {
  readonly #configured = new Map<string, TableConfig>();
  readonly #states = new Map<number, TableState>();
  readonly #descriptions = new Map<number, TableDescription>();
  readonly #routes = new Map<number, Route>();
  readonly #ignored: (name: string) => void;

  /** `ignored` hears once of every table that is not configured. */
  constructor(configured: readonly TableConfig[], states: readonly TableState[], ignored: (name: string) => void) {
    for (const table of configured) this.#configured.set(`${table.schema}.${table.table}`, table);
    for (const state of states) this.#states.set(state.oid, this.#asConfigured(state));
    this.#ignored = ignored;
  }

  /** A table that is not configured any more, or goes by another timestamp now, is closed: all its rows are copied again before one is pruned. */
  #asConfigured(state: TableState): TableState {
    const config = this.#configured.get(`${state.schema}.${state.table}`);
    if (config === undefined) return leftOut(state);
    if (config.timestamp === state.timestamp) return state;
    const reason = `its timestamp column was ${state.timestamp}, is ${config.timestamp} now: its rows are not copied again yet`;
    return { ...state, timestamp: config.timestamp, ...dividedBy([state], config.timestamp), coverage: { state: 'closed', reason } };
  }

  describe(description: TableDescription): void {
    this.#descriptions.set(description.oid, description);
  }

  /** Takes a Relation message, which comes again in every chunk. */
  relate(relation: Relation): void {
    const description = this.#descriptions.get(relation.oid) ?? emptyDescription(relation);
    const known = this.#routes.get(relation.oid);
    if (known !== undefined && isSameRelation(known.relation, relation) && isSameDescription(known.description, description)) return;
    const config = this.#configured.get(`${relation.schema}.${relation.table}`);
    if (config === undefined && known === undefined) this.#ignored(`${relation.schema}.${relation.table}`);
    const table = config === undefined ? undefined : archivedTable(config, relation, description);
    this.#routes.set(relation.oid, { relation, description, table });
    const before = this.#states.get(relation.oid);
    if (table !== undefined) this.#states.set(relation.oid, stateOf(table, before ?? { coverage: NOT_COPIED, copied: null }));
    else if (before !== undefined) this.#states.set(relation.oid, leftOut(before)); // renamed: its rows are not archived from here on
  }

  /** The table of copied rows, whatever columns the stream has reached; undefined = not archived. */
  version(relation: Relation, description: TableDescription | undefined): ArchivedTable | undefined {
    const config = this.#configured.get(`${relation.schema}.${relation.table}`);
    if (config === undefined) return undefined;
    const described = description ?? emptyDescription(relation);
    return archivedTable(config, relation, described);
  }

  /** All rows of a table are copied: opens its coverage. `version`: their columns; undefined when it is not archived. */
  copied({ oid, schema, table }: Omit<CopiedTable, 'published'>, version: ArchivedTable | undefined, copied: NonNullable<TableState['copied']>): void {
    if (version === undefined) return;
    const known = this.#states.get(oid) ?? stateOf(version, { coverage: OPEN_NOW, copied });
    this.#states.set(oid, { ...known, schema, table, copied, coverage: OPEN_NOW });
  }

  /** The table of a row: undefined = not archived. Throws SyntaxError when its Relation never came. */
  route(oid: number): ArchivedTable | undefined {
    const route = this.#routes.get(oid);
    if (route === undefined) throw new SyntaxError(`a row of relation ${oid}, which was not announced`);
    return route.table;
  }

  /** Begins a copy generation: its tables, and no others. */
  beginCopy(tables: readonly CopiedTable[], snapshotXmax: string): void {
    const before = this.states();
    this.#states.clear();
    this.#routes.clear();
    this.#descriptions.clear();
    for (const { oid, schema, table, published } of tables) {
      const config = this.#configured.get(`${schema}.${table}`);
      if (config === undefined) continue;
      const named = before.filter((one) => one.schema === schema && one.table === table);
      this.#states.set(oid, { ...newState(oid, config), ...dividedBy(named, config.timestamp), copied: { snapshotXmax, published } });
    }
  }

  /** The copy is complete: opens the coverage of its tables. */
  open(oids: readonly number[]): void {
    for (const oid of oids) {
      const state = this.#states.get(oid);
      if (state !== undefined) this.#states.set(oid, { ...state, coverage: OPEN_NOW });
    }
  }

  states(): TableState[] {
    return [...this.#states.values()];
  }
}

function archivedTable(config: TableConfig, relation: Relation, description: TableDescription): ArchivedTable {
  const names = relation.columns.map((column) => column.name);
  const key = keyOf(relation, description);
  return {
    config,
    relation,
    description,
    signature: relationSignature(relation, description.dimensions),
    key,
    keyIndexes: key.map((name) => names.indexOf(name)),
    timestampIndex: names.indexOf(config.timestamp),
  };
}

/** Of the descriptions of one table: does what they say about routing and the files' metadata agree? */
function isSameDescription(a: TableDescription, b: TableDescription): boolean {
  return a.ddl === b.ddl && JSON.stringify([a.primaryKey, a.dimensions]) === JSON.stringify([b.primaryKey, b.dimensions]);
}

function leftOut(state: TableState): TableState {
  return state.coverage.state === 'closed' ? state : { ...state, coverage: LEFT_OUT };
}

/** What the files of a table were divided by before, but for its timestamp of now. */
function dividedBy(before: readonly TableState[], timestamp: string): Pick<TableState, 'dividedBy'> {
  const others = new Set(before.flatMap((one) => [...(one.dividedBy ?? []), one.timestamp]));
  others.delete(timestamp);
  return others.size === 0 ? {} : { dividedBy: [...others] };
}

function newState(oid: number, { schema, table, group, timestamp }: TableConfig): TableState {
  return { oid, schema, table, group, timestamp, key: [], signature: '', coverage: COPY_RUNNING, copied: null, columnTypes: {}, ddl: '' };
}

function stateOf(table: ArchivedTable, { coverage, copied, dividedBy }: Pick<TableState, 'coverage' | 'copied' | 'dividedBy'>): TableState {
  const { config, relation, description, signature, key } = table;
  return {
    oid: relation.oid,
    schema: relation.schema,
    table: relation.table,
    group: config.group,
    timestamp: config.timestamp,
    ...(dividedBy === undefined ? {} : { dividedBy }),
    key,
    signature,
    coverage,
    copied,
    columnTypes: description.columnTypes,
    ddl: description.ddl,
  };
}

function emptyDescription(relation: Relation): TableDescription {
  return { oid: relation.oid, schema: relation.schema, table: relation.table, primaryKey: [], columnTypes: {}, ddl: '', types: {} };
}
