/**
 * A second logical slot, recorded by pg_recvlogical with the server's own test_decoding: truth that none of our code had a hand in. It goes on by itself after restarts of the server.
 * What it saw is held against the journal: every transaction with the versions it made, in their order, and whose rows were deleted by nobody of ours.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { spawnServer } from '../../services/demo/engines/process.js';
import { findClientTool } from '../pipeline/client-tools.js';
import { type Pipeline, until } from '../pipeline/pipeline.js';
import type { Journal } from './journal.js';
import type { Kind } from './tables.js';

const SLOT = 'witness';

export type Testimony = { readonly changes: number; readonly differences: readonly string[] };

type Columns = ReadonlyMap<string, string | null>;
type Change = { readonly table: string; readonly op: 'INSERT' | 'UPDATE' | 'DELETE' | 'TRUNCATE'; readonly old: Columns; readonly new: Columns };

export class Witness {
  readonly #file: string;
  readonly #process: ChildProcess;
  readonly #pipeline: Pipeline;

  private constructor(pipeline: Pipeline, tool: string) {
    this.#pipeline = pipeline;
    this.#file = path.join(pipeline.dir, 'witness.txt');
    const args = ['-d', pipeline.databaseUrl, '-S', SLOT, '--start', '-f', this.#file, '-F', '1', '-s', '1', '-o', 'skip-empty-xacts=1'];
    this.#process = spawnServer(tool, args, { deathSignal: 'KILL', cwd: pipeline.dir });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream?.resume();
  }

  /** Undefined, with the reason said, where there is no pg_recvlogical. Before anything is written. */
  static async begin(pipeline: Pipeline, refused: (reason: string) => void): Promise<Witness | undefined> {
    const tool = await findClientTool('pg_recvlogical', pipeline);
    if (tool === undefined) {
      refused('there is no pg_recvlogical on this machine');
      return undefined;
    }
    await pipeline.query(`SELECT pg_create_logical_replication_slot('${SLOT}', 'test_decoding')`);
    return new Witness(pipeline, tool);
  }

  /** Waits until it has written everything that is committed, and ends it. */
  async end(journal: Journal, kinds: readonly Kind[]): Promise<Testimony> {
    const last = 'the end of the record';
    await this.#pipeline.query(`INSERT INTO marks VALUES ('${last}')`);
    await until('the witness has written everything', async () => (await readFile(this.#file, 'utf8')).includes(last), 30_000);
    await this.stop();
    return hold(parse(await readFile(this.#file, 'utf8')), journal, kinds);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }
}

/** Transactions in the order of their commits. What came twice after a restart of the server counts once. */
function parse(text: string): Change[][] {
  const seen = new Set<string>();
  const transactions: Change[][] = [];
  let changes: Change[] = [];
  let whole = '';
  for (const line of lines(text)) {
    if (/^BEGIN\b/.test(line)) {
      changes = [];
      whole = '';
    }
    whole += line;
    if (/^COMMIT\b/.test(line)) {
      if (!seen.has(whole)) transactions.push(changes);
      seen.add(whole);
    } else if (line.startsWith('table ')) changes.push(...readChange(line));
  }
  return transactions;
}

/** Line ends within quotes belong to a value. */
function* lines(text: string): Generator<string> {
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 39) quoted = !quoted;
    else if (code === 10 && !quoted) {
      yield text.slice(start, at);
      start = at + 1;
    }
  }
}

function readChange(line: string): Change[] {
  const head = /^table ((?:public\.\w+(?:, )?)+): (INSERT|UPDATE|DELETE|TRUNCATE):/.exec(line);
  if (head === null) throw new Error(`the witness wrote: ${line.slice(0, 200)}`);
  const tables = (head[1] as string).split(', ').map((name) => name.slice('public.'.length));
  const rest = line.slice(head[0].length);
  const at = rest.indexOf(' new-tuple: ');
  const old = rest.startsWith(' old-key: ');
  const op = head[2] as Change['op'];
  return tables.map((table) => ({
    table,
    op,
    old: op === 'DELETE' ? readColumns(rest) : old ? readColumns(rest.slice(0, at).slice(' old-key:'.length)) : new Map(),
    new: op === 'DELETE' ? new Map() : readColumns(old ? rest.slice(at + ' new-tuple:'.length) : rest),
  }));
}

function readColumns(text: string): Columns {
  const columns = new Map<string, string | null>();
  for (const [, name, quoted, bare] of text.matchAll(/ (\w+)\[[^\]]+\]:(?:'((?:[^']|'')*)'|(\S+))/g)) {
    columns.set(name as string, quoted === undefined ? (bare === 'null' ? null : (bare as string)) : quoted.replaceAll("''", "'"));
  }
  return columns;
}

type Row = { readonly key: Columns; readonly ver: string };

/** The rows of a table as the witness saw them come and go. */
class Table {
  readonly #rows = new Set<Row>();
  readonly #by = new Map<string, Row>();
  readonly #names: readonly string[];
  readonly #alone: boolean;

  /** Columns that name a row: together, or each alone. */
  constructor(kind: Kind) {
    this.#names = kind.key;
    this.#alone = kind.conflict === 'id' && kind.key.length > 1;
  }

  #keys(columns: Columns): string[] {
    const parts = this.#names.filter((name) => columns.has(name)).map((name) => `${name}=${columns.get(name)}`);
    return this.#alone ? parts : [parts.join('|')];
  }

  put(columns: Columns): void {
    const row = { key: columns, ver: String(columns.get('ver')) };
    this.#rows.add(row);
    for (const key of this.#keys(columns)) this.#by.set(key, row);
  }

  /** The version that was there. */
  take(columns: Columns): string | undefined {
    const row = this.#keys(columns)
      .map((key) => this.#by.get(key))
      .find((found) => found !== undefined);
    if (row === undefined) return undefined;
    this.#rows.delete(row);
    for (const key of this.#keys(row.key)) if (this.#by.get(key) === row) this.#by.delete(key);
    return row.ver;
  }

  clear(): void {
    this.#rows.clear();
    this.#by.clear();
  }

  get versions(): Set<string> {
    return new Set([...this.#rows].map(({ ver }) => ver));
  }
}

function hold(transactions: readonly Change[][], journal: Journal, kinds: readonly Kind[]): Testimony {
  const differences: string[] = [];
  const tables = new Map(kinds.map((kind) => [kind.name, new Table(kind)]));
  const keyless = new Set(kinds.filter((kind) => kind.keyless).map(({ name }) => name));
  const made = new Map<string, string>();
  const pruned = new Set<string>();
  let count = 0;
  for (const changes of transactions) {
    const mark = changes.find(({ table }) => table === 'marks')?.new.get('id');
    const versions: string[] = [];
    for (const { table: name, op, old, new: row } of changes) {
      const table = tables.get(name);
      if (table === undefined) continue;
      count += 1;
      if (op === 'INSERT' || op === 'UPDATE') versions.push(`${name} ${row.get('ver')}`);
      if (keyless.has(name)) continue;
      if (op === 'TRUNCATE') table.clear();
      if (op === 'INSERT') table.put(row);
      if (op !== 'UPDATE' && op !== 'DELETE') continue;
      const gone = table.take(old.size > 0 ? old : row);
      if (gone === undefined) differences.push(`${name}: ${op} of a row that the witness does not know: ${[...old, ...row].slice(0, 3).join(' ')}`);
      else if (op === 'DELETE' && mark === undefined) pruned.add(`${name} ${gone}`);
      if (op === 'UPDATE') table.put(row);
    }
    if (mark != null) made.set(mark, versions.join('\n'));
  }
  for (const { id, entries } of journal.transactions) {
    const versions = entries.flatMap((entry) => ('insert' in entry ? [`${entry.insert.kind.name} ${entry.insert.ver}`] : [])).join('\n');
    if (made.get(id) !== versions) differences.push(`transaction ${id}: the witness has ${made.has(id) ? 'other versions' : 'none of it'}`);
    made.delete(id);
  }
  for (const [id, versions] of made) if (versions !== '') differences.push(`transaction ${id}: only the witness has it`);
  for (const kind of kinds.filter((one) => !one.keyless)) {
    const mine = new Set(journal.of(kind, 'pruned').map(({ ver }) => ver));
    const theirs = new Set([...pruned].filter((name) => name.startsWith(`${kind.name} `)).map((name) => name.slice(kind.name.length + 1)));
    for (const ver of mine) if (!theirs.has(ver)) differences.push(`${kind.name} ${ver}: left Postgres, and the witness saw no delete`);
    for (const ver of theirs) if (!mine.has(ver)) differences.push(`${kind.name} ${ver}: the witness saw it deleted by nobody of ours`);
    const live = new Set(journal.of(kind, 'live').map(({ ver }) => ver));
    for (const ver of tables.get(kind.name)?.versions ?? []) if (!live.has(ver)) differences.push(`${kind.name} ${ver}: live for the witness only`);
  }
  return { changes: count, differences };
}
