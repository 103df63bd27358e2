/** Manifests torn by the disk while all before them are sound (MANIFEST): one command goes back to the last sound one; the stream fills the archive again, rows pruned on the word of a torn one included (laws 1, 3, 4). */
import assert from 'node:assert/strict';
import { readdir, readFile, truncate } from 'node:fs/promises';
import path from 'node:path';
import { startNats } from '../../services/demo/engines/nats.js';
import { archivePaths, manifestName } from '../../src/archive/layout.js';
import { Pipeline, type Service, until } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

const begin = (major: number | undefined): Promise<Pipeline> =>
  Pipeline.start({ schema: TICKS_SCHEMA, tables: TICKS_TABLES, flushEvery: '200ms', ...(major === undefined ? {} : { major }) });
const start = (pipeline: Pipeline, env: Record<string, string> = {}): Service[] =>
  (['archiver', 'capture'] as const).map((name) => pipeline.service(name, undefined, { env }));
const stop = async (services: readonly Service[]): Promise<void> => {
  for (const service of services) assert.equal((await service.stop()).code, 0, service.log.slice(-2000));
};

/** Every manifest behind `from` is cut off. */
async function tear(pipeline: Pipeline, from: number): Promise<void> {
  const { manifests } = archivePaths(pipeline.archiveDir);
  for (const name of await readdir(manifests)) if (Number.parseInt(name, 10) > from) await truncate(path.join(manifests, name), 100);
}

/** The stream still holds what the torn manifests said. */
export async function tornManifest(major?: number): Promise<string> {
  await using pipeline = await begin(major);
  const ticks = new Ticks(pipeline);
  const cli = (...args: string[]) => pipeline.cli([...args, '-c', pipeline.configFile]);
  await ticks.insert(40, 48);
  await pipeline.doctorFix();
  let services = start(pipeline);
  const sound = (await pipeline.archived()).number;
  await ticks.insert(40, 48);
  await ticks.update(3);
  await pipeline.archived();
  // Pruned on the word of manifests that will be torn; nobody is asked to seal.
  const pruned = await pipeline.cli(['prune', '-c', pipeline.configFile], { TIDEMARK_STREAM_URL: 'nats://127.0.0.1:1' });
  assert.equal(pruned.code, 0, pruned.stdout + pruned.stderr);
  await pipeline.archived();
  await stop(services);
  assert.equal((await cli('repair', '--manifest', '--yes', 'test')).stdout, 'every manifest continues the one before: nothing to repair\n');
  await tear(pipeline, sound);
  const halted = await pipeline.service('archiver').ended;
  assert.equal(halted.code, 3, halted.log);
  assert.match(halted.log, /MANIFEST: .*cut off.*tidemark repair --manifest/);
  const asked = await cli('repair', '--manifest');
  assert.equal(asked.code, 2, asked.stdout + asked.stderr);
  const repaired = await cli('repair', '--manifest', '--yes', 'test');
  assert.equal(repaired.code, 0, repaired.stdout + repaired.stderr);
  assert.match(repaired.stdout, new RegExp(`goes back to manifest ${sound} .*moves \\d+ manifests and [1-9]\\d* files`));
  const record = JSON.parse((await readFile(path.join(pipeline.archiveDir, '_tidemark/operations.jsonl'), 'utf8')).trim().split('\n').at(-1) ?? '{}');
  assert.ok(
    (await readdir(record.aside, { recursive: true })).some((name) => name.endsWith(manifestName(sound + 1))),
    'kept, not removed',
  );
  services = start(pipeline);
  await ticks.insert(5, 1);
  await pipeline.archived();
  assert.equal((await ticks.audit()).pruned, 80, 'rows that are only in the archive are there again');
  await stop(services);
  const verified = await cli('verify');
  assert.equal(verified.code, 0, verified.stdout);
  return `back to manifest ${sound}, and everything came again from the stream`;
}

/** The stream is gone too: what is missing is said by name, and a new copy goes on. */
export async function tornManifestWithoutStream(major?: number): Promise<string> {
  await using pipeline = await begin(major);
  await using empty = await startNats();
  const ticks = new Ticks(pipeline);
  await ticks.insert(40, 1);
  await pipeline.doctorFix();
  let services = start(pipeline);
  const sound = (await pipeline.archived()).number;
  await ticks.insert(30, 1);
  await pipeline.archived();
  await pipeline.archived();
  await stop(services);
  await tear(pipeline, sound);
  const env = { TIDEMARK_STREAM_URL: empty.url };
  const cli = (...args: string[]) => pipeline.cli([...args, '-c', pipeline.configFile], env);
  assert.equal((await cli('repair', '--manifest', '--yes', 'test')).code, 0);
  const archiver = pipeline.service('archiver', undefined, { env });
  await until('it archives', async () => archiver.log.includes('"event":"archiving"'));
  const capture = await pipeline.service('capture', undefined, { env }).ended;
  assert.equal(capture.code, 3, capture.log);
  assert.match(capture.log, /"halt":"SLOT_AHEAD"/);
  await stop([archiver]);
  const resynced = await cli('resync', '--yes', 'test');
  assert.equal(resynced.code, 0, resynced.stdout + resynced.stderr);
  services = start(pipeline, env);
  await pipeline.archived();
  const { archived } = await ticks.audit();
  await stop(services);
  const verified = await cli('verify');
  assert.equal(verified.code, 0, verified.stdout);
  return `SLOT_AHEAD is named, and a new copy goes on: ${archived} rows`;
}
