/** The screen of `status --watch`, and what is computed for it: it fits every window, says what matters first, and moves nothing but itself. Rates and forecasts by the numbers. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import pc from 'picocolors';
import { cut, widthOf } from '../../../services/cli/grid.js';
import { Looks, ratesBetween } from '../../../services/cli/rates.js';
import { statusScreen } from '../../../services/cli/status-screen.js';
import type { PipelineStatus, TableStatus } from '../../../src/status/pipeline-state.js';
import { smallVolume } from '../../archive/small-volume.js';
import { tidemark } from './command.js';

const PLAIN = pc.createColors(false);
const table = (name: string, change: Partial<TableStatus> = {}): TableStatus => ({
  table: name,
  hotRows: 20,
  archivedRows: 1000,
  segments: 1,
  sealedDays: 2,
  bytes: 5000,
  prunedRows: 700,
  prunable: true,
  why: null,
  ...change,
});

function look(change: Partial<PipelineStatus> = {}): PipelineStatus {
  return {
    source: 'goat',
    at: '2026-11-26T12:00:00.000Z',
    postgres: { insertLsn: '0/2000000', systemId: '1', timeline: 1, now: '' },
    slot: {
      name: 'tidemark_goat',
      active: true,
      confirmedLsn: '0/1000000',
      walStatus: 'reserved',
      safeWalBytes: 1024 ** 3,
      heldBytes: 2048,
      catalogXminAge: 3,
      lostInSeconds: 7200,
      invalidation: null,
      alarm: { level: 0, seen: '' },
    },
    stream: { messages: 13, bytes: 5000, tail: '0/1F00000', limitBytes: 20 * 1024 ** 3 },
    archive: { position: '0/1E00000:0', committedAt: null, manifest: 42, fence: '0/1D00000', epoch: null, files: 9, bytes: 9000 },
    lag: { publishedBytes: 1, archivedBytes: 2, confirmedBytes: 3, publishedSeconds: 0, archivedSeconds: 500, confirmedSeconds: null, publishedHidden: false },
    tables: Array.from({ length: 13 }, (_, i) => table(`table_${i}`)),
    lastRun: null,
    paused: null,
    forecast: {
      archive: { freeBytes: 10 * 1024 ** 3, sizeBytes: 100 * 1024 ** 3, bytesPerDay: 1024 ** 3, fullInSeconds: 864_000, alarm: null },
      stream: { bytes: 5000, limitBytes: 20 * 1024 ** 3, bytesPerDay: null, fullInSeconds: null },
    },
    ...change,
  };
}

const SEVERAL = { at: '2026-11-26T12:00:10.000Z', postgres: { insertLsn: '0/2A00000', systemId: '1', timeline: 1, now: '' } };

const HALT = {
  halt: 'POISON' as const,
  where: 'stream',
  seen: 'message 4 is not a chunk.',
  safe: 'All is.',
  remedy: 'stop the services, `tidemark repair --stream`',
  at: null,
};

test('a halt is on top, with all of its remedy in a window that is not wide', () => {
  const lines = statusScreen(look(), null, { width: 40, height: 40 }, PLAIN, [HALT]);
  assert.deepEqual(lines.slice(2, 7), ['HALT POISON (stream): message 4 is not a', 'chunk.', '→ stop the services, `tidemark repair', '--stream`', '']);
});

test('every line is within the width and the lines within the height, whatever they are', () => {
  const odd = look({
    stream: { problem: 'NATS at localhost:4222 does not answer (CONNECTION_REFUSED) → start nats-server -js, or correct stream.url' },
    tables: [table('表の名前がとても長い'.repeat(9)), table('a\u001b[2Jb\nc'), ...look().tables],
  });
  for (const status of [look(), odd, look({ postgres: { problem: 'x'.repeat(300) }, slot: null, tables: [] })]) {
    for (let width = 1; width <= 200; width += 7) {
      for (let height = 1; height <= 40; height += 3) {
        const lines = statusScreen(status, ratesBetween(look(), look(SEVERAL)), { width, height }, PLAIN, [HALT]);
        assert.ok(lines.length <= height, `${lines.length} lines in ${height}`);
        for (const line of lines) {
          assert.ok(widthOf(line) <= width, `${widthOf(line)} in ${width}: ${line}`);
          assert.doesNotMatch(line, /\p{Cc}/u);
        }
      }
    }
  }
});

test('colours change no width, and there are none without them', () => {
  const painted = statusScreen(look(), null, { width: 100, height: 40 }, pc.createColors(true));
  const plain = statusScreen(look(), null, { width: 100, height: 40 }, PLAIN);
  assert.notDeepEqual(painted, plain);
  assert.deepEqual(
    painted.map((line) => line.replace(/\u001b\[\d+m/g, '')),
    plain,
  );
});

test('all tables where there is room; else those that need a look come first, and the others are counted', () => {
  const tables = [...look().tables, table('quiet', { prunable: false, why: 'prune: false' }), table('sick', { prunable: false, why: 'it has no primary key' })];
  const high = statusScreen(look({ tables }), null, { width: 120, height: 40 }, PLAIN).join('\n');
  for (const { table: name } of tables) assert.match(high, new RegExp(`^${name} `, 'm'));
  assert.match(high, /^archive +0\/1E00000 +2 B +8 min/m);
  assert.match(high, /10\.0 GB of 100\.0 GB free, \+1\.0 GB a day, full in 10 d/);
  const low = statusScreen(look({ tables }), null, { width: 120, height: 16 }, PLAIN);
  assert.equal(low.length, 16);
  assert.match(low.join('\n'), /^sick .*no: it has no primary key[\s\S]*… and \d+ more/m);
  assert.doesNotMatch(low.join('\n'), /^quiet /m);
});

test('the alarm of the volume stands below its line, with what to do', () => {
  const archive = { ...look().forecast.archive, alarm: { seen: '0.2 GB of 9.0 GB free', remedy: 'make room' } } as PipelineStatus['forecast']['archive'];
  const lines = statusScreen(look({ forecast: { archive, stream: null } }), null, { width: 200, height: 40 }, PLAIN);
  const at = lines.findIndex((line) => line.startsWith('volume '));
  assert.match(lines[at + 1] ?? '', /^ALARM +0\.2 GB of 9\.0 GB free → make room$/);
});

test('status and doctor on a volume that is nearly full: an alarm with what happens and what to do', async (t) => {
  const volume = smallVolume(1024 ** 2);
  if (typeof volume === 'string') return t.skip(volume);
  try {
    const archive = path.join(volume.dir, 'archive');
    const file = path.join(volume.dir, 't.yaml');
    mkdirSync(archive);
    writeFileSync(
      file,
      `source: { url: "postgres://x@127.0.0.1:1/x", name: s }\nstream: { url: "nats://127.0.0.1:1" }\narchive: { dir: "${archive}" }\ntables: { t: { timestamp: at } }`,
    );
    const remedy = 'make room: a full volume stops archiving, and the slot then holds WAL in Postgres; when there is room it goes on by itself';
    const { stdout } = await tidemark(['status', '-c', file]);
    assert.match(stdout, /^volume .*\nALARM {6}volume: 0\.001 GB of 0\.001 GB free → /m);
    assert.ok(stdout.includes(remedy), stdout);
    const json = JSON.parse((await tidemark(['status', '--json', '-c', file])).stdout);
    assert.equal(json.forecast.archive.alarm.remedy, remedy);
    const { checks } = JSON.parse((await tidemark(['doctor', '--json', '-c', file])).stdout);
    assert.deepEqual(
      checks.filter(({ name }: { name: string }) => name === 'archive space'),
      [{ name: 'archive space', status: 'warning', seen: '0.001 GB of 0.001 GB free', remedy }],
    );
  } finally {
    volume.unmount();
  }
});

test('rates come from two looks; what one of them does not know, or what went back, has none', () => {
  const after = look({ ...SEVERAL, tables: look().tables.map((one, i) => (i === 0 ? { ...one, archivedRows: 1500, prunedRows: 710 } : one)) });
  const rates = ratesBetween(look(), after);
  assert.deepEqual([rates?.seconds, rates?.writtenBytes, rates?.publishedBytes], [10, 1_048_576, 0]);
  assert.deepEqual([rates?.archivedRows, rates?.prunedRows, rates?.tables[0]?.archivedRows, rates?.tables[1]?.archivedRows], [50, 1, 50, 0]);
  assert.equal(ratesBetween(look({ postgres: { problem: 'away' } }), after)?.writtenBytes, null);
  assert.equal(ratesBetween(after, { ...look(), at: '2026-11-26T12:00:20.000Z' })?.writtenBytes, null);
  assert.equal(ratesBetween(after, after), null);
  const looks = new Looks();
  const at = (second: number): PipelineStatus => look({ at: new Date(Date.parse('2026-11-26T12:00:00Z') + second * 1000).toISOString() });
  assert.equal(looks.add(at(0)), null);
  assert.equal(looks.add(at(2))?.seconds, 2);
  for (let second = 4; second < 100; second += 2) looks.add(at(second));
  assert.equal(looks.add(at(100))?.seconds, 60);
});

test('a text is cut by columns of the terminal, not by characters', () => {
  assert.equal(cut('abcdef', 4), 'abc…');
  assert.equal(cut('表表表', 5), '表表…');
  assert.equal(cut('表表', 4), '表表');
  assert.equal(cut('abc', 0), '');
});
