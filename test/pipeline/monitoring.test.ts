/**
 * What the services show of themselves, on a pipeline that runs: the metrics are those of the document, of the dashboard and of the alerts, health goes red and green, events arrive, `status` forecasts and
 * watches. One pipeline for all of it; the last test halts its archiver.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect, type NatsConnection } from 'nats';
import { parse } from 'yaml';
import { findExecutable, freePort } from '../../services/demo/engines/process.js';
import { cleanEnvironment, MAIN } from '../services/cli/command.js';
import { type AnyService, Pipeline, type Service, until } from './pipeline.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const NAMES = ['capture', 'archiver', 'pruner'] as const;
const ALL = [...NAMES, 'console'] as const;

const SCHEMA = `CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), secret text); CREATE INDEX ON prices (at);
INSERT INTO prices (at, secret) SELECT now() - interval '50 hours', 'c4naryrow' FROM generate_series(1, 300) i;`;

let pipeline: Pipeline;
let nats: NatsConnection;
let ports: Record<AnyService, number>;
const services = new Map<AnyService, Service>();
type Event = { readonly what: string } & Readonly<Record<string, unknown>>;
const events: Event[] = [];
let texts = '';

before(async () => {
  ports = { capture: await freePort(), archiver: await freePort(), pruner: await freePort(), console: await freePort() };
  const { capture, archiver, pruner, console } = ports;
  const yaml = `metrics: ${JSON.stringify({ capture, archiver, pruner })}\nconsole: { port: ${console} }`;
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: '  prices: { timestamp: at }', yaml });
  nats = await connect({ servers: `127.0.0.1:${pipeline.nats.port}`, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
  nats.subscribe('tidemark.test.events.>', {
    callback: (_, message) => {
      texts += message.string();
      events.push({ what: message.subject.split('.').at(-1) as string, ...message.json<object>() });
    },
  });
  await nats.flush();
  await pipeline.doctorFix();
  for (const name of ALL) services.set(name, pipeline.service(name));
  await pipeline.archived();
  await until('the console listens', async () => services.get('console')?.log.includes('"event":"console"'));
  await pipeline.query(`INSERT INTO prices (secret) SELECT 'c4naryrow' FROM generate_series(1, 100) i`);
  await pipeline.archived();
  const pruned = await pipeline.cli(['prune', '-c', pipeline.configFile]);
  assert.equal(pruned.code, 0, pruned.stdout + pruned.stderr);
  await pipeline.archived();
  await until('the day that was emptied is sealed', async () => events.find(({ what }) => what === 'seal'));
});
after(async () => {
  await nats?.close();
  await pipeline?.[Symbol.asyncDispose]();
});

async function get(name: AnyService, where: string, options: RequestInit = {}): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${ports[name]}${where}`, { ...options, headers: { connection: 'close' } });
  return { status: answer.status, text: await answer.text() };
}

/** Every sample of all three services, by name and labels; what every process has is left out. */
async function scrape(): Promise<Map<string, number>> {
  const samples = new Map<string, number>();
  for (const name of NAMES) {
    const { status, text } = await get(name, '/metrics');
    assert.equal(status, 200, text);
    texts += text;
    for (const [, metric, labels = '', value] of text.matchAll(/^(\w+)(\{[^}]*\})? (\S+)$/gm)) {
      const own = [...labels.matchAll(/(\w+)="([^"]*)"/g)].filter(([, label]) => label !== 'source' && label !== 'service').map(([whole]) => whole);
      assert.match(labels, new RegExp(`source="test",service="${name}"`));
      if (metric?.startsWith('tidemark_')) samples.set(own.length === 0 ? metric : `${metric}{${own.join()}}`, Number(value));
    }
  }
  return samples;
}

/** What is declared, whether it has a value now or not: `name type services help`. */
async function declared(): Promise<Map<string, { type: string; services: string[]; help: string }>> {
  const found = new Map<string, { type: string; services: string[]; help: string }>();
  for (const name of ALL) {
    const { text } = await get(name, '/metrics');
    const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map((match) => [match[1] as string, match[2] as string]));
    for (const [, metric, help] of text.matchAll(/^# HELP (\S+) (.*)$/gm)) {
      const known = found.get(metric as string);
      if (known) known.services.push(name);
      else found.set(metric as string, { type: types.get(metric as string) as string, services: [name], help: help as string });
    }
  }
  return found;
}

test('a scrape tells what happened, to the row', async () => {
  const samples = await until('capture has looked at the slot since', async () => {
    const found = await scrape();
    return (found.get('tidemark_archive_lag_bytes') ?? Number.POSITIVE_INFINITY) < 100_000 ? found : undefined; // the server itself writes a little
  });
  const beats = Number((await pipeline.query<{ n: string }>('SELECT count(*)::text AS n FROM beat'))[0]?.n);
  const exactly: Record<string, number> = {
    'tidemark_archived_rows_total{table="public.prices"}': 400,
    'tidemark_archived_rows_total{table="public.beat"}': beats,
    'tidemark_pruned_rows_total{table="public.prices"}': 300,
    'tidemark_prune_batches_total{table="public.prices"}': 1,
    'tidemark_prune_runs_total{result="done"}': 1,
    'tidemark_prune_runs_total{result="failed"}': 0,
    'tidemark_prune_table_problem{table="public.prices"}': 0,
    'tidemark_halts_total{halt="DIGEST"}': 0,
    'tidemark_archive_files{kind="daily"}': 1,
    tidemark_seals_total: 1,
    tidemark_seal_duration_seconds_count: 1,
    tidemark_prune_run_duration_seconds_count: 1,
    tidemark_prune_enabled: 1,
    tidemark_prune_paused: 0,
    tidemark_slot_alarm_level: 0,
    tidemark_ready: 1,
    tidemark_stream_limit_bytes: 20 * 1024 ** 3,
  };
  for (const [name, value] of Object.entries(exactly)) assert.equal(samples.get(name), value, name);
  const copied = samples.get('tidemark_capture_copied_rows_total') as number;
  assert.ok(copied >= 300 && copied <= 300 + beats, `${copied} copied`);
  // The rest came as changes: 100 inserts, 300 deletes, and beats.
  assert.equal(copied + (samples.get('tidemark_capture_changes_total') as number), 400 + 300 + beats);
  for (const name of [
    'tidemark_capture_published_bytes_total',
    'tidemark_capture_store_duration_seconds_count',
    'tidemark_slot_wal_held_bytes',
    'tidemark_archive_bytes',
    'tidemark_archive_volume_free_bytes',
    'tidemark_flush_duration_seconds_count',
    'tidemark_prune_last_run_timestamp_seconds',
  ])
    assert.ok((samples.get(name) ?? 0) > 0, name);
  assert.ok(!samples.has('tidemark_slot_wal_safe_bytes'), 'not known is left out');
  assert.equal(
    samples.get('tidemark_archive_bytes'),
    [...((await pipeline.state())?.files.values() ?? [])].reduce((sum, { bytes }) => sum + bytes, 0),
  );
});

test('the document lists every metric with its type, service and meaning, and no other', async () => {
  const rows = [...read('docs/monitoring.md').matchAll(/^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]+) \| (.*) \|$/gm)];
  const found = await declared();
  const shown = [...found].map(
    ([name, { type, services: from, help }]) => `${name} · ${type} · ${from.length === ALL.length ? 'all' : from.join(', ')} · ${help}`,
  );
  assert.deepEqual(
    rows.map(([, name, type, from, help]) => `${name} · ${type} · ${from} · ${help}`),
    shown,
  );
  for (const name of found.keys()) assert.doesNotMatch(name, /_(ms|milliseconds|mb|kb|megabytes)(_|$)/, 'base units');
  for (const [name, { type }] of found) assert.equal(name.endsWith('_total'), type === 'counter', name);
});

type Rules = { groups: { rules: { alert: string; expr: string; for?: string; labels: { severity: string } }[] }[] };
type Panel = { title: string; targets?: { expr: string }[] };

test('dashboard and alerts name metrics that there are, promtool takes them, and the document lists the alerts', async () => {
  const found = await declared();
  const rules = (parse(read('infra/grafana/alerts.yaml')) as Rules).groups.flatMap((group) => group.rules);
  const { panels, templating } = JSON.parse(read('infra/grafana/dashboard.json')) as { panels: Panel[]; templating: unknown };
  const shown = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  assert.ok(rules.length > 10 && shown.length > 40);
  const named = [...rules.map(({ expr }) => expr), ...shown, JSON.stringify(templating)].flatMap(
    (text) => text.match(/\b(tidemark|process|nodejs)_[a-z0-9_]+/g) ?? [],
  );
  assert.ok(new Set(named).size > 40);
  for (const name of new Set(named)) {
    const whole = name.replace(/_(bucket|sum|count)$/, '');
    assert.ok(found.has(name) || found.get(whole)?.type === 'histogram', `${name} is no metric`);
  }
  for (const { expr } of rules) {
    for (const [name] of expr.matchAll(/\btidemark_\w+/g)) {
      const rated = new RegExp(`(increase|rate)\\(${name}`).test(expr);
      assert.equal(rated, found.get(name)?.type === 'counter', `${name}: what is counted up is looked at by its rate`);
    }
  }
  const listed = [...read('docs/monitoring.md').matchAll(/^\| (Tidemark\w+) \((\w+)\) \| `(.*)`(?: for (\w+))? \|$/gm)].map(([, ...parts]) =>
    parts.join(' · '),
  );
  assert.deepEqual(
    listed,
    rules.map(({ alert, labels, expr, for: time }) => [alert, labels.severity, expr, time].join(' · ')),
  );
  const promtool = findExecutable('promtool');
  if (promtool === undefined) return;
  const dir = mkdtempSync(path.join(tmpdir(), 'tidemark-promtool-'));
  try {
    const asRules = shown.map((expr, i) => ({ record: `panel:${i}`, expr: expr.replace(/\$__(rate_interval|range)/g, '5m').replaceAll('$source', '.*') }));
    writeFileSync(path.join(dir, 'panels.json'), JSON.stringify({ groups: [{ name: 'panels', rules: asRules }] }));
    const takes = (args: readonly string[], input = ''): void => {
      const done = spawnSync(promtool, args, { encoding: 'utf8', input });
      assert.equal(done.status, 0, `${args.join(' ')}: ${done.stdout}${done.stderr}`);
    };
    takes(['check', 'rules', path.join(ROOT, 'infra/grafana/alerts.yaml')]);
    takes(['check', 'rules', path.join(dir, 'panels.json')]);
    for (const name of ALL) takes(['check', 'metrics'], (await get(name, '/metrics')).text);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('an event for every segment commit, prune run and sealed day, as the document shows them', async () => {
  const of = (what: string): Event[] => events.filter((event) => event.what === what);
  const rows = of('segment').flatMap(({ files }) => files as { file: string; table: string; rows: number }[]);
  const archived = rows.filter(({ table, file }) => table === 'public.prices' && !file.includes('_keys_')).reduce((sum, file) => sum + file.rows, 0);
  assert.equal(archived, 400);
  assert.deepEqual(
    of('prune').map(({ deleted, dryRun, trigger }) => [deleted, dryRun, trigger]),
    [[300, false, 'request']],
  );
  const [seal] = of('seal');
  assert.deepEqual([seal?.['table'], seal?.['rows']], ['public.prices', 300]);
  assert.match(String(seal?.['file']), /^prices\/prices_\d{4}-\d\d-\d\d\.parquet$/);
  await pipeline.query(`INSERT INTO prices (at, secret) SELECT now() - interval '50 hours', 'c4naryrow' FROM generate_series(1, 5) i`);
  await pipeline.archived();
  const dry = await pipeline.cli(['prune', '--dry-run', '-c', pipeline.configFile]);
  assert.equal(dry.code, 0);
  const tried = await until('the dry run is told', async () => of('prune').find(({ dryRun }) => dryRun === true));
  assert.equal(tried['deleted'], 0);
  assert.deepEqual((tried['tables'] as { deleted: number }[]).map(({ deleted }) => deleted).sort(), [0, 5], 'what would go');
  for (const [what, mark] of [['segment', 'files'], ['seal', 'history'], ['prune', 'trigger']] as const) {
    const { what: _, ...real } = of(what)[0] as Event;
    assert.deepEqual(Object.keys(real), Object.keys(documented(mark)), what);
  } // biome-ignore format: pairs
});

/** The event of the document that has this field. */
function documented(mark: string): Record<string, unknown> {
  const block = /```json\n([\s\S]*?)```/.exec(read('docs/monitoring.md'))?.[1] as string;
  const shown = block.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>); // biome-ignore format: one step after the other
  return shown.find((one) => mark in one) as Record<string, unknown>;
}

test('health: ready and alive; NATS away is a reason, not a death; ready again by itself', async () => {
  for (const name of NAMES) {
    assert.deepEqual(JSON.parse((await get(name, '/healthz')).text), { service: name, healthy: true });
    assert.deepEqual(JSON.parse((await get(name, '/readyz')).text), { service: name, ready: true, reasons: [] });
    assert.equal((await get(name, '/elsewhere')).status, 404);
    assert.equal((await get(name, '/metrics', { method: 'POST' })).status, 405);
  }
  await pipeline.nats.kill();
  for (const name of NAMES) {
    const { text } = await until(`${name} is not ready`, async () => {
      const answer = await get(name, '/readyz');
      return answer.status === 503 ? answer : undefined;
    });
    const { ready, reasons } = JSON.parse(text) as { ready: boolean; reasons: { check: string; problem: string }[] };
    assert.equal(ready, false);
    assert.match(reasons.find(({ check }) => check === 'nats')?.problem ?? '', /no connection to NATS/);
    assert.equal((await get(name, '/healthz')).status, 200);
    assert.match((await get(name, '/metrics')).text, /^tidemark_ready\{[^}]*\} 0$/m);
  }
  await pipeline.nats.start();
  for (const name of NAMES) await until(`${name} is ready again`, async () => (await get(name, '/readyz')).status === 200);
  await pipeline.archived();
});

test('the loopback address only; a port that is taken is one line and exit code 2', async () => {
  const { code, log } = await pipeline.service('pruner').ended;
  assert.equal(code, 2, log);
  const lines = log.trim().split('\n').map((line) => JSON.parse(line) as { event?: string; reason?: string }); // biome-ignore format: one step after the other
  assert.equal(lines.length, 1, log);
  assert.match(
    lines[0]?.reason ?? '',
    new RegExp(`^metrics\\.pruner: port ${ports.pruner} of 127\\.0\\.0\\.1 is taken by another process → stop it, or give metrics\\.pruner another port`),
  );
  assert.equal(services.get('pruner')?.running, true);
});

type Look = {
  at: string;
  forecast: { archive: { freeBytes: number; sizeBytes: number }; stream: { limitBytes: number } };
  rates: { seconds: number; archivedRows: number } | null;
  tables: { table: string; prunedRows: number }[];
};

test('status knows the room that is left; --watch --json is one object a look, with rates from the second on', async () => {
  const child = spawn(process.execPath, [MAIN, 'status', '--watch', '--json', '-c', pipeline.configFile], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  await until('the first look', async () => text.includes('\n'));
  await pipeline.query(`INSERT INTO prices (secret) SELECT 'c4naryrow' FROM generate_series(1, 50) i`);
  const looks = await until('rows are on their way', async () => {
    const all = text.split('\n').slice(0, -1).map((line) => JSON.parse(line) as Look); // biome-ignore format: one step after the other
    return (all.at(-1)?.rates?.archivedRows ?? 0) > 0 ? all : undefined;
  });
  const [first] = looks as [Look];
  assert.equal(first.rates, null);
  assert.ok(first.forecast.archive.freeBytes > 0 && first.forecast.archive.sizeBytes >= first.forecast.archive.freeBytes);
  assert.equal(first.forecast.stream.limitBytes, 20 * 1024 ** 3);
  assert.equal(first.tables.find(({ table }) => table === 'prices')?.prunedRows, 300);
  child.kill('SIGINT');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  texts += text;
});

test('--watch on a terminal: drawn in place within its size, and given back at Ctrl-C', {
  skip: findExecutable('script') === undefined && 'no script(1)',
}, async () => {
  const command = `stty cols 70 rows 16; exec ${process.execPath} ${MAIN} status --watch -c ${pipeline.configFile}`;
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...cleanEnvironment(), TERM: 'xterm', NO_COLOR: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  await until('two frames', async () => text.split('\u001b[?2026l').length > 2);
  child.stdin.write('\u0003');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0, text);
  assert.ok(text.startsWith('\u001b[?1049h\u001b[?25l\u001b[?7l'), JSON.stringify(text.slice(0, 40)));
  assert.match(text, /\u001b\[\?7h\u001b\[\?25h\u001b\[\?1049l$/);
  const frames = text.split('\u001b[?2026h').slice(1).map((frame) => frame.split('\u001b[?2026l')[0] as string); // biome-ignore format: one step after the other
  for (const frame of frames) {
    assert.ok(frame.startsWith('\u001b[H') && frame.endsWith('\u001b[J'), 'over the last one, and nothing is wiped first');
    const lines = frame.slice(3, -3).split('\r\n').map((line) => line.replace(/\u001b\[K$/, '')); // biome-ignore format: one step after the other
    assert.ok(lines.length <= 16, `${lines.length} lines`);
    for (const line of lines) assert.ok([...line].length <= 70 && !line.includes('\u001b'), JSON.stringify(line));
    assert.ok(
      lines.some((line) => /^prices +\d+ +\d+/.test(line)),
      frame,
    );
  }
});

test('a halt is told before the service ends, and no event and no number holds a value of a row', async () => {
  nats.publish('tidemark.test.wal', JSON.stringify({ row: 'c4naryrow' }));
  const archiver = services.get('archiver') as Service;
  const { code } = await archiver.ended;
  assert.equal(code, 3, archiver.log);
  const halt = await until('the halt is told', async () => events.find(({ what }) => what === 'halt'));
  assert.deepEqual(Object.keys(halt), ['what', ...Object.keys(documented('halt'))]);
  assert.deepEqual([halt['service'], halt['halt']], ['archiver', 'POISON']);
  assert.match(String(halt['remedy']), /tidemark repair --stream/);
  assert.ok(texts.length > 1000);
  assert.doesNotMatch(texts, /c4naryrow/);
});
