/** The skeleton of a service, as a process where it ends one: back-off, signals, halts, and a fault point that is inert until it is armed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { configError, TidemarkError } from '../../src/runtime/errors.js';
import { createLog } from '../../src/runtime/log.js';
import { backoffMs, runWithRetry, sleep } from '../../src/runtime/service.js';

const silent = createLog('test', { level: 'fatal' });

test('waiting doubles from 0.2 s to 10 s', () => {
  assert.deepEqual([0, 1, 2, 3, 5, 6, 100].map(backoffMs), [200, 400, 800, 1600, 6400, 10_000, 10_000]);
});

test('a sleep ends at once when the signal aborts, without an error', async () => {
  const controller = new AbortController();
  const asleep = sleep(60_000, controller.signal);
  controller.abort();
  await asleep;
  await sleep(60_000, controller.signal);
});

test('what may pass is tried again until it passes', async () => {
  let tries = 0;
  await runWithRetry(silent, new AbortController().signal, async (healthy) => {
    tries += 1;
    healthy();
    if (tries < 3) throw new TidemarkError('transient', 'not yet');
  });
  assert.equal(tries, 3);
});

test('what cannot pass is thrown at once', async () => {
  let tries = 0;
  const failing = runWithRetry(silent, new AbortController().signal, async () => {
    tries += 1;
    throw configError('wrong');
  });
  await assert.rejects(failing, /wrong/);
  assert.equal(tries, 1);
});

test('an abort ends the retrying, also of what would fail', async () => {
  const controller = new AbortController();
  await runWithRetry(silent, controller.signal, async () => {
    controller.abort();
    throw new Error('torn down by the abort');
  });
});

/** Runs a main of the given body in a process of its own. */
async function main(
  body: string,
  options: { signal?: NodeJS.Signals; env?: Record<string, string> } = {},
): Promise<{ code: number | null; signal: string | null; text: string }> {
  const at = (file: string): string => JSON.stringify(new URL(`../../src/runtime/${file}.js`, import.meta.url).href);
  const script = `
    const { runMain, sleep } = await import(${at('service')});
    const { createLog } = await import(${at('log')});
    const { Halt, configError } = await import(${at('errors')});
    const { faultPoint } = await import(${at('fault-point')});
    const log = createLog('test');
    await runMain(log, async (signal) => { ${body} });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      text += bytes.toString();
      if (options.signal !== undefined && text.includes('"steady"')) child.kill(options.signal);
    });
  }
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, text };
}

test('a body that returns ends the process with 0', async () => {
  const { code, text } = await main('');
  assert.equal(code, 0);
  assert.match(text, /"event":"stopped"/);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} lets the body drain and ends with 0`, async () => {
    const { code, text } = await main(`log.info({ event: 'steady' }); await sleep(60_000, signal); log.info({ event: 'drained' });`, { signal });
    assert.equal(code, 0, text);
    assert.match(text, /"event":"drained"/);
  });
}

test('a halt ends with 3 and says its name', async () => {
  const { code, text } = await main(`throw new Halt('DIGEST', { seen: 's.', safe: 'f.', remedy: 'r' });`);
  assert.equal(code, 3);
  assert.match(text, /"event":"halt".*"halt":"DIGEST".*"remedy":"r"/);
  assert.doesNotMatch(text, /"stack"/);
});

test('a person is told the remedy once', async () => {
  const { text } = await main(`const pretty = createLog('test', { pretty: true });
    pretty.error({ event: 'failed', reason: 'taken → stop it', remedy: 'stop it' }, 'stopped'); pretty.error({ event: 'denied', reason: 'no right', remedy: 'grant it' }, 'refused');`);
  assert.equal(text.match(/stop it/g)?.length, 1, text);
  assert.equal(text.match(/grant it/g)?.length, 1, text);
});

test('a mistake in the configuration ends with 2', async () => {
  assert.equal((await main(`throw configError('wrong', 'right');`)).code, 2);
});

test('an error that nobody awaited ends the process: it never goes on', async () => {
  const rejected = await main('Promise.reject(new Error("lost")); await sleep(60_000, signal);');
  assert.equal(rejected.code, 1);
  assert.match(rejected.text, /"event":"failed".*lost/);
  assert.equal((await main('setImmediate(() => { throw new Error("thrown"); }); await sleep(60_000, signal);')).code, 1);
});

test('fault points are inert until armed, then act at their passage', async () => {
  const body = `for (let i = 1; i <= 3; i += 1) { faultPoint('A6'); faultPoint('A7'); process.stdout.write('passed ' + i + '\\n'); }`;
  const inert = await main(body);
  assert.equal(inert.code, 0);
  const killed = await main(body, { env: { TIDEMARK_FAULT: 'A6:kill:3' } });
  assert.equal(killed.signal, 'SIGKILL');
  assert.match(killed.text, /passed 2\n$/);
  const thrown = await main(body, { env: { TIDEMARK_FAULT: 'A7:error:1' } });
  assert.equal(thrown.code, 1);
  assert.match(thrown.text, /fault A7/);
  assert.doesNotMatch(thrown.text, /passed/);
  const counted = await main(body, { env: { TIDEMARK_FAULT: 'count' } });
  assert.equal(counted.text.match(/^fault-point A6$/gm)?.length, 3);
  const wrong = await main(body, { env: { TIDEMARK_FAULT: 'A6:explode' } });
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.text, /TIDEMARK_FAULT/);
});
