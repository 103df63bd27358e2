/** The old script's files, made by pandas, taken over into a running archive: every odd type, names of wrong days, doubled rows, rows that are hot, a kill in the middle, and again. */
import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { DuckDBInstance } from '@duckdb/node-api';
import type { TakenTable } from '../../../services/cli/take-over.js';
import type { Carried } from '../../../src/import/carried.js';
import { Caster } from '../../../src/import/caster.js';
import { findOldFiles } from '../../../src/import/old-file.js';
import { hashFile } from '../../../src/segment/durable-file.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { dailyRows, ROOT, startOddPipeline, writtenRows } from '../../import/taken-rows.js';
import { type Pipeline, type Service, until } from '../../pipeline/pipeline.js';
import type { Finished } from './command.js';

const GOLDEN = path.join(ROOT, 'test/fixtures/old-archive');
const FILES = {
  first: 'odds/odd_2026-01-13.parquet',
  second: 'odds/odd_2026-01-14.parquet',
  texts: 'odds/odd_2026-01-15_texts.parquet',
  wrong: 'odds/odd_2026-01-16.parquet',
  bare: 'odds/bare_2026-01-13.parquet',
};

let pipeline: Pipeline;
let archiver: Service;
before(async () => {
  pipeline = await startOddPipeline();
  await pipeline.doctorFix();
  archiver = pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => {
  await pipeline[Symbol.asyncDispose]();
});

const cli = (...args: string[]): Promise<Finished> => pipeline.cli([...args, '-c', pipeline.configFile]);

/** A folder with some of the golden files, with the times that they were written at. */
async function oldFolder(name: string, files: readonly (keyof typeof FILES)[]): Promise<string> {
  const dir = path.join(pipeline.dir, name);
  await mkdir(path.join(dir, 'odds'), { recursive: true });
  for (const file of files) await cp(path.join(GOLDEN, FILES[file]), path.join(dir, FILES[file]), { preserveTimestamps: true });
  return dir;
}

async function importJson(dir: string, ...args: string[]): Promise<{ code: number | null; table: TakenTable; others: string[] }> {
  const { code, stdout, stderr } = await cli('import', dir, '--json', ...args);
  assert.equal(stderr, '');
  const { tables, others } = JSON.parse(stdout) as { tables: TakenTable[]; others: string[] };
  return { code, table: tables[0] as TakenTable, others };
}

const INEXACT = [
  ['extra', 1, 1, 'is no column of the table'],
  ['at', 1, 1, 'is finer than a microsecond'],
  ['wall', 1, 1, 'is finer than a microsecond'],
  ['price', 1, 1, 'is a float64 that several numerics are nearest to'],
  ['price', 1, 2, 'is a float64 with more than 8 digits behind the point'],
  ['loose', 1, 1, 'is a float64 of more than 15 digits: the numeric may have had others'],
  ['qty', 1, 1, 'is no whole number'],
  ['big', 1, 1, 'is a float64 beyond 2^53: its last digits may be lost'],
  ['ok', 1, 1, 'is neither true nor false'],
  ['doc', 2, 1, 'is a struct in the file: keys that are not there cannot be told from null'],
  ['mood', 1, 1, 'is not read as public.mood by Postgres'],
  ['code', 2, 1, 'is BIGINT in the file: the text may have been written otherwise'],
  ['span', 2, 1, 'is BIGINT in the file'],
];

test('every value that cannot be carried exactly is named with file, column, count and its first row, and nothing of its table is imported', async () => {
  const dir = await oldFolder('all', ['first', 'second', 'texts', 'wrong']);
  await writeFile(path.join(dir, 'odds', 'odd_2026-01-17.parquet'), (await readFile(path.join(dir, FILES.first))).subarray(0, 5000)); // killed in mid-rewrite
  await writeFile(path.join(dir, 'strange_2026-01-17.parquet'), '');
  const { code, table, others } = await importJson(dir);
  assert.deepEqual([code, table.counts, others], [1, null, ['strange_2026-01-17.parquet']]);
  assert.match(table.problem ?? '', /nothing of this table was imported/);
  assert.deepEqual(
    table.findings.filter(({ file }) => file === FILES.wrong).map(({ column, count, row, seen }) => [column, count, row, seen]),
    INEXACT,
  );
  assert.deepEqual(
    table.findings.filter(({ file }) => file !== FILES.wrong),
    [{ file: 'odds/odd_2026-01-17.parquet', column: null, seen: 'cannot be read as Parquet', count: 1, row: null }],
  );
  assert.deepEqual((await dailyRows(pipeline)).files, []);
  assert.deepEqual(await readdir(path.join(pipeline.archiveDir, '_tidemark')).then((names) => names.filter((name) => name.startsWith('import'))), []);
});

test('rows go under their own day, once, with the texts that Postgres prints; a row that is hot is not doubled; killed before the manifest it goes on', async () => {
  const dir = await oldFolder('good', ['first', 'second', 'texts']);
  const before = await hashes(dir);
  await archiver.stop();
  const failing = pipeline.service('archiver', 'K4:kill:1');
  await claimed(failing);
  const importing = importJson(dir);
  assert.equal((await failing.ended).signal, 'SIGKILL');
  assert.equal((await dailyRows(pipeline)).files.length, 0, 'the files had their names, and no manifest');
  archiver = pipeline.service('archiver');
  const { code, table } = await importing;
  assert.deepEqual([code, table.findings, table.problem], [0, [], null]);
  assert.deepEqual(table.counts, { rows: 10, imported: 6, days: 4, duplicates: 1, olderVersions: 2, archived: 1, expired: 0 });
  assert.deepEqual(
    table.missing.map(({ file }) => file),
    [FILES.second, FILES.texts],
  );
  const { rows, files } = await dailyRows(pipeline);
  assert.deepEqual(
    files,
    ['11', '12', '13', '14'].map((day) => `odds/odd_2026-01-${day}.parquet`),
  );
  assert.deepEqual(rows, await writtenRows(pipeline));
  assert.deepEqual(await hashes(dir), before);
  const entry = (await pipeline.state())?.files.get('odds/odd_2026-01-12.parquet');
  assert.deepEqual(entry?.origin, [{ file: FILES.second, sha256: before[FILES.second] }]);
  assert.equal(entry?.rows, 3);
});

test('a file that was taken over adds nothing when it is imported again, with or without the record of it', async () => {
  const dir = path.join(pipeline.dir, 'good');
  const manifest = (await pipeline.state())?.files.size;
  assert.deepEqual(await importJson(dir).then(({ table }) => [table.known, table.files, table.counts?.imported]), [3, 0, 0]);
  await rm(path.join(pipeline.archiveDir, '_tidemark/imports.jsonl'));
  const { table } = await importJson(dir);
  assert.deepEqual([table.known, table.counts?.imported, table.counts?.archived], [0, 0, 7]);
  assert.equal((await pipeline.state())?.files.size, manifest);
});

test('killed behind the manifest and before the record, and again: each row once; --accept-inexact takes what is nearest', async () => {
  const dir = await oldFolder('wrong', ['wrong']);
  await archiver.stop();
  const failing = pipeline.service('archiver', 'K5:kill:1');
  await claimed(failing);
  const importing = importJson(dir, '--accept-inexact');
  assert.equal((await failing.ended).signal, 'SIGKILL');
  archiver = pipeline.service('archiver');
  const { code, table } = await importing;
  assert.deepEqual([code, table.counts?.imported, table.counts?.archived, table.findings.length], [0, 0, 2, INEXACT.length]);
  const rows = (await dailyRows(pipeline)).rows.filter((row) => Number(row['id']) > 7);
  assert.deepEqual(
    rows.map(({ id, at, price, big, code: text, doc, span }) => [id, at, price, big, text, doc, span]),
    [
      ['8', '2026-01-15 10:00:00+00', '123456789012.12345886', '9007199254740994', '7', '{"a": 1, "b": null}', null],
      ['9', '2026-01-15 11:00:00+00', '0.30000000', '1', '8', '{"a": null, "b": "x"}', null],
    ],
  );
});

test('verify finds nothing wrong, a replay of the stream leaves imported days alone, and the views have each row once', async () => {
  const { code, stdout } = await cli('verify', '--deep', '--json');
  assert.equal(code, 0, stdout);
  assert.deepEqual(await viewed(`SELECT string_agg(id, ',' ORDER BY id) FROM odd`), [['1,2,3,4,5,6,7,8,9']]);
});

test('a table without a key and without a row: equal rows count once, and its view has them', async () => {
  const dir = await oldFolder('bare', ['bare']);
  const { code, table } = await importJson(dir);
  assert.deepEqual([code, table.table, table.counts], [0, 'bare', { rows: 3, imported: 2, days: 1, duplicates: 1, olderVersions: 0, archived: 0, expired: 0 }]);
  await rm(path.join(pipeline.archiveDir, '_tidemark/imports.jsonl'));
  assert.deepEqual(await importJson(dir).then((again) => [again.table.counts?.imported, again.table.counts?.archived]), [0, 2]);
  assert.deepEqual(await viewed(`SELECT strftime("at", '%H') || coalesce(n, 0) FROM bare ORDER BY "at"`), [['101'], ['110']]);
});

test('sealed days beyond keep go after a typed confirmation, not a day with open rows; importing again does not bring them back', async () => {
  const text = await readFile(pipeline.configFile, 'utf8');
  await writeFile(pipeline.configFile, text.replace('group: odds }', 'group: odds, keep: 30d }'));
  await archiver.stop();
  archiver = pipeline.service('archiver');
  await claimed(archiver);
  const shown = await cli('expire', '--dry-run', '--json');
  const { days } = JSON.parse(shown.stdout) as { days: { day: string; rows: number }[] };
  assert.deepEqual(days.map(({ day, rows }) => [day, rows]), [['2026-01-11', 1], ['2026-01-12', 3], ['2026-01-13', 1], ['2026-01-15', 2]]); // biome-ignore format: a table
  assert.match((await cli('expire', '--yes', 'other')).stderr, /--yes: "other" is not "test"/);
  const gone = await cli('expire', 'odd', '--yes', 'test');
  assert.match(gone.stdout, /dropped 4 days, 4 files, 7 rows/);
  assert.deepEqual((await dailyRows(pipeline)).files, ['odds/odd_2026-01-14.parquet']);
  await rm(path.join(pipeline.archiveDir, '_tidemark/imports.jsonl'));
  const { table } = await importJson(path.join(pipeline.dir, 'good'));
  assert.deepEqual([table.counts?.imported, table.counts?.expired, table.counts?.archived], [0, 5, 2]);
  assert.match((await cli('verify')).stdout, /4 files of sealed days left the archive by its retention/);
});

test('times without a zone are read in the one that was told; an hour that it has twice or not at all is named', async () => {
  const client = await connectClient(pipeline.databaseUrl, { applicationName: 'test' });
  try {
    const caster = new Caster(client, 'Europe/Berlin');
    const naive = (ask: string): Carried => ({ ask, as: 'naive' });
    const moments = [
      naive('2026-07-01 12:00:00'),
      naive('2026-10-25 02:30:00'),
      naive('2026-03-29 02:30:00'),
      { ask: '2026-07-01 12:00:00+00', as: 'aware' } as const,
    ];
    await caster.settle(moments, 1184);
    const unsure = { inexact: 'is a time that Europe/Berlin has twice, or not at all' };
    assert.deepEqual(moments, [
      '2026-07-01 10:00:00+00',
      { ...unsure, nearest: '2026-10-25 01:30:00+00' },
      { ...unsure, nearest: '2026-03-29 01:30:00+00' },
      '2026-07-01 12:00:00+00',
    ]);
    const walls: Carried[] = [{ ask: '2026-07-01 12:00:00+00', as: 'aware' }];
    await caster.settle(walls, 1114);
    assert.deepEqual(walls, ['2026-07-01 14:00:00']);
    const values: Carried[] = ['a', null, 'c'].map((ask) => (ask === null ? null : { ask, as: 'value' }));
    await caster.settle(values, 1560);
    assert.deepEqual(values, [
      { inexact: 'is not read as pg_catalog."bit" by Postgres', nearest: null },
      null,
      { inexact: 'is not read as pg_catalog."bit" by Postgres', nearest: null },
    ]);
  } finally {
    await closeClient(client);
  }
});

async function hashes(dir: string): Promise<Record<string, string>> {
  const found = await findOldFiles(dir);
  return Object.fromEntries(await Promise.all(found.map(async ({ path: file, file: name }) => [name, await hashFile(file)] as const)));
}

/** Waits until this archiver is the archive's. */
async function claimed({ process: { pid } }: Service): Promise<void> {
  await until('it has claimed the archive', async () => (await pipeline.state())?.writer.pid === pid);
}

/** Rows of a query over the views of the archive. */
async function viewed(sql: string): Promise<unknown[][]> {
  const views = await cli('views');
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  try {
    const connection = await instance.connect();
    await connection.run(`SET TimeZone = 'UTC'; ${views.stdout}`);
    return (await connection.runAndReadAll(sql)).getRows();
  } finally {
    instance.closeSync();
  }
}
