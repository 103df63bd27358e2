/** When a copy that was sent is sent again: a table of cases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayArrive } from '../../../services/capture/recopier.js';
import { parsePosition } from '../../../src/position/position.js';

const sent = { published: 'p', behind: parsePosition('0/500:0'), at: 1000 };
const facts: Parameters<typeof mayArrive>[1] = { published: 'p', w: '0/500:0', now: 1000, patienceMs: 60_000 };
const CASES: [what: string, change: Partial<typeof facts>, waits: boolean][] = [
  ['just sent', {}, true],
  ['the archive came behind it a moment ago', { w: '0/501:0', now: 61_000 }, true],
  ['the archive came behind it, and the table is still not copied', { w: '0/501:0', now: 61_001 }, false],
  ['the archive stands still before it, for a day: another copy would lie behind this one', { w: '0/500:0', now: 86_400_000 }, true],
  ['the archive has not begun', { w: null, now: 86_400_000 }, true],
  ['under another entry in the publication', { published: 'q' }, false],
];

for (const [what, change, waits] of CASES) {
  test(`${what}: ${waits ? 'expected' : 'sent again'}`, () => {
    assert.equal(mayArrive(sent, { ...facts, ...change }), waits);
  });
}
