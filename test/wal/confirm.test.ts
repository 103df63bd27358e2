/** What may be confirmed: a table of cases (law 3: S ≤ X of W = (X, 0) in the same epoch). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { type ConfirmFacts, confirmable } from '../../src/wal/confirm.js';

const epoch = { systemId: '1', timeline: 1, generation: '00000000-0000-0000-0000-000000000001' };
const fence = (lsn: string, end: string) => ({ lsn, end, nonce: lsn });
const base: ConfirmFacts = {
  archive: 'A',
  epoch,
  received: parseLsn('0/1000'),
  confirmed: parseLsn('0/100'),
  anchored: true,
  archived: { archive: 'A', epoch, position: '0/500:0', fences: [fence('0/200', '0/240'), fence('0/4C0', '0/500')], copy: null },
};
const state = (change: Partial<NonNullable<ConfirmFacts['archived']>>): Partial<ConfirmFacts> => ({
  archived: { ...(base.archived as NonNullable<ConfirmFacts['archived']>), ...change },
});

const CASES: [what: string, change: Partial<ConfirmFacts>, expected: string | undefined][] = [
  ['the newest archived fence, at the start of its commit', {}, '0/4C0'],
  ['never a fence beyond W', state({ position: '0/4FF:0' }), '0/200'],
  ['a fence whose end is W is archived', state({ position: '0/240:0' }), '0/200'],
  ['nothing while no copy is complete', state({ position: null }), undefined],
  ['nothing in another epoch', state({ epoch: { ...epoch, generation: '00000000-0000-0000-0000-000000000002' } }), undefined],
  ['nothing on another timeline', state({ epoch: { ...epoch, timeline: 2 } }), undefined],
  ['nothing on the word of another archive', state({ archive: 'B' }), undefined],
  ['nothing before the archive has an epoch', state({ epoch: null }), undefined],
  ['nothing before this connection has brought the archived fences again', { anchored: false }, undefined],
  ['it only rises', { confirmed: parseLsn('0/4C0') }, undefined],
  ['it never goes back', { confirmed: parseLsn('0/4F0') }, undefined],
  ['never beyond what this connection has heard of', { received: parseLsn('0/300') }, '0/200'],
  ['no manifest yet', { archived: undefined }, undefined],
  ['no fence yet', state({ fences: [] }), undefined],
];

for (const [what, change, expected] of CASES) {
  test(what, () => {
    const confirmed: Lsn | undefined = confirmable({ ...base, ...change });
    assert.equal(confirmed, expected === undefined ? undefined : parseLsn(expected));
  });
}
