/** Progress: what it says, and that it is on terminals only. The terminal is a real one, made by `script`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { progressText } from '../../../services/cli/progress.js';
import { ProgressRate, timeText } from '../../../src/runtime/progress-rate.js';
import { Pipeline, until } from '../../pipeline/pipeline.js';
import { cleanEnvironment, MAIN } from './command.js';

test('the rate is that of the last while, and the time left goes by it', () => {
  const rate = new ProgressRate();
  assert.deepEqual([rate.perSecond, rate.secondsLeft(10)], [undefined, undefined]);
  for (let second = 0; second <= 60; second += 1) rate.note(second, second * 1000);
  assert.equal(Math.round(rate.perSecond ?? 0), 1);
  assert.equal(Math.round(rate.secondsLeft(100) ?? 0), 40);
  for (let second = 61; second <= 90; second += 0.1) rate.note(60 + (second - 60) * 100, second * 1000);
  assert.equal(Math.round(rate.perSecond ?? 0), 100, 'how it began is forgotten');
  assert.equal(rate.secondsLeft(100), undefined, 'more is done than was expected');
  for (let second = 91; second <= 120; second += 1) rate.note(3000, second * 1000);
  assert.equal(rate.secondsLeft(4000), undefined, 'nothing moves');
});

test('times and amounts read as people say them', () => {
  assert.deepEqual([0.2, 89, 91, 5400, 7260, 200_000].map(timeText), ['1 s', '89 s', '2 min', '1 h 30 min', '2 h 1 min', '2 d 7 h']);
  const rate = new ProgressRate();
  assert.equal(progressText(rate, { done: 0, all: 4096, unit: 'bytes' }, 0), '0 B of 4.0 KB');
  assert.equal(progressText(rate, { done: 1024, all: 4096, unit: 'bytes' }, 2000), '1.0 KB of 4.0 KB, 512 B/s, 6 s left');
  assert.equal(progressText(new ProgressRate(), { done: 3, all: 4, unit: 'days' }, 0), '3 of 4 days');
});

/** Everything that a command writes to a terminal of its own, and how it ended. `over`: then it gets a Ctrl-C. */
async function onTerminal(args: readonly string[], over?: Promise<unknown>): Promise<{ code: number | null; text: string }> {
  // Without exec the shell may stay, and which one it is depends on $SHELL: dash dies of the Ctrl-C and speaks for the command (130).
  const line = `exec ${[process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(' ')}`;
  const child = spawn('script', ['-qefc', line, '/dev/null'], { env: { ...cleanEnvironment(), TERM: 'xterm' }, stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  void over?.catch(() => undefined).then(() => child.stdin.write('\u0003'));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text };
}

test('run shows the first copy on a terminal, and commands their work; in a pipe there is nothing but what they print', {
  skip: process.platform !== 'linux',
}, async () => {
  await using pipeline = await Pipeline.start({
    schema: `CREATE TABLE ticks (id int PRIMARY KEY, at timestamptz NOT NULL, note text); CREATE INDEX ON ticks (at);
      INSERT INTO ticks SELECT i, now() - interval '3 days', repeat(md5(i::text), 4) FROM generate_series(1, 100000) i; ANALYZE ticks;`,
    tables: '  ticks: { timestamp: at, prune: false }',
  });
  await pipeline.doctorFix();
  const config = ['-c', pipeline.configFile];
  const copied = until('the copy is whole', async () => (await pipeline.state())?.copy?.state === 'complete', 120_000);
  const run = await onTerminal(['run', ...config], copied);
  assert.equal(run.code, 0, `ended with ${run.code}: ${run.text.slice(-4000)}`);
  assert.match(run.text, /\rcopy: about \d+ of 100000 rows[^\n]*\u001b\[K\r/, 'how fast it was is told once there was time to see it');
  assert.match(run.text, /\u001b\[K\[\d\d:[^\n]*copy-begin/, 'a log line clears the line that it begins on');
  const verify = await onTerminal(['verify', ...config]);
  assert.equal(verify.code, 0, `ended with ${verify.code}: ${verify.text.slice(-4000)}`);
  assert.match(verify.text, /verify .* \d+% [\d.]+ [KM]?B of [\d.]+ MB/);
  assert.match(verify.text, /verified: /);
  const piped = await pipeline.cli(['verify', '--json', ...config]);
  assert.equal(piped.stderr, '');
  assert.equal(JSON.parse(piped.stdout).ok, true);
});
