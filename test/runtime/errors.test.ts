/** Every failure has a kind, an exit code and one line for a person; what may be tried again is told from what may not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configError, describeError, exitCodeOf, HALTS, Halt, mayRetry, placeOf, TidemarkError } from '../../src/runtime/errors.js';

test('exit codes are those of the design', () => {
  assert.equal(new TidemarkError('transient', 'm').exitCode, 1);
  assert.equal(new TidemarkError('failed', 'm').exitCode, 1);
  assert.equal(configError('m').exitCode, 2);
  assert.equal(new TidemarkError('difference', 'm').exitCode, 4);
  for (const halt of HALTS) assert.equal(new Halt(halt, { seen: '', safe: '', remedy: '' }).exitCode, 3, halt);
  assert.equal(exitCodeOf(new Error('anything')), 1);
  assert.equal(exitCodeOf('thrown text'), 1);
});

test('a halt says its name, what was seen, what is safe and what to do', () => {
  const halt = new Halt('SLOT_AHEAD', { seen: 'The slot is at 0/2.', safe: 'The archive is whole up to 0/1.', remedy: 'do this' });
  assert.equal(describeError(halt), 'SLOT_AHEAD: The slot is at 0/2. The archive is whole up to 0/1. → do this');
  assert.ok(halt instanceof TidemarkError);
  assert.equal(mayRetry(halt), false);
});

test('an error is one line, whatever was thrown, and never a stack', () => {
  const cases: [error: unknown, line: string][] = [
    [configError('field: bad', 'write good'), 'field: bad → write good'],
    [configError('field: bad'), 'field: bad'],
    [new Error('plain'), 'plain'],
    [new Error(''), 'Error'],
    [new AggregateError([new Error('connect ECONNREFUSED 127.0.0.1:5432'), new Error('second')], ''), 'connect ECONNREFUSED 127.0.0.1:5432'],
    ['text', 'text'],
    [undefined, 'undefined'],
  ];
  for (const [error, line] of cases) assert.equal(describeError(error), line);
});

test('what may pass is tried again, what needs a person is not', () => {
  const coded = (code: string): Error => Object.assign(new Error('x'), { code });
  const again = ['08006', '08001', '57P01', '57P03', '53300', '40001', '55P03', '57014', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', '503', 'CONNECTION_CLOSED', 'TIMEOUT']; // biome-ignore format: a list of codes
  for (const code of again) assert.equal(mayRetry(coded(code)), true, code);
  for (const code of ['42P01', '42501', '28P01', '23505', '22P02', 'ENOSPC', 'EACCES', 'ERR_INVALID_ARG_TYPE'])
    assert.equal(mayRetry(coded(code)), false, code);
  assert.equal(mayRetry(new Error('Connection terminated unexpectedly')), true);
  assert.equal(mayRetry(new Error('Cannot read properties of undefined')), false);
  assert.equal(mayRetry(new TidemarkError('transient', 'm')), true);
  for (const kind of ['failed', 'config', 'difference'] as const) assert.equal(mayRetry(new TidemarkError(kind, 'm')), false, kind);
  assert.equal(mayRetry(undefined), false);
  assert.equal(mayRetry(null), false);
});

test('what quotes a value is said without it', () => {
  const postgres = (code: string, message: string): Error => Object.assign(new Error(message), { code });
  for (const [error, said] of [
    [postgres('22P02', 'invalid input syntax for type integer: "can"ary"'), 'invalid input syntax for type integer: "…"'],
    [postgres('22003', 'value "canary" is out of range for type integer'), 'value "…" is out of range for type integer'],
    [postgres('22021', 'invalid byte sequence for encoding "UTF8": 0xca 0xfe'), 'invalid byte sequence for encoding "…": …'],
    [postgres('42703', 'column "no_such" does not exist'), 'column "no_such" does not exist'],
  ] as const)
    assert.equal(describeError(error), said);
  const json = (text: string): string => {
    try {
      JSON.parse(text);
      return '';
    } catch (error) {
      return `${describeError(error)} ${placeOf(error as Error)}`;
    }
  };
  assert.match(json('canary {'), /^it is not valid JSON SyntaxError\n\s+at /);
  assert.doesNotMatch(json('canary {') + json('{"canary": x'), /canary/);
});
