/**
 * Random tables with a random history on real engines, and what a right answer over them is: the rows that Postgres holds, and those that prunes took, as they were then. Nothing but a prune is told by
 * looking at the rows before and after it.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import pino from 'pino';
import { recopyRequester, sealRequester } from '../../services/pruner/requesters.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { runPrune } from '../../src/prune/run.js';
import { Query, type Sides } from '../../src/query/query.js';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { identifier } from '../../src/segment/sql.js';
import { connectStream, type StreamConnection } from '../../src/stream/topology.js';
import type { Random } from '../campaign/chance.js';
import { Pipeline, type Service } from '../pipeline/pipeline.js';
import { TYPE_DDL } from '../types/catalog.js';
import { type Described, difference, Oracle, type Row } from './oracle.js';
import type { Known } from './random-sql.js';
import {
  alterSql, createSql, deleteSql, insertSql, keyOf, nameSql, noteTypes, otherTimestamp, placeOf, randomTables, type Table, updateSql, yamlLine,
} from './random-table.js'; // biome-ignore format: one list

const SETTINGS = `SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'`;
const quiet = pino({ level: 'silent' });
type HotRow = Row & { readonly xmin: string };

export class World implements AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly #random: Random;
  readonly tables: readonly Table[];
  #config: Config;
  #stream: StreamConnection;
  #services: Service[] = [];
  readonly trace: string[] = [];
  readonly counts: Record<string, number> = {};
  /** The archive alone knows the values of every column: none came with a default. */
  knowsDefaults = true;
  /** Everything that was done is archived. */
  archived = false;

  private constructor(pipeline: Pipeline, random: Random, tables: readonly Table[], stream: StreamConnection) {
    this.pipeline = pipeline;
    this.#random = random;
    this.tables = tables;
    this.#config = loadConfig(pipeline.configFile);
    this.#stream = stream;
  }

  static async start(random: Random): Promise<World> {
    const tables = randomTables(random);
    const schemas = [...new Set(tables.map(({ schema }) => schema))].filter((schema) => schema !== 'public');
    const pipeline = await Pipeline.start({
      major: random.pick([15, 18]),
      schema: [
        SETTINGS,
        TYPE_DDL,
        ...schemas.map((schema) => `CREATE SCHEMA ${identifier(schema)}`),
        ...tables.map(createSql),
        `CREATE PUBLICATION tidemark_test FOR TABLE beat, ${tables.map(nameSql).join(', ')}`,
      ].join(';'),
      tables: tables.map(yamlLine).join('\n'),
      flushEvery: '150ms',
    });
    await pipeline.query(`${SETTINGS}; SELECT setseed(${random.next()})`);
    const config = loadConfig(pipeline.configFile);
    const world = new World(pipeline, random, tables, undefined as unknown as StreamConnection);
    for (const table of tables) await world.insert(table);
    world.#startServices();
    world.#stream = await connectStream(config, 'test');
    await pipeline.archived();
    return world;
  }

  #startServices(): void {
    this.#services = [this.pipeline.service('archiver'), this.pipeline.service('capture')];
  }

  query(sides: Sides): Query {
    return new Query(this.#config, { sides, memory: 256 * 1024 * 1024, temporary: tmpdir() });
  }

  async rows(sql: string, sides: Sides = 'both'): Promise<(string | null)[][]> {
    const found: (string | null)[][] = [];
    await this.query(sides).run(sql, new AbortController().signal, async (result) => {
      for await (const piece of result.kept((column) => `CAST(${column} AS VARCHAR)`)) found.push(...piece);
    });
    return found;
  }

  /** Rows that count, as they were printed: of Postgres, restored ones left out, and of the archive. */
  async all(table: Table): Promise<Row[]> {
    return [...(await this.hot(table)).filter(({ xmin }) => !table.restored.has(xmin)), ...table.cold];
  }

  /** What views say, and a restore into another table, where they can say all. Returns what is wrong. */
  async otherReaders(): Promise<string[]> {
    await this.rest();
    const { code, stdout, stderr } = await this.pipeline.cli(['views', '-c', this.pipeline.configFile]);
    assert.equal(code, 0, stderr);
    using viewed = await Oracle.open();
    await viewed.connection.run(stdout);
    const { oracle } = await this.oracle();
    using _ = oracle;
    const wrong: (string | undefined)[] = [];
    for (const [n, table] of this.tables.entries()) {
      const all = await this.all(table);
      if (all.length === 0) continue;
      const known = this.knowsDefaults && (await this.shape(table, 'cold').catch(() => '')) === (await this.shape(table));
      const mixed = [...table.types.values()].some((types) => types.size > 1);
      if (known && !mixed && table.name !== 'tidemark_files') wrong.push(await this.#viewIsWrong(placeOf(table), oracle, viewed));
      if (all.every(({ columns }) => JSON.stringify(columns) === JSON.stringify(table.columns)))
        wrong.push(await this.#restoreIsWrong(table, `copy_${n}`, all));
    }
    return wrong.filter((one) => one !== undefined);
  }

  async #viewIsWrong(place: string, oracle: Oracle, viewed: Oracle): Promise<string | undefined> {
    this.#count('views');
    const sql = `SELECT ${(await this.described(place)).map(({ name }) => identifier(name)).join(', ')} FROM ${place}`;
    return difference(`view of ${place}`, await oracle.rows(sql), await viewed.rows(sql).catch((error: Error) => [[error.message]]));
  }

  async #restoreIsWrong(table: Table, into: string, all: readonly Row[]): Promise<string | undefined> {
    this.#count('into');
    const { code, stderr } = await this.pipeline.cli(['restore', keyOf(table), '--into', `public.${into}`, '-c', this.pipeline.configFile]);
    const text = `SELECT ${table.columns.map(({ name }) => identifier(name)).join(', ')} FROM public.${into}`;
    const { rows } = code === 0 ? await this.pipeline.sql.query<(string | null)[]>({ text, rowMode: 'array' }) : { rows: [[stderr]] };
    return difference(
      `restore of ${keyOf(table)}`,
      all.map(({ texts }) => texts),
      rows,
    );
  }

  #count(name: string, n = 1): void {
    this.counts[name] = (this.counts[name] ?? 0) + n;
  }

  async #sql(text: string): Promise<void> {
    this.trace.push(text);
    await this.pipeline.query(text);
    this.archived = false;
  }

  async hot(table: Table): Promise<HotRow[]> {
    const list = table.columns.map(({ name }) => identifier(name)).join(', ');
    const { rows } = await this.pipeline.sql.query<(string | null)[]>({ text: `SELECT xmin, ${list} FROM ${nameSql(table)}`, rowMode: 'array' });
    return rows.map(([xmin, ...texts]) => ({ columns: table.columns, texts, xmin: xmin as string }));
  }

  /** A step of the history. */
  async step(): Promise<void> {
    const random = this.#random;
    const table = random.pick(this.tables);
    const roll = random.below(100);
    const [name, act] =
      roll < 28 ? ['insert', () => this.insert(table)] as const
      : roll < 38 ? ['update', () => this.#sql(updateSql(table, random))] as const
      : roll < 44 ? ['delete', () => this.#delete(table)] as const
      : roll < 70 ? ['prune', () => this.prune()] as const
      : roll < 78 ? ['alter', () => this.#alter(table)] as const
      : roll < 86 ? ['restore', () => this.#restore(table)] as const
      : roll < 95 ? ['redate', () => this.#redate(table)] as const
      : ['rest', () => this.rest()] as const; // biome-ignore format: a table
    this.trace.push(`-- ${name} ${table.schema}.${table.name}`);
    this.#count(name);
    await act();
  }

  async rest(): Promise<void> {
    await this.pipeline.archived();
    this.archived = true;
  }

  async insert(table: Table): Promise<void> {
    await this.#sql(insertSql(table, this.#random));
  }

  async #delete(table: Table): Promise<void> {
    const before = await this.hot(table);
    await this.#sql(deleteSql(table, this.#random));
    if (!table.keep) return;
    this.#takeGone(table, before, await this.hot(table));
    await this.rest();
  }

  /** Rows that are gone are cold from now on; restored ones were all the time. */
  #takeGone(table: Table, before: readonly HotRow[], after: readonly HotRow[]): number {
    const left = new Map<string, number>();
    const nameOf = (row: HotRow): string => JSON.stringify([row.xmin, row.texts]);
    for (const row of after) left.set(nameOf(row), (left.get(nameOf(row)) ?? 0) + 1);
    let gone = 0;
    for (const row of before) {
      const n = left.get(nameOf(row)) ?? 0;
      if (n > 0) left.set(nameOf(row), n - 1);
      else if (!table.restored.has(row.xmin)) {
        table.cold.push({ columns: row.columns, texts: row.texts });
        gone += 1;
      }
    }
    return gone;
  }

  async prune(): Promise<void> {
    if (this.#random.chance(0.7)) await this.rest();
    const before: HotRow[][] = [];
    for (const table of this.tables) before.push(await this.hot(table));
    const signal = new AbortController().signal;
    const result = await runPrune({
      config: this.#config, log: quiet, signal, follower: new ArchiveFollower(this.pipeline.archiveDir), trigger: 'command', dryRun: false,
      seal: sealRequester(this.#stream.connection, this.#config, signal),
      recopy: recopyRequester(this.#stream.connection, this.#config, quiet),
    }); // biome-ignore format: options
    this.archived = false;
    let gone = 0;
    for (const [i, table] of this.tables.entries()) gone += this.#takeGone(table, before[i] as HotRow[], await this.hot(table));
    this.#count('pruned', gone);
    this.trace.push(
      `-- pruned ${gone}: ${JSON.stringify(result.tables.map(({ table, deleted, problem }) => [table, deleted, problem]))} ${JSON.stringify(result.problem)} ${JSON.stringify(result.halts)}`,
    );
    assert.deepEqual(result.halts, [], 'no halt');
  }

  async #restore(table: Table): Promise<void> {
    if (table.cold.length === 0) return;
    const random = this.#random;
    const before = new Set((await this.hot(table)).map(({ xmin }) => xmin));
    const key = keyOf(table);
    const where = random.chance(0.5) ? ['--where', `${identifier(table.rid)} % ${2 + random.below(3)} = 0`] : [];
    const args = ['restore', key, '--on-conflict', 'skip', ...where, ...(random.chance(0.4) ? ['--keep', '1s'] : [])];
    const { code, stdout, stderr } = await this.pipeline.cli([...args, '-c', this.pipeline.configFile]);
    this.trace.push(`-- ${args.join(' ')}: ${code} ${stdout}${stderr}`);
    assert.equal(code, 0, `restore of ${key}: ${stdout}${stderr}`);
    for (const { xmin } of await this.hot(table)) if (!before.has(xmin)) table.restored.add(xmin);
    this.archived = false;
  }

  async #alter(table: Table): Promise<void> {
    if (table.keyless) return; // a known limit: docs/reliability.md
    if (table.restored.size > 0) await this.#sql(`DELETE FROM ${nameSql(table)} WHERE xmin = ANY ('{${[...table.restored].join(',')}}'::xid[])`);
    const sql = alterSql(table, this.#random);
    if (sql === undefined) return;
    if (sql.includes(' DEFAULT ')) this.knowsDefaults = false;
    await this.#sql(sql);
  }

  /** Another column is the table's timestamp from now on. */
  async #redate(table: Table): Promise<void> {
    const timestamp = otherTimestamp(table, this.#random);
    if (timestamp === undefined) return;
    await this.rest();
    table.timestamp = timestamp;
    this.trace.push(`-- timestamp ${table.timestamp}`);
    for (const service of this.#services) await service.stop();
    const lines = (await readFile(this.pipeline.configFile, 'utf8')).split('\n');
    const key = `  ${JSON.stringify(keyOf(table))}:`;
    await writeFile(this.pipeline.configFile, lines.map((line) => (line.startsWith(key) ? yamlLine(table) : line)).join('\n'));
    this.#config = loadConfig(this.pipeline.configFile);
    await this.pipeline.cli(['doctor', '--accept', '-c', this.pipeline.configFile]);
    this.#startServices();
    await this.rest();
  }

  /** The oracle of what is there now, and what its tables hold. */
  async oracle(): Promise<{ oracle: Oracle; known: Known[] }> {
    const oracle = await Oracle.open();
    const known: Known[] = [];
    for (const table of this.tables) {
      const described = await this.described(placeOf(table));
      const all = await this.all(table);
      this.#requireShape(table, described, all);
      await oracle.fill(placeOf(table), described, all);
      const columns = [];
      for (const one of described) columns.push({ ...one, samples: await oracle.samples(placeOf(table), one.name) });
      known.push({ place: placeOf(table), timestamp: table.timestamp, columns });
    }
    return { oracle, known };
  }

  /** Columns of all tables, as text. */
  async shapes(sides: Sides = 'both'): Promise<string> {
    const all: string[] = [];
    for (const table of this.tables) all.push(await this.shape(table, sides));
    return all.join();
  }

  async shape(table: Table, sides: Sides = 'both'): Promise<string> {
    return JSON.stringify(await this.described(placeOf(table), sides));
  }

  async described(name: string, sides: Sides = 'both'): Promise<Described> {
    return (await this.rows(`SELECT column_name, column_type FROM (DESCRIBE ${name})`, sides)).map(([column, type]) => ({
      name: column as string,
      type: type as string,
    }));
  }

  #requireShape(table: Table, described: Described, rows: readonly Row[]): void {
    noteTypes(table, [...table.columns, ...rows.flatMap(({ columns }) => columns)]);
    const there = new Set([table, ...rows].flatMap(({ columns }) => columns.map(({ name }) => name.toLowerCase())));
    for (const name of there) {
      const one = described.find((column) => column.name.toLowerCase() === name);
      assert.ok(one, `${table.name} has a column ${name}`);
      const had = table.types.get(name) as Set<string>;
      if (had.size === 1) assert.equal(one.type, [...had][0], `type of ${table.name}.${name}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream?.connection.close();
    await this.pipeline[Symbol.asyncDispose]();
  }
}
