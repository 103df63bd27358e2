/** How long an archiver takes to start on an archive with a long history: claim, sweep, ready to consume. The manifests are the archiver's own, of files that are not there. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { mock } from 'node:test';
import { startNats } from '../../services/demo/engines/nats.js';
import { createArchive, ManifestWriter } from '../../src/archive/manifest.js';
import type { FileEntry, TableState } from '../../src/archive/manifest-format.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { boundary, formatPosition } from '../../src/position/position.js';
import { loadConfig } from '../../src/runtime/config.js';
import { connectStream, ensureStream } from '../../src/stream/topology.js';
import { ArchiverProcess } from './archiver-process.js';
import { alternate, type Benchmark, cpuSeconds, type Measured, peakMemory } from './frame.js';
import { ARCHIVED } from './reference.js';

const MANY = 10_000;
const FEW = 10;
const ROUNDS = 5;
/** As long apart as flushes are by default: a start looks closer at those of the last ten minutes. */
const APART_MS = 60_000;

export const startUp: Benchmark = {
  name: 'growth-manifests',
  about: `start of an archiver with ${MANY} manifests and as many files, against ${FEW}`,
  run: async (scratch, say) => {
    await using nats = await startNats();
    const few = await makeArchive({ dir: path.join(scratch, 'few'), natsUrl: nats.url }, FEW);
    const began = performance.now();
    const many = await makeArchive({ dir: path.join(scratch, 'many'), natsUrl: nats.url }, MANY);
    const notes = [`${MANY} manifests were written in ${((performance.now() - began) / 1000).toFixed(1)} s`];
    const runs = await alternate(ROUNDS, { name: `${FEW} manifests`, run: () => start(few) }, { name: `${MANY} manifests`, run: () => start(many) }, say);
    return [{ what: `starting with ${MANY} manifests`, of: 'seconds', target: 'at most 2 s', baseline: `starting with ${FEW}`, runs, notes }];
  },
};

async function start(configFile: string): Promise<Measured> {
  const began = performance.now();
  await using archiver = await ArchiverProcess.start(configFile);
  const seconds = (performance.now() - began) / 1000;
  const { pid } = archiver;
  return { seconds, rows: 1, bytes: Number.NaN, peakMemory: peakMemory(pid), cpu: { archiver: cpuSeconds(pid) } };
}

/** The configuration of an archive to which so many flushes have added a sealed day each. */
async function makeArchive(place: { readonly dir: string; readonly natsUrl: string }, manifests: number): Promise<string> {
  const archiveDir = path.join(place.dir, 'archived_data');
  await mkdir(archiveDir, { recursive: true });
  const file = path.join(place.dir, 'tidemark.yaml');
  const source = path.basename(place.dir);
  const lines = [
    `source: { url: "postgres://nobody@localhost/none", name: ${source} }`,
    `stream: { url: "${place.natsUrl}", replay: { bytes: 100MB } }`,
    `archive: { dir: "${archiveDir}" }`,
    `tables: ${JSON.stringify(ARCHIVED)}`,
  ];
  await writeFile(file, lines.join('\n'));
  const { connection, manager } = await connectStream(loadConfig(file), 'bench');
  await ensureStream(manager, loadConfig(file)).finally(() => connection.close());
  await createArchive(archiveDir, source);
  const writer = await ManifestWriter.claim(archiveDir, source);
  const epoch = { systemId: '7300000000000000001', timeline: 1, generation: '11111111-2222-4333-8444-555555555555' };
  const tables = Object.entries(ARCHIVED).map(tableState);
  mock.timers.enable({ apis: ['Date'], now: Date.now() - manifests * APART_MS });
  for (let number = 1; number < manifests; number += 1) {
    mock.timers.tick(APART_MS);
    const add = [sealedDay(tables[number % tables.length] as TableState, number)];
    await writer.commit({ reason: 'flush', epoch, position: formatPosition(boundary(lsn(at(number)))), tables, add });
  }
  mock.timers.reset();
  return file;
}

function at(number: number): bigint {
  return 0x1_0000_0000n + BigInt(number) * 4096n;
}

function tableState([table, { timestamp, group = table }]: [string, { timestamp: string; group?: string }], index: number): TableState {
  const columnTypes = { id: 'bigint', [timestamp]: 'timestamp without time zone' };
  return {
    oid: 16_400 + index,
    schema: 'public',
    table,
    group,
    timestamp,
    key: ['id'],
    signature: 'made for a benchmark',
    coverage: { state: 'closed', reason: 'made for a benchmark' },
    copied: null,
    columnTypes,
    ddl: `CREATE TABLE ${table} (id bigint PRIMARY KEY, "${timestamp}" timestamp)`,
  };
}

function sealedDay({ oid, schema, table, group, signature }: TableState, number: number): FileEntry {
  const day = new Date(Date.UTC(2000, 0, number)).toISOString().slice(0, 10);
  return {
    file: `${group}/${table}_${day}.parquet`,
    kind: 'daily',
    oid,
    schema,
    table,
    day,
    rows: 1000,
    bytes: 100_000,
    sha256: number.toString(16).padStart(64, '0'),
    signature,
    digestSum: `${number}`,
    minTimestamp: `${day} 00:00:00`,
    maxTimestamp: `${day} 23:59:59`,
    minLsn: formatLsn(lsn(at(number))),
    maxLsn: formatLsn(lsn(at(number))),
    pendingCopy: null,
  };
}
