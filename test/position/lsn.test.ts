/** LSN and epoch: one text, read and written in one place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Epoch, formatEpoch, parseEpoch, sameEpoch } from '../../src/position/epoch.js';
import { formatLsn, LSN_ZERO, lsn, parseLsn } from '../../src/position/lsn.js';

test('an LSN is written as Postgres prints it, and read back', () => {
  const cases: [text: string, value: bigint][] = [
    ['0/0', 0n],
    ['0/1924D18', 0x1924d18n],
    ['16/B374D848', 0x16_b374_d848n],
    ['1/0', 0x1_0000_0000n],
    ['FFFFFFFF/FFFFFFFF', 0xffff_ffff_ffff_ffffn],
  ];
  for (const [text, value] of cases) {
    assert.equal(parseLsn(text), value, text);
    assert.equal(formatLsn(lsn(value)), text);
  }
  assert.equal(parseLsn('16/b374d848'), parseLsn('16/B374D848'), 'lower case is read too');
  assert.equal(LSN_ZERO, 0n);
});

test('LSNs compare as numbers, not as text', () => {
  assert.ok(parseLsn('10/0') > parseLsn('9/FFFFFFFF'));
  assert.ok(parseLsn('0/10000000') > parseLsn('0/9FFFFFF'));
});

test('what is no LSN is refused', () => {
  for (const text of ['', '0', '/', '0/', '/0', '0/G', '0/123456789', '123456789/0', ' 0/0', '0/0 ', '0/0/0', '-1/0', '0/0\n']) {
    assert.throws(() => parseLsn(text), SyntaxError, JSON.stringify(text));
  }
  assert.throws(() => lsn(-1n), RangeError);
  assert.throws(() => lsn(0x1_0000_0000_0000_0000n), RangeError);
});

const EPOCH: Epoch = { systemId: '7412345678901234567', timeline: 3, generation: '6f1c2f0e-0b3a-4d7e-9a1a-2f4c5b6d7e8f' };

test('an epoch survives its text, and differs when any of its three parts does', () => {
  assert.deepEqual(parseEpoch(formatEpoch(EPOCH)), EPOCH);
  assert.ok(sameEpoch(EPOCH, parseEpoch(formatEpoch(EPOCH))));
  for (const other of [{ systemId: '7412345678901234568' }, { timeline: 4 }, { generation: '6f1c2f0e-0b3a-4d7e-9a1a-2f4c5b6d7e80' }]) {
    assert.ok(!sameEpoch(EPOCH, { ...EPOCH, ...other }), JSON.stringify(other));
  }
  for (const text of ['', '1/2', '1/2/x', `x/1/${EPOCH.generation}`, `1/2/${EPOCH.generation}/`]) assert.throws(() => parseEpoch(text), SyntaxError, text);
});
