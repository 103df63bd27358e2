/**
 * The whole way on one's own machine: Postgres and JetStream in a temporary folder, the reference tables with three days of history, the three services as processes, live load on all tables, and at the end
 * an audit of the journal against Postgres and the archive. Owns the order of it all; leaves the archive, and nothing else.
 */
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { parseDocument } from 'yaml';
import { archivePaths, RESERVED } from '../../src/archive/layout.js';
import { loadConfig } from '../../src/runtime/config.js';
import { TidemarkError } from '../../src/runtime/errors.js';
import { sleep } from '../../src/runtime/service.js';
import { slotName } from '../../src/wal/identifier.js';
import { connectClient } from '../../src/wal/session.js';
import { readTableView } from './archive-view.js';
import { auditFolder, auditTable, type TableAudit } from './audit.js';
import { Comparison, type Ours } from './compare/comparison.js';
import { drain } from './drain.js';
import { startNats } from './engines/nats.js';
import { startPostgres } from './engines/postgres.js';
import { freePort, isFree } from './engines/process.js';
import { listFiles } from './folder.js';
import { allRows } from './hot-rows.js';
import { fingerprintOf, TableJournal } from './journal.js';
import { Load } from './load.js';
import { makeReport, printReport, writeReport } from './report.js';
import { loadHistory, readDemoTables } from './rows.js';
import { runCli, Supervised } from './supervised.js';
import { Watch } from './watch.js';

export type DemoOptions = {
  /** Length of the live load. */
  readonly seconds: number;
  /** Rows a second; default 400. */
  readonly rate: number | undefined;
  readonly kill: boolean;
  readonly keep: boolean;
  /** Also the script that Tidemark replaces, on a second database under the same load. */
  readonly compare: boolean;
  /** Where to write the JSON report. */
  readonly report: string | undefined;
};

const HISTORY_ROWS = 310_000;
const DEFAULT_RATE = 400;
const KILL_EVERY_MS = 4000;
/** What was an hour: ours prunes, and the old script runs, as often. */
const HOUR_MS = 10_000;
const CONSOLE_PORT = 9470;
/** The same Ctrl-C may come from the terminal and again from who started us. */
const ONE_WISH_MS = 1000;

const example = (name: string): string => fileURLToPath(new URL(`../../../infra/examples/${name}`, import.meta.url));

/** Exit code: 0 only when the audit is clean. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const stop = new AbortController();
  const leave: (() => Promise<void>)[] = [];
  let asked = 0;
  const interrupt = (): void => {
    if (asked === 0) {
      process.stdout.write('\nstopping the load; draining and auditing (Ctrl-C again to leave at once)\n');
      asked = Date.now();
      stop.abort();
    } else if (Date.now() - asked > ONE_WISH_MS) {
      process.stdout.write('\nleaving without an audit\n');
      void Promise.allSettled(leave.splice(0).map((end) => end())).then(() => process.exit(130));
    }
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const home = await mkdtemp(path.join(tmpdir(), 'tidemark-demo-'));
  await chmod(home, 0o755); // as root the database server runs as another user
  const engines = path.join(home, 'engines');
  await mkdir(engines, { mode: 0o755 });
  try {
    process.stdout.write('starting Postgres and nats-server …\n');
    await using postgres = await startPostgres({ dir: path.join(engines, 'postgres') });
    await using nats = await startNats({ dir: path.join(engines, 'nats') });
    leave.push(async () => {
      await Promise.all([postgres[Symbol.asyncDispose](), nats[Symbol.asyncDispose]()]);
      await rm(engines, { recursive: true, force: true });
    });
    process.stdout.write(`Postgres ${postgres.major} on port ${postgres.port}, nats-server ${nats.version} on port ${nats.port}, everything in ${home}\n`);
    const url = await postgres.createDatabase('goat');
    const config = await writeConfig(home, url, nats.url);
    const old = options.compare ? await postgres.createDatabase('goat_old') : undefined;
    return await withClients(url, (admin, watcher) => play(options, { home, config, admin, watcher, old }, stop));
  } finally {
    await rm(engines, { recursive: true, force: true });
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

async function withClients<T>(url: string, use: (admin: pg.Client, watcher: pg.Client) => Promise<T>): Promise<T> {
  const [admin, watcher] = [await connectClient(url, { applicationName: 'demo_load' }), await connectClient(url, { applicationName: 'demo_watch' })];
  try {
    return await use(admin, watcher);
  } finally {
    await Promise.all([admin.end(), watcher.end()]);
  }
}

/** The example's configuration with this demo's addresses and a quicker pace. */
async function writeConfig(home: string, url: string, stream: string): Promise<string> {
  const document = parseDocument(await readFile(example('follow_the_goat.yaml'), 'utf8'));
  document.setIn(['source', 'url'], url);
  document.setIn(['stream', 'url'], stream);
  document.setIn(['archive', 'dir'], path.join(home, 'archived_data'));
  document.setIn(['archive', 'flush', 'every'], '2s');
  document.setIn(['prune', 'schedule'], `*/${HOUR_MS / 1000} * * * * *`);
  document.setIn(['prune', 'spread'], 0); // somebody watches
  document.setIn(['console'], { port: await consolePort() });
  await mkdir(path.join(home, 'archived_data'), { mode: 0o750 });
  const file = path.join(home, 'tidemark.yaml');
  await writeFile(file, document.toString(), { mode: 0o600 });
  return file;
}

/** The console's own port where it is free. */
async function consolePort(): Promise<number> {
  return (await isFree(CONSOLE_PORT)) ? CONSOLE_PORT : await freePort();
}

type Stage = {
  readonly home: string;
  readonly config: string;
  readonly admin: pg.Client;
  readonly watcher: pg.Client /** URL of the second database. */;
  readonly old: string | undefined;
};

async function play(options: DemoOptions, stage: Stage, stop: AbortController): Promise<number> {
  const { admin, home } = stage;
  const config = loadConfig(stage.config, {}, {});
  const schema = await readFile(example('follow_the_goat.sql'), 'utf8');
  await admin.query(`SET search_path = public; ${schema}`);
  const tables = await readDemoTables(admin, config.tables);
  const loaded = await loadHistory(admin, tables, HISTORY_ROWS, () => undefined);
  const journals = tables.map((table) => new TableJournal(table));
  for (const journal of journals) {
    journal.committed(await allRows(admin, journal.table.name));
    journal.next = (loaded.get(journal.table.name) ?? 0) + 1;
  }
  process.stdout.write(`loaded ${[...loaded.values()].reduce((sum, rows) => sum + rows, 0)} rows of three days into ${tables.length} tables\n`);
  await using comparison =
    stage.old === undefined
      ? undefined
      : await Comparison.begin({ home, url: stage.old, schema, everyMs: HOUR_MS, retentionMs: config.tables[0]?.retentionMs ?? 0 }, admin, journals);
  const doctor = await runCli(['doctor', '--fix', '-c', stage.config]);
  if (doctor.code !== 0)
    throw new TidemarkError(
      'failed',
      `doctor found a fault:\n${doctor.stdout
        .split('\n')
        .filter((line) => line.startsWith('FAILED'))
        .join('\n')}${doctor.stderr}`,
    );

  const services = new Supervised(stage.config, path.join(home, 'services.jsonl'));
  process.stdout.write(`console: http://127.0.0.1:${config.console?.port}\n`);
  const watch = new Watch({ client: stage.watcher, archiveDir: config.archive.dir, slot: slotName(config.source.name), journals });
  const watching = new AbortController();
  const load = new Load(
    {
      client: admin,
      journals,
      rate: options.rate ?? DEFAULT_RATE,
      signal: stop.signal,
      mirror: comparison?.mirror,
      backdate: () => comparison?.hasDeleted === true || watch.runs.some((run) => run.tables.some((table) => table.deleted > 0)),
    },
    Date.now(),
  );
  await comparison?.start();
  const watched = watch.run(watching.signal, () => load, services);
  let seconds = 0;
  const problems: string[] = [];
  let killer: AbortController | undefined;
  try {
    const started = performance.now();
    const timer = options.keep ? undefined : setTimeout(() => stop.abort(), options.seconds * 1000);
    const kill = (): void => {
      if (services.kill(Math.random) !== undefined) comparison?.kill();
    };
    killer = options.kill ? everyNowAndThen(kill, KILL_EVERY_MS) : undefined;
    await load.run();
    seconds = (performance.now() - started) / 1000;
    clearTimeout(timer);
    killer?.abort();
    problems.push(...(await drain({ admin, configFile: stage.config, journals, watch, load })), ...((await comparison?.finish()) ?? []));
  } finally {
    killer?.abort();
    watching.abort();
    await watched;
    const code = await services.stop();
    if (code !== 0) problems.push(`the services ended with ${code ?? 'a signal'}`);
  }
  return await audit(options, { stage, journals, watch, services, load, seconds, problems, comparison, archiveDir: config.archive.dir });
}

type Finished = {
  stage: Stage;
  journals: readonly TableJournal[];
  watch: Watch;
  services: Supervised;
  load: Load;
  seconds: number;
  problems: string[];
  comparison: Comparison | undefined;
  archiveDir: string;
};

async function audit(options: DemoOptions, parts: Finished): Promise<number> {
  const { journals, watch, services, archiveDir, problems } = parts;
  process.stdout.write('services stopped; auditing\n');
  await watch.sample();
  const files = [...(watch.state?.files.values() ?? [])];
  const audits: TableAudit[] = [];
  for (const journal of journals) {
    const hot = new Map((await allRows(parts.stage.admin, journal.table.name)).map((row) => [journal.keyOf(row), fingerprintOf(journal.table.columns, row)]));
    audits.push(auditTable(journal, hot, await readTableView(archiveDir, files, journal.table)));
  }
  if (watch.law3Samples === 0) problems.push('law 3 was never sampled');
  problems.push(...services.troubles.slice(0, 5), ...watch.law3Violations.slice(0, 3).map((violation) => `law 3: ${violation}`));
  problems.push(...auditFolder(await listFiles(archiveDir, RESERVED), files), ...audits.flatMap((entry) => entry.examples));
  const report = makeReport(audits, {
    seconds: parts.seconds,
    rows: parts.load.rows,
    kills: services.kills,
    maxLagSeconds: watch.maxLagSeconds,
    archive: archiveDir,
    otherwiseClean: problems.length === 0,
  });
  printReport(report, audits, problems);
  process.stdout.write(
    `law 3 sampled ${watch.law3Samples} times, ${watch.law3Violations.length} violations; the services' log is ${path.join(parts.stage.home, 'services.jsonl')}, receipts in ${archivePaths(archiveDir).receipts}\n`,
  );
  const oldScript = await parts.comparison?.judge();
  if (oldScript !== undefined) parts.comparison?.print(oursOf(audits, services.kills), oldScript);
  if (options.report !== undefined) writeReport(options.report, oldScript === undefined ? report : { ...report, oldScript });
  return report.ok ? 0 : 1;
}

/** Calls `act` at random moments, `meanMs` apart on average: regular ones would always meet the same phase of what runs by a schedule. */
function everyNowAndThen(act: () => void, meanMs: number): AbortController {
  const over = new AbortController();
  void (async () => {
    while (!over.signal.aborted) {
      await sleep(meanMs * (0.5 + Math.random()), over.signal);
      if (!over.signal.aborted) act();
    }
  })();
  return over;
}

function oursOf(audits: readonly TableAudit[], kills: number): Ours {
  const sum = (of: (audit: TableAudit) => number): number => audits.reduce((total, audit) => total + of(audit), 0);
  return {
    archived: sum(({ archived }) => archived),
    lost: sum(({ lost }) => lost),
    doubled: sum(({ duplicate }) => duplicate),
    wrongDay: sum(({ wrongDay }) => wrongDay),
    kills,
  };
}
