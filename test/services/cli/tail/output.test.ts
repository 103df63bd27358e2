/** What is printed goes no faster than it is taken, and ends with its reader. */
import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { LineOutput } from '../../../../services/cli/tail/output.js';

const never = new AbortController().signal;

/** Whether a promise is still open after everything that can happen by itself has happened. */
async function isOpen(promise: Promise<void>): Promise<boolean> {
  let open = true;
  const over = (): void => {
    open = false;
  };
  promise.then(over, over);
  for (let i = 0; i < 20; i += 1) await turn();
  return open;
}

test('waits until the reader has taken what it was given, or the work is called off', async () => {
  const stream = new PassThrough({ highWaterMark: 1024 });
  const output = new LineOutput(stream);
  assert.equal(await isOpen(output.write('few', never)), false, 'little is kept until there is more, or flush');
  const waiting = output.write('x'.repeat(100_000), never);
  assert.equal(await isOpen(waiting), true);
  assert.equal(stream.read()?.length, 100_003);
  await waiting;
  const off = new AbortController();
  const second = output.write('y'.repeat(100_000), off.signal);
  assert.equal(await isOpen(second), true);
  off.abort();
  await second;
});

const failing = (code: string): Writable =>
  new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error('no'), { code })), highWaterMark: 1 });

test('a reader that has gone is no failure; a disk that is full is', async () => {
  const gone = new LineOutput(failing('EPIPE'));
  await gone.write('x'.repeat(100_000), gone.gone);
  assert.equal(gone.gone.aborted, true);
  await gone.write('x'.repeat(100_000), never);
  const full = new LineOutput(failing('ENOSPC'));
  await assert.rejects(full.write('x'.repeat(100_000), full.gone), /no/);
});
