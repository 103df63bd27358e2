/** `tidemark explain TABLE KEY`: every archived version of a row, in open and sealed days, with what ended it and the run that pruned it. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { explain as explained } from '../../../services/cli/commands/explain.js';
import { configuredTable } from '../../../services/cli/configured-table.js';
import { type Explanation, render } from '../../../services/cli/explain/render.js';
import { recordExpired } from '../../../src/archive/expire.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { Pipeline } from '../../pipeline/pipeline.js';

const SCHEMA = `
CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), price float8, note text); CREATE INDEX ON ticks (at);
CREATE TABLE told (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), state int); CREATE INDEX ON told (at);
CREATE TABLE hosts (ip inet, code char(4), up boolean, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (ip, code, up)); CREATE INDEX ON hosts (at);`;
const TABLES = `  ticks: { timestamp: at, keepWhile: "note = 'keep'" }
  told: { timestamp: at, history: true }
  hosts: { timestamp: at }`;
const OLD = `date_trunc('day', now() - interval '3 days') + interval '10 hours'`;
const UUID = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11';

let pipeline: Pipeline;
let runs: string[] = [];
before(async () => {
  pipeline = await Pipeline.start({ schema: SCHEMA, tables: TABLES });
  await pipeline.doctorFix();
  pipeline.service('archiver');
  pipeline.service('capture');
  await pipeline.archived();
});
after(async () => {
  await pipeline[Symbol.asyncDispose]();
});

async function cli(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await pipeline.cli([...args, '-c', pipeline.configFile]);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}
async function explain(table: string, ...key: string[]): Promise<Required<Explanation>['row']> {
  const config = loadConfig(pipeline.configFile, {}, {});
  return ((await explained(config, configuredTable(config, table), key)) as Required<Explanation>).row;
}
const said = async (table: string, ...key: string[]): Promise<string> => render({ table, reasons: [], row: await explain(table, ...key) });
const archived = async (text: string): Promise<void> => {
  await pipeline.query(text);
  await pipeline.archived();
};
const prune = async (): Promise<string> => (JSON.parse(await cli('prune', '--json')) as { run: string }).run;
/** kind, op, what ended it, and by which of the runs. */
const told = ({ archived: { versions } }: Required<Explanation>['row']): unknown[][] =>
  versions.map(({ kind, op, ended }) => [kind, op, ended?.by ?? null, ended?.run == null ? null : runs.indexOf(ended.run)]);

test('in open days: updates, two prunes of one key, the deletes of the user, and what is hot', async () => {
  await archived(`INSERT INTO ticks VALUES (1, ${OLD}, 1), (2, ${OLD}, 1), (9, ${OLD}, 1), (10, now(), 1)`);
  await archived(
    `UPDATE ticks SET price = 2 WHERE id = 1; UPDATE ticks SET note = 'keep' WHERE id = 9; INSERT INTO told VALUES ('${UUID}', ${OLD}, 1); UPDATE told SET state = 2`,
  );
  await archived('DELETE FROM ticks WHERE id = 2');
  runs = [await prune()];
  await archived(`INSERT INTO ticks VALUES (1, ${OLD}, 2)`);
  runs.push(await prune());
  await pipeline.archived();
  const one = await explain('ticks', '01');
  assert.deepEqual([one.hot, one.key], [false, ['1']]);
  assert.deepEqual(told(one), [
    ['segment', 'insert', 'update', null],
    ['segment', 'update', 'prune', 0],
    ['segment', 'insert', 'prune', 1],
  ]);
  assert.deepEqual([one.archived.receipts, one.archived.missing], [[], 0]);
  assert.deepEqual(told(await explain('ticks', '2')), [['segment', 'insert', 'delete', null]]);
  const hot = await explain('ticks', '10');
  assert.deepEqual([hot.hot, told(hot)], [true, [['segment', 'insert', null, null]]]);
  await archived(`INSERT INTO hosts VALUES ('10.0.0.1', 'ab', true)`);
  const host = await explain('hosts', '10.0.0.1', 'ab', 'true');
  assert.deepEqual([host.hot, host.key, told(host)], [true, ['10.0.0.1', 'ab  ', 't'], [['segment', 'insert', null, null]]], 'as Postgres prints a row');
  const text = await cli('explain', 'ticks', '1');
  assert.match(
    text,
    /insert +day \d{4}-\d\d-\d\d, open +[0-9A-F]+\/[0-9A-F]+:1 +\S+Z\n +in _tidemark\/open\/ticks\/\S+\n +superseded by an update \S+Z at [0-9A-F]+\/[0-9A-F]+\n/,
  );
  assert.match(text, new RegExp(`pruned \\S+Z at \\S+ by run ${runs[0]}`));
});

test('in sealed days: the receipts tell which run pruned which version; the history and the changes tell the rest', async () => {
  await archived('DELETE FROM ticks WHERE id = 9');
  await cli('seal');
  const one = await explain('ticks', '1');
  // Both versions have the same columns: their lives are told apart by nothing, and each has its receipt.
  assert.deepEqual(told(one), [
    ['daily', null, 'prune', 0],
    ['daily', null, 'prune', 1],
  ]);
  assert.match(one.archived.versions[0]?.files[0] ?? '', /^ticks\/ticks_\d{4}-\d\d-\d\d\.parquet$/);
  const two = await explain('ticks', '2');
  assert.deepEqual(told(two), [['history', null, 'delete', null]]);
  assert.ok(Math.abs(Date.parse(two.archived.versions[0]?.ended?.at ?? '') - Date.now()) < 120_000);
  const changes = await explain('told', UUID);
  assert.deepEqual(told(changes), [
    ['changes', 'insert', 'update', null],
    ['changes', 'update', 'prune', 0],
  ]);
  assert.deepEqual(changes.archived.versions.map(({ files }) => files.length), [1, 2]); // biome-ignore format: one line
  assert.deepEqual(told(await explain('ticks', '4711')), []);
  assert.match(await said('ticks', '4711'), /not in Postgres\n +archived nowhere\n$/);
});

test('a row comes late: its part is a file of its own; a table that is gone is told from the archive', async () => {
  await archived(`INSERT INTO ticks VALUES (1, ${OLD}, 3)`);
  runs.push(await prune());
  await pipeline.archived();
  assert.deepEqual(told(await explain('ticks', '1')).at(-1), ['daily', null, 'prune', 2]);
  await pipeline.query('DROP TABLE ticks');
  const gone = JSON.parse(await cli('explain', 'ticks', '1', '--json')) as Required<Explanation>;
  assert.deepEqual(gone.reasons, ['the table does not exist']);
  assert.deepEqual(told(gone.row).map(([, , by, run]) => [by, run]), [['prune', 0], ['prune', 1], ['prune', 2]]); // biome-ignore format: one line
});

test('a receipt whose version no file holds is said; without receipts nobody knows the run', async () => {
  const [oid] = [...((await pipeline.state())?.files.values() ?? [])].filter(({ table }) => table === 'told').map((entry) => entry.oid);
  const receipts = path.join(pipeline.archiveDir, '_tidemark', 'receipts');
  const lines = [
    { type: 'intent', run: 'r', batch: 'b', xid: '9', oid, schema: 'public', table: 'told', rows: 1, keys: [[UUID.toLowerCase()]], digests: ['1'], at: '2026-01-12T00:00:00.000Z' },
    { type: 'outcome', run: 'r', batch: 'b', result: 'committed', at: '2026-01-12T00:00:01.000Z' },
  ]; // biome-ignore format: a line each
  await writeFile(path.join(receipts, '2026-01-12.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  assert.equal((await explain('told', UUID)).archived.missing, 1);
  assert.match(await said('told', UUID), /run r deleted a version at 2026-01-12T00:00:00.000Z that no file holds\n +→ tidemark verify/);
  await rm(receipts, { recursive: true });
  assert.deepEqual(told(await explain('told', UUID)).at(-1), ['changes', 'update', 'prune', null]);
  assert.match(await said('told', UUID), /no receipt names it/);
});

test('a row that no file has may have left with its day', async () => {
  assert.match(await said('ticks', '777777'), /^ {2}archived nowhere$/m);
  const left = { kind: 'daily', schema: 'public', table: 'ticks', rows: 1, bytes: 1, sha256: '', at: '', by: 'command', keepMs: 1 } as const;
  await recordExpired(pipeline.archiveDir, [
    { ...left, file: 'ticks/ticks_2020-01-02.parquet', day: '2020-01-02' },
    { ...left, file: 'ticks/ticks_2020-01-01.parquet', day: '2020-01-01' },
    { ...left, table: 'told', file: 'told/told_2020-01-03.parquet', day: '2020-01-03' },
  ]);
  assert.match(
    await said('ticks', '777777'),
    /^ {2}in no file; 2 days of this table, 2020-01-01 to 2020-01-02, left the archive by keep: _tidemark\/expired\.jsonl$/m,
  );
});
