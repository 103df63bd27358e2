/** Archives of earlier releases (F50): everything that reads an archive reads them, the archiver goes on in them; one of a newer format is refused in one line, and nothing is written into it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startNats } from '../../services/demo/engines/nats.js';
import { encodeManifest, readManifest } from '../../src/archive/chain.js';
import { archivePaths, manifestName } from '../../src/archive/layout.js';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import type { TableState } from '../../src/archive/manifest-format.js';
import { ReceiptIndex } from '../../src/archive/receipts.js';
import { verifyArchive } from '../../src/archive/verify.js';
import { parsePosition } from '../../src/position/position.js';
import type { Nominated } from '../../src/prune/nominate.js';
import { ArchiveLookup } from '../../src/prune/proof.js';
import type { Target } from '../../src/prune/target.js';
import { ArchiverBench, until } from '../services/archiver/harness.js';
import { Views } from '../services/archiver/views.js';
import { tidemark } from '../services/cli/command.js';
import type { Golden } from './make-golden.js';

const FIXTURES = fileURLToPath(new URL('../../../test/fixtures', import.meta.url));
const versions = (await readdir(FIXTURES)).map((name) => /^golden-(.*)\.json$/.exec(name)?.[1]).filter((version) => version !== undefined);

async function unpacked(version: string): Promise<{ dir: string; golden: Golden } & AsyncDisposable> {
  const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-golden-'));
  execFileSync('tar', ['-xzf', path.join(FIXTURES, `golden-${version}.tar.gz`), '-C', dir, '--no-same-owner']);
  const golden = JSON.parse(await readFile(path.join(FIXTURES, `golden-${version}.json`), 'utf8')) as Golden;
  return { dir, golden, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

const TABLES = '  beat: { timestamp: at, prune: false }\n  ticks: { timestamp: at }\n  kinds: { timestamp: at }';
const tableOf = (state: ArchiveState, name: string): TableState => state.tables.find(({ table }) => table === name) as TableState;

/** Every version that Postgres still held is found, column by column, as the pruner looks it up before it deletes. */
async function proves(dir: string, state: ArchiveState, name: 'ticks' | 'kinds', golden: Golden): Promise<void> {
  const { oid, key, columnTypes } = tableOf(state, name);
  const columns = Object.keys(columnTypes);
  const live = golden.live[name];
  const rows = live.map((row) => ({ key: [row[0]], at: String(row[1]) })) as unknown as Nominated[];
  const found = await new ArchiveLookup(dir).find(state, { oid, key } as unknown as Target, rows);
  for (const row of live) {
    const archived = found.get(String(row[0]));
    const other = columns.filter((column, i) => {
      const text = row[i] ?? null;
      const bytes = Buffer.from(text ?? '');
      return archived?.is(column, bytes, text === null ? -1 : 0, bytes.length) !== true;
    });
    assert.deepEqual(other, [], `${name} ${row[0]}`);
  }
}

for (const version of versions) {
  test(`the archive of ${version}: verified, viewed, proved, sealed and gone on with`, async () => {
    await using copy = await unpacked(version);
    const { dir, golden } = copy;
    const verified = await verifyArchive(dir);
    assert.deepEqual(verified.damages, []);
    assert.equal(verified.position, golden.position);
    const state = (await new ArchiveFollower(dir).refresh()) as ArchiveState;
    const receipts = new ReceiptIndex(dir);
    assert.equal((await receipts.unresolved()).length, 0);
    assert.ok((await receipts.runs()).reduce((sum, run) => sum + run.tables.reduce((rows, table) => rows + table.deleted, 0), 0) > 40);
    await proves(dir, state, 'ticks', golden);
    await proves(dir, state, 'kinds', golden);

    await using bench = await ArchiverBench.start({ dir, tables: TABLES });
    const asWritten = async (): Promise<Map<string, string>> => {
      await using views = await Views.of(bench);
      const rows = (await views.rows('SELECT id, epoch_ms("at"), v, n FROM ticks')).map((row) => row.split('|'));
      return new Map(rows.map(([id, ms, v, n]) => [String(id), JSON.stringify([id, new Date(Number(ms)).toISOString(), v === '∅' ? null : v, Number(n)])]));
    };
    assert.deepEqual(await asWritten(), new Map(golden.ticks));
    const running = bench.run();
    await until('it has claimed the archive', async () => ((await bench.state())?.number ?? 0) > state.number);
    const asked = { table: 'ticks', day: golden.sealable.day, asOf: parsePosition(golden.position).lsn };
    const reply = await until('the archiver answers', () => bench.seal(asked).catch(() => undefined));
    assert.deepEqual({ ok: reply.ok, rows: reply.rows }, { ok: true, rows: golden.sealable.rows }, reply.reason);
    assert.deepEqual(await asWritten(), new Map(golden.ticks), 'the same rows, now in a daily file');
    await running.stop();
    assert.deepEqual((await verifyArchive(dir)).damages, []);
  });
}

test('an archive of a newer format is refused by all who would read or write it, and stays as it is', async () => {
  await using copy = await unpacked(versions.at(-1) as string);
  const { dir } = copy;
  await using nats = await startNats();
  const { identity, manifests } = archivePaths(dir);
  const newest = (await new ArchiveFollower(dir).refresh())?.number as number;
  const file = path.join(manifests, manifestName(newest));
  const config = path.join(`${dir}.yaml`);
  const yaml = `source: { url: "postgres://nobody@127.0.0.1:1/none", name: test }\nstream: { url: "${nats.url}" }\narchive: { dir: "${dir}" }\ntables:\n${TABLES}\n`;
  await writeFile(config, yaml);
  const COMMANDS = [['verify'], ['views'], ['run', 'archiver'], ['run', 'pruner'], ['doctor', '--accept']];
  const refused = async (seen: RegExp, commands = COMMANDS): Promise<void> => {
    const before = await listing(dir);
    for (const command of commands) {
      const { code, stdout, stderr } = await tidemark([...command, '-c', config]);
      assert.notEqual(code, 0, command.join(' '));
      assert.match(stdout + stderr, seen, command.join(' '));
      assert.match(stdout + stderr, /use a newer tidemark/, command.join(' '));
    }
    assert.deepEqual(await listing(dir), before);
  };
  try {
    const sound = await readFile(file);
    const found = (await readManifest(manifests, newest)) as NonNullable<Awaited<ReturnType<typeof readManifest>>>;
    await writeFile(file, encodeManifest({ ...found.manifest, formatVersion: 2 }));
    await refused(/formatVersion 2/);
    await writeFile(file, sound);
    await writeFile(identity, (await readFile(identity, 'utf8')).replace('"formatVersion": 1', '"formatVersion": 2'));
    await refused(/formatVersion 2/, [['run', 'archiver'], ['pause']]);
  } finally {
    await rm(config);
  }
});

/** Every file with its size and time. */
async function listing(dir: string): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const { size, mtimeMs } = await stat(file);
    files.push(`${file} ${size} ${mtimeMs}`);
  }
  return files.sort();
}
