/** One campaign: engines, services and a load, faults drawn by the seed, then everything heals, drains, is pruned, stops, and is judged by readers that are not ours. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { natsServer } from '../../services/demo/engines/install.js';
import { NetworkProxy } from '../faults/proxy.js';
import { CannotInject, HARSH, Volume } from '../faults/volume.js';
import { Pipeline } from '../pipeline/pipeline.js';
import { Random } from './chance.js';
import { comeToRest, leftByPruner } from './ending.js';
import { draw, drawable, FAULTS, heal, type Scene } from './faults.js';
import { Journal } from './journal.js';
import type { Report } from './report.js';
import { Samplers } from './samplers.js';
import { Services } from './services.js';
import { BULK, configLines, KINDS, PARENT, schemaSql } from './tables.js';
import { Traffic } from './traffic.js';
import { judge } from './verdict.js';
import { type Testimony, Witness } from './witness.js';

const ALL = [...KINDS, BULK, PARENT];
const VOLUME_MB = 400;
/** For coming to rest and the audit. */
const ENDING_S = 14;
/** For what must come about at the end: a busy machine is not a fault. */
const PATIENCE_MS = 150_000;
/** A receipt's reason that may never be: what is covered is archived. */
const NOT_THERE = 'not found in the archive';

export type CampaignOptions = {
  readonly seed: number;
  readonly seconds: number;
  readonly major: number | undefined;
  readonly commit: string;
  /** Compiled services; default: those of this build. */
  readonly services?: string | undefined;
  /** Draw only these faults. */
  readonly faults?: readonly string[] | undefined;
  /** No period without one. */
  readonly restless?: boolean;
  /** For what must come about at the end. */
  readonly patienceMs?: number;
  readonly bulkRows?: number;
  readonly say: (line: string) => void;
};

export class Campaign implements AsyncDisposable {
  readonly #options: CampaignOptions;
  readonly #random: Random;
  /** Undone at the end, the last first. */
  readonly #undo: (() => Promise<unknown>)[] = [];
  readonly #journal = new Journal();
  readonly #counts: Record<string, number> = {};
  readonly #leftOut: string[] = [];
  readonly #retentionS: number;
  readonly #started = Date.now();
  #scene!: Scene;
  #witness: Witness | undefined;
  #wiped = false;

  private constructor(options: CampaignOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#retentionS = options.seconds < 120 ? 20 + this.#random.below(11) : 30 + this.#random.below(31);
  }

  static readonly #running = new Set<Campaign>();

  /** Leaves nothing behind when somebody stops us. */
  static async endAll(): Promise<void> {
    for (const campaign of Campaign.#running) await campaign[Symbol.asyncDispose]();
  }

  static async start(options: CampaignOptions): Promise<Campaign> {
    const campaign = new Campaign(options);
    Campaign.#running.add(campaign);
    try {
      await campaign.#start();
      return campaign;
    } catch (error) {
      await campaign[Symbol.asyncDispose]();
      throw error;
    }
  }

  #using<T extends AsyncDisposable>(owned: T): T {
    this.#undo.push(async () => await owned[Symbol.asyncDispose]());
    return owned;
  }

  async #start(): Promise<void> {
    const { seed, seconds, major, services: servicesDir } = this.#options;
    const refused = (what: string) => (reason: string) => void this.#leftOut.push(`${what}: ${reason}`);
    const volume = await Volume.create('ext4', VOLUME_MB, HARSH).catch((error: unknown) => {
      if (!(error instanceof CannotInject)) throw error;
      refused('full-disk and power-cut')(error.message);
      return undefined;
    });
    if (volume !== undefined) this.#using(volume);
    const ports = { postgres: 0, nats: 0 };
    const proxyTo = async (name: keyof typeof ports): Promise<NetworkProxy> =>
      this.#using(await NetworkProxy.start({ host: '127.0.0.1', port: () => ports[name] }));
    const proxies = { postgres: await proxyTo('postgres'), nats: await proxyTo('nats') };
    const through = (url: string, name: keyof typeof ports): string => {
      ports[name] = Number(new URL(url).port);
      return url.replace(`:${ports[name]}`, `:${proxies[name].port}`);
    };
    const most = seconds < 120 ? 3 : 9;
    const pipeline = this.#using(
      await Pipeline.start({
        schema: schemaSql(ALL),
        tables: configLines(ALL),
        flushEvery: `${1 + this.#random.below(most)}s`,
        retention: `${this.#retentionS}s`,
        schedule: `*/${5 + this.#random.below(6)} * * * * *`,
        postgres: { max_prepared_transactions: '20', fsync: 'on', max_wal_size: '256MB' },
        between: ({ database, stream }) => ({ database: through(database, 'postgres'), stream: through(stream, 'nats') }),
        ...(major === undefined ? {} : { major }),
        ...(servicesDir === undefined ? {} : { servicesDir }),
        ...(volume === undefined ? {} : { archiveDir: volume.dir }),
      }),
    );
    this.#witness = await Witness.begin(pipeline, refused('witness'));
    if (this.#witness) this.#undo.push(async () => await this.#witness?.stop());
    const samplers = new Samplers(pipeline);
    samplers.start();
    const services = new Services(pipeline);
    this.#undo.push(() => samplers.stop());
    this.#undo.push(async () => void (await services.stop()));
    services.startAll();
    await pipeline.archived();
    samplers.measuring = true;
    const traffic = await Traffic.start({
      databaseUrl: pipeline.databaseUrl,
      journal: this.#journal,
      seed,
      retentionS: this.#retentionS,
      bulkRows: this.#options.bulkRows ?? (seconds < 120 && seed % 3 !== 1 ? 10_000 : 100_000),
    });
    this.#undo.push(() => traffic.close());
    const longestMs = seconds < 120 ? 5000 : 10_000;
    this.#scene = { pipeline, services, traffic, samplers, volume, proxies, random: this.#random, longestMs, problems: [] };
  }

  #say(what: string): void {
    this.#options.say(`${this.#spent.toFixed(1).padStart(6)} s  ${what}`);
  }

  get #patienceMs(): number {
    return this.#options.patienceMs ?? PATIENCE_MS;
  }

  /** Something is wrong already: there is nothing more to wait for. */
  get #bad(): boolean {
    const { services, samplers, problems, traffic } = this.#scene;
    services.lookForHalts();
    return problems.length + services.halts.length + samplers.violations.length + samplers.law3.violations.length > 0 || traffic.failure !== undefined;
  }

  get #spent(): number {
    return (Date.now() - this.#started) / 1000;
  }

  /** Load and faults, until there is just time for the end. */
  async #chaos(): Promise<void> {
    const { seconds, faults: only, restless } = this.#options;
    const { traffic, random, volume } = this.#scene;
    const names = drawable(volume, only);
    const until = Date.now() + Math.max(seconds / 2, seconds - ENDING_S - this.#spent) * 1000;
    await traffic.parents(12);
    const bulkAt = Date.now() + random.below(Math.max(1, until - Date.now()) * 0.4);
    let bulk = false;
    while (Date.now() < until && !this.#bad) {
      if (!bulk && Date.now() >= bulkAt) {
        bulk = true;
        await traffic.bulk();
      }
      if (random.chance(0.25)) await this.#alter();
      const quiet = names.length === 0 || (restless !== true && random.chance(0.25));
      const name = quiet ? 'none' : draw(random, names);
      this.#counts[name] = (this.#counts[name] ?? 0) + 1;
      this.#say(name);
      if (name === 'nats-wiped') this.#wiped = true;
      await FAULTS[name]?.run(this.#scene);
      await pause(500 + random.below(3500));
    }
  }

  /** Tables change, or are emptied. */
  async #alter(): Promise<void> {
    const { traffic, random, pipeline } = this.#scene;
    const kind = random.pick(KINDS.filter((one) => !one.keyless));
    const { name } = kind;
    if (random.chance(0.15)) return await traffic.truncate(random.pick(KINDS));
    const column = this.#journal.name('c');
    const change = random.pick([
      `ALTER TABLE ${name} ADD COLUMN ${column} text`,
      `ALTER TABLE ${name} ADD COLUMN ${column} int DEFAULT 5`,
      `ALTER TABLE ${name} ADD COLUMN ${column} uuid DEFAULT gen_random_uuid()`,
      'ALTER TABLE f_index REPLICA IDENTITY DEFAULT',
      'ALTER TABLE f_index REPLICA IDENTITY FULL',
      'ALTER TABLE f_index REPLICA IDENTITY USING INDEX f_index_code',
    ]);
    this.#counts['ddl'] = (this.#counts['ddl'] ?? 0) + 1;
    await traffic.quiet(async () => {
      await pipeline.query(change);
      if (!change.includes('gen_random_uuid')) return;
      const rows = await pipeline.query<{ ver: string; value: string }>(`SELECT ver, ${column}::text AS value FROM ${name}`);
      this.#journal.filled.push({ kind, column, values: new Map(rows.map(({ ver, value }) => [ver, value])) });
    });
  }

  async run(): Promise<Report> {
    const { pipeline, services, traffic, samplers, problems } = this.#scene;
    let testimony: Testimony | undefined;
    let firstOpen = '';
    let rebuild = 'not tried';
    const step = async (what: string, body: () => Promise<void>): Promise<void> => {
      if (this.#bad) return;
      await body().catch((error: unknown) => void problems.push(`${what}: ${(error as Error).stack ?? String(error)}`.slice(0, 2000)));
      this.#say(what);
    };
    await step('chaos', () => this.#chaos());
    if (traffic.failure !== undefined) problems.push(`the load: ${(traffic.failure as Error).stack}`);
    await step('healed', () => heal(this.#scene));
    await step('at rest', async () => {
      firstOpen = await comeToRest(this.#scene, {
        kinds: ALL,
        journal: this.#journal,
        retentionS: this.#retentionS,
        patienceMs: this.#patienceMs,
        bad: () => this.#bad,
        say: (what) => this.#say(what),
      });
    });
    samplers.measuring = false;
    problems.push(...services.halts, ...(await services.stop()));
    await step('witness', async () => {
      await traffic.reconcile();
      testimony = await this.#witness?.end(this.#journal, ALL);
    });
    await samplers.stop();
    const verdict = { lost: 0, unexpected: 0, phantom: 0, duplicate: 0, torn: 0, outOfOrder: 0, examples: [] as string[] };
    await step('audit', async () => void Object.assign(verdict, await judge(pipeline, this.#journal, ALL, firstOpen)));
    await step('verify', async () => {
      const verified = await pipeline.cli(['verify', '-c', pipeline.configFile]);
      if (verified.code !== 0) problems.push(verified.stdout + verified.stderr);
    });
    await step('rebuild', async () => {
      if (this.#options.seconds < 120 && this.#options.seed % 3 !== 0) rebuild = 'not tried (every third seed)';
      else if (this.#wiped) rebuild = 'the stream was wiped';
      else {
        const { code, stdout, stderr } = await pipeline.cli(['rebuild', '--into', path.join(pipeline.dir, 'rebuilt'), '--check', '-c', pipeline.configFile]);
        rebuild = code === 0 ? 'equal' : 'different';
        if (code !== 0) problems.push(stdout + stderr);
      }
    });
    const left = await leftByPruner(pipeline.archiveDir);
    if (left[NOT_THERE] !== undefined) problems.push(`the pruner found ${left[NOT_THERE]} covered rows that are not in the archive`);
    // What is wrong by itself first, what follows from it last.
    const wrong = [samplers.law3.violations.slice(0, 5), samplers.violations.slice(0, 5), verdict.examples, testimony?.differences.slice(0, 5) ?? []].flat();
    problems.unshift(...wrong);
    const { examples: _, ...found } = verdict;
    const pruned = this.#journal.versions.filter(({ fate }) => fate === 'pruned').length;
    return {
      ok: problems.length === 0 && Object.values(found).every((count) => count === 0),
      seed: this.#options.seed,
      seconds: this.#options.seconds,
      took: Math.round(this.#spent),
      major: pipeline.postgres.major,
      nats: (await natsServer()).version,
      commit: this.#options.commit,
      transactions: this.#journal.transactions.length,
      versions: this.#journal.versions.length,
      rows: this.#journal.versions.filter(({ fate }) => fate === 'live').length,
      pruned,
      lostByServer: traffic.lost,
      operations: traffic.counts,
      faults: this.#counts,
      left,
      leftOut: this.#leftOut,
      ...found,
      law3: { samples: samplers.law3.samples, violations: samplers.law3.violations.length },
      sampler: { filesHashed: samplers.filesHashed, violations: samplers.violations.length },
      witness: testimony === undefined ? null : { changes: testimony.changes, differences: testimony.differences.length },
      rebuild,
      maxLagSeconds: Math.round(samplers.maxLagSeconds * 10) / 10,
      restarts: services.ends,
      halts: services.halts,
      problems,
    };
  }

  /** The services' last lines, for whoever looks into a failure. */
  async keepLogs(file: string): Promise<void> {
    await writeFile(file, this.#scene.services.logs.join('\n'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Campaign.#running.delete(this);
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) await undo().catch((error: unknown) => this.#options.say(String(error)));
  }
}
