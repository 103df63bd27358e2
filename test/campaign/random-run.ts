/** One run of a seed: load, pruner, merges, seals, kills and changes of the tables side by side; then everything comes to rest, every finished day is sealed, and all of it is audited. */
import assert from 'node:assert/strict';
import pino from 'pino';
import { recopyRequester, sealRequester } from '../../services/pruner/requesters.js';
import { ArchiveFollower } from '../../src/archive/manifest.js';
import { type PruneResult, runPrune } from '../../src/prune/run.js';
import { Query, type Sides } from '../../src/query/query.js';
import { loadConfig } from '../../src/runtime/config.js';
import { connectStream, type StreamConnection } from '../../src/stream/topology.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { auditFiles, auditView, describeDifference, Views } from './audit.js';
import { Random } from './chance.js';
import { dayText, Journal } from './journal.js';
import { Load } from './load.js';
import { configLines, KINDS, type Kind, schemaSql } from './tables.js';

const FAULTS = ['K1:kill:1', 'K2:kill:1', 'A3:kill:2', 'A7:kill:2', 'A8:kill:3', 'A9:kill:2', 'A1:kill:9'] as const;
const CAPTURE_FAULTS = ['C2:kill:9', 'C3:kill:5', 'C5:kill:3'] as const;

/** The day in which the retention of 24 hours ends now: days before it are over for the pruner. */
const retentionDay = (): string => new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);

export class Run implements AsyncDisposable {
  readonly #pipeline: Pipeline;
  readonly #random: Random;
  readonly #journal = new Journal();
  readonly #stream: StreamConnection;
  #load!: Load;
  #archiver!: Service;
  #capture!: Service;
  #views: Views | undefined;
  #pruning: Promise<PruneResult | undefined> = Promise.resolve(undefined);
  #added = 0;
  /** The first day that is still open, once everything before it is sealed. */
  #firstOpen = '';
  readonly trace: string[] = [];
  readonly counts: Record<string, number> = {};

  private constructor(pipeline: Pipeline, stream: StreamConnection, seed: number) {
    this.#pipeline = pipeline;
    this.#stream = stream;
    this.#random = new Random(seed);
  }

  static async start(seed: number, major: number): Promise<Run> {
    const pipeline = await Pipeline.start({
      major,
      schema: schemaSql(),
      tables: configLines(),
      flushEvery: '100ms',
      postgres: { max_prepared_transactions: '20' },
    });
    try {
      const archiver = pipeline.service('archiver');
      const capture = pipeline.service('capture');
      await pipeline.archived();
      const run = new Run(pipeline, await connectStream(loadConfig(pipeline.configFile), 'test'), seed);
      run.#archiver = archiver;
      run.#capture = capture;
      run.#load = await Load.start(pipeline, run.#journal, run.#random);
      return run;
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
  }

  #say(what: string): void {
    this.trace.push(what);
    const name = what.split(' ')[0] as string;
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  /** `rounds` bursts of transactions, each followed by something else. */
  async chaos(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      const steps = 5 + this.#random.below(40);
      for (let i = 0; i < steps; i += 1) await this.#load.step();
      const roll = this.#random.below(100);
      if (roll < 30) await this.#startPrune();
      else if (roll < 45) await this.#checkViews(this.#random.chance(0.4));
      else if (roll < 55) this.#kill();
      else if (roll < 70) await this.#alter();
      else if (roll < 80) {
        await this.#load.settle();
        await this.#archived();
      }
      this.#revive();
    }
  }

  async #startPrune(): Promise<void> {
    this.#finish(await this.#pruning);
    const config = loadConfig(this.#pipeline.configFile);
    const quiet = pino({ level: 'silent' });
    const signal = new AbortController().signal;
    this.#say('prune');
    this.#pruning = runPrune({
      config,
      log: quiet,
      signal,
      follower: new ArchiveFollower(this.#pipeline.archiveDir),
      trigger: 'command',
      dryRun: false,
      seal: sealRequester(this.#stream.connection, config, signal),
      recopy: recopyRequester(this.#stream.connection, config, quiet),
    });
    this.#pruning.catch(() => undefined);
  }

  #finish(result: PruneResult | undefined): void {
    if (result === undefined) return;
    assert.deepEqual(result.halts, []);
    this.counts['rows pruned'] = (this.counts['rows pruned'] ?? 0) + result.tables.reduce((sum, table) => sum + table.deleted, 0);
    for (const { table, left, problem } of result.tables)
      if (problem !== null || Object.keys(left).length > 0) this.trace.push(`${table}: ${problem ?? ''} ${JSON.stringify(left)}`);
  }

  #kill(): void {
    const archiver = this.#random.chance(0.6);
    const service = archiver ? this.#archiver : this.#capture;
    if (!service.running) return;
    this.#say(`kill ${service.name}`);
    service.signal('SIGKILL');
  }

  #revive(): void {
    if (!this.#archiver.running) this.#archiver = this.#pipeline.service('archiver', this.#random.chance(0.4) ? this.#random.pick(FAULTS) : undefined);
    if (!this.#capture.running) this.#capture = this.#pipeline.service('capture', this.#random.chance(0.3) ? this.#random.pick(CAPTURE_FAULTS) : undefined);
  }

  /** Waits until everything is archived, whoever of the two dies at an armed fault meanwhile. */
  async #archived(): Promise<void> {
    const reviving = setInterval(() => this.#revive(), 100);
    try {
      await this.#pipeline.archived();
    } finally {
      clearInterval(reviving);
    }
  }

  async #alter(): Promise<void> {
    await this.#load.settle();
    const keyed = KINDS.filter((kind) => !kind.keyless);
    const { name } = this.#random.pick(keyed);
    this.#added += 1;
    const change = this.#random.pick([
      `ALTER TABLE ${name} ADD COLUMN c${this.#added} text`,
      `ALTER TABLE ${name} ADD COLUMN c${this.#added} int DEFAULT 5`,
      `ALTER TABLE ${name} ADD COLUMN c${this.#added} uuid DEFAULT gen_random_uuid()`,
      `ALTER TABLE f_index REPLICA IDENTITY DEFAULT`,
      `ALTER TABLE f_index REPLICA IDENTITY FULL`,
      `ALTER TABLE f_index REPLICA IDENTITY USING INDEX f_index_code`,
      `ALTER PUBLICATION tidemark_test DROP TABLE ${name}; ALTER PUBLICATION tidemark_test ADD TABLE ${name}`,
    ]);
    if (this.#random.chance(0.15)) return await this.#copyAgain();
    this.#say(`alter ${change}`);
    for (const statement of change.split('; ')) await this.#pipeline.query(statement);
  }

  /** Rows without a key are copied again while nobody changes them: which of two equal ones a change was about could not be told. */
  async #copyAgain(): Promise<void> {
    await this.#archived();
    const entry = async (): Promise<string | undefined> => (await this.#pipeline.state())?.tables.find(({ table }) => table === 'f_none')?.copied?.published;
    const before = await entry();
    this.#say('again f_none is copied again');
    await this.#pipeline.query('ALTER PUBLICATION tidemark_test DROP TABLE f_none');
    await this.#pipeline.query('ALTER PUBLICATION tidemark_test ADD TABLE f_none');
    await until('f_none is copied again', async () => {
      this.#revive();
      return (await entry()) !== before;
    });
  }

  async #checkViews(again: boolean): Promise<void> {
    if (this.#views === undefined || again) {
      if ((await this.#pipeline.state()) === undefined) return;
      this.#views?.close();
      this.#views = await Views.of(this.#pipeline);
    }
    this.#say('view');
    for (const kind of KINDS) {
      await this.#load.reconcile();
      let problems: string[];
      try {
        problems = await auditView(this.#pipeline, this.#views, this.#journal, kind);
      } catch (error) {
        if (!/does not exist|make the views again/.test(String(error))) throw error;
        this.#say('view again');
        continue; // it had no row, or another key, when the views were made
      }
      await this.#load.reconcile();
      assert.deepEqual(problems.slice(0, 5), [], `${problems.length} problems while it runs`);
    }
  }

  /** Comes to rest: nothing runs but what is asked. */
  async rest(): Promise<void> {
    await this.#load.settle();
    for (const service of [this.#archiver, this.#capture]) if (service.running) service.signal('SIGKILL');
    await Promise.all([this.#archiver.ended, this.#capture.ended]);
    this.#archiver = this.#pipeline.service('archiver');
    this.#capture = this.#pipeline.service('capture');
    await this.#pipeline.archived();
    await this.#pruning.catch((error: unknown) => void this.trace.push(String(error)));
    this.#pruning = Promise.resolve(undefined);
    const prunable = KINDS.filter((kind) => !kind.keyless);
    await until(
      'every old row is pruned',
      async () => {
        await this.#startPrune();
        this.#finish(await this.#pruning);
        await this.#load.reconcile();
        const left = prunable.flatMap((kind) => this.#journal.of(kind, 'live').filter(({ at }) => Number(at) < (Date.now() - 90_000_000) * 1000));
        if (left.length > 0) throw new Error(`${left.length} rows of ${left.map(({ kind }) => kind.name).join(' ')}: ${this.trace.slice(-12).join('\n')}`);
        return true;
      },
      120_000,
    );
    await this.#pipeline.archived();
  }

  /** At rest the archive knows everything: what it holds alone is what Postgres and the archive hold together. */
  async askBoth(): Promise<void> {
    const config = loadConfig(this.#pipeline.configFile);
    const options = { memory: 256 * 1024 * 1024, temporary: this.#pipeline.dir };
    const ask = async (sides: Sides, { name }: Kind): Promise<string[]> => {
      const found: string[] = [];
      await new Query(config, { sides, ...options }).run(`SELECT ver FROM ${name} ORDER BY ver`, new AbortController().signal, async ({ kept }) => {
        for await (const rows of kept((column) => column)) found.push(...rows.map(([ver]) => String(ver)));
      });
      return found;
    };
    for (const kind of KINDS) {
      const [both, alone] = [await ask('both', kind), await ask('cold', kind)];
      this.counts['rows asked for'] = (this.counts['rows asked for'] ?? 0) + both.length;
      assert.deepEqual(both, alone, `${kind.name}: hot and cold rows together`);
    }
  }

  /** Somebody empties what the pruner leaves, and every finished day is sealed. */
  async sealAll(): Promise<void> {
    await this.#checkViews(true);
    for (const kind of KINDS) {
      const going = this.#journal.of(kind, 'live').filter((version) => kind.keyless || dayText(version) === 'undated');
      await this.#pipeline.query(`DELETE FROM ${kind.name} ${kind.keyless ? '' : `WHERE at IS NULL OR at = 'infinity'`}`);
      this.#journal.commit(
        { id: this.#journal.name('t'), lane: 0, entries: going.map((end) => ({ end, as: 'deleted' })), asynchronous: false },
        await this.#load.position(),
      );
    }
    await this.#pipeline.archived();
    // What has no key is not for the pruner: a person seals it.
    for (const { name } of KINDS.filter((kind) => kind.keyless)) {
      const { stdout, stderr } = await this.#pipeline.cli(['seal', name, '-c', this.#pipeline.configFile]);
      this.trace.push(`seal ${name}: ${stdout}${stderr}`);
    }
    do {
      this.#firstOpen = retentionDay();
      for (let i = 0; i < 2; i += 1) {
        await this.#startPrune();
        this.#finish(await this.#pruning);
        this.#pruning = Promise.resolve(undefined);
      }
    } while (this.#firstOpen !== retentionDay()); // midnight came: one more day is over
  }

  async audit(): Promise<void> {
    await this.#pipeline.archived();
    await this.#checkViews(true);
    const problems: string[] = [];
    for (const kind of KINDS) {
      const audit = await auditFiles(this.#pipeline, this.#journal, kind, this.#firstOpen);
      problems.push(...audit.problems, ...audit.differences.map(describeDifference));
    }
    assert.deepEqual(problems.slice(0, 12), [], `${problems.length} problems at the end`);
    const { code, stdout, stderr } = await this.#pipeline.cli(['verify', '-c', this.#pipeline.configFile]);
    assert.equal(code, 0, stdout + stderr);
    Object.assign(this.counts, this.#load.counts);
    for (const version of this.#journal.versions) this.counts[version.fate] = (this.counts[version.fate] ?? 0) + 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pruning.catch(() => undefined);
    this.#views?.close();
    await this.#load.close().catch(() => undefined);
    await this.#stream.connection.close();
    await this.#pipeline[Symbol.asyncDispose]();
  }
}
