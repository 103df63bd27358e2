/**
 * Makes the golden archive of a release, with real services on a real Postgres: `node dist/test/archive/make-golden.js`, once for each version, and never again for one that is out.
 * Writes `test/fixtures/golden-VERSION.tar.gz` (the archive folder) and `.json` (what must be read from it, taken from Postgres and from the workload's own journal).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Pipeline, until } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, Ticks } from '../pipeline/ticks.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

const KINDS = `CREATE TYPE mood AS ENUM ('fine', 'poor'); CREATE TABLE kinds (id int PRIMARY KEY, at timestamptz NOT NULL, b boolean, n numeric, f float8, d date, j jsonb, y bytea, a int[], u uuid, m mood, i interval);`;
const KINDS_ROWS = `INSERT INTO kinds VALUES
 (1, date_trunc('second', now()) - interval '1 hour', true, 12345678901234567890.000100, 0.1, '2024-02-29', '{"a": [1, null]}', '\\x00ff', '{1,NULL,3}', '00000000-0000-4000-8000-000000000001', 'fine', '1 mon 2 days'),
 (2, date_trunc('second', now()) - interval '1 hour', NULL, 'NaN', '-Infinity', 'infinity', NULL, '', '{}', NULL, 'poor', NULL),
 (3, date_trunc('second', now()) - interval '1 hour', false, NULL, NULL, '0044-03-15 BC', '"\\u00e9"', NULL, NULL, NULL, NULL, '00:00:00.000001')`;

/** What the test reads. */
export type Golden = {
  readonly version: string;
  /** id → newest committed version, as Ticks keeps it. */
  readonly ticks: readonly (readonly [string, string])[];
  /** Rows that a user deleted. */
  readonly deleted: number;
  /** Rows still in Postgres, as it prints them, NULL as null. */
  readonly live: { readonly ticks: readonly (readonly (string | null)[])[]; readonly kinds: readonly (readonly (string | null)[])[] };
  /** A day whose rows were pruned and which is not sealed yet. */
  readonly sealable: { readonly day: string; readonly rows: number };
  readonly position: string;
};

async function make(): Promise<void> {
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
  await using pipeline = await Pipeline.start({
    schema: TICKS_SCHEMA + KINDS,
    tables: '  ticks: { timestamp: at }\n  kinds: { timestamp: at }',
    flushEvery: '100ms',
  });
  const ticks = new Ticks(pipeline);
  await ticks.insert(40, 72);
  await pipeline.query(KINDS_ROWS);
  await pipeline.doctorFix();
  const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
  await pipeline.archived();
  await ticks.remove(7);
  await ticks.update(5);
  await pipeline.archived();
  const prune = async (env: Record<string, string>): Promise<void> => {
    const { code, stdout, stderr } = await pipeline.cli(['prune', '-c', pipeline.configFile], env);
    assert.equal(code, 0, stdout + stderr);
    await pipeline.archived();
  };
  await prune({});
  await ticks.insert(20, 48);
  await pipeline.archived();
  await prune({ TIDEMARK_STREAM_URL: 'nats://127.0.0.1:1' }); // nobody is asked to seal
  const merged = async (): Promise<boolean> => services[0]?.log.includes('"event":"merge"') === true;
  for (let i = 0; i < 60 && !(await merged()); i += 1) {
    const before = (await pipeline.state())?.number;
    await ticks.insert(1, 1);
    await until('a flush', async () => (await pipeline.state())?.number !== before);
  }
  await until('small segments were merged', merged);
  await ticks.update(3);
  const state = await pipeline.archived();
  await ticks.audit();
  const files = [...state.files.values()].filter(({ table }) => table === 'ticks');
  for (const kind of ['segment', 'keys', 'daily', 'history'])
    assert.ok(
      files.some((file) => file.kind === kind),
      `there is a file of kind ${kind}`,
    );
  const rows = async (table: string): Promise<(string | null)[][]> =>
    (await pipeline.sql.query({ text: `SELECT * FROM ${table} ORDER BY id`, rowMode: 'array' })).rows;
  await pipeline.query("SET TimeZone = 'UTC'; SET extra_float_digits = 3");
  const live = { ticks: await rows('ticks'), kinds: await rows('kinds') };
  const oldest = files
    .filter(({ kind }) => kind === 'segment')
    .map(({ day }) => day ?? '')
    .sort()[0] as string;
  for (const service of services) assert.equal((await service.stop()).code, 0);
  const golden: Golden = {
    version,
    ticks: [...ticks.live],
    deleted: ticks.deleted.size,
    live,
    sealable: {
      day: oldest,
      rows: [...ticks.live].length - live.ticks.length - files.filter(({ kind }) => kind === 'daily').reduce((sum, file) => sum + file.rows, 0),
    },
    position: (await pipeline.state())?.position ?? '',
  };
  const name = path.join(ROOT, 'test/fixtures', `golden-${version}`);
  rmSync(path.join(pipeline.archiveDir, '_tidemark/tmp'), { recursive: true });
  execFileSync('tar', ['--owner=0', '--group=0', '-czf', `${name}.tar.gz`, '-C', pipeline.archiveDir, '.']);
  writeFileSync(`${name}.json`, `${JSON.stringify(golden)}\n`);
  process.stdout.write(`${name}.tar.gz: ${statSync(`${name}.tar.gz`).size} bytes, ${state.files.size} files, manifest ${state.number}\n`);
}

await make();
